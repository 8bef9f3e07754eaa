//! What lies in a cache directory beside journal and slots: a slot's entry, twice; its sums; the volumes; the superblock that says which of
//! them count.
//!
//! Nothing here is durable until it is synced. Entries and sums are written in place: as long as the superblock
//! says "in use", what the journal says of a slot counts more.

use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use super::entry::{Entry, EntryBytes};
use super::files::{Files, Identity};
use super::header::Role;
use super::open_error::{OpenError, SYNCED};
use super::refusal::Refusal;
use super::regions;
use super::runs::{self, Runs};
use super::shape::{ENTRY_BYTES, PAGE_BYTES, Shape};
use super::sums::{Seed, Sum};
use super::superblocks::Superblocks;
use super::volumes::VolumeTable;
use crate::directory::SlotNumber;
use crate::halves::{both, halves};
use crate::medium::MediumFile;
use crate::sync;

/// How many entries are read at once: a mebibyte.
const PART_SLOTS: u32 = (1 << 20) / ENTRY_BYTES as u32;

/// How many slots get their place in the tables at once: a page of entries.
const PREPARED_AT_ONCE: u32 = (PAGE_BYTES / ENTRY_BYTES) as u32;

/// How many slots have their place on the disk.
#[derive(Debug)]
struct Prepared {
    /// In map, map.copy and sums.
    tables: u32,
    /// Within the length of the file of slots.
    slots: u32,
}

/// The files and what is known of them.
pub(super) struct Tables {
    pub identity: Identity,
    pub seed: Seed,
    pub files: Files,
    superblocks: Mutex<Superblocks>,
    prepared: Mutex<Prepared>,
}

impl Tables {
    pub(super) fn new(files: Files, superblocks: Superblocks) -> Self {
        let superblock = superblocks.current();
        let (uuid, shape) = (superblock.uuid, superblock.shape);
        let prepared = Prepared {
            tables: superblock.slots_numbered,
            slots: superblock.slots_numbered,
        };
        Self {
            identity: Identity { uuid, shape },
            seed: Seed::of_cache(uuid),
            files,
            superblocks: Mutex::new(superblocks),
            prepared: Mutex::new(prepared),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.identity.shape
    }

    pub(super) fn superblocks(&self) -> MutexGuard<'_, Superblocks> {
        sync::lock(&self.superblocks)
    }

    fn file(&self, role: Role) -> &dyn MediumFile {
        let files = &self.files;
        match role {
            Role::Journal => &*files.journal,
            Role::Map => &*files.map,
            Role::MapCopy => &*files.map_copy,
            Role::Sums => &*files.sums,
            Role::Volumes => &*files.volumes,
            Role::Slots => &*files.slots,
        }
    }

    /// Makes durable what was written to a file, through whichever handle.
    pub(super) fn sync(&self, role: Role) -> Result<(), OpenError> {
        let unsynced = OpenError::io(role.file_name(), SYNCED);
        self.file(role).sync().map_err(unsynced)
    }

    /// The volume table that counts.
    pub(super) fn read_volumes(&self) -> Result<VolumeTable, OpenError> {
        let region = self.superblocks().current().volumes;
        regions::read(&*self.files.volumes, region, self.seed, self.shape())
    }

    /// Each entry of these slots in order, or that it is damaged in both copies.
    pub(super) fn read_entries(
        &self,
        slots: Range<u32>,
        each: &mut dyn FnMut(SlotNumber, Result<Entry, Refusal>) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let mut first = slots.start;
        while first < slots.end {
            let end = slots.end.min(first.saturating_add(PART_SLOTS));
            self.read_part(first..end, each)?;
            first = end;
        }
        Ok(())
    }

    fn read_part(
        &self,
        slots: Range<u32>,
        each: &mut dyn FnMut(SlotNumber, Result<Entry, Refusal>) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let length = slots.len() * ENTRY_BYTES as usize;
        let offset = self.shape().entry_offset(SlotNumber(slots.start));
        let mut map = vec![0; length];
        if self.files.map.read(offset, &mut map).is_err() {
            // What cannot be read is damaged: zeros are no entry.
            map.fill(0);
        }
        let mut copy: Option<Vec<u8>> = None;
        let (entries, _) = map.as_chunks();
        for (at, (number, entry)) in slots.zip(entries).enumerate() {
            let slot = SlotNumber(number);
            if let Some(entry) = Entry::decode(entry, self.seed, slot, self.shape()) {
                each(slot, Ok(entry))?;
                continue;
            }
            let copy = match &mut copy {
                Some(copy) => copy,
                none => none.insert(self.read_copy(offset, length)?),
            };
            let (copies, _) = copy.as_chunks();
            let chosen = self.choose(entry, &copies[at], slot);
            each(slot, chosen)?;
        }
        Ok(())
    }

    fn read_copy(&self, offset: u64, length: usize) -> Result<Vec<u8>, OpenError> {
        let mut copy = vec![0; length];
        let unread = OpenError::io(Role::MapCopy.file_name(), "read");
        self.files
            .map_copy
            .read(offset, &mut copy)
            .map_err(unread)?;
        Ok(copy)
    }

    fn choose(
        &self,
        map: &EntryBytes,
        copy: &EntryBytes,
        slot: SlotNumber,
    ) -> Result<Entry, Refusal> {
        Entry::choose(map, || *copy, self.seed, slot, self.shape())
    }

    /// Whether every entry can be had, but those of slots of which somebody else says what they hold.
    pub(super) fn check_entries(
        &self,
        is_said: &(dyn Fn(SlotNumber) -> bool + Sync),
    ) -> Result<(), OpenError> {
        let numbered = self.superblocks().current().slots_numbered;
        let check = |slots: Range<u32>| {
            self.read_entries(slots, &mut |slot, entry| match entry {
                Err(refusal) if !is_said(slot) => Err(refusal.into()),
                _ => Ok(()),
            })
        };
        let (lower, upper) = halves(0..numbered);
        let (lower, upper) = both(numbered, || check(lower), || check(upper));
        lower.and(upper)
    }

    /// Writes entries, which come by rising slot, into both copies.
    pub(super) fn write_entries(
        &self,
        entries: impl Iterator<Item = (SlotNumber, Entry)>,
    ) -> Result<(), OpenError> {
        let unwritten = |role: Role| OpenError::io(role.file_name(), "written");
        let mut map = Runs::new(&*self.files.map);
        let mut copy = Runs::new(&*self.files.map_copy);
        for (slot, entry) in entries {
            let bytes = entry.encode(self.seed, slot);
            let offset = self.shape().entry_offset(slot);
            map.put(offset, &bytes).map_err(unwritten(Role::Map))?;
            copy.put(offset, &bytes).map_err(unwritten(Role::MapCopy))?;
        }
        map.finish().map_err(unwritten(Role::Map))?;
        copy.finish().map_err(unwritten(Role::MapCopy))
    }

    /// The same of all slots from the first on. Pages that say it already are left alone.
    pub(super) fn update_entries(
        &self,
        entries: &mut dyn Iterator<Item = (SlotNumber, Entry)>,
    ) -> Result<(), OpenError> {
        let mut bytes = Vec::with_capacity(PART_SLOTS as usize * ENTRY_BYTES as usize);
        let mut offset = self.shape().entry_offset(SlotNumber(0));
        loop {
            bytes.clear();
            for (slot, entry) in entries.take(PART_SLOTS as usize) {
                bytes.extend_from_slice(&entry.encode(self.seed, slot));
            }
            if bytes.is_empty() {
                return Ok(());
            }
            for role in [Role::Map, Role::MapCopy] {
                let updated = runs::update(self.file(role), offset, &bytes);
                updated.map_err(OpenError::io(role.file_name(), "written"))?;
            }
            offset += bytes.len() as u64;
        }
    }

    /// Reads the sums of neighbouring sectors of a slot.
    pub(super) fn read_sums(
        &self,
        slot: SlotNumber,
        first: u32,
        into: &mut [Sum],
    ) -> io::Result<()> {
        let mut bytes = vec![0; into.len() * 8];
        let offset = self.shape().sum_offset(slot, first);
        self.files.sums.read(offset, &mut bytes)?;
        let (sums, _) = bytes.as_chunks();
        for (into, sum) in into.iter_mut().zip(sums) {
            *into = Sum(u64::from_le_bytes(*sum));
        }
        Ok(())
    }

    /// Writes the sums of neighbouring sectors of a slot.
    pub(super) fn write_sums(&self, slot: SlotNumber, first: u32, sums: &[Sum]) -> io::Result<()> {
        let bytes: Vec<u8> = sums.iter().flat_map(|sum| sum.0.to_le_bytes()).collect();
        let offset = self.shape().sum_offset(slot, first);
        self.files.sums.write(offset, &bytes)
    }

    /// Gives all slots below that number their place in the tables, with disk space, and the file of slots the length for them.
    ///
    /// What lies at places that were given before stays.
    pub(super) fn prepare(&self, numbered: u32) -> io::Result<()> {
        let mut prepared = sync::lock(&self.prepared);
        let shape = self.shape();
        if numbered > prepared.tables {
            let until = numbered
                .checked_next_multiple_of(PREPARED_AT_ONCE)
                .unwrap_or(numbered);
            for role in [Role::Map, Role::MapCopy, Role::Sums] {
                let from = shape.file_bytes(role, prepared.tables, 0);
                let to = shape.file_bytes(role, until, 0);
                self.file(role).allocate(from, to - from)?;
                lengthen(self.file(role), to)?;
            }
            prepared.tables = until;
        }
        if numbered > prepared.slots {
            // What is written there comes later, and makes it no shorter.
            let bytes = shape.file_bytes(Role::Slots, numbered, 0);
            lengthen(self.file(Role::Slots), bytes)?;
            prepared.slots = numbered;
        }
        Ok(())
    }
}

/// Makes a file at least so long.
fn lengthen(file: &dyn MediumFile, bytes: u64) -> io::Result<()> {
    match file.length()? < bytes {
        true => file.set_length(bytes),
        false => Ok(()),
    }
}
