//! What all connections to one origin share: the bytes, and which of them would survive a crash.
//!
//! # Fault model
//!
//! - A change (write, zero, trim) is seen by every later read at once, but survives a crash only
//!   when a flush that covers it succeeded after it was acknowledged, or when it was made with
//!   FUA. A flush covers its own connection, or all of them where the origin is multi-conn.
//! - A change on an origin without a flush is durable once acknowledged.
//! - At a crash, each 512-byte piece of a change that was not durable survives or not by itself,
//!   in any order: all are lost, or a seeded choice of them is kept.
//! - A flush that failed has *lost* what it was to make durable: reads still see it, no later
//!   flush saves it (as Linux's fsync does). Only writing it again does.
//! - A way that is lost and found again loses what a crash would, but for what is in flight: that is sent again.
//! - A connection that ends takes with it the only way to make its changes durable, unless the
//!   origin is multi-conn.
//! - What is durable never goes back to something older.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pages::{Pages, Run};
use crate::random::Random;

/// The unit that survives a crash or does not, in bytes.
const CRASH_UNIT_BYTES: u64 = 512;

/// What a change leaves behind.
#[derive(Clone, Debug)]
pub enum Change {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Zeros.
    Zeros {
        /// In bytes.
        length: u64,
        /// Whether a hole will do.
        hole: bool,
    },
}

impl Change {
    /// In bytes.
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros { length, .. } => *length,
        }
    }

    fn part(&self, from: u64, length: u64) -> Self {
        match self {
            Self::Bytes(bytes) => {
                Self::Bytes(bytes[from as usize..(from + length) as usize].into())
            }
            Self::Zeros { hole, .. } => Self::Zeros {
                length,
                hole: *hole,
            },
        }
    }

    fn apply(&self, pages: &mut Pages, offset: u64) {
        match self {
            Self::Bytes(bytes) => pages.write(offset, bytes),
            Self::Zeros { length, hole } => pages.zero(offset, *length, *hole),
        }
    }
}

/// Names one change.
pub type ChangeId = u64;

/// A change that a crash would undo.
#[derive(Debug)]
struct Pending {
    id: ChangeId,
    connection: u64,
    acknowledged: bool,
    offset: u64,
    change: Change,
}

impl Pending {
    fn end(&self) -> u64 {
        self.offset + self.change.length()
    }

    /// What is left of it outside the range.
    fn without(self, from: u64, to: u64) -> Vec<Self> {
        if to <= self.offset || self.end() <= from {
            return vec![self];
        }
        let pieces = [(self.offset, from), (to, self.end())];
        let piece = |(start, end): (u64, u64)| Self {
            offset: start,
            change: self.change.part(start - self.offset, end - start),
            ..self
        };
        let left = pieces.into_iter().filter(|(start, end)| start < end);
        left.map(piece).collect()
    }
}

#[derive(Debug, Default)]
struct State {
    current: Pages,
    durable: Pages,
    pending: Vec<Pending>,
    last_id: ChangeId,
    crashed: bool,
}

/// One disk.
#[derive(Debug, Default)]
pub struct Disk {
    state: Mutex<State>,
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts durable bytes there, as if they had always been there.
    pub fn fill(&self, offset: u64, data: &[u8]) {
        let mut state = self.state();
        state.current.write(offset, data);
        state.durable.write(offset, data);
    }

    /// A copy of all that a read sees now.
    pub fn image(&self) -> Pages {
        self.state().current.clone()
    }

    /// `length` bytes from `offset` that a read sees now.
    pub fn current(&self, offset: u64, length: usize) -> Vec<u8> {
        self.state().current.get(offset, length)
    }

    /// The same after a crash that keeps nothing by luck.
    pub fn durable(&self, offset: u64, length: usize) -> Vec<u8> {
        self.state().durable.get(offset, length)
    }

    /// Fills `buffer` with what a read sees now.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        self.state().current.read(offset, buffer);
    }

    /// How the range is stored now.
    pub fn runs(&self, offset: u64, length: u64) -> Vec<Run> {
        self.state().current.runs(offset, length)
    }

    /// Changes the disk for all readers. Nothing happens after a crash.
    pub fn change(&self, connection: u64, offset: u64, change: Change) -> Option<ChangeId> {
        let mut state = self.state();
        if state.crashed || change.length() == 0 {
            return None;
        }
        change.apply(&mut state.current, offset);
        state.last_id += 1;
        let id = state.last_id;
        state.pending.push(Pending {
            id,
            connection,
            acknowledged: false,
            offset,
            change,
        });
        Some(id)
    }

    /// The changes were acknowledged; with `durable`, they survive a crash from here on.
    pub fn acknowledge(&self, ids: &[ChangeId], durable: bool) {
        let mut state = self.state();
        for pending in &mut state.pending {
            pending.acknowledged |= ids.contains(&pending.id);
        }
        if durable {
            state.make_durable(&ids.iter().copied().collect());
        }
    }

    /// What a flush that begins now covers: one connection's acknowledged changes, or everybody's.
    pub fn covered(&self, connection: Option<u64>) -> BTreeSet<ChangeId> {
        let state = self.state();
        let covered = state.pending.iter().filter(|pending| {
            pending.acknowledged && connection.is_none_or(|one| one == pending.connection)
        });
        covered.map(|pending| pending.id).collect()
    }

    /// A flush that covers them succeeded.
    pub fn make_durable(&self, ids: &BTreeSet<ChangeId>) {
        self.state().make_durable(ids);
    }

    /// A flush that covers them failed.
    pub fn lose(&self, ids: &BTreeSet<ChangeId>) {
        self.state()
            .pending
            .retain(|pending| !ids.contains(&pending.id));
    }

    /// The way to the disk is lost and found: what was acknowledged and is not durable is gone, apart from what luck
    /// keeps. What was in flight is sent again, and so happens after all.
    pub fn lose_unflushed(&self, luck: Option<Random>) {
        let state = &mut *self.state();
        let pending = std::mem::take(&mut state.pending);
        let (gone, in_flight) = pending.into_iter().partition(|one| one.acknowledged);
        let gone: Vec<Pending> = gone;
        if let Some(mut random) = luck {
            for change in &gone {
                keep_some(&mut state.durable, change, &mut random);
            }
        }
        state.current = state.durable.clone();
        for change in &in_flight {
            change.change.apply(&mut state.current, change.offset);
        }
        state.pending = in_flight;
    }

    /// Power fails: what was not durable is gone, apart from what luck keeps. Later calls fail
    /// until [`Disk::restart`].
    pub fn crash(&self, luck: Option<Random>) {
        let mut state = self.state();
        state.crashed = true;
        let pending = std::mem::take(&mut state.pending);
        if let Some(mut random) = luck {
            for change in &pending {
                keep_some(&mut state.durable, change, &mut random);
            }
        }
        state.current = state.durable.clone();
    }

    /// Whether it crashed.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Power is back.
    pub fn restart(&self) {
        self.state().crashed = false;
    }
}

impl State {
    fn make_durable(&mut self, ids: &BTreeSet<ChangeId>) {
        let mut left: Vec<Pending> = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            if !ids.contains(&pending.id) || self.crashed {
                left.push(pending);
                continue;
            }
            pending.change.apply(&mut self.durable, pending.offset);
            // Older changes of other connections must not come back over this one.
            left = left
                .into_iter()
                .flat_map(|older| older.without(pending.offset, pending.end()))
                .collect();
        }
        self.pending = left;
    }
}

/// Keeps a seeded choice of the change's pieces.
fn keep_some(durable: &mut Pages, pending: &Pending, random: &mut Random) {
    let length = pending.change.length();
    // Enormous zeros live or die as one.
    let unit = if length > (64 << 20) {
        length
    } else {
        CRASH_UNIT_BYTES
    };
    let likely = random.pick(&[0, 10, 50, 90, 100]);
    let mut from = 0;
    while from < length {
        let until = ((pending.offset + from) / unit + 1) * unit - pending.offset;
        let piece = until.min(length) - from;
        if random.chance(likely) {
            let part = pending.change.part(from, piece);
            part.apply(durable, pending.offset + from);
        }
        from += piece;
    }
}
