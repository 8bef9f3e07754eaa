//! A look at a cache directory by somebody who does not have its lock: what a start would make of it, in memory. Nothing is written.
//!
//! Somebody else may have the directory open and go on, so that a look may have tables of one moment and frames of another, and what it
//! refuses may be a page that was just being written. Whoever looks asks [`Look::is_current`] afterwards, and looks again if it is not. As long as the
//! superblock is the same, what frames say counts more than whatever a checkpoint under way has written into the tables.

use std::io;
use std::ops::Range;

use super::bytes::Reader;
use super::contents::{Contents, LOCK_FILE_NAME};
use super::entry::Entry;
use super::files::{self, Files};
use super::fold::Fold;
use super::header::{Page, Role};
use super::journal;
use super::lock;
use super::making;
use super::op::VolumeRecord;
use super::open_error::{OpenError, THE_DIRECTORY};
use super::queue_log;
use super::refusal::Version;
use super::ring::{self, Folding, PartEnd};
use super::shape::{PAGE_BYTES, Shape};
use super::sums::{Seed, Sum};
use super::superblock::{FILE_NAME, State, Superblock};
use super::superblocks::{self, Superblocks};
use super::tables::Tables;
use super::volumes::VolumeTable;
use crate::directory::SlotNumber;
use crate::medium::Medium;
use crate::sector::Geometry;

/// Where the version of a superblock's page lies.
const VERSION_AT: Range<usize> = 8..12;

/// What of the journal is kept in memory: sums take most of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    States,
    StatesAndSums,
}

/// What a directory says.
pub(crate) struct Look {
    tables: Tables,
    superblock: Superblock,
    folding: Folding,
}

/// What is in the superblock's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copies {
    /// How many of the two copies are whole.
    pub whole: u32,
    /// That of a whole one.
    pub version: Version,
}

/// What the directory is, by what is in it.
///
/// # Errors
/// It cannot be read; or it is a cache whose superblock was lost.
pub(crate) fn contents(medium: &dyn Medium) -> Result<Contents, OpenError> {
    let unread = OpenError::io(THE_DIRECTORY, "read");
    let names = medium.names().map_err(unread)?;
    let contents = Contents::of(names.iter().map(String::as_bytes));
    if contents == Contents::Unfinished {
        making::check_unfinished(medium)?;
    }
    Ok(contents)
}

/// Whether somebody has the directory open.
pub(crate) fn is_in_use(medium: &dyn Medium) -> Result<bool, OpenError> {
    let unasked = OpenError::io(LOCK_FILE_NAME, "looked at");
    medium.is_locked(LOCK_FILE_NAME).map_err(unasked)
}

/// Who has it open, or had it last: one line, or nothing.
pub(crate) fn user(medium: &dyn Medium) -> String {
    lock::read_text(medium).unwrap_or_default()
}

impl Look {
    /// Reads all but the entries and the queues.
    ///
    /// # Errors
    /// A start would refuse the directory; or it changes just now.
    pub(crate) fn take(medium: &dyn Medium, keeping: Keeping) -> Result<Self, OpenError> {
        let file = files::open_named(medium, FILE_NAME)?;
        let chosen = superblocks::read(&*file)?;
        let superblock = chosen.superblock.clone();
        let files = Files::open(medium, &superblock)?;
        let tables = Tables::new(files, Superblocks::new(file, chosen));
        let folding = fold(&tables, &superblock, keeping)?;
        Ok(Self {
            tables,
            superblock,
            folding,
        })
    }

    /// Whether the superblock is still the one that this was read by.
    pub(crate) fn is_current(&self, medium: &dyn Medium) -> Result<bool, OpenError> {
        let file = files::open_named(medium, FILE_NAME)?;
        Ok(superblocks::read(&*file)?.superblock == self.superblock)
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    pub(crate) fn shape(&self) -> Shape {
        self.superblock.shape
    }

    pub(crate) fn seed(&self) -> Seed {
        self.tables.seed
    }

    fn folded(&self) -> &Fold {
        &self.folding.fold
    }

    /// The volumes as they are after the last frame.
    pub(crate) fn volumes(&self) -> &VolumeTable {
        self.folded().volumes()
    }

    /// The sizes of a volume's blocks and sectors.
    pub(crate) fn geometry(&self, record: &VolumeRecord) -> Option<Geometry> {
        record.geometry(self.shape().block_bytes())
    }

    /// How many frames the journal has that the tables do not.
    pub(crate) fn frames(&self) -> u64 {
        self.folding.frames
    }

    /// How much of the ring they take, in bytes.
    pub(crate) fn journal_used_bytes(&self) -> u64 {
        let Superblock {
            tail,
            journal_bytes,
            ..
        } = self.superblock;
        journal::distance(tail, self.folding.next, journal_bytes)
    }

    /// How many slots the tables will have once they have what the frames say.
    pub(crate) fn slots_numbered(&self) -> u32 {
        self.folded().slots_numbered(self.superblock.slots_numbered)
    }

    /// The copies of the superblock.
    pub(crate) fn copies(&self, medium: &dyn Medium) -> Result<Copies, OpenError> {
        let file = files::open_named(medium, FILE_NAME)?;
        let mut copies = Copies {
            whole: 0,
            version: Version::CURRENT,
        };
        for at in [0, PAGE_BYTES] {
            let mut page: Page = [0; PAGE_BYTES as usize];
            // What cannot be read is damaged.
            let is_read = file.read(at, &mut page).is_ok();
            if is_read && Superblock::decode(&page).is_ok() {
                copies.whole += 1;
                let version = Version::take(&mut Reader::new(&page[VERSION_AT]));
                copies.version = version.unwrap_or(copies.version);
            }
        }
        Ok(copies)
    }

    /// How long the files are, in bytes, by name.
    pub(crate) fn files(&self, medium: &dyn Medium) -> Result<Vec<(String, u64)>, OpenError> {
        let roles = Role::ALL.into_iter().map(Role::file_name);
        let mut queues = medium
            .names()
            .map_err(OpenError::io(THE_DIRECTORY, "read"))?;
        queues.retain(|name| queue_log::volume_of(name).is_some());
        let length = |name: String| {
            let file = files::open_named(medium, &name)?;
            let length = file.length().map_err(OpenError::io(&name, "looked at"))?;
            Ok((name, length))
        };
        std::iter::once(FILE_NAME)
            .chain(roles)
            .map(str::to_owned)
            .chain(queues)
            .map(length)
            .collect()
    }

    /// What these slots hold, in order, of those that are numbered.
    ///
    /// # Errors
    /// An entry is damaged of which no frame says what it should be.
    pub(crate) fn read_entries(
        &self,
        slots: Range<u32>,
        each: &mut dyn FnMut(SlotNumber, Entry),
    ) -> Result<(), OpenError> {
        let known = self.superblock.slots_numbered;
        let in_tables = slots.start.min(known)..slots.end.min(known);
        self.tables.read_entries(in_tables, &mut |slot, entry| {
            let entry = match self.folded().get(slot) {
                Some(folded) => folded.entry(),
                None => entry?,
            };
            each(slot, entry);
            Ok(())
        })?;
        let new = slots.start.max(known)..slots.end.min(self.slots_numbered());
        for slot in new.map(SlotNumber) {
            if let Some(folded) = self.folded().get(slot) {
                each(slot, folded.entry());
            }
        }
        Ok(())
    }

    /// What a slot holds.
    pub(crate) fn entry(&self, slot: SlotNumber) -> Result<Option<Entry>, OpenError> {
        let mut found = None;
        let slots = slot.0..slot.0.saturating_add(1);
        self.read_entries(slots, &mut |_, entry| found = Some(entry))?;
        Ok(found)
    }

    /// The sums of all sectors that a slot can have. Of sectors that are not valid they are anything.
    pub(crate) fn sums(&self, slot: SlotNumber) -> io::Result<Vec<Sum>> {
        let mut sums = vec![Sum(0); self.shape().sums_per_slot() as usize];
        match self.tables.read_sums(slot, 0, &mut sums) {
            // Its sums are all in frames.
            Err(error)
                if error.kind() == io::ErrorKind::UnexpectedEof
                    && slot.0 >= self.superblock.slots_numbered => {}
            read => read?,
        }
        if let Some(folded) = self.folded().get(slot) {
            for (sector, sum) in folded.sums() {
                sums[sector as usize] = sum;
            }
        }
        Ok(sums)
    }

    /// The dirty sectors of a slot whose bytes frames carry, and where in the ring.
    pub(crate) fn inlined(&self, slot: SlotNumber) -> Vec<(u32, u64)> {
        let folded = self.folded().get(slot);
        folded.map_or(Vec::new(), |folded| folded.inlined().collect())
    }

    /// Reads from the ring.
    pub(crate) fn read_ring(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        ring::read(&self.tables, offset, buffer)
    }

    /// Reads a part of what a slot holds.
    pub(crate) fn read_slot(
        &self,
        slot: SlotNumber,
        within: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let offset = self.shape().slot_offset(slot) + within;
        self.tables.files.slots.read(offset, buffer)
    }
}

/// The journal, as recovery reads it; but every sum of it in memory, if they are kept.
fn fold(tables: &Tables, superblock: &Superblock, keeping: Keeping) -> Result<Folding, OpenError> {
    let mut folding = Folding::new(tables)?;
    if superblock.state == State::Clean {
        return Ok(folding);
    }
    loop {
        let end = folding.follow_part(tables, superblock, u64::MAX)?;
        if keeping == Keeping::States {
            folding.fold.forget_sums();
        }
        if end == PartEnd::NoMore {
            break;
        }
    }
    ring::check_end(tables, superblock, folding.next)?;
    Ok(folding)
}
