//! What is known of each slot's checksums.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::directory::SlotNumber;
use crate::slot_bits::{SlotBits, bit};

/// Marks of slots. Set and removed with the block's latch held, or while nobody else can have the slot.
#[derive(Debug, Default)]
pub(crate) struct SlotMarks {
    /// The checksums in the directory are those of what the slot holds.
    summed: SlotBits,
    /// Nothing was written since the slot was last looked at.
    quiet: SlotBits,
    /// What the slot holds was not compared with its checksums since the start.
    unverified: SlotBits,
    unverified_slots: AtomicU64,
    /// The directory may say of the slot that it holds its block, or will once what is under way is durable.
    listed: SlotBits,
    listed_slots: AtomicU64,
    /// The directory may call the slot's block dirty.
    sealed: SlotBits,
}

impl SlotMarks {
    /// These slots, which come in order, were found again.
    pub(crate) fn found(&self, slots: impl Iterator<Item = SlotNumber>) {
        let mut slots = slots.peekable();
        let word = |slot: SlotNumber| slot.0 / u64::BITS;
        while let Some(first) = slots.next() {
            let mut bits = bit(first);
            while let Some(slot) = slots.next_if(|slot| word(*slot) == word(first)) {
                bits |= bit(slot);
            }
            self.summed.insert_some(first, bits);
            let listed = self.listed.insert_some(first, bits);
            self.listed_slots
                .fetch_add(u64::from(listed), Ordering::SeqCst);
            let unverified = self.unverified.insert_some(first, bits);
            self.unverified_slots
                .fetch_add(u64::from(unverified), Ordering::SeqCst);
        }
    }

    /// The slot was found again, and is not wanted.
    pub(crate) fn lost(&self, slot: SlotNumber) {
        self.assigned(slot);
        self.unlisted(slot);
    }

    /// The slot was found again, with something that the origin does not have.
    pub(crate) fn found_dirty(&self, slot: SlotNumber) {
        self.sealed(slot);
        if self.unverified.insert(slot) {
            self.unverified_slots.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The directory is about to call the slot's block dirty.
    pub(crate) fn sealed(&self, slot: SlotNumber) {
        self.sealed.insert(slot);
    }

    /// It does not any more.
    pub(crate) fn unsealed(&self, slot: SlotNumber) {
        self.sealed.remove(slot);
    }

    pub(crate) fn is_sealed(&self, slot: SlotNumber) -> bool {
        self.sealed.contains(slot)
    }

    /// The slot begins to hold another block.
    pub(crate) fn assigned(&self, slot: SlotNumber) {
        self.verified(slot);
        self.written(slot);
    }

    /// The slot is about to be written.
    pub(crate) fn written(&self, slot: SlotNumber) {
        self.summed.remove(slot);
        self.quiet.remove(slot);
    }

    /// The slot's checksums are in the directory.
    pub(crate) fn summed(&self, slot: SlotNumber) {
        self.summed.insert(slot);
    }

    pub(crate) fn is_summed(&self, slot: SlotNumber) -> bool {
        self.summed.contains(slot)
    }

    /// Whether nothing was written to the slot since this was last asked.
    pub(crate) fn was_quiet(&self, slot: SlotNumber) -> bool {
        !self.quiet.insert(slot)
    }

    /// What the slot holds fits its checksums, as far as it is still valid.
    pub(crate) fn verified(&self, slot: SlotNumber) {
        if self.unverified.remove(slot) {
            self.unverified_slots.fetch_sub(1, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_unverified(&self, slot: SlotNumber) -> bool {
        self.any_unverified() && self.unverified.contains(slot)
    }

    pub(crate) fn any_unverified(&self) -> bool {
        self.unverified_slots.load(Ordering::SeqCst) > 0
    }

    /// The directory is about to say what the slot holds.
    pub(crate) fn listed(&self, slot: SlotNumber) {
        if self.listed.insert(slot) {
            self.listed_slots.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// It does not say so any more, or not of the block that the slot is in use for. True if it did.
    pub(crate) fn unlisted(&self, slot: SlotNumber) -> bool {
        let was_listed = self.listed.remove(slot);
        if was_listed {
            self.listed_slots.fetch_sub(1, Ordering::SeqCst);
        }
        was_listed
    }

    pub(crate) fn is_listed(&self, slot: SlotNumber) -> bool {
        self.listed.contains(slot)
    }

    pub(crate) fn any_listed(&self) -> bool {
        self.listed_slots() > 0
    }

    pub(crate) fn listed_slots(&self) -> u64 {
        self.listed_slots.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_makes_a_slot_unsummed_and_another_block_makes_it_its_own() {
        let marks = SlotMarks::default();
        let slot = SlotNumber(7);
        assert!(!marks.any_unverified());
        marks.found([slot, SlotNumber(8), SlotNumber(64), SlotNumber(200)].into_iter());
        assert_eq!(marks.listed_slots(), 4);
        assert!(marks.is_listed(SlotNumber(200)) && !marks.is_listed(SlotNumber(9)));
        marks.lost(SlotNumber(64));
        marks.lost(SlotNumber(200));
        assert_eq!(marks.listed_slots(), 2);
        assert!(marks.is_summed(slot) && marks.is_unverified(slot));
        marks.verified(slot);
        marks.verified(slot);
        assert!(marks.is_summed(slot) && !marks.is_unverified(slot));
        assert!(marks.is_unverified(SlotNumber(8)));
        marks.written(slot);
        assert!(!marks.is_summed(slot));
        marks.assigned(SlotNumber(8));
        assert!(!marks.is_summed(SlotNumber(8)) && !marks.any_unverified());
    }

    #[test]
    fn quiet_is_what_was_not_written_since_the_last_look() {
        let marks = SlotMarks::default();
        let slot = SlotNumber(3);
        assert!(!marks.was_quiet(slot));
        assert!(marks.was_quiet(slot));
        marks.written(slot);
        assert!(!marks.was_quiet(slot));
        assert!(marks.was_quiet(slot));
    }
}
