//! How a trial begins, what it does in the background, and how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::block::{BLOCK_BYTES, Block, SECTOR_BYTES, SECTORS};
use super::{Bad, Key, Setup, Trial, key_of};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::medium::Medium;
use crate::origin::Origin;
use crate::persist::entry::{Content, Entry};
use crate::persist::home::{Home, Opened, Wanted};
use crate::persist::op::{RecordedZeros, VolumeId, VolumeRecord, each};
use crate::persist::volumes::{TableVolume, VolumeTable};
use crate::sector::Mask;

type Blocks = BTreeMap<Key, Block>;

impl Trial {
    /// Opens the directory, or makes it.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn open(
        medium: Arc<dyn Medium>,
        origins: Vec<Box<dyn Origin>>,
        setup: Setup,
    ) -> Result<Self, String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let wanted = Wanted {
            block_bytes: Some(BLOCK_BYTES),
            default_block_bytes: BLOCK_BYTES,
            max_size_bytes: None,
            uuid_bits: u128::from(setup.identity),
            lock_text: "a trial".to_owned(),
        };
        let opened = Home::open_with(medium, &wanted, setup.journal_bytes);
        let mut opened = opened.map_err(|error| told(&error))?;
        let slots = opened.home.take_slots_file();
        let slots = slots.map_err(|error| told(&error))?;
        let has_volumes = opened.volumes.volumes().next().is_some();
        if !has_volumes {
            add_volumes(&mut opened.volumes, &setup, origins.len() as u32)?;
        }
        let (blocks, free) = recovered(&opened)?;
        Ok(Self {
            setup,
            origins,
            slots,
            blocks,
            free,
            numbered: opened.slots_numbered,
            home: Arc::new(opened.home),
            volumes: opened.volumes,
            unrecorded: BTreeSet::new(),
            empties: BTreeSet::new(),
            made: Vec::new(),
            checkpoint: None,
            has_volumes,
            turn: setup.identity,
        })
    }

    /// Does something in the background, which the number says.
    pub fn step(&mut self, number: u64) {
        // What fails here is met again by whoever needs it.
        let _ = match number % 8 {
            0 => self.commit(),
            1 => self.write_back(),
            2 | 3 => self.list_one(),
            4 => self.step_checkpoint(1 + number / 8 % 12),
            5 => self.step_checkpoint(100),
            6 => self.vouch(),
            _ => {
                self.evict_one((u32::MAX, 0));
                Ok(())
            }
        };
    }

    fn list_one(&mut self) -> io::Result<()> {
        let count = self.blocks.len().max(1);
        let chosen = self.coin() as usize % count;
        match self.blocks.keys().nth(chosen).copied() {
            Some(key) => self.list(key),
            None => Ok(()),
        }
    }

    fn vouch(&mut self) -> io::Result<()> {
        let vouched = self.home.journal().vouch();
        vouched
            .map(drop)
            .map_err(|error| io::Error::other(error.to_string()))
    }

    fn step_checkpoint(&mut self, steps: u64) -> io::Result<()> {
        let mut checkpoint = match self.checkpoint.take() {
            Some(checkpoint) => checkpoint,
            None => match self.home.begin_checkpoint() {
                Some(checkpoint) => checkpoint,
                None => return Ok(()),
            },
        };
        for _ in 0..steps {
            let done = self.home.step_checkpoint(&mut checkpoint);
            if done.map_err(io::Error::other)? {
                return Ok(());
            }
        }
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Ends the session, if all that the journal has is in its slots. False if it goes on.
    ///
    /// # Errors
    /// The medium failed: it can still be looked at.
    pub fn close(&mut self) -> io::Result<bool> {
        self.commit()?;
        let mut blocks = self.blocks.values();
        if !blocks.all(|block| block.committing.is_empty()) {
            return Ok(false);
        }
        self.checkpoint = None;
        let mut contents: BTreeMap<SlotNumber, Content> = BTreeMap::new();
        for (key, block) in self.blocks.clone() {
            if let Some(slot) = block.slot {
                self.write_sums(key, slot, &block)?;
                let content = Content {
                    occupant: self.occupant(key)?,
                    valid: block.valid,
                    dirty: block.dirty,
                    heat: 2,
                };
                contents.insert(slot, content);
            }
        }
        self.note_zeros()?;
        let mut entries = (0..self.numbered).map(|number| Entry {
            seq: 0,
            content: contents.get(&SlotNumber(number)).copied(),
        });
        let closed = self.home.close(&self.volumes, self.numbered, &mut entries);
        closed.map_err(io::Error::other)?;
        Ok(true)
    }

    /// Of sectors that were not looked at since the start, the sums that there are stay.
    fn write_sums(&self, key: Key, slot: SlotNumber, block: &Block) -> io::Result<()> {
        let sums = self.sums_of(key)?;
        for sector in each(block.valid - block.unverified) {
            let mut bytes = [0; SECTOR_BYTES];
            self.slots.read(self.offset(slot, sector), &mut bytes)?;
            let sum = sums.of(sector, &bytes);
            self.home.write_sums(slot, sector, &[sum])?;
        }
        Ok(())
    }

    fn note_zeros(&mut self) -> io::Result<()> {
        let ids: Vec<VolumeId> = self.volumes.volumes().map(|one| one.record.id).collect();
        for id in ids {
            let mut zeros = Vec::new();
            for ((volume, number), block) in &self.blocks {
                let base = number * BLOCK_BYTES;
                let at = |sector: u32| base + u64::from(sector) * SECTOR_BYTES as u64;
                if VolumeNumber(*volume) == id.volume {
                    zeros.extend(block.zeros.runs().map(|(first, end)| RecordedZeros {
                        start: at(first),
                        end: at(end),
                        may_trim: false,
                    }));
                }
            }
            let set = self.volumes.set_zeros(id, zeros);
            set.map_err(|malformed| io::Error::other(malformed.to_string()))?;
        }
        Ok(())
    }

    /// Every sector of which the medium says something else than its slot holds. Right after the start.
    ///
    /// # Errors
    /// The medium cannot be read.
    pub fn bad(&self) -> io::Result<Vec<Bad>> {
        let mut bad = Vec::new();
        for (key, block) in &self.blocks {
            let Some(slot) = block.slot else { continue };
            for sector in each(block.unverified) {
                let mut bytes = [0; SECTOR_BYTES];
                let offset = self.offset(slot, sector);
                let is_read = self.slots.read(offset, &mut bytes).is_ok();
                if !is_read || !self.is_good(*key, slot, sector, &bytes)? {
                    bad.push(Bad {
                        volume: key.0,
                        sector: key.1 * u64::from(SECTORS) + u64::from(sector),
                        is_dirty: block.dirty.has(sector),
                    });
                }
            }
        }
        Ok(bad)
    }
}

fn add_volumes(table: &mut VolumeTable, setup: &Setup, count: u32) -> Result<(), String> {
    for number in 0..count {
        let record = |id| VolumeRecord {
            id,
            size_bytes: setup.sectors * SECTOR_BYTES as u64,
            sector_shift: 9,
            changed_since_version: false,
            has_queue: false,
            name: format!("volume {number}"),
            cache_id: String::new(),
            version: None,
        };
        table
            .add(VolumeNumber(number), record)
            .map_err(|malformed| malformed.to_string())?;
    }
    Ok(())
}

/// What the entries and the volume table say, and the slots of which they say nothing.
fn recovered(opened: &Opened) -> Result<(Blocks, BTreeSet<SlotNumber>), String> {
    let mut blocks = Blocks::new();
    let mut free = BTreeSet::new();
    let mut twice = None;
    let mut each_entry = |slot: SlotNumber, entry: Entry| {
        // An entry without a valid sector says nothing of its block, which may have another slot by now.
        let known = entry.content.filter(|content| {
            let id = content.occupant.volume_id();
            !content.valid.is_empty() && opened.volumes.get(id).is_some()
        });
        let Some(content) = known else {
            free.insert(slot);
            return;
        };
        let key = (content.occupant.volume.0, content.occupant.block.0);
        let block = Block {
            slot: Some(slot),
            valid: content.valid,
            dirty: content.dirty,
            sealed: content.dirty,
            listed: content.valid - content.dirty,
            unverified: content.valid,
            ..Block::default()
        };
        if blocks.insert(key, block).is_some() {
            twice = Some(format!("block {key:?} is in two slots"));
        }
    };
    opened
        .home
        .read_entries(0..u32::MAX, &mut each_entry)
        .map_err(|error| error.to_string())?;
    for volume in opened.volumes.volumes() {
        add_zeros(&mut blocks, volume);
    }
    match twice {
        Some(message) => Err(message),
        None => Ok((blocks, free)),
    }
}

fn add_zeros(blocks: &mut Blocks, volume: &TableVolume) {
    let sector_bytes = SECTOR_BYTES as u64;
    for zeros in volume.recorded_zeros(0, u64::MAX) {
        for sector in zeros.start / sector_bytes..zeros.end / sector_bytes {
            let (key, within) = key_of(volume.record.id.volume.0, sector);
            let mask = Mask::span(within, within + 1);
            let block = blocks.entry(key).or_default();
            block.zeros |= mask;
            block.sealed_zeros |= mask;
        }
    }
}
