use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Numbers of those who asked.
#[derive(Debug)]
struct Asked(Vec<u64>);

impl Scope for Asked {
    fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

#[test]
fn who_comes_while_one_runs_shares_the_next() {
    let token = CommitToken::default();
    let (runs, asked) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let run = |scope: Asked| {
        runs.fetch_add(1, Ordering::SeqCst);
        sync::lock(&asked).extend(scope.0);
        Ok(())
    };
    std::thread::scope(|scope| {
        let first = token.commit(Asked(vec![0]), |first| {
            for number in 1..=5 {
                let (token, run) = (&token, &run);
                scope.spawn(move || token.commit(Asked(vec![number]), run).unwrap());
            }
            let joined = |state: &State<Asked>| {
                let next = state.next.as_ref();
                next.is_some_and(|next| next.scope.0.len() == 5)
            };
            while !joined(&sync::lock(&token.state)) {
                std::thread::yield_now();
            }
            assert!(token.try_alone(|| ()).is_none());
            run(first)
        });
        first.unwrap();
    });
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let mut asked = sync::lock(&asked).clone();
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2, 3, 4, 5]);
    assert_eq!(token.try_alone(|| 7), Some(7));
}

#[test]
fn all_who_shared_a_commit_are_told_that_it_failed_and_the_next_is_another() {
    let token = CommitToken::default();
    let failing = |_: Asked| Err(CommitError::NoRoom);
    let failed = token.commit(Asked(vec![1]), failing);
    assert!(matches!(failed, Err(CommitError::NoRoom)));
    token.commit(Asked(vec![2]), |_| Ok(())).unwrap();
}

#[test]
fn a_panic_with_the_token_is_final_for_all() {
    let token = CommitToken::default();
    std::thread::scope(|scope| {
        let panicking = scope.spawn(|| {
            let _ = token.commit(Asked(vec![1]), |_| {
                while sync::lock(&token.state).next.is_none() {
                    std::thread::yield_now();
                }
                panic!("as planned");
            });
        });
        while !sync::lock(&token.state).is_running {
            std::thread::yield_now();
        }
        // It waits, and is told.
        let waiting = token.commit(Asked(vec![2]), |_| Ok(()));
        assert!(matches!(waiting, Err(CommitError::Dead(_))));
        assert!(panicking.join().is_err());
    });
    let later = token.commit(Asked(vec![3]), |_| Ok(()));
    assert!(
        later
            .unwrap_err()
            .to_string()
            .contains("a commit has panicked")
    );
    assert!(token.try_alone(|| ()).is_none());
}
