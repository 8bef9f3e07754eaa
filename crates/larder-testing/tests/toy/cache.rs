//! The toy at work.

use std::io;

use larder::{Medium, MediumFile, Origin};
use larder_testing::Random;
use larder_testing::crash::value::SECTOR_BYTES;
use larder_testing::crash::{BadSector, Look, Machine, SimMedium, SimOrigin, Store};

use super::format::{
    Entry, Key, Map, Place, RECORD_BYTES, RECORDS, encode_record, encode_table, sum_of,
};
use super::{Found, Mistake, SLOTS, Toy, VOLUMES};

type Sector = [u8; SECTOR_BYTES];

pub(super) struct Cache {
    toy: Toy,
    medium: SimMedium,
    slots: Box<dyn MediumFile>,
    journal: Box<dyn MediumFile>,
    origins: Vec<SimOrigin>,
    /// What the medium says.
    recorded: Map,
    /// What is so.
    current: Map,
    identity: u64,
    generation: u64,
    next: u64,
    /// The medium has failed: it is not believed any more.
    is_dead: bool,
    /// Without it, it only looks.
    lock: Option<Box<dyn MediumFile>>,
}

fn origins(machine: &Machine) -> Vec<SimOrigin> {
    let volumes = 0..VOLUMES as usize;
    volumes.map(|volume| machine.origin(volume)).collect()
}

fn offset(sector: u64) -> u64 {
    sector * SECTOR_BYTES as u64
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Cache {
    pub(super) fn new(
        toy: Toy,
        machine: &Machine,
        found: Found,
        lock: Option<Box<dyn MediumFile>>,
    ) -> Self {
        Self {
            toy,
            medium: machine.medium(),
            slots: found.slots,
            journal: found.journal,
            origins: origins(machine),
            current: found.recorded.clone(),
            recorded: found.recorded,
            identity: found.identity,
            generation: found.generation,
            next: found.next,
            is_dead: false,
            lock,
        }
    }

    fn has(&self, mistake: Mistake) -> bool {
        self.toy.mistake == mistake
    }

    /// Runs something that is final if it fails.
    fn finally(&mut self, run: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.is_dead {
            return Err(eio());
        }
        let result = run(self);
        self.is_dead = result.is_err() && !self.has(Mistake::FailureForgotten);
        result
    }

    /// Writes all that the journal says into a new table. The journal begins anew.
    pub(super) fn checkpoint(&mut self) -> io::Result<()> {
        self.finally(|cache| {
            let table = encode_table(cache.identity, cache.generation + 1, &cache.recorded);
            if cache.medium.names()?.iter().any(|name| name == "table.new") {
                cache.medium.remove("table.new")?;
            }
            let file = cache.medium.create("table.new")?;
            file.write(0, &table)?;
            file.sync()?;
            cache.medium.rename("table.new", "table")?;
            if !cache.has(Mistake::NameNotSynced) {
                cache.medium.sync()?;
            }
            cache.generation += 1;
            cache.next = 0;
            Ok(())
        })
    }

    /// What the medium should say and does not.
    fn changes(&self) -> Vec<(Key, Option<Entry>)> {
        let (current, recorded) = (&self.current, &self.recorded);
        let gone = recorded.keys().filter(|key| !current.contains_key(key));
        let gone = gone.map(|&key| (key, None));
        let new = current
            .iter()
            .filter(|(key, entry)| recorded.get(key) != Some(entry));
        gone.chain(new.map(|(&key, &entry)| (key, Some(entry))))
            .collect()
    }

    /// Data, then the records of it.
    fn commit(&mut self) -> io::Result<()> {
        let changes = self.changes();
        if changes.is_empty() && !self.is_dead {
            return Ok(());
        }
        if self.next + changes.len() as u64 > RECORDS {
            self.checkpoint()?;
        }
        self.finally(|cache| {
            if !cache.has(Mistake::OrderSwapped) {
                cache.slots.sync()?;
            }
            for (key, entry) in &changes {
                let place = Place {
                    identity: cache.identity,
                    generation: cache.generation,
                    number: cache.next,
                };
                let record = encode_record(place, *key, entry.as_ref());
                cache.next += 1;
                let offset = place.number * RECORD_BYTES as u64;
                cache.journal.write(offset, &record)?;
            }
            if !cache.has(Mistake::SyncLeftOut) {
                cache.journal.sync()?;
            }
            if cache.has(Mistake::OrderSwapped) {
                cache.slots.sync()?;
            }
            cache.recorded = cache.current.clone();
            Ok(())
        })
    }

    /// Before the origin gets anything, the medium says nothing older of it.
    fn write_back(&mut self) -> io::Result<()> {
        if !self.has(Mistake::RevokeLeftOut) {
            self.commit()?;
        }
        for (key, entry) in &self.current {
            if entry.is_dirty {
                let sector = self.slot(*key, entry)?.ok_or_else(eio)?;
                self.origins[key.0 as usize].write(offset(key.1), &sector, false)?;
            }
        }
        if self.has(Mistake::CleanBeforeFlush) {
            self.current
                .values_mut()
                .for_each(|entry| entry.is_dirty = false);
            self.commit()?;
        }
        self.origins.iter().try_for_each(SimOrigin::flush)?;
        self.current
            .values_mut()
            .for_each(|entry| entry.is_dirty = false);
        Ok(())
    }

    /// What is in a slot, if it is what should be there.
    fn slot(&self, key: Key, entry: &Entry) -> io::Result<Option<Sector>> {
        let mut sector = [0; SECTOR_BYTES];
        self.slots.read(offset(entry.slot), &mut sector)?;
        Ok((sum_of(self.identity, key, &sector) == entry.sum).then_some(sector))
    }

    /// What a commit that failed has left on the medium is not known: no slot is free any more.
    fn free_slot(&self) -> Option<u64> {
        if self.is_dead {
            return None;
        }
        let is_in = |map: &Map, slot| map.values().any(|entry| entry.slot == slot);
        (0..SLOTS).find(|&slot| {
            let is_promised = is_in(&self.recorded, slot) && !self.has(Mistake::SlotReusedEarly);
            !is_in(&self.current, slot) && !is_promised
        })
    }

    fn make_room(&mut self) -> io::Result<u64> {
        if self.free_slot().is_none() {
            self.commit()?;
        }
        if self.free_slot().is_none() {
            self.write_back()?;
            self.current.clear();
            self.commit()?;
        }
        self.free_slot().ok_or_else(eio)
    }

    /// Writes bytes of a sector, from one of them on.
    fn put(&mut self, key: Key, from: usize, bytes: &[u8]) -> io::Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        if bytes.len() < SECTOR_BYTES {
            if self.has(Mistake::EdgeOfOrigin) {
                self.origins[key.0 as usize].read(offset(key.1), &mut sector)?;
            } else {
                self.get(key, &mut sector)?;
            }
        }
        sector[from..from + bytes.len()].copy_from_slice(bytes);
        let slot = self.make_room()?;
        self.slots.write(offset(slot), &sector)?;
        self.insert(key, slot, &sector, true);
        Ok(())
    }

    fn insert(&mut self, key: Key, slot: u64, sector: &[u8], is_dirty: bool) {
        let sum = sum_of(self.identity, key, sector);
        let entry = Entry {
            slot,
            is_dirty,
            sum,
        };
        self.current.insert(key, entry);
    }

    fn get(&mut self, key: Key, sector: &mut [u8]) -> io::Result<()> {
        if let Some(entry) = self.current.get(&key) {
            match self.slot(key, entry)? {
                Some(found) => {
                    sector.copy_from_slice(&found);
                    return Ok(());
                }
                None if entry.is_dirty => return Err(eio()),
                None => {}
            }
            self.current.remove(&key);
        }
        self.origins[key.0 as usize].read(offset(key.1), sector)?;
        if self.lock.is_some()
            && let Some(slot) = self.free_slot()
            && self.slots.write(offset(slot), sector).is_ok()
        {
            self.insert(key, slot, sector, false);
        }
        Ok(())
    }
}

impl Look for Cache {
    fn read(&mut self, volume: u32, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut sectors = (first..).zip(buffer.chunks_exact_mut(SECTOR_BYTES));
        sectors.try_for_each(|(sector, bytes)| self.get((volume, sector), bytes))
    }

    fn bad(&mut self) -> Vec<BadSector> {
        let is_bad =
            |(key, entry): &(&Key, &Entry)| !matches!(self.slot(**key, entry), Ok(Some(_)));
        let bad = self.recorded.iter().filter(is_bad);
        bad.map(|(key, entry)| BadSector {
            volume: key.0,
            sector: key.1,
            is_dirty: entry.is_dirty,
            listed: None,
        })
        .collect()
    }
}

impl Store for Cache {
    fn write(&mut self, volume: u32, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        let mut at = offset as usize;
        let mut rest = data;
        while !rest.is_empty() {
            let from = at % SECTOR_BYTES;
            let (now, later) = rest.split_at(rest.len().min(SECTOR_BYTES - from));
            self.put((volume, (at / SECTOR_BYTES) as u64), from, now)?;
            at += now.len();
            rest = later;
        }
        if fua { self.flush(volume) } else { Ok(()) }
    }

    fn zero(&mut self, volume: u32, first: u64, count: u64, fua: bool) -> io::Result<()> {
        let zeros = vec![0; count as usize * SECTOR_BYTES];
        self.write(volume, offset(first), &zeros, fua)
    }

    fn trim(&mut self, volume: u32, first: u64, count: u64) -> io::Result<()> {
        self.zero(volume, first, count, false)
    }

    fn flush(&mut self, _: u32) -> io::Result<()> {
        if self.toy.flushes_origin && !self.has(Mistake::FlushStopsHere) {
            self.write_back()
        } else {
            self.commit()
        }
    }

    fn step(&mut self, random: &mut Random) {
        // What fails here is met again by whoever needs it.
        let _ = match random.below(4) {
            0 => self.commit(),
            1 => self.write_back(),
            2 => self.checkpoint(),
            _ => {
                self.current
                    .retain(|_, entry| entry.is_dirty || random.chance(50));
                Ok(())
            }
        };
    }

    fn drain(&mut self) -> io::Result<()> {
        self.write_back()?;
        self.current.clear();
        self.commit()
    }
}

/// Before anything was made: the origins.
pub(super) struct Bare {
    origins: Vec<SimOrigin>,
}

impl Bare {
    pub(super) fn new(machine: &Machine) -> Self {
        let origins = origins(machine);
        Self { origins }
    }
}

impl Look for Bare {
    fn read(&mut self, volume: u32, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.origins[volume as usize].read(offset(first), buffer)
    }

    fn bad(&mut self) -> Vec<BadSector> {
        Vec::new()
    }
}
