//! The queue of one volume: the log, and what is known of it in memory.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::time::Duration;

use super::overlay::{Content, Overlay, Piece};
use super::room::Refusals;
use super::sender::Bell;
use crate::clock::Clock;
use crate::persist::frame::Position;
use crate::persist::home::Home;
use crate::persist::journal::CommitError;
use crate::persist::op::VolumeId;
use crate::persist::open_error::OpenError;
use crate::persist::queue_log::{
    Change, FoundChange, FoundContent, FoundQueue, MAX_DATA_BYTES, QueueLog, Wiping,
};
use crate::stats::StatsSnapshot;
use crate::volume::Volume;
use crate::{survival, sync};

/// A frame takes at most one part in so many of the ring.
const RING_PARTS: u64 = 8;

/// What is known of the log.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What reads see before the origin.
    pub overlay: Overlay,
    /// All changes, in the order of the log.
    pub changes: VecDeque<Piece>,
    /// Where epochs end: what lies before such a place, and behind the one before it, is one.
    pub boundaries: VecDeque<Boundary>,
    /// Changes behind the last boundary.
    pub open: usize,
    /// Bytes of data among the changes.
    pub bytes: u64,
}

/// Where an epoch ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boundary {
    /// The place behind its frame.
    pub after: Position,
    /// When it was made, or found.
    pub since: Duration,
}

/// What is to be sent next: all before a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest {
    pub after: Position,
    /// No epoch ends there.
    pub is_cut: bool,
}

/// Whose queue it is in this process.
pub(crate) struct User {
    /// The volume, which the directory must know to be changed before anything is sent. None for who has told it.
    volume: Option<Weak<Volume>>,
    clock: Arc<dyn Clock>,
    /// How many requests are in flight may follow from the machine's time.
    pub(super) uses_threads: bool,
}

impl User {
    /// A volume of the engine.
    pub(crate) fn volume(volume: &Arc<Volume>) -> Self {
        let store = volume.store();
        Self {
            volume: Some(Arc::downgrade(volume)),
            clock: Arc::clone(&store.clock),
            uses_threads: store.config.background,
        }
    }
}

/// The queue of one volume.
pub(crate) struct Queue {
    pub(super) id: VolumeId,
    pub(super) user: User,
    pub(super) log: QueueLog,
    state: RwLock<State>,
    appending: Mutex<()>,
    syncing: Mutex<()>,
    /// Held by who sends an epoch.
    pub(super) sending: Mutex<()>,
    pub(super) refusals: Refusals,
    pub(super) bell: Bell,
    pub(super) figures: Figures,
}

/// What was done, for an operator.
#[derive(Debug, Default)]
pub(super) struct Figures {
    /// Epochs that the origin has got.
    pub sent: AtomicU64,
    /// Bytes of data written to the origin.
    pub written_bytes: AtomicU64,
    /// Epochs that the origin has refused.
    pub refused: AtomicU64,
}

/// What waits to be sent now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub bytes: u64,
    pub epochs: u64,
}

impl Queue {
    /// With nothing in it.
    pub(crate) fn new(id: VolumeId, user: User, log: QueueLog) -> Self {
        Self {
            id,
            user,
            log,
            state: RwLock::default(),
            appending: Mutex::default(),
            syncing: Mutex::default(),
            sending: Mutex::default(),
            refusals: Refusals::default(),
            bell: Bell::default(),
            figures: Figures::default(),
        }
    }

    /// With what was found in the directory.
    pub(crate) fn found(user: User, found: FoundQueue, home: &Home) -> Result<Self, OpenError> {
        let id = found.id;
        let mut state = State::default();
        for change in &found.found {
            match change {
                FoundChange::Boundary(after) => {
                    state.boundaries.push_back(Boundary {
                        after: *after,
                        since: user.clock.now(),
                    });
                    state.open = 0;
                }
                FoundChange::Change {
                    seq,
                    start,
                    end,
                    content,
                } => state.add(Piece {
                    start: *start,
                    end: *end,
                    seq: *seq,
                    content: match content {
                        FoundContent::Data { offset } => Content::Data(*offset),
                        FoundContent::Wipe(how) => content_of(*how),
                    },
                }),
            }
        }
        let queue = Self::new(id, user, found.begin(home)?);
        *sync::write(&queue.state) = state;
        Ok(queue)
    }

    pub(super) fn with_state<R>(&self, action: impl FnOnce(&State) -> R) -> R {
        action(&sync::read(&self.state))
    }

    pub(super) fn change_state<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        action(&mut sync::write(&self.state))
    }

    /// Before anything is sent: the directory knows that the origin is not what it was.
    pub(super) fn announce(&self) -> io::Result<()> {
        let Some(volume) = &self.user.volume else {
            return Ok(());
        };
        let Some(volume) = volume.upgrade() else {
            return Err(io::Error::other("the volume has ended"));
        };
        if volume.kept.is_changed() {
            return Ok(());
        }
        survival::revoke(&volume, &[]).map_err(|error| io::Error::other(error.to_string()))
    }

    /// Nothing is sent as long as the guard lives.
    pub(crate) fn stop_sending(&self) -> MutexGuard<'_, ()> {
        sync::lock(&self.sending)
    }

    /// Whether the origin has everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.with_state(|state| state.changes.is_empty())
    }

    /// Whether something is queued before that place.
    pub(super) fn has_before(&self, end: Position) -> bool {
        self.with_state(|state| {
            state
                .changes
                .front()
                .is_some_and(|first| first.seq < end.seq)
        })
    }

    /// What waits to be sent.
    pub(crate) fn waiting(&self) -> Waiting {
        self.with_state(|state| Waiting {
            bytes: state.bytes,
            epochs: state.boundaries.len() as u64,
        })
    }

    /// Adds the queue's figures to those of the cache.
    pub(crate) fn count_in(&self, mut all: StatsSnapshot) -> StatsSnapshot {
        let waiting = self.waiting();
        all.queued_bytes += waiting.bytes;
        all.queued_flushes += waiting.epochs;
        all.sent_flushes += self.figures.sent.load(Ordering::Relaxed);
        all.origin_write_bytes += self.figures.written_bytes.load(Ordering::Relaxed);
        all.writeback_errors += self.figures.refused.load(Ordering::Relaxed);
        all
    }

    /// Whether so much of the ring is used, or so long by now, that something should leave it.
    pub(super) fn is_filling_or_old(&self, age: Option<Duration>) -> bool {
        let oldest = self.with_state(|state| state.boundaries.front().copied());
        let is_old = |boundary: Boundary| {
            let waiting = self.user.clock.since(boundary.since);
            age.is_some_and(|age| waiting > age)
        };
        oldest.is_some_and(is_old) || self.log.used_bytes() > self.log.ring_bytes() / 4
    }

    /// What the queue says of these bytes.
    pub(super) fn pieces(&self, start: u64, end: u64) -> Vec<Piece> {
        self.with_state(|state| state.overlay.within(start, end).collect())
    }

    /// The ranges among these bytes that the origin does not have as they are, as start and end.
    pub(crate) fn ranges(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let pieces = self.pieces(start, end).into_iter();
        pieces.map(|piece| (piece.start, piece.end)).collect()
    }

    /// Appends a write. With `make_room`, which is called with nothing held, as often as there is no room.
    pub(super) fn write(
        &self,
        start: u64,
        data: &[u8],
        make_room: &dyn Fn(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut at = start;
        for part in data.chunks(self.frame_bytes()) {
            let change = Change::Data {
                start: at,
                bytes: part,
            };
            let end = at + part.len() as u64;
            self.append(&change, (at, end), part.len() as u64, make_room)?;
            at = end;
        }
        Ok(())
    }

    /// The longest data of one frame, in bytes: whole units of whatever an origin takes.
    fn frame_bytes(&self) -> usize {
        let part = (self.log.ring_bytes() / RING_PARTS).max(1);
        (1 << part.ilog2()).min(MAX_DATA_BYTES) as usize
    }

    /// Appends a zero or a trim.
    pub(super) fn wipe(
        &self,
        (start, end): (u64, u64),
        how: Wiping,
        make_room: &dyn Fn(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let change = Change::Wipe { start, end, how };
        self.append(&change, (start, end), 0, make_room)
    }

    fn append(
        &self,
        change: &Change<'_>,
        (start, end): (u64, u64),
        data_bytes: u64,
        make_room: &dyn Fn(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            {
                let _appending = sync::lock(&self.appending);
                if self.log.has_room(data_bytes) {
                    let placed = self.log.append(change).map_err(told)?;
                    let content = match change {
                        Change::Data { .. } => Content::Data(placed.offset),
                        Change::Wipe { how, .. } => content_of(*how),
                    };
                    self.change_state(|state| {
                        state.add(Piece {
                            start,
                            end,
                            seq: placed.seq,
                            content,
                        });
                    });
                    return Ok(());
                }
            }
            make_room(data_bytes)?;
        }
    }

    /// All that was appended before is durable on return, and belongs to an epoch that has ended.
    pub(super) fn flush(&self) -> io::Result<()> {
        let last = {
            let _appending = sync::lock(&self.appending);
            if self.with_state(|state| state.open) > 0 {
                let boundary = Boundary {
                    after: self.log.bound().map_err(told)?,
                    since: self.user.clock.now(),
                };
                self.change_state(|state| {
                    state.boundaries.push_back(boundary);
                    state.open = 0;
                });
            }
            self.log.end().seq - 1
        };
        self.sync_to(last)?;
        self.bell.ring();
        Ok(())
    }

    /// Makes durable all frames up to that number, unless they are.
    pub(super) fn sync_to(&self, last: u64) -> io::Result<()> {
        let _syncing = sync::lock(&self.syncing);
        if self.log.synced_seq() < last || self.log.failure().is_some() {
            self.log.sync().map_err(told)?;
        }
        Ok(())
    }

    /// Where the log ends now.
    pub(super) fn end(&self) -> Position {
        let _appending = sync::lock(&self.appending);
        self.log.end()
    }

    /// Up to where it is to be sent next: the end of the oldest epoch. With `cuts`, where none has ended, what there is of the open one.
    pub(super) fn oldest(&self, cuts: bool) -> Option<Oldest> {
        // Nobody ends an epoch meanwhile, which would be sent with a part of the next.
        let _appending = sync::lock(&self.appending);
        self.with_state(|state| match state.boundaries.front() {
            Some(boundary) => Some(Oldest {
                after: boundary.after,
                is_cut: false,
            }),
            None if cuts && !state.changes.is_empty() => Some(Oldest {
                after: self.log.end(),
                is_cut: true,
            }),
            None => None,
        })
    }

    /// Fills `buffer` from `offset` as far as the queue has it. Gives the ranges that it does not have.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<Vec<(u64, u64)>> {
        let end = offset + buffer.len() as u64;
        let mut gaps = Vec::new();
        // Shared as long as this goes on: nothing that is read is overwritten meanwhile.
        let state = sync::read(&self.state);
        let mut at = offset;
        let mut newest = 0;
        for piece in state.overlay.within(offset, end) {
            if at < piece.start {
                gaps.push((at, piece.start));
            }
            let part = &mut buffer[(piece.start - offset) as usize..(piece.end - offset) as usize];
            match piece.content {
                Content::Data(place) => {
                    self.log.read(place, part)?;
                    newest = newest.max(piece.seq);
                }
                Content::Zero { .. } => part.fill(0),
            }
            at = piece.end;
        }
        if at < end {
            gaps.push((at, end));
        }
        if newest > self.log.synced_seq() && self.log.failure().is_some() {
            // What could not be made durable may have gone from the system's memory too.
            return Err(io::Error::other(
                "the queue has failed, and may have lost it",
            ));
        }
        Ok(gaps)
    }
}

impl State {
    /// Behind all others.
    fn add(&mut self, piece: Piece) {
        self.open += 1;
        if let Content::Data(_) = piece.content {
            self.bytes += piece.end - piece.start;
        }
        self.changes.push_back(piece);
        self.overlay.insert(piece);
    }

    /// The origin has all that frames before that place say.
    pub(super) fn forget(&mut self, before: Position) {
        while self
            .boundaries
            .front()
            .is_some_and(|boundary| boundary.after.seq <= before.seq)
        {
            self.boundaries.pop_front();
        }
        while let Some(piece) = self.changes.front().filter(|piece| piece.seq < before.seq) {
            if let Content::Data(_) = piece.content {
                self.bytes -= piece.end - piece.start;
            }
            self.overlay.forget(piece.start, piece.end, before.seq - 1);
            self.changes.pop_front();
        }
        self.open = self.open.min(self.changes.len());
    }
}

fn content_of(how: Wiping) -> Content {
    match how {
        Wiping::Zero => Content::Zero { may_trim: false },
        Wiping::Hole | Wiping::Trim => Content::Zero { may_trim: true },
    }
}

/// Why the log took nothing.
pub(super) fn told(error: CommitError) -> io::Error {
    match error {
        CommitError::Making(error) => match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(error.to_string()),
        },
        error => io::Error::other(format!("the queue in front of the origin: {error}")),
    }
}
