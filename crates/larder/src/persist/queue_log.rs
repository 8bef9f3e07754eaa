//! The queue of a volume, written to: changes in the order in which the origin is to get them, and boundaries between them.
//!
//! - A ring of frames as the journal's, in a file of its own, behind two copies of its head. Each frame has one op.
//! - Whoever appends sees to it that nobody else does; so does whoever syncs. An append and a sync may go on at once, and [`QueueLog::advance`]
//!   beside both.
//! - One sync of the file at a time, whoever wants it: a system tells a failure once, and whoever is told it ends the log before anybody else
//!   could take the next sync for his own.
//! - Behind a change there is always room for a boundary, and there are never two boundaries without a change between them. So a boundary
//!   always finds room.
//! - Space is used again once a durable head says that the queue begins behind it.
//!
//! Lock order: heads → syncing → the state of the ring.

mod found;
mod head;
mod judged;
mod making;
mod name;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) use super::op::{Change, MAX_DATA_BYTES, Wiping};
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use found::FoundFrames;
pub(crate) use found::{FoundChange, FoundContent, FoundQueue};
pub(crate) use judged::{BadQueue, BadQueues, JudgedQueues, check};
pub(crate) use making::tidy;
pub(crate) use name::{file_name, is_new, volume_of};

use super::frame::{FrameBuilder, Position};
use super::journal::{Begin, CommitError, Journal, Place};
use super::op::{DATA_AT, Op, VolumeId};
use super::open_error::SYNCED;
use super::shape::PAGE_BYTES;
use crate::medium::MediumFile;
use crate::planted::{Bug, is_planted};
use crate::sync;
pub(super) use head::QueueHead;
use head::{Heads, RING_START};

/// What a boundary takes.
const BOUNDARY_BYTES: u64 = PAGE_BYTES;

/// Where a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The number of its frame: it is durable once all frames up to this one are.
    pub seq: u64,
    /// Where in the ring its data begins, if it has any.
    pub offset: u64,
}

/// The queue of a volume.
pub(crate) struct QueueLog {
    id: VolumeId,
    file: Arc<dyn MediumFile>,
    ring: Journal,
    heads: Mutex<Heads>,
    syncing: Mutex<()>,
    /// No change is behind the last boundary. Written by whoever appends.
    is_bounded: AtomicBool,
}

impl QueueLog {
    /// Of a ring whose frames up to `end` are durable, as the head is.
    fn new(file: Arc<dyn MediumFile>, heads: Heads, end: Position, is_bounded: bool) -> Self {
        let head = heads.current();
        let begin = Begin {
            place: Place {
                file_name: file_name(head.id.volume).into(),
                ring_start: RING_START,
            },
            seed: head.seed(),
            ring_bytes: head.ring_bytes,
            session: head.session,
            tail: head.begin,
            end,
        };
        Self {
            id: head.id,
            ring: Journal::new(Arc::clone(&file), begin),
            file,
            heads: Mutex::new(heads),
            syncing: Mutex::default(),
            is_bounded: AtomicBool::new(is_bounded),
        }
    }

    /// Whose changes it holds.
    pub(crate) fn id(&self) -> VolumeId {
        self.id
    }

    /// Appends a change, which is durable with a sync that begins after this has returned. Nobody else may append meanwhile.
    ///
    /// # Errors
    /// There is no room; or the log is dead; or there is no such change.
    pub(crate) fn append(&self, change: &Change<'_>) -> Result<Placed, CommitError> {
        let impossible = |what| io::Error::new(io::ErrorKind::InvalidInput, format!("{what}"));
        change.check().map_err(impossible)?;
        let op = Op::Change(*change);
        let mut frame = FrameBuilder::new();
        frame.push(&op);
        if !self.ring.has_room_and(frame.padded_bytes(), BOUNDARY_BYTES) {
            return Err(self
                .ring
                .failure()
                .map_or(CommitError::NoRoom, CommitError::Dead));
        }
        let at = self.ring.append_at(frame)?;
        self.is_bounded.store(false, Ordering::Relaxed);
        Ok(Placed {
            seq: at.seq,
            offset: at.offset + DATA_AT,
        })
    }

    /// Puts a boundary behind the last change, if there is none. Tells the place after it. Nobody else may append meanwhile.
    pub(crate) fn bound(&self) -> Result<Position, CommitError> {
        if let Some(why) = self.ring.failure() {
            return Err(CommitError::Dead(why));
        }
        if !self.is_bounded.load(Ordering::Relaxed) {
            let mut frame = FrameBuilder::new();
            frame.push(&Op::Epoch);
            self.ring.append(frame)?;
            self.is_bounded.store(true, Ordering::Relaxed);
        }
        Ok(self.ring.end())
    }

    /// Where the next frame would be.
    pub(crate) fn end(&self) -> Position {
        self.ring.end()
    }

    /// Makes durable all that was appended before. Tells up to which frame all is.
    pub(crate) fn sync(&self) -> Result<u64, CommitError> {
        let _syncing = sync::lock(&self.syncing);
        self.ring.sync()
    }

    /// All frames up to this one are durable.
    pub(crate) fn synced_seq(&self) -> u64 {
        self.ring.synced_seq()
    }

    /// Reads from the ring, as [`Placed`] says where.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.ring.read(offset, buffer)
    }

    /// Whether there is room for a change with so many bytes of data now.
    pub(crate) fn has_room(&self, data_bytes: u64) -> bool {
        self.ring
            .has_room_and(frame_bytes(data_bytes), BOUNDARY_BYTES)
    }

    /// How much of the ring is used.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.ring.used_bytes()
    }

    /// The length of the ring.
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.ring.ring_bytes()
    }

    /// The origin has, durably, all that is before that place, which is after some frame: that is made durable, and then the space is free. One place may
    /// be told after the other, by whoever tells them alone.
    pub(crate) fn advance(&self, to: Position) -> Result<(), CommitError> {
        let mut heads = sync::lock(&self.heads);
        self.unless_dead()?;
        match to.seq <= heads.current().begin.seq {
            true => Ok(()),
            false => self.write_head(&mut heads, to),
        }
    }

    /// Says durably of what frames are durable by now, so that one that is damaged later is missed.
    pub(crate) fn vouch(&self) -> Result<(), CommitError> {
        let mut heads = sync::lock(&self.heads);
        self.unless_dead()?;
        let head = *heads.current();
        match self.ring.synced_seq() < head.durable_below {
            true => Ok(()),
            false => self.write_head(&mut heads, head.begin),
        }
    }

    fn write_head(&self, heads: &mut Heads, to: Position) -> Result<(), CommitError> {
        let durable_below = (self.ring.synced_seq() + 1).max(to.seq);
        let new = QueueHead {
            begin: to,
            durable_below,
            ..*heads.current()
        };
        let written = heads.write(new);
        let new = self.ring.unless_failed("written", written)?;
        {
            let _syncing = sync::lock(&self.syncing);
            // A sync that has failed meanwhile may have lost the head.
            self.unless_dead()?;
            if !is_planted(Bug::QueueHeadNotSynced) {
                self.ring.unless_failed(SYNCED, self.file.sync())?;
            }
        }
        heads.note_durable(new);
        self.ring.free(to);
        Ok(())
    }

    /// Why it is dead.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.ring.failure()
    }

    fn unless_dead(&self) -> Result<(), CommitError> {
        self.ring
            .failure()
            .map_or(Ok(()), |why| Err(CommitError::Dead(why)))
    }
}

/// What a change with so many bytes of data takes.
fn frame_bytes(data_bytes: u64) -> u64 {
    // A change without data takes a page, as one with few does.
    (DATA_AT + data_bytes.next_multiple_of(8)).next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests;
