//! The checkpoint: the oldest frames of the journal go into the tables, so that their space is free again.
//!
//! It reads the frames back from the file and folds them, as recovery does: one implementation, at work all the time. In steps, with one
//! sync each at most:
//!
//! - C1: the goal: the end of the frames that are durable, and whose bytes have all reached their slots.
//! - C2: the slots are synced.
//! - C3: the frames are folded, a part at a time: their sums go into `sums`, then the last state of each slot into `map` and `map.copy`, then
//!   the volumes, beside the table that counts.
//! - C4: what was written is synced.
//! - C5: the superblock says where the journal begins now: one copy, sync, the other copy, sync. Only then is the space free.
//!
//! It takes no lock that a commit holds while it waits: commits wait for space. A crash before C5 leaves the tail where it was, and whatever
//! the tables have got already is written again.

use super::entry::Entry;
use super::fold::{Fold, FoldedSlot};
use super::frame::Position;
use super::header::Role;
use super::open_error::OpenError;
use super::refusal::Finding;
use super::regions;
use super::ring::{Folding, PartEnd, refuse};
use super::runs::Runs;
use super::superblock::{State, Superblock};
use super::tables::Tables;
use super::volumes::{Region, VolumeTable};
use crate::directory::SlotNumber;
use crate::planted::{Bug, is_planted};

/// What is to become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    /// The journal begins here afterwards.
    pub end: Position,
    pub session: u64,
}

/// What the tables say once they are synced.
#[derive(Clone, Copy, Debug)]
struct Written {
    slots_numbered: u32,
    volumes: Region,
}

#[derive(Debug)]
enum Stage {
    /// C2.
    Slots,
    /// C3.
    Fold(Box<Folding>),
    Entries(Box<Fold>),
    Volumes(u32, VolumeTable),
    /// C4: so many of the tables are synced.
    Sync(usize, Written),
    /// C5.
    First(Written),
    Second(Written),
    Done,
}

/// What C4 syncs.
const SYNCED: [Role; 4] = [Role::Map, Role::MapCopy, Role::Sums, Role::Volumes];

/// A checkpoint under way. Dropping it leaves everything as it was before, as far as anybody reads it.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// Among all of a session, recovery being 0.
    number: u64,
    goal: Goal,
    stage: Stage,
}

impl Checkpoint {
    pub(super) fn new(number: u64, goal: Goal) -> Self {
        Self {
            number,
            goal,
            stage: Stage::Slots,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where the journal begins once this is done.
    pub(super) fn end(&self) -> Position {
        self.goal.end
    }

    /// All steps.
    pub(super) fn run(mut self, tables: &Tables) -> Result<(), OpenError> {
        while !self.step(tables)? {}
        Ok(())
    }

    /// One step: at most one sync, or a part of the journal. True once all are done. After an error another checkpoint must begin anew.
    pub(super) fn step(&mut self, tables: &Tables) -> Result<bool, OpenError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        self.stage = match stage {
            Stage::Slots => {
                tables.superblocks().settle()?;
                tables.sync(Role::Slots)?;
                Stage::Fold(Box::new(Folding::new(tables)?))
            }
            Stage::Fold(folding) => self.fold(tables, folding)?,
            Stage::Entries(fold) => write_entries(tables, *fold)?,
            Stage::Volumes(numbered, volumes) => write_volumes(tables, numbered, &volumes)?,
            Stage::Sync(done, written) => {
                tables.sync(SYNCED[done])?;
                match done + 1 < SYNCED.len() {
                    true => Stage::Sync(done + 1, written),
                    false if is_planted(Bug::TailMovedEarly) => Stage::Done,
                    false => Stage::First(written),
                }
            }
            Stage::First(written) => {
                self.write_superblock(tables, written)?;
                Stage::Second(written)
            }
            Stage::Second(written) => {
                tables.superblocks().settle()?;
                match is_planted(Bug::TailMovedEarly) {
                    true => Stage::Sync(0, written),
                    false => Stage::Done,
                }
            }
            Stage::Done => Stage::Done,
        };
        Ok(matches!(self.stage, Stage::Done))
    }

    /// Folds a part, and writes its sums: of each sector that the slot has by then.
    fn fold(&self, tables: &Tables, mut folding: Box<Folding>) -> Result<Stage, OpenError> {
        let superblock = tables.superblocks().current().clone();
        let goal = self.goal.end.seq;
        let end = folding.follow_part(tables, &superblock, goal)?;
        let missing = folding.next.seq;
        if end == PartEnd::NoMore && missing < goal {
            let later = goal - 1;
            return Err(refuse(Finding::FrameLost { missing, later }));
        }
        let numbered = folding.fold.slots_numbered(superblock.slots_numbered);
        let unprepared = OpenError::io(Role::Sums.file_name(), "extended");
        tables.prepare(numbered).map_err(unprepared)?;
        write_sums(tables, &folding.fold)?;
        folding.fold.forget_sums();
        Ok(match end {
            PartEnd::Full => Stage::Fold(folding),
            PartEnd::NoMore => Stage::Entries(Box::new(folding.fold)),
        })
    }

    fn write_superblock(&self, tables: &Tables, written: Written) -> Result<(), OpenError> {
        let mut superblocks = tables.superblocks();
        let new = Superblock {
            state: State::InUse,
            session: self.goal.session,
            slots_numbered: written.slots_numbered,
            volumes: written.volumes,
            tail: self.goal.end,
            ..superblocks.current().clone()
        };
        superblocks.write_first(new)
    }
}

/// Writes the sums that a part of the journal has brought.
fn write_sums(tables: &Tables, fold: &Fold) -> Result<(), OpenError> {
    let unwritten = || OpenError::io(Role::Sums.file_name(), "written");
    let mut sums = Runs::new(&*tables.files.sums);
    for (slot, folded) in fold.slots() {
        for (sector, sum) in folded.sums() {
            let offset = tables.shape().sum_offset(slot, sector);
            sums.put(offset, &sum.0.to_le_bytes())
                .map_err(unwritten())?;
        }
    }
    sums.finish().map_err(unwritten())
}

/// Writes what slots hold at the goal; and that slots which were numbered since, and of which nothing was said, hold nothing.
fn write_entries(tables: &Tables, fold: Fold) -> Result<Stage, OpenError> {
    let before = tables.superblocks().current().slots_numbered;
    let numbered = fold.slots_numbered(before);
    let known = fold
        .slots()
        .take_while(|(slot, _)| slot.0 < before)
        .map(|(slot, folded)| (slot, folded.entry()));
    let new = (before..numbered).map(|number| {
        let slot = SlotNumber(number);
        (slot, fold.get(slot).map_or(Entry::EMPTY, FoldedSlot::entry))
    });
    tables.write_entries(known.chain(new))?;
    Ok(Stage::Volumes(numbered, fold.into_volumes()))
}

fn write_volumes(
    tables: &Tables,
    slots_numbered: u32,
    volumes: &VolumeTable,
) -> Result<Stage, OpenError> {
    let (counting, generation) = {
        let superblocks = tables.superblocks();
        let current = superblocks.current();
        (current.volumes, current.generation + 1)
    };
    let file = &*tables.files.volumes;
    let region = regions::write(file, counting, generation, volumes, tables.seed)?;
    let written = Written {
        slots_numbered,
        volumes: region,
    };
    Ok(match is_planted(Bug::TailMovedEarly) {
        true => Stage::First(written),
        false => Stage::Sync(0, written),
    })
}
