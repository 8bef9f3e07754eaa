//! The door's rules, each alone and then under contention.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;

use super::*;

fn errno(result: Result<Pass<'_>>) -> i32 {
    result.err().map_or(0, |error| error.errno())
}

#[test]
fn parallel_lets_in_until_closed() {
    let access = Access::new(ThreadModel::Parallel);
    let first = access.enter().unwrap();
    let second = access.enter().unwrap();
    drop((first, second));
    access.close();
    access.close();
    assert!(access.is_closed());
    assert_eq!(errno(access.enter()), libc::ESHUTDOWN);
}

#[test]
fn parallel_close_waits_for_calls_in_flight() {
    let access = Arc::new(Access::new(ThreadModel::Parallel));
    let left = Arc::new(AtomicBool::new(false));
    let pass = access.enter().unwrap();
    let closer = thread::spawn({
        let (access, left) = (access.clone(), left.clone());
        move || {
            access.close();
            left.load(Ordering::SeqCst)
        }
    });
    while !access.is_closed() {
        thread::yield_now();
    }
    left.store(true, Ordering::SeqCst);
    drop(pass);
    assert!(closer.join().unwrap(), "closed while a call was in flight");
}

#[test]
fn parallel_under_contention_nothing_runs_after_close() {
    for _ in 0..200 {
        let access = Arc::new(Access::new(ThreadModel::Parallel));
        let alive = Arc::new(AtomicBool::new(true));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (access, alive) = (access.clone(), alive.clone());
                thread::spawn(move || {
                    while let Ok(_pass) = access.enter() {
                        assert!(alive.load(Ordering::SeqCst), "a call after close");
                    }
                })
            })
            .collect();
        access.close();
        alive.store(false, Ordering::SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn serial_refuses_outside_a_callback() {
    let access = Access::new(ThreadModel::SerializeRequests);
    assert_eq!(errno(access.enter()), libc::EBUSY);
    let window = access.window();
    assert_eq!(errno(access.enter()), 0);
    drop(window);
    assert_eq!(errno(access.enter()), libc::EBUSY);
    access.close();
    let _window = access.window();
    assert_eq!(errno(access.enter()), libc::ESHUTDOWN);
}

#[test]
fn serial_lets_helpers_in_one_at_a_time() {
    let access = Access::new(ThreadModel::SerializeAllRequests);
    let inside = AtomicU32::new(0);
    let window = access.window();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    let pass = access.enter().unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(pass);
                }
            });
        }
    });
    drop(window);
}

#[test]
fn serial_callback_does_not_end_before_the_calls_it_let_in() {
    let access = Access::new(ThreadModel::SerializeRequests);
    let left = AtomicBool::new(false);
    let window = access.window();
    let pass = access.enter().unwrap();
    thread::scope(|scope| {
        let ending = scope.spawn(|| {
            drop(window);
            left.load(Ordering::SeqCst)
        });
        left.store(true, Ordering::SeqCst);
        drop(pass);
        assert!(ending.join().unwrap());
    });
}
