//! What all clients together may have beyond the share that each has for itself.
//!
//! Nobody waits for it: who gets none makes do with its own share, in smaller pieces. So there is nothing to
//! deadlock on and no turn to be kept, and a client that holds much, for however long, makes others slower and stops none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of requests and replies under way, beyond each client's own share.
const BYTES: u64 = 256 << 20;
/// Threads that answer requests, beyond each client's own.
const THREADS: u64 = 2048;

/// So much of something, for whoever comes first.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Arc<Budget>,
    amount: u64,
}

/// What all clients of a server share.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Of memory.
    pub(crate) bytes: Arc<Budget>,
    /// Of threads.
    pub(crate) threads: Arc<Budget>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Budget::new(BYTES)),
            threads: Arc::new(Budget::new(THREADS)),
        }
    }
}

impl Budget {
    /// A budget that nobody has anything of.
    pub(crate) fn new(amount: u64) -> Self {
        Self {
            left: AtomicU64::new(amount),
        }
    }

    fn try_take(&self, amount: u64) -> bool {
        let take = |left: u64| left.checked_sub(amount);
        let (set, get) = (Ordering::AcqRel, Ordering::Acquire);
        self.left.fetch_update(set, get, take).is_ok()
    }

    fn give_back(&self, amount: u64) {
        self.left.fetch_add(amount, Ordering::AcqRel);
    }
}

impl Charge {
    /// Nothing yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            amount: 0,
        }
    }

    /// Makes it at least so large. False if there is not as much left: then it stays as it is.
    #[must_use]
    pub(crate) fn grow_to(&mut self, amount: u64) -> bool {
        let more = amount.saturating_sub(self.amount);
        let is_enough = more == 0 || self.budget.try_take(more);
        if is_enough {
            self.amount += more;
        }
        is_enough
    }

    /// Makes it at most so large.
    pub(crate) fn shrink_to(&mut self, amount: u64) {
        let less = self.amount.saturating_sub(amount);
        if less > 0 {
            self.amount -= less;
            self.budget.give_back(less);
        }
    }

    /// Takes all of it away, as a charge of its own.
    pub(crate) fn split_off(&mut self) -> Self {
        Self {
            budget: Arc::clone(&self.budget),
            amount: std::mem::take(&mut self.amount),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_missing_until_it_is_given_back() {
        let budget = Arc::new(Budget::new(10));
        let (mut one, mut other) = (Charge::new(&budget), Charge::new(&budget));
        assert!(one.grow_to(7) && one.grow_to(3) && !other.grow_to(4) && other.grow_to(3));
        one.shrink_to(5);
        assert!(other.grow_to(5) && !other.grow_to(6));
        let moved = one.split_off();
        one.shrink_to(0);
        assert!(!other.grow_to(6));
        drop(moved);
        assert!(other.grow_to(10));
        drop((one, other));
        assert!(Charge::new(&budget).grow_to(10));
    }
}
