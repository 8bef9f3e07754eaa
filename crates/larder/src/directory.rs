//! Which block each slot holds, without a lock.
//!
//! 8 bytes a slot, in leaves that are made as slots are used and never move; the lists of leaves double. An
//! owner that does not fit into 8 bytes has 12 more in its leaf, which hardly any leaf ever needs. An entry is written by whoever
//! owns the slot; a reader takes it for a hint and checks it under the block's shard lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::eviction::Keys;
use crate::index;
use crate::sector::BlockNumber;

/// A place for one block in the cache file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotNumber(pub u32);

/// A volume's number within its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VolumeNumber(pub u32);

/// The volume and the number of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub volume: VolumeNumber,
    pub number: BlockNumber,
}

const LEAF_BITS: u32 = 10;
const LEAF_SLOTS: usize = 1 << LEAF_BITS;
const LISTS: usize = 33 - LEAF_BITS as usize;

/// A block's number has so many bits of an entry, and its volume's the others but the highest.
const NUMBER_BITS: u32 = 47;
const VOLUME_BITS: u32 = 16;
/// The owner is among the wide ones.
const IS_WIDE: u64 = 1 << 63;

#[derive(Debug)]
struct Leaf {
    owners: Box<[AtomicU64]>,
    wide: OnceLock<Box<[WideOwner]>>,
}

#[derive(Debug, Default)]
struct WideOwner {
    volume: AtomicU32,
    number: AtomicU64,
}

impl Leaf {
    fn new() -> Self {
        Self {
            owners: (0..LEAF_SLOTS).map(|_| AtomicU64::new(0)).collect(),
            wide: OnceLock::new(),
        }
    }

    fn wide(&self, at: usize) -> &WideOwner {
        let make = || (0..LEAF_SLOTS).map(|_| WideOwner::default()).collect();
        &self.wide.get_or_init(make)[at]
    }
}

/// The owner of each slot.
#[derive(Debug)]
pub(crate) struct Directory {
    lists: [OnceLock<Box<[OnceLock<Leaf>]>>; LISTS],
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self {
            lists: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    fn place(&self, slot: SlotNumber) -> (&Leaf, usize) {
        // List 0 has the first leaf, list k the 2^(k-1) after those before it.
        let leaf = slot.0 >> LEAF_BITS;
        let list = (u32::BITS - leaf.leading_zeros()) as usize;
        let length = if list == 0 { 1 } else { 1 << (list - 1) };
        let leaves =
            self.lists[list].get_or_init(|| (0..length).map(|_| OnceLock::new()).collect());
        let leaf = leaves[leaf as usize % length].get_or_init(Leaf::new);
        (leaf, slot.0 as usize % LEAF_SLOTS)
    }

    pub(crate) fn set(&self, slot: SlotNumber, owner: Owner) {
        let (leaf, at) = self.place(slot);
        let (volume, number) = (u64::from(owner.volume.0), owner.number.0);
        let entry = if number >> NUMBER_BITS == 0 && volume >> VOLUME_BITS == 0 {
            volume << NUMBER_BITS | number
        } else {
            let wide = leaf.wide(at);
            wide.volume.store(owner.volume.0, Ordering::Relaxed);
            wide.number.store(number, Ordering::Relaxed);
            IS_WIDE
        };
        leaf.owners[at].store(entry, Ordering::Relaxed);
    }

    pub(crate) fn owner(&self, slot: SlotNumber) -> Owner {
        let (leaf, at) = self.place(slot);
        let entry = leaf.owners[at].load(Ordering::Relaxed);
        if entry == IS_WIDE {
            let wide = leaf.wide(at);
            return Owner {
                volume: VolumeNumber(wide.volume.load(Ordering::Relaxed)),
                number: BlockNumber(wide.number.load(Ordering::Relaxed)),
            };
        }
        Owner {
            volume: VolumeNumber((entry >> NUMBER_BITS) as u32),
            number: BlockNumber(entry & ((1 << NUMBER_BITS) - 1)),
        }
    }

    /// The number of the block that a slot holds, of whatever volume.
    pub(crate) fn block(&self, slot: SlotNumber) -> BlockNumber {
        self.owner(slot).number
    }
}

impl Owner {
    /// What the policy remembers an evicted block by.
    pub(crate) fn key(self) -> u64 {
        index::hash(BlockNumber(
            self.number.0 ^ (u64::from(self.volume.0) << 48),
        ))
    }
}

impl Keys for std::sync::Arc<Directory> {
    fn key(&self, slot: u32) -> u64 {
        self.owner(SlotNumber(slot)).key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(volume: u32, number: u64) -> Owner {
        Owner {
            volume: VolumeNumber(volume),
            number: BlockNumber(number),
        }
    }

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        let directory = Directory::new();
        let slots = [0, 1, 1023, 1024, 2047, 2048, 4095, 4096, 5000, 100_000];
        for slot in slots {
            directory.set(SlotNumber(slot), owner(slot % 7, u64::from(slot) * 3));
        }
        for slot in slots {
            let expected = owner(slot % 7, u64::from(slot) * 3);
            assert_eq!(directory.owner(SlotNumber(slot)), expected);
        }
    }

    #[test]
    fn owners_of_any_size_are_told() {
        let directory = Directory::new();
        let owners = [
            owner(0, 0),
            owner(65_535, (1 << 47) - 1),
            owner(65_536, 1),
            owner(1, 1 << 47),
            owner(u32::MAX, (1 << 51) - 1),
            owner(2, 2),
        ];
        for owner in owners {
            directory.set(SlotNumber(7), owner);
            assert_eq!(directory.owner(SlotNumber(7)), owner);
        }
    }
}
