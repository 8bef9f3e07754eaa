//! A small store over the files of a cache directory, on one thread, for the crash simulator: what commits, checkpoints, recovery and the
//! clean end promise is tested with it apart from the engine.
//!
//! It keeps to the rules. A sector that the medium may call dirty is *sealed*: new bytes for it are *held*, go into the journal, and into the slot
//! once that is durable. Other sectors are written in place. A flush seals all that is dirty. Before the origin is asked to change anything, all
//! of it is sealed and nothing older is listed; what was written back is called clean only after the origin's flush. A slot is used again when
//! nothing in it is sealed or held.

mod block;
mod committing;
mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use block::{BLOCK_BYTES, Block, SECTOR_BYTES, SECTORS, Sector};
use committing::Made;

use super::checkpoint::Checkpoint;
use super::home::Home;
use super::op::each;
use super::sums::{BlockSums, Occupant, Sum};
use super::volumes::VolumeTable;
use crate::directory::{SlotNumber, VolumeNumber};
use crate::medium::MediumFile;
use crate::origin::{Origin, ZeroOptions};
use crate::sector::{BlockNumber, Mask};

/// Whose block, and which.
type Key = (u32, u64);

/// How large a trial is.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The sectors of each volume: whole blocks of 8.
    pub sectors: u64,
    /// Slots that there may be.
    pub slots: u32,
    /// The length of the journal's ring, in bytes.
    pub journal_bytes: u64,
    /// Tells the cache from others.
    pub identity: u64,
}

/// A sector whose bytes are not what the medium says they are.
#[derive(Clone, Copy, Debug)]
pub struct Bad {
    /// Its volume.
    pub volume: u32,
    /// Its number in the volume.
    pub sector: u64,
    /// Only the cache had it.
    pub is_dirty: bool,
}

/// The store.
pub struct Trial {
    setup: Setup,
    origins: Vec<Box<dyn Origin>>,
    home: Arc<Home>,
    slots: Box<dyn MediumFile>,
    volumes: VolumeTable,
    blocks: BTreeMap<Key, Block>,
    free: BTreeSet<SlotNumber>,
    /// Slots below this were given out.
    numbered: u32,
    /// Blocks of which the medium should say something else.
    unrecorded: BTreeSet<Key>,
    /// Slots that the medium may list, and that hold nothing any more.
    empties: BTreeSet<SlotNumber>,
    /// What was put into frames, and is not known to be durable.
    made: Vec<Made>,
    checkpoint: Option<Checkpoint>,
    /// Some commit has said which volumes there are.
    has_volumes: bool,
    turn: u64,
}

fn eio() -> io::Error {
    rustix::io::Errno::IO.into()
}

fn key_of(volume: u32, sector: u64) -> (Key, u32) {
    let sectors = u64::from(SECTORS);
    ((volume, sector / sectors), (sector % sectors) as u32)
}

impl Trial {
    fn occupant(&self, key: Key) -> io::Result<Occupant> {
        let volume = VolumeNumber(key.0);
        let mut volumes = self.volumes.volumes();
        let found = volumes.find(|one| one.record.id.volume == volume);
        let id = found.ok_or_else(eio)?.record.id;
        Ok(Occupant {
            volume,
            incarnation: id.incarnation,
            block: BlockNumber(key.1),
        })
    }

    /// What seems random and follows from what was done.
    fn coin(&mut self) -> u64 {
        self.turn = self.turn.wrapping_mul(6_364_136_223_846_793_005) + 1;
        self.turn >> 33
    }

    fn sums_of(&self, key: Key) -> io::Result<BlockSums> {
        Ok(BlockSums::new(self.home.seed(), self.occupant(key)?))
    }

    fn offset(&self, slot: SlotNumber, sector: u32) -> u64 {
        self.home.shape().slot_offset(slot) + u64::from(sector) * SECTOR_BYTES as u64
    }

    /// Reads whole sectors.
    ///
    /// # Errors
    /// The medium, the origin, or a dirty sector that is bad.
    pub fn read(&mut self, volume: u32, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (sector, bytes) in (first..).zip(buffer.chunks_exact_mut(SECTOR_BYTES)) {
            self.read_sector(volume, sector, bytes)?;
        }
        Ok(())
    }

    fn read_sector(&mut self, volume: u32, sector: u64, bytes: &mut [u8]) -> io::Result<()> {
        let (key, within) = key_of(volume, sector);
        if let Some(block) = self.blocks.get(&key) {
            if let Some(found) = block.in_memory(within) {
                bytes.copy_from_slice(&found);
                return Ok(());
            }
            if block.valid.has(within) && self.read_slot(key, within, bytes)? {
                return Ok(());
            }
        }
        let offset = sector * SECTOR_BYTES as u64;
        self.origins[volume as usize].read(offset, bytes)?;
        self.keep(key, within, bytes);
        Ok(())
    }

    /// Reads a valid sector from its slot. False if it is clean and bad: then it is not valid any more.
    fn read_slot(&mut self, key: Key, sector: u32, bytes: &mut [u8]) -> io::Result<bool> {
        let Some((slot, is_dirty)) = self.blocks.get(&key).and_then(|block| {
            let slot = block.slot?;
            Some((slot, block.dirty.has(sector)))
        }) else {
            return Err(eio());
        };
        self.slots.read(self.offset(slot, sector), bytes)?;
        // After a sync of slots that failed they may hold anything.
        let is_trusted = self.home.journal().failure().is_none();
        let is_good = is_trusted && self.is_good(key, slot, sector, bytes)?;
        let block = self.blocks.entry(key).or_default();
        if is_good {
            block.unverified -= Mask::span(sector, sector + 1);
            return Ok(true);
        }
        if is_dirty {
            return Err(eio());
        }
        block.valid -= Mask::span(sector, sector + 1);
        self.unrecorded.insert(key);
        Ok(false)
    }

    /// Whether these are the bytes that the medium means, or it need not be asked.
    fn is_good(&self, key: Key, slot: SlotNumber, sector: u32, bytes: &[u8]) -> io::Result<bool> {
        let unverified = self.blocks.get(&key).map(|block| block.unverified);
        if !unverified.unwrap_or_default().has(sector) {
            return Ok(true);
        }
        let mut sum = [Sum(0)];
        self.home.read_sums(slot, sector, &mut sum)?;
        Ok(self.sums_of(key)?.of(sector, bytes) == sum[0])
    }

    /// Keeps what the origin has, if there is a slot for it and the medium does not call the sector dirty.
    fn keep(&mut self, key: Key, sector: u32, bytes: &[u8]) {
        let mask = Mask::span(sector, sector + 1);
        let block = self.blocks.get(&key);
        if block.is_some_and(|block| block.is_protected(sector)) {
            return;
        }
        let Ok(slot) = self.slot_for(key, false) else {
            return;
        };
        if self.slots.write(self.offset(slot, sector), bytes).is_ok() {
            let block = self.blocks.entry(key).or_default();
            block.valid |= mask;
            block.unverified -= mask;
        }
    }

    /// Writes at an offset in bytes.
    ///
    /// # Errors
    /// No room could be made, or the medium failed.
    pub fn write(&mut self, volume: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let (sector, from) = (at / SECTOR_BYTES as u64, at as usize % SECTOR_BYTES);
            let (now, later) = rest.split_at(rest.len().min(SECTOR_BYTES - from));
            let mut bytes = [0; SECTOR_BYTES];
            if now.len() < SECTOR_BYTES {
                self.read_sector(volume, sector, &mut bytes)?;
            }
            bytes[from..from + now.len()].copy_from_slice(now);
            self.write_sector(volume, sector, bytes)?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn write_sector(&mut self, volume: u32, sector: u64, bytes: Sector) -> io::Result<()> {
        let (key, within) = key_of(volume, sector);
        let slot = self.slot_for(key, true)?;
        let offset = self.offset(slot, within);
        let mask = Mask::span(within, within + 1);
        let block = self.blocks.entry(key).or_default();
        self.unrecorded.insert(key);
        if block.is_protected(within) {
            block.held.insert(within, bytes);
        } else if let Err(error) = self.slots.write(offset, &bytes) {
            // It is as it was or as it should be.
            block.dirty |= mask & block.valid;
            block.unverified -= mask;
            return Err(error);
        }
        block.valid |= mask;
        block.dirty |= mask;
        block.zeros -= mask;
        block.unverified -= mask;
        Ok(())
    }

    /// Makes sectors zero by state.
    ///
    /// # Errors
    /// None so far.
    pub fn zero(&mut self, volume: u32, first: u64, count: u64) -> io::Result<()> {
        for sector in first..first + count {
            let (key, within) = key_of(volume, sector);
            let mask = Mask::span(within, within + 1);
            let block = self.blocks.entry(key).or_default();
            block.zeros |= mask;
            block.valid -= mask;
            block.dirty -= mask;
            block.unverified -= mask;
            block.held.remove(&within);
            self.unrecorded.insert(key);
        }
        Ok(())
    }

    /// The slot of a block, which it is given if it has none. Others give way for that if they `must`.
    fn slot_for(&mut self, key: Key, must: bool) -> io::Result<SlotNumber> {
        if let Some(slot) = self.blocks.get(&key).and_then(|block| block.slot) {
            return Ok(slot);
        }
        let mut found = self.free_slot();
        if found.is_none() && must {
            found = self.make_room(key)?;
        }
        let slot = found.ok_or_else(eio)?;
        self.blocks.entry(key).or_default().slot = Some(slot);
        Ok(slot)
    }

    fn free_slot(&mut self) -> Option<SlotNumber> {
        if let Some(slot) = self.free.pop_first() {
            return Some(slot);
        }
        if self.numbered >= self.setup.slots || self.home.prepare_slots(self.numbered + 1).is_err()
        {
            return None;
        }
        self.numbered += 1;
        Some(SlotNumber(self.numbered - 1))
    }

    fn make_room(&mut self, but: Key) -> io::Result<Option<SlotNumber>> {
        if !self.evict_one(but) {
            self.write_back()?;
            self.commit()?;
            self.evict_one(but);
        }
        Ok(self.free_slot())
    }

    /// Some block that only repeats what the origin has goes.
    fn evict_one(&mut self, but: Key) -> bool {
        let keys: Vec<Key> = self.blocks.keys().copied().collect();
        let from = self.coin() as usize % keys.len().max(1);
        let mut turned = keys[from..].iter().chain(&keys[..from]);
        turned.any(|key| *key != but && self.evict(*key))
    }

    fn evict(&mut self, key: Key) -> bool {
        let Some(block) = self.blocks.get(&key) else {
            return false;
        };
        let Some(slot) = block.slot.filter(|_| block.is_evictable()) else {
            return false;
        };
        if !block.listed.is_empty() {
            self.empties.insert(slot);
        }
        self.blocks.remove(&key);
        self.unrecorded.remove(&key);
        // What a frame says of it is about a slot that it does not have any more.
        self.made.retain(|made| made.key != key);
        self.free.insert(slot);
        true
    }

    /// Makes durable all that was written.
    ///
    /// # Errors
    /// The medium failed, now or before.
    pub fn flush(&mut self) -> io::Result<()> {
        self.commit()
    }

    /// What is dirty goes to the origins, and is clean once they are flushed.
    fn write_back(&mut self) -> io::Result<()> {
        // Nothing that the medium calls clean may be older than what the origin gets.
        self.commit()?;
        let keys: Vec<Key> = self.blocks.keys().copied().collect();
        for key in keys {
            self.write_back_block(key)?;
        }
        for origin in &self.origins {
            origin.flush()?;
        }
        for (key, block) in &mut self.blocks {
            if !(block.dirty | block.zeros).is_empty() {
                block.dirty = Mask::EMPTY;
                block.zeros = Mask::EMPTY;
                self.unrecorded.insert(*key);
            }
        }
        Ok(())
    }

    fn write_back_block(&mut self, key: Key) -> io::Result<()> {
        let Some(block) = self.blocks.get(&key) else {
            return Ok(());
        };
        let (dirty, zeros) = (block.dirty, block.zeros);
        let offset = |sector: u32| key.1 * BLOCK_BYTES + u64::from(sector) * SECTOR_BYTES as u64;
        for sector in each(dirty) {
            let mut bytes = [0; SECTOR_BYTES];
            let at = key.1 * u64::from(SECTORS) + u64::from(sector);
            self.read_sector(key.0, at, &mut bytes)?;
            self.origins[key.0 as usize].write(offset(sector), &bytes, false)?;
        }
        for sector in each(zeros) {
            let length = SECTOR_BYTES as u64;
            let options = ZeroOptions::default();
            self.origins[key.0 as usize].zero(offset(sector), length, options)?;
        }
        Ok(())
    }

    /// Writes everything back and forgets it.
    ///
    /// # Errors
    /// The medium or an origin failed.
    pub fn drain(&mut self) -> io::Result<()> {
        self.write_back()?;
        self.commit()?;
        let keys: Vec<Key> = self.blocks.keys().copied().collect();
        for key in keys {
            self.evict(key);
        }
        self.commit()
    }
}
