//! The queue of one volume: the log, and what is known of it in memory.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, RwLock};
use std::time::Duration;

use super::overlay::{Content, Piece};
use super::room::Refusals;
use super::sender::Bell;
use super::state::{Boundary, Oldest, State, Waiting, content_of};
use super::user::User;
use crate::persist::frame::Position;
use crate::persist::home::Home;
use crate::persist::journal::CommitError;
use crate::persist::op::VolumeId;
use crate::persist::open_error::OpenError;
use crate::persist::queue_log::{Change, FoundQueue, MAX_DATA_BYTES, QueueLog, Wiping};
use crate::planted::{Bug, is_planted};
use crate::stats::StatsSnapshot;
use crate::sync;

/// A frame takes at most one part in so many of the ring.
const RING_PARTS: u64 = 8;

/// The queue of one volume.
pub(crate) struct Queue {
    pub(super) id: VolumeId,
    pub(super) user: User,
    pub(super) log: QueueLog,
    state: RwLock<State>,
    appending: Mutex<()>,
    syncing: Mutex<()>,
    /// Held by who sends an epoch.
    sending: Mutex<()>,
    /// So many wait for something to be sent, or send it.
    wanting: AtomicUsize,
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
            wanting: AtomicUsize::new(0),
            refusals: Refusals::default(),
            bell: Bell::default(),
            figures: Figures::default(),
        }
    }

    /// With what was found in the directory.
    pub(crate) fn found(user: User, found: FoundQueue, home: &Home) -> Result<Self, OpenError> {
        let id = found.id;
        let state = State::found(&found.found, user.clock.now());
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

    /// Nobody else sends as long as the guard lives, for which nobody waits.
    pub(crate) fn stop_sending(&self) -> MutexGuard<'_, ()> {
        sync::lock(&self.sending)
    }

    /// The same for somebody who waits for it.
    pub(crate) fn send_at_once(&self) -> SendingAtOnce<'_> {
        self.wanting.fetch_add(1, Ordering::SeqCst);
        SendingAtOnce {
            _sending: sync::lock(&self.sending),
            queue: self,
        }
    }

    /// Whether somebody waits for something to be sent.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::SeqCst) > 0
    }

    /// Whether the origin has everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.with_state(|state| state.changes.is_empty())
    }

    /// Whether the origin lacks something, or the log does not know that it has it: then the next start sends it again.
    pub(crate) fn owes(&self) -> bool {
        !self.is_empty() || (self.log.failure().is_some() && self.log.used_bytes() > 0)
    }

    /// So that what is damaged later is not taken for something that a crash has torn off. Nobody sends any more.
    pub(crate) fn vouch(&self) -> io::Result<()> {
        self.log.vouch().map_err(told)
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
        self.with_state(State::waiting)
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
        if !is_planted(Bug::QueueSyncLeftOut) {
            self.sync_to(last)?;
        }
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
        let count = 1 + usize::from(is_planted(Bug::QueueEpochsMerged));
        self.with_state(
            |state| match state.boundaries.iter().take(count).next_back() {
                Some(boundary) => Some(Oldest {
                    after: boundary.after,
                    is_cut: false,
                }),
                None if cuts && !state.changes.is_empty() => Some(Oldest {
                    after: self.log.end(),
                    is_cut: true,
                }),
                None => None,
            },
        )
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

/// See [`Queue::send_at_once`].
pub(crate) struct SendingAtOnce<'q> {
    _sending: MutexGuard<'q, ()>,
    queue: &'q Queue,
}

impl Drop for SendingAtOnce<'_> {
    fn drop(&mut self) {
        self.queue.wanting.fetch_sub(1, Ordering::SeqCst);
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
