//! Blocks that have left their slots, while the directory may still say that the slots hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::directory::{Owner, SlotNumber, VolumeNumber};
use crate::sector::BlockNumber;
use crate::sync;

type Key = (VolumeNumber, BlockNumber, SlotNumber);

/// What has left, and when.
#[derive(Debug, Default)]
struct State {
    by_block: BTreeMap<Key, Stamp>,
    by_slot: BTreeSet<(SlotNumber, VolumeNumber, BlockNumber)>,
    now: u64,
}

/// A moment of a [`Gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

/// The slots that the directory is still to hear of. A leaf lock: noted with the shard's lock of the block held, so that
/// whoever does not find it in the index finds it here.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    state: Mutex<State>,
    count: AtomicUsize,
}

impl Gone {
    /// A block that may be listed leaves its slot.
    pub(crate) fn note(&self, slot: SlotNumber, owner: Owner) {
        let state = &mut *sync::lock(&self.state);
        state.now += 1;
        let (volume, number) = (owner.volume, owner.number);
        state
            .by_block
            .insert((volume, number, slot), Stamp(state.now));
        state.by_slot.insert((slot, volume, number));
        self.count.store(state.by_block.len(), Ordering::SeqCst);
    }

    /// The slots that blocks from `first` to `last` have left.
    pub(crate) fn of_blocks(
        &self,
        volume: VolumeNumber,
        first: BlockNumber,
        last: BlockNumber,
    ) -> Vec<SlotNumber> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let (from, to) = (SlotNumber(0), SlotNumber(u32::MAX));
        let range = (volume, first, from)..=(volume, last, to);
        let state = sync::lock(&self.state);
        let found = state.by_block.range(range);
        found.map(|((_, _, slot), _)| *slot).collect()
    }

    /// Whether the directory has heard of everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Some of the slots, in order.
    pub(crate) fn some(&self, most: usize) -> Vec<SlotNumber> {
        let state = sync::lock(&self.state);
        let slots = state.by_slot.iter().map(|(slot, ..)| *slot);
        let mut some: Vec<SlotNumber> = slots.take(most).collect();
        some.dedup();
        some
    }

    /// The moment now.
    pub(crate) fn moment(&self) -> Stamp {
        Stamp(sync::lock(&self.state).now)
    }

    /// The directory has heard of these slots, whatever had left them until then.
    pub(crate) fn told(&self, slots: &[SlotNumber], until: Stamp) {
        let state = &mut *sync::lock(&self.state);
        for slot in slots {
            let all = (*slot, VolumeNumber(0), BlockNumber(0))
                ..=(*slot, VolumeNumber(u32::MAX), BlockNumber(u64::MAX));
            let of_slot: Vec<_> = state.by_slot.range(all).copied().collect();
            for (slot, volume, number) in of_slot {
                let key = (volume, number, slot);
                if state
                    .by_block
                    .get(&key)
                    .is_some_and(|stamp| *stamp <= until)
                {
                    state.by_block.remove(&key);
                    state.by_slot.remove(&(slot, volume, number));
                }
            }
        }
        self.count.store(state.by_block.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: u64) -> Owner {
        Owner {
            volume: VolumeNumber(1),
            number: BlockNumber(number),
        }
    }

    fn of(gone: &Gone, first: u64, last: u64) -> Vec<u32> {
        let slots = gone.of_blocks(VolumeNumber(1), BlockNumber(first), BlockNumber(last));
        slots.iter().map(|slot| slot.0).collect()
    }

    #[test]
    fn blocks_are_found_until_the_directory_has_heard_of_their_slots() {
        let gone = Gone::default();
        gone.note(SlotNumber(7), owner(100));
        gone.note(SlotNumber(8), owner(101));
        // The same block had another slot before.
        gone.note(SlotNumber(9), owner(100));
        assert_eq!(of(&gone, 100, 100), [7, 9]);
        assert_eq!(of(&gone, 0, 99), []);
        assert_eq!(
            gone.of_blocks(VolumeNumber(2), BlockNumber(0), BlockNumber(999)),
            []
        );
        let (slots, moment) = (gone.some(100), gone.moment());
        assert_eq!(slots, [SlotNumber(7), SlotNumber(8), SlotNumber(9)]);
        // What leaves later is not covered.
        gone.note(SlotNumber(8), owner(101));
        gone.note(SlotNumber(7), owner(102));
        gone.told(&slots, moment);
        assert_eq!(of(&gone, 0, 999), [8, 7]);
        let moment = gone.moment();
        gone.told(&[SlotNumber(7), SlotNumber(8)], moment);
        assert_eq!(of(&gone, 0, 999), []);
    }
}
