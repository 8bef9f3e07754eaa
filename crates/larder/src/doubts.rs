//! Whether what slots show can be used: after a sync of them that has failed, not until somebody has looked at all of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sync::{self, Condvar};

/// So long it is waited for a decision.
const A_WHILE: Duration = Duration::from_secs(10);

/// How often there was reason to doubt, and of how many of those times it has been decided what can still be used. As long as they differ, what is read
/// from a slot may be older than what was written there.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    noted: AtomicU64,
    decided: AtomicU64,
    deciding: Mutex<()>,
    has_decided: Condvar,
}

impl Doubts {
    /// What slots hold is in doubt from now on, until that many doubts are decided.
    pub(crate) fn note(&self) -> u64 {
        self.noted.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// How many there have been.
    pub(crate) fn noted(&self) -> u64 {
        self.noted.load(Ordering::SeqCst)
    }

    /// Nothing that can be read is older than it should be, as far as so many doubts go.
    pub(crate) fn decide(&self, doubts: u64) {
        let deciding = sync::lock(&self.deciding);
        self.decided.fetch_max(doubts, Ordering::SeqCst);
        drop(deciding);
        self.has_decided.notify_all();
    }

    /// To be asked after a read, and before what was read goes anywhere.
    pub(crate) fn is_any(&self) -> bool {
        self.decided.load(Ordering::SeqCst) < self.noted()
    }

    /// Waits until there is none, for a while.
    pub(crate) fn await_decision(&self) {
        let deciding = sync::lock(&self.deciding);
        let is_any = |_: &mut ()| self.is_any();
        drop(sync::wait_while(
            &self.has_decided,
            deciding,
            A_WHILE,
            is_any,
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_lasts_until_somebody_has_decided_who_knew_of_it() {
        let doubts = Doubts::default();
        assert!(!doubts.is_any());
        let first = doubts.note();
        let second = doubts.note();
        doubts.decide(first);
        assert!(doubts.is_any(), "the second came meanwhile");
        doubts.decide(second);
        doubts.decide(first);
        assert!(!doubts.is_any());
    }

    #[test]
    fn who_waits_goes_on_with_the_decision() {
        let doubts = Doubts::default();
        doubts.await_decision();
        let noted = doubts.note();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                doubts.await_decision();
                doubts.is_any()
            });
            doubts.decide(noted);
            assert!(!waiting.join().unwrap());
        });
    }
}
