//! Which block each slot holds, without a lock.
//!
//! 12 bytes a slot, in chunks that double and never move. An entry is written by whoever owns the
//! slot; a reader takes it for a hint and checks it under the block's shard lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sector::BlockNumber;

/// A place for one block in the cache file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotNumber(pub u32);

/// A volume's number within its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VolumeNumber(pub u32);

const FIRST_CHUNK_BITS: u32 = 10;
const CHUNKS: usize = 33 - FIRST_CHUNK_BITS as usize;

#[derive(Debug)]
struct Chunk {
    blocks: Box<[AtomicU64]>,
    volumes: Box<[AtomicU32]>,
}

impl Chunk {
    fn new(length: usize) -> Self {
        Self {
            blocks: (0..length).map(|_| AtomicU64::new(0)).collect(),
            volumes: (0..length).map(|_| AtomicU32::new(0)).collect(),
        }
    }
}

/// The owner of each slot.
#[derive(Debug)]
pub(crate) struct Directory {
    chunks: [OnceLock<Chunk>; CHUNKS],
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self {
            chunks: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    fn place(&self, slot: SlotNumber) -> (&Chunk, usize) {
        // Chunk 0 holds the first 2^10 slots, chunk k the 2^(9+k) after them.
        let shifted = u64::from(slot.0) >> FIRST_CHUNK_BITS;
        let chunk = (u64::BITS - shifted.leading_zeros()) as usize;
        let first = if chunk == 0 {
            0
        } else {
            1 << (FIRST_CHUNK_BITS as usize + chunk - 1)
        };
        let length = if chunk == 0 {
            1 << FIRST_CHUNK_BITS
        } else {
            first
        };
        let chunk = self.chunks[chunk].get_or_init(|| Chunk::new(length));
        (chunk, slot.0 as usize - first)
    }

    pub(crate) fn set(&self, slot: SlotNumber, volume: VolumeNumber, number: BlockNumber) {
        let (chunk, at) = self.place(slot);
        chunk.blocks[at].store(number.0, Ordering::Relaxed);
        chunk.volumes[at].store(volume.0, Ordering::Relaxed);
    }

    pub(crate) fn block(&self, slot: SlotNumber) -> BlockNumber {
        let (chunk, at) = self.place(slot);
        BlockNumber(chunk.blocks[at].load(Ordering::Relaxed))
    }

    pub(crate) fn volume(&self, slot: SlotNumber) -> VolumeNumber {
        let (chunk, at) = self.place(slot);
        VolumeNumber(chunk.volumes[at].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        let directory = Directory::new();
        let slots = [0, 1, 1023, 1024, 2047, 2048, 4095, 4096, 100_000];
        for slot in slots {
            directory.set(
                SlotNumber(slot),
                VolumeNumber(slot + 1),
                BlockNumber(u64::from(slot) * 3),
            );
        }
        for slot in slots {
            assert_eq!(
                directory.block(SlotNumber(slot)),
                BlockNumber(u64::from(slot) * 3)
            );
            assert_eq!(directory.volume(SlotNumber(slot)), VolumeNumber(slot + 1));
        }
    }
}
