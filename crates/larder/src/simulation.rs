//! What the cache would keep, without any data: the policy, the slots and the thresholds at work.
//!
//! A request uses blocks in the order in which the engine would: a read uses what is there, makes
//! room for all it misses, and then brings it in; a write goes block by block; room is made ahead of
//! need after each request, as where there is no background thread. Two things are simpler than in
//! the engine: a block is there as a whole or not at all, and all of them are clean, so none has to
//! be written back before it can leave. `simulation::*` in `larder-testing` compares the two.

use std::io;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::config::Config;
use crate::directory::{Directory, Owner, SlotNumber, VolumeNumber};
use crate::eviction::Eviction;
use crate::read::WINDOW_BYTES;
use crate::sector::BlockNumber;
use crate::slots::{Slots, Taken};
use crate::{CacheFile, Error};

/// A cache without data, for judging its policy and its size by the requests of a trace.
pub struct PolicySimulation {
    slots: Slots,
    eviction: Eviction<Arc<Directory>>,
    /// Slots in use, hashed by what they hold.
    index: HashTable<SlotNumber>,
    /// What each slot holds, or held last.
    directory: Arc<Directory>,
    block_bytes: u64,
    /// Blocks that the read at hand misses; kept to save allocations.
    missing: Vec<BlockNumber>,
}

impl std::fmt::Debug for PolicySimulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicySimulation")
            .field("slots", &self.slots.limit())
            .field("blocks", &self.index.len())
            .finish_non_exhaustive()
    }
}

/// What a request met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlocksUsed {
    /// Blocks that were there.
    pub hits: u64,
    /// Blocks that were not; they are now.
    pub misses: u64,
}

impl PolicySimulation {
    /// An empty cache as `config` says. What matters of it are block size, maximum size and
    /// thresholds.
    ///
    /// # Errors
    /// What [`Config::check`] refuses.
    pub fn new(config: &Config) -> Result<Self, Error> {
        config.check()?;
        Ok(Self::with(Slots::new(config, Box::new(NoFile)), config))
    }

    /// The same with a limit of so many blocks, at least one, whatever the maximum size says: for
    /// comparing the policy with others.
    ///
    /// # Errors
    /// What [`Config::check`] refuses.
    pub fn with_blocks(config: &Config, blocks: u32) -> Result<Self, Error> {
        config.check()?;
        let slots = Slots::with_limit(config, blocks.max(1), Box::new(NoFile));
        Ok(Self::with(slots, config))
    }

    fn with(slots: Slots, config: &Config) -> Self {
        let directory = Arc::new(Directory::new());
        let capacity = Some(u64::from(slots.limit()));
        Self {
            eviction: Eviction::new(capacity, Arc::clone(&directory)),
            slots,
            index: HashTable::new(),
            directory,
            block_bytes: config.block_bytes,
            missing: Vec::new(),
        }
    }

    /// How many blocks fit.
    pub fn capacity_blocks(&self) -> u32 {
        self.slots.limit()
    }

    /// A client reads `length` bytes at `offset` of a volume, and misses are stored. Volumes are
    /// numbered from 0 in the order in which they are first used.
    pub fn read(&mut self, volume: u32, offset: u64, length: u64) -> BlocksUsed {
        let (mut at, end) = self.blocks(offset, length);
        let window = (WINDOW_BYTES / self.block_bytes).max(1);
        let volume = VolumeNumber(volume);
        let mut used = BlocksUsed::default();
        let mut missing = std::mem::take(&mut self.missing);
        while at < end {
            let stop = end.min((at / window + 1).saturating_mul(window));
            missing.clear();
            for number in (at..stop).map(BlockNumber) {
                if !self.touch(Owner { volume, number }) {
                    missing.push(number);
                }
            }
            used.misses += missing.len() as u64;
            used.hits += stop - at - missing.len() as u64;
            self.bring_in(volume, &missing);
            at = stop;
        }
        self.missing = missing;
        self.reclaim();
        used
    }

    /// A client writes `length` bytes at `offset` of a volume, into the cache.
    pub fn write(&mut self, volume: u32, offset: u64, length: u64) -> BlocksUsed {
        let (first, end) = self.blocks(offset, length);
        let volume = VolumeNumber(volume);
        let mut used = BlocksUsed::default();
        for number in (first..end).map(BlockNumber) {
            let owner = Owner { volume, number };
            if self.touch(owner) {
                used.hits += 1;
                continue;
            }
            used.misses += 1;
            self.bring_in(volume, &[number]);
            // Once more with the data, as the engine does.
            self.touch(owner);
        }
        self.reclaim();
        used
    }

    /// A client no longer wants `length` bytes at `offset` of a volume. Blocks that are only partly
    /// in the range stay.
    pub fn trim(&mut self, volume: u32, offset: u64, length: u64) {
        let volume = VolumeNumber(volume);
        let first = offset.div_ceil(self.block_bytes);
        let end = offset.saturating_add(length) / self.block_bytes;
        if end.saturating_sub(first) <= self.index.len() as u64 {
            for number in (first..end).map(BlockNumber) {
                if let Some(slot) = self.find(Owner { volume, number }) {
                    self.forget(slot);
                }
            }
            return;
        }
        let within = |slot: &SlotNumber| {
            let owner = self.directory.owner(*slot);
            owner.volume == volume && (first..end).contains(&owner.number.0)
        };
        let slots: Vec<SlotNumber> = self.index.iter().copied().filter(within).collect();
        for slot in slots {
            self.forget(slot);
        }
    }

    /// The first block of a range of bytes, and the one after the last.
    fn blocks(&self, offset: u64, length: u64) -> (u64, u64) {
        let end = offset.saturating_add(length).div_ceil(self.block_bytes);
        (offset / self.block_bytes, if length == 0 { 0 } else { end })
    }

    fn find(&self, owner: Owner) -> Option<SlotNumber> {
        let directory = &self.directory;
        self.index
            .find(owner.key(), |slot| directory.owner(*slot) == owner)
            .copied()
    }

    /// Uses a block if it is there.
    fn touch(&mut self, owner: Owner) -> bool {
        let slot = self.find(owner);
        if let Some(slot) = slot {
            self.eviction.touched(slot.0);
        }
        slot.is_some()
    }

    /// Brings in blocks that are not there, as many at once as there is room for.
    fn bring_in(&mut self, volume: VolumeNumber, numbers: &[BlockNumber]) {
        let mut left = numbers;
        while !left.is_empty() {
            let mut slots: Vec<SlotNumber> = std::iter::from_fn(|| self.take_slot())
                .take(left.len())
                .collect();
            if slots.is_empty() {
                return;
            }
            slots.sort_unstable();
            let (now, later) = left.split_at(slots.len());
            for (&number, slot) in now.iter().zip(slots) {
                self.assign(slot, Owner { volume, number });
            }
            left = later;
        }
    }

    /// A free slot, or that of the next victim.
    fn take_slot(&mut self) -> Option<SlotNumber> {
        if let Taken::Slot(slot) = self.slots.take() {
            self.slots.let_go();
            return Some(slot);
        }
        self.evict()
    }

    fn evict(&mut self) -> Option<SlotNumber> {
        let slot = SlotNumber(self.eviction.victim()?);
        self.unindex(slot);
        Some(slot)
    }

    fn unindex(&mut self, slot: SlotNumber) {
        let key = self.directory.owner(slot).key();
        if let Ok(entry) = self.index.find_entry(key, |other| *other == slot) {
            entry.remove();
        }
    }

    fn forget(&mut self, slot: SlotNumber) {
        self.unindex(slot);
        self.eviction.removed(slot.0);
        self.slots.free(slot);
    }

    fn assign(&mut self, slot: SlotNumber, owner: Owner) {
        self.directory.set(slot, owner);
        let directory = &self.directory;
        let key = |slot: &SlotNumber| directory.owner(*slot).key();
        self.index.insert_unique(owner.key(), slot, key);
        self.eviction.inserted(slot.0, owner.key());
    }

    /// Above the high threshold: makes room until below the low one.
    fn reclaim(&mut self) {
        if !self.slots.usage().is_high() {
            return;
        }
        loop {
            let usage = self.slots.usage();
            if usage.used <= usage.low {
                return;
            }
            let Some(slot) = self.evict() else { return };
            self.slots.free(slot);
        }
    }
}

/// The cache file of a cache without data.
struct NoFile;

impl CacheFile for NoFile {
    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 65536;

    fn simulation(blocks: u32, low: u32, high: u32) -> PolicySimulation {
        let config = Config {
            low_threshold_percent: low,
            high_threshold_percent: high,
            ..Config::default()
        };
        PolicySimulation::with_blocks(&config, blocks).unwrap()
    }

    fn used(hits: u64, misses: u64) -> BlocksUsed {
        BlocksUsed { hits, misses }
    }

    #[test]
    fn requests_use_every_block_that_they_touch() {
        let mut cache = simulation(10, 99, 100);
        assert_eq!(cache.read(0, BLOCK - 1, 2), used(0, 2));
        assert_eq!(cache.read(0, 0, 2 * BLOCK), used(2, 0));
        assert_eq!(cache.write(0, 2 * BLOCK - 1, BLOCK + 1), used(1, 1));
        assert_eq!(cache.read(1, 0, 1), used(0, 1));
        assert_eq!(cache.read(0, 5, 0), used(0, 0));
    }

    #[test]
    fn the_limit_is_in_blocks_as_the_engine_counts_them() {
        let config = Config {
            max_size_bytes: Some(1 << 20),
            ..Config::default()
        };
        let cache = PolicySimulation::new(&config).unwrap();
        assert_eq!(cache.capacity_blocks(), 15);
    }

    #[test]
    fn above_the_high_threshold_room_is_made_down_to_the_low_one() {
        let mut cache = simulation(10, 50, 80);
        for block in 0..8 {
            cache.read(0, block * BLOCK, 1);
        }
        assert_eq!(cache.index.len(), 8);
        cache.read(0, 8 * BLOCK, 1);
        assert_eq!(cache.index.len(), 5);
    }

    #[test]
    fn a_read_larger_than_the_cache_goes_through_it() {
        let mut cache = simulation(4, 99, 100);
        assert_eq!(cache.read(0, 0, 10 * BLOCK), used(0, 10));
        assert_eq!(cache.index.len(), 4);
        assert_eq!(cache.eviction.len(), 4);
    }

    #[test]
    fn a_trim_drops_whole_blocks_of_its_volume() {
        for volumes in [1, 40] {
            let mut cache = simulation(100, 99, 100);
            for volume in 0..volumes {
                cache.write(volume, 0, 2 * BLOCK);
            }
            cache.trim(0, 1, BLOCK * 3);
            assert_eq!(cache.read(0, 0, 2 * BLOCK), used(1, 1));
            cache.trim(0, 0, u64::MAX);
            assert_eq!(cache.read(0, 0, 2 * BLOCK), used(0, 2));
            if volumes > 1 {
                assert_eq!(cache.read(1, 0, 2 * BLOCK), used(2, 0));
            }
        }
    }
}
