//! Tells a reader that holds no lock whether a slot was written while it read.
//!
//! A few counters that many slots share: a write to another slot of the same stripe only sends the
//! reader the slow way. The reader begins under the lock that told it what the slot holds.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::directory::SlotNumber;

const STRIPES: usize = 1024;

#[derive(Debug, Default)]
struct Stripe {
    begun: AtomicU32,
    ended: AtomicU32,
}

/// Writes begun and ended, by stripe.
#[derive(Debug)]
pub(crate) struct ChangeCounts {
    stripes: Box<[Stripe]>,
}

/// A read under way without a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unlocked {
    slot: SlotNumber,
    begun: u32,
}

impl ChangeCounts {
    pub(crate) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
        }
    }

    fn stripe(&self, slot: SlotNumber) -> &Stripe {
        &self.stripes[slot.0 as usize % STRIPES]
    }

    /// Runs a write to a slot, so that readers notice.
    pub(crate) fn write<R>(&self, slot: SlotNumber, action: impl FnOnce() -> R) -> R {
        let stripe = self.stripe(slot);
        stripe.begun.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let result = action();
        stripe.ended.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// Begins a read, unless a write is under way.
    pub(crate) fn begin_read(&self, slot: SlotNumber) -> Option<Unlocked> {
        let stripe = self.stripe(slot);
        let ended = stripe.ended.load(Ordering::SeqCst);
        let begun = stripe.begun.load(Ordering::SeqCst);
        (begun == ended).then_some(Unlocked { slot, begun })
    }

    /// Whether no write has begun since the read did.
    pub(crate) fn is_unchanged(&self, read: Unlocked) -> bool {
        fence(Ordering::SeqCst);
        self.stripe(read.slot).begun.load(Ordering::SeqCst) == read.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_beside_a_write_is_noticed() {
        let counts = ChangeCounts::new();
        let slot = SlotNumber(5);
        let before = counts.begin_read(slot).unwrap();
        assert!(counts.is_unchanged(before));
        counts.write(slot, || assert!(counts.begin_read(slot).is_none()));
        assert!(!counts.is_unchanged(before));
        assert!(counts.is_unchanged(counts.begin_read(slot).unwrap()));
    }
}
