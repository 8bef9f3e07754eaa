//! Filling an index with what a cache that was found again holds.
//!
//! Many blocks are first gathered by shard. A shard that gets all of its own at once has its table made as large as it must be, and stays in
//! the processor's cache meanwhile: one by one, each block would wait for memory of its own, and tables would grow again and again.

use super::{Index, Masks, Shard, shard_of};
use crate::block::BlockState;
use crate::directory::{Directory, SlotNumber};
use crate::sealed::Sealed;
use crate::sector::{BlockNumber, Mask};
use crate::sync;

/// Blocks of one volume that were found in slots. Of which block each is, the directory knows.
#[derive(Default)]
struct OfShard {
    slots: Vec<SlotNumber>,
    /// Of those that are not both wholly valid and clean.
    masks: Vec<(SlotNumber, Masks)>,
    /// Of those that the cache directory calls dirty.
    sealed: Vec<(SlotNumber, Sealed)>,
}

/// Blocks of one volume that were found in slots, by shard.
pub(crate) struct Gathered {
    shards: Box<[OfShard]>,
    shard_bits: u32,
}

impl Gathered {
    /// A block that was found. The directory says already that its slot holds it. `full` are all sectors of any block.
    pub(crate) fn add(&mut self, number: BlockNumber, state: &BlockState, full: Mask) {
        let Some(slot) = state.slot else { return };
        let shard = &mut self.shards[shard_of(number, self.shard_bits)];
        shard.slots.push(slot);
        if let Some(masks) = Masks::of(state, full) {
            shard.masks.push((slot, masks));
        }
        if !state.sealed.is_empty() {
            shard.sealed.push((slot, state.sealed));
        }
    }

    /// Adds what was gathered of blocks that come after these.
    pub(crate) fn append(&mut self, later: Self) {
        for (shard, mut later) in self.shards.iter_mut().zip(later.shards) {
            shard.slots.append(&mut later.slots);
            shard.masks.append(&mut later.masks);
            shard.sealed.append(&mut later.sealed);
        }
    }
}

impl Index {
    /// Nothing yet.
    pub(crate) fn gather(&self) -> Gathered {
        Gathered {
            shards: self.shards.iter().map(|_| OfShard::default()).collect(),
            shard_bits: self.shard_bits,
        }
    }

    /// Puts in what was gathered, and gives the slots whose blocks are in the index already, in a slot that came before.
    pub(crate) fn load(&self, gathered: Gathered, directory: &Directory) -> Vec<SlotNumber> {
        let mut needless = Vec::new();
        for (shard, of_shard) in self.shards.iter().zip(gathered.shards) {
            sync::lock(shard).load(of_shard, directory, &mut needless);
        }
        needless
    }
}

impl Shard {
    fn load(&mut self, found: OfShard, directory: &Directory, needless: &mut Vec<SlotNumber>) {
        let key_of = self.key_of(directory);
        self.resident.expect(found.slots.len(), &key_of);
        let needless_before = needless.len();
        // All at once: each is somewhere else in memory.
        let keys: Vec<u64> = found.slots.iter().copied().map(&key_of).collect();
        for (slot, key) in found.slots.into_iter().zip(keys) {
            match self.resident.find(key, &key_of) {
                Some(_) => needless.push(slot),
                None => self.resident.insert(key, slot, &key_of),
            }
        }
        let needless = &needless[needless_before..];
        let wanted = found.masks.into_iter();
        self.masks
            .extend(wanted.filter(|(slot, _)| !needless.contains(slot)));
        let wanted = found.sealed.into_iter();
        self.sealed
            .extend(wanted.filter(|(slot, _)| !needless.contains(slot)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{Owner, VolumeNumber};

    const FULL: Mask = Mask(0xff);

    fn slot_of(index: &Index, number: u64, directory: &Directory) -> Option<BlockState> {
        let state = index.peek(BlockNumber(number), FULL, directory);
        state.slot.is_some().then_some(state)
    }

    #[test]
    fn what_was_gathered_is_found_and_of_a_block_in_two_slots_the_first() {
        let (index, directory) = (Index::new(1000), Directory::new());
        let mut gathered = index.gather();
        let valid_in = |slot: u32| match slot.is_multiple_of(3) {
            true => Mask(5),
            false => FULL,
        };
        let mut add = |slot: u32, number: u64, valid: Mask| {
            let (volume, number, slot) = (VolumeNumber(3), BlockNumber(number), SlotNumber(slot));
            directory.set(slot, Owner { volume, number });
            let state = BlockState::in_slot(slot, valid, Mask::EMPTY, Mask::EMPTY);
            gathered.add(number, &state, FULL);
        };
        for slot in 0..5000 {
            add(slot, u64::from(slot) * 7, valid_in(slot));
        }
        add(5000, 7, Mask(2));
        add(5001, 21, FULL);
        let mut needless = index.load(gathered, &directory);
        needless.sort_unstable();
        assert_eq!(needless, [SlotNumber(5000), SlotNumber(5001)]);
        for number in 0..35_000 {
            let found = slot_of(&index, number, &directory);
            assert_eq!(found.is_some(), number % 7 == 0, "{number}");
            let Some(state) = found else { continue };
            let slot = number as u32 / 7;
            let expected = (Some(SlotNumber(slot)), valid_in(slot));
            assert_eq!((state.slot, state.valid), expected);
        }
        // A second volume's worth, later: the first still stands.
        let mut gathered = index.gather();
        let state = BlockState::in_slot(SlotNumber(6000), FULL, Mask::EMPTY, Mask::EMPTY);
        let (volume, number) = (VolumeNumber(3), BlockNumber(14));
        directory.set(SlotNumber(6000), Owner { volume, number });
        gathered.add(number, &state, FULL);
        assert_eq!(index.load(gathered, &directory), [SlotNumber(6000)]);
        let state = slot_of(&index, 14, &directory).unwrap();
        assert_eq!(state.slot, Some(SlotNumber(2)));
    }
}
