//! An open cache directory: its files, locked for as long as this lives.
//!
//! It knows nothing of the engine: slots and volumes are what the medium says of them.
//!
//! Lock order: the checkpoint's step → superblocks, prepared slots → the journal's state. None of them is held by who waits for room in the
//! journal, and nobody else's lock is taken with one of them held.

mod close;
mod open;

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::checkpoint::{Checkpoint, Goal};
use super::entry::Entry;
use super::header::Role;
use super::journal::Journal;
use super::open_error::{OpenError, SYNCED};
use super::queue_log::FoundQueue;
use super::shape::Shape;
use super::sums::{Seed, Sum, Uuid};
use super::superblock::State;
use super::tables::Tables;
use super::volumes::VolumeTable;
use crate::directory::SlotNumber;
use crate::medium::{Medium, MediumFile};
use crate::sync;

/// What is asked for when a directory is opened.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// If the operator has said so: a directory with other blocks is refused then.
    pub block_bytes: Option<u64>,
    /// Of a directory that is made.
    pub default_block_bytes: u64,
    /// The limit on all files together.
    pub max_size_bytes: Option<u64>,
    /// Random bits that tell a new cache from all others.
    pub uuid_bits: u128,
    /// Who opens it: one line for people.
    pub lock_text: String,
}

/// What was opened.
pub(crate) struct Opened {
    pub home: Home,
    pub found: Found,
    pub volumes: VolumeTable,
    /// The queues that are there, by the numbers of their volumes. They were judged before anything was written.
    pub queues: Vec<FoundQueue>,
    /// Slots below this have entries.
    pub slots_numbered: u32,
}

/// What the directory was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing: it was made.
    Made,
    /// Closed by whoever had it before.
    Clean,
    /// In use when whoever had it stopped. So many frames of the journal were brought into the tables.
    Crashed { frames: u64 },
}

/// An open cache directory.
pub(crate) struct Home {
    tables: Tables,
    journal: Journal,
    /// The number of the latest checkpoint that was begun; locked while one takes a step.
    checkpoint: Mutex<u64>,
    /// What is read of the tables is on the medium, or will be with the next sync.
    is_read_durable: bool,
    /// For the engine.
    slots: Option<Box<dyn MediumFile>>,
    /// Kept open, whatever becomes of its path.
    medium: Arc<dyn Medium>,
    /// Let go last.
    _lock: Box<dyn MediumFile>,
}

impl Home {
    /// The sizes of its blocks.
    pub(crate) fn shape(&self) -> Shape {
        self.tables.shape()
    }

    /// What every checksum in it begins with.
    pub(crate) fn seed(&self) -> Seed {
        self.tables.seed
    }

    /// Tells it from every other cache.
    pub(crate) fn uuid(&self) -> Uuid {
        self.tables.identity.uuid
    }

    /// Its files by name.
    pub(super) fn medium(&self) -> &dyn Medium {
        &*self.medium
    }

    /// The session, which must have begun.
    pub(super) fn session(&self) -> u64 {
        let superblocks = self.tables.superblocks();
        debug_assert_eq!(
            superblocks.current().state,
            State::InUse,
            "it has not begun"
        );
        superblocks.current().session
    }

    /// The length of the journal's ring.
    pub(crate) fn journal_bytes(&self) -> u64 {
        self.journal.ring_bytes()
    }

    /// Where commits go.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The file of slots, once: slot n lies at [`Shape::slot_offset`].
    pub(crate) fn take_slots_file(&mut self) -> Result<Box<dyn MediumFile>, OpenError> {
        self.slots.take().ok_or(OpenError::SlotsTaken)
    }

    /// The entries of these slots in order, of those that are numbered.
    pub(crate) fn read_entries(
        &self,
        slots: Range<u32>,
        each: &mut dyn FnMut(SlotNumber, Entry),
    ) -> Result<(), OpenError> {
        let numbered = self.tables.superblocks().current().slots_numbered;
        let slots = slots.start..slots.end.min(numbered);
        self.tables.read_entries(slots, &mut |slot, entry| {
            each(slot, entry?);
            Ok(())
        })
    }

    /// Gives back the disk space of what these slots held.
    pub(crate) fn give_back(&self, slots: Range<u32>) -> Result<(), OpenError> {
        let file = &self.tables.files.slots;
        let [start, end] =
            [slots.start, slots.end].map(|number| self.shape().slot_offset(SlotNumber(number)));
        let failed = OpenError::io(Role::Slots.file_name(), "cut");
        file.give_back(start, end.saturating_sub(start))
            .map_err(failed)
    }

    /// The sums of neighbouring sectors of a slot that is numbered. Of sectors that are not valid they are anything.
    pub(crate) fn read_sums(
        &self,
        slot: SlotNumber,
        first_sector: u32,
        into: &mut [Sum],
    ) -> io::Result<()> {
        self.tables.read_sums(slot, first_sector, into)
    }

    /// Writes them. They are durable with [`Home::sync_sums`], the next checkpoint or the end.
    pub(crate) fn write_sums(
        &self,
        slot: SlotNumber,
        first_sector: u32,
        sums: &[Sum],
    ) -> io::Result<()> {
        self.tables.write_sums(slot, first_sector, sums)
    }

    /// Makes durable the sums that were written.
    pub(crate) fn sync_sums(&self) -> Result<(), OpenError> {
        self.tables.sync(Role::Sums)
    }

    /// Gives all slots below that number their places in every file, before anything is written to them. Disk space comes with that, but for
    /// the slots themselves.
    pub(crate) fn prepare_slots(&self, numbered: u32) -> io::Result<()> {
        self.tables.prepare(numbered)
    }

    /// A checkpoint of all that the journal can spare, if that is anything. One that was begun before is over.
    pub(crate) fn begin_checkpoint(&self) -> Option<Checkpoint> {
        let mut latest = sync::lock(&self.checkpoint);
        let end = self.journal.goal()?;
        let session = self.tables.superblocks().current().session;
        *latest += 1;
        Some(Checkpoint::new(*latest, Goal { end, session }))
    }

    /// Its next step: one sync at most. True once it is done, or over because another one was begun or the journal is dead.
    ///
    /// # Errors
    /// Nothing is freed; another may be begun. Some failures are final, and then the journal is dead too.
    pub(crate) fn step_checkpoint(&self, checkpoint: &mut Checkpoint) -> Result<bool, OpenError> {
        let latest = sync::lock(&self.checkpoint);
        if checkpoint.number() != *latest || self.journal.failure().is_some() {
            return Ok(true);
        }
        match checkpoint.step(&self.tables) {
            Ok(false) => Ok(false),
            Ok(true) => {
                self.journal.free(checkpoint.end());
                Ok(true)
            }
            Err(error) => {
                // What could not be written can be written again, whatever of it is there. After a sync that failed nobody knows what a
                // later one covers; nor what frames and superblocks hold.
                let can_be_repeated = matches!(&error, OpenError::Io { doing, .. } if *doing != SYNCED)
                    && !self.tables.superblocks().has_failed();
                if !can_be_repeated {
                    self.journal.fail(&error.to_string());
                }
                Err(error)
            }
        }
    }

    /// All of a checkpoint. False if there is nothing to do.
    pub(crate) fn checkpoint(&self) -> Result<bool, OpenError> {
        let Some(mut checkpoint) = self.begin_checkpoint() else {
            return Ok(false);
        };
        while !self.step_checkpoint(&mut checkpoint)? {}
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
