//! Recovery: what a crash has left becomes tables and slots that need no journal.
//!
//! First everything is read and judged, and nothing is written: a directory that is refused is as it was. Then the bytes that frames carry go
//! into their slots, and the rest is a checkpoint of all that is left. A crash within that is recovered as the first was: the tail has not
//! moved, and writing the same again changes nothing.

use super::checkpoint::{Checkpoint, Goal};
use super::fold::{Fold, FoldedSlot};
use super::header::Role;
use super::journal::distance;
use super::open_error::OpenError;
use super::ring::{self, Folding, PartEnd, RingFile};
use super::runs::Runs;
use super::shape::PAGE_BYTES;
use super::superblock::Superblock;
use super::tables::Tables;
use crate::directory::SlotNumber;

/// What the journal says.
pub(super) struct Recovery {
    folding: Folding,
    before: Superblock,
}

impl Recovery {
    /// Reads all of the journal, and looks at every entry of which it says nothing.
    ///
    /// # Errors
    /// Something had been durable and is damaged, or is not understood.
    pub(super) fn read(tables: &Tables) -> Result<Self, OpenError> {
        let before = tables.superblocks().current().clone();
        let mut folding = Folding::new(tables)?;
        while folding.follow_part(tables, &before, u64::MAX)? == PartEnd::Full {
            // They are written by the checkpoint, from the file.
            folding.fold.forget_sums();
        }
        folding.fold.forget_sums();
        ring::check_end(tables, &before, folding.next)?;
        tables.check_entries(&|slot| folding.fold.get(slot).is_some())?;
        Ok(Self { folding, before })
    }

    /// How many frames there were.
    pub(super) fn frames(&self) -> u64 {
        self.folding.frames
    }

    /// Brings all of it into slots and tables. After that the journal is empty, and a new session has begun.
    pub(super) fn write(self, tables: &Tables) -> Result<(), OpenError> {
        // Who was killed may have left frames that were read and are not durable; entries must not tell of frames that a second crash takes away. If
        // a sync of them has failed in that life, none in this one would save what is not written again.
        let (from, to) = (self.before.tail, self.folding.next);
        let bytes = distance(from, to, self.before.journal_bytes);
        let ring = RingFile {
            file: &*tables.files.journal,
            start: PAGE_BYTES,
            bytes: self.before.journal_bytes,
        };
        ring::write_again(ring, from.offset, bytes)
            .map_err(OpenError::io(Role::Journal.file_name(), "written"))?;
        tables.sync(Role::Journal)?;
        let fold = &self.folding.fold;
        let numbered = fold.slots_numbered(self.before.slots_numbered);
        let unprepared = OpenError::io(Role::Sums.file_name(), "extended");
        tables.prepare(numbered).map_err(unprepared)?;
        write_inlined(tables, fold)?;
        let goal = Goal {
            end: self.folding.next,
            session: self.before.session + 1,
        };
        Checkpoint::new(0, goal).run(tables)
    }
}

/// Writes the bytes of sectors that are dirty in the last state of their slots, and whose last bytes are in the journal.
fn write_inlined(tables: &Tables, fold: &Fold) -> Result<(), OpenError> {
    let mut slots = Runs::new(&*tables.files.slots);
    let unwritten = || OpenError::io(Role::Slots.file_name(), "written");
    for (slot, folded) in fold.slots() {
        write_slot(tables, &mut slots, slot, folded)?;
    }
    slots.finish().map_err(unwritten())
}

fn write_slot(
    tables: &Tables,
    slots: &mut Runs<'_>,
    slot: SlotNumber,
    folded: &FoldedSlot,
) -> Result<(), OpenError> {
    let start = tables.shape().slot_offset(slot);
    let mut bytes = vec![0; folded.sector_bytes() as usize];
    for (sector, at) in folded.inlined() {
        let unread = OpenError::io(Role::Journal.file_name(), "read");
        ring::read(tables, at, &mut bytes).map_err(unread)?;
        let offset = start + u64::from(sector) * folded.sector_bytes();
        let unwritten = OpenError::io(Role::Slots.file_name(), "written");
        slots.put(offset, &bytes).map_err(unwritten)?;
    }
    Ok(())
}
