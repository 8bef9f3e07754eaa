//! Which slots hold all of a block, and nothing that the origin does not have: as a rule nearly all.

use super::Index;
use crate::directory::Directory;
use crate::slot_bits::SlotBits;
use crate::sync;

impl Index {
    /// The slots of blocks that are wholly valid, clean and not pinned. For whoever is to ask about every slot: block by block, each answer
    /// would wait for memory of its own.
    pub(crate) fn plain(&self, directory: &Directory) -> SlotBits {
        let plain = SlotBits::default();
        for shard in &self.shards {
            let shard = sync::lock(shard);
            for slot in shard.resident.iter() {
                let is_pinned =
                    !shard.pinned.is_empty() && shard.pinned.contains_key(&directory.block(slot));
                if !is_pinned && !shard.masks.contains_key(&slot) {
                    plain.insert(slot);
                }
            }
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockState;
    use crate::directory::{Owner, SlotNumber, VolumeNumber};
    use crate::sector::{BlockNumber, Mask};

    #[test]
    fn blocks_in_use_and_those_that_are_not_whole_or_not_clean_are_not_plain() {
        let (index, directory, full) = (Index::new(1000), Directory::new(), Mask(0xff));
        let mut gathered = index.gather();
        for slot in 0..40 {
            let (volume, number) = (VolumeNumber(0), BlockNumber(1000 - u64::from(slot)));
            let slot = SlotNumber(slot);
            directory.set(slot, Owner { volume, number });
            let (valid, dirty) = match slot.0 % 4 {
                1 => (Mask(3), Mask::EMPTY),
                2 => (full, Mask(1)),
                _ => (full, Mask::EMPTY),
            };
            let state = BlockState::in_slot(slot, valid, dirty, Mask::EMPTY);
            gathered.add(number, &state, full);
        }
        assert_eq!(index.load(gathered, &directory), []);
        let pinning = index.pin(BlockNumber(1000 - 8), full, &directory);
        let plain = index.plain(&directory);
        for slot in 0..50 {
            let expected = slot < 40 && matches!(slot % 4, 0 | 3) && slot != 8;
            assert_eq!(plain.contains(SlotNumber(slot)), expected, "{slot}");
        }
        index.unpin(&pinning.block, full, &directory, |_| ());
        assert!(index.plain(&directory).contains(SlotNumber(8)));
    }
}
