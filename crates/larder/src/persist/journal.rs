//! The journal, written to: frames are appended at its end, become durable with a sync, and leave at its beginning when a checkpoint has
//! brought them into the tables. The queue of a volume ([`super::queue_log`]) is such a ring too, which frames leave when the origin has them.
//!
//! - Frames do not wrap: where one does not fit before the end of the ring, a filler takes the rest.
//! - One thread at a time appends, and one at a time syncs: of the journal, who has the commit token; of a queue they are two. A sync
//!   is about the frames that were whole when it began. Others may ask, and free space.
//! - A write or sync that fails is final: from then on the journal is dead, and whoever wants to append is told so. What had been durable stays.
//! - `tail <= applied <= synced <= end`, in frames. A checkpoint takes what lies before `applied`: frames whose bytes have all
//!   reached their slots.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::frame::{FrameBuilder, Head, MAX_FRAME_BYTES, Position};
use super::op::Op;
use super::open_error::OpenError;
use super::shape::PAGE_BYTES;
use super::sums::Seed;
use crate::medium::MediumFile;
use crate::planted::{Bug, is_planted};
use crate::sync::{self, Condvar};

/// Why something was not committed.
#[derive(Clone, Debug)]
pub(crate) enum CommitError {
    /// The journal has failed, now or before: nothing is committed any more until the next start.
    Dead(Arc<str>),
    /// There is no room, and no checkpoint that makes any.
    NoRoom,
    /// What was to be said could not be found out. Nothing of it was said.
    Making(Arc<io::Error>),
}

impl From<io::Error> for CommitError {
    fn from(error: io::Error) -> Self {
        Self::Making(Arc::new(error))
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead(why) => write!(
                f,
                "the cache directory takes nothing more until it is opened anew: {why}"
            ),
            Self::NoRoom => f.write_str("the journal of the cache directory is full"),
            Self::Making(error) => error.fmt(f),
        }
    }
}

/// What is at the end of the journal.
#[derive(Debug)]
struct State {
    tail: Position,
    applied: Position,
    synced: Position,
    end: Position,
    /// All frames up to this one were durable when the last frame was written, which says so.
    said_synced: u64,
    /// The last frame that is neither a filler nor a VOUCH.
    last_said: u64,
    /// All frames up to this one are known to have been durable by one that is durable.
    vouched: u64,
    /// Why it is dead.
    failure: Option<Arc<str>>,
}

/// The journal of an open cache directory.
pub(crate) struct Journal {
    file: Arc<dyn MediumFile>,
    place: Place,
    seed: Seed,
    ring_bytes: u64,
    session: u64,
    state: Mutex<State>,
    /// Space was freed, or there will be none.
    freed: Condvar,
}

/// Where a ring is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// For errors.
    pub file_name: Cow<'static, str>,
    /// Where in its file the ring begins.
    pub ring_start: u64,
}

/// What a journal is made from.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    pub place: Place,
    /// Of its frames' checksums.
    pub seed: Seed,
    pub ring_bytes: u64,
    pub session: u64,
    pub tail: Position,
    /// All frames up to here are durable.
    pub end: Position,
}

impl Journal {
    /// A journal with the frames that it had before.
    pub(super) fn new(file: Arc<dyn MediumFile>, begin: Begin) -> Self {
        let Begin { tail, end, .. } = begin;
        Self {
            file,
            place: begin.place,
            seed: begin.seed,
            ring_bytes: begin.ring_bytes,
            session: begin.session,
            state: Mutex::new(State {
                tail,
                applied: tail,
                synced: end,
                end,
                said_synced: end.seq - 1,
                last_said: end.seq - 1,
                vouched: end.seq - 1,
                failure: None,
            }),
            freed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }

    /// The longest frame that it takes, in bytes: an empty journal has room for it wherever it begins.
    pub(crate) fn longest_frame_bytes(&self) -> u64 {
        MAX_FRAME_BYTES.min(self.ring_bytes / 2 / PAGE_BYTES * PAGE_BYTES)
    }

    /// The length of the ring.
    pub(crate) fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    /// How much of the ring frames take.
    pub(crate) fn used_bytes(&self) -> u64 {
        let state = self.lock();
        distance(state.tail, state.end, self.ring_bytes)
    }

    /// Whether so much of it is used that the checkpoint should begin.
    pub(crate) fn is_half_full(&self) -> bool {
        self.used_bytes() >= self.ring_bytes / 2
    }

    /// The same where a freeze comes first, which takes space too.
    pub(crate) fn should_freeze(&self) -> bool {
        self.used_bytes() >= self.ring_bytes / 8 * 3
    }

    /// All frames up to this one are durable.
    pub(crate) fn synced_seq(&self) -> u64 {
        self.lock().synced.seq - 1
    }

    /// An error once it is dead.
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        unless_dead(&self.lock())
    }

    /// Why it is dead.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.lock().failure.clone()
    }

    /// Whether a frame of so many bytes, padded, can be appended now.
    pub(crate) fn has_room(&self, frame_bytes: u64) -> bool {
        self.has_room_and(frame_bytes, 0)
    }

    /// Whether there is room for so many bytes behind it too.
    pub(super) fn has_room_and(&self, frame_bytes: u64, reserve_bytes: u64) -> bool {
        let state = self.lock();
        let used = distance(state.tail, state.end, self.ring_bytes);
        let needed = self.filler_bytes(state.end, frame_bytes) + frame_bytes + reserve_bytes;
        needed <= self.ring_bytes - used
    }

    /// What a filler takes if a frame of so many bytes is not to wrap.
    fn filler_bytes(&self, at: Position, frame_bytes: u64) -> u64 {
        match at.offset + frame_bytes > self.ring_bytes {
            true => self.ring_bytes - at.offset,
            false => 0,
        }
    }

    /// Appends a frame, which is durable with the next sync. There must be room for it. Tells its number.
    pub(crate) fn append(&self, frame: FrameBuilder) -> Result<u64, CommitError> {
        Ok(self.append_at(frame)?.seq)
    }

    /// The same. Tells its place.
    pub(super) fn append_at(&self, frame: FrameBuilder) -> Result<Position, CommitError> {
        let bytes = frame.padded_bytes();
        unless_dead(&self.lock())?;
        if !self.has_room(bytes) {
            return Err(CommitError::NoRoom);
        }
        if self.filler_bytes(self.lock().end, bytes) > 0 {
            self.put(FrameBuilder::new(), true)?;
        }
        let at = self.put(frame, false)?;
        self.lock().last_said = at.seq;
        Ok(at)
    }

    fn put(&self, frame: FrameBuilder, is_filler: bool) -> Result<Position, CommitError> {
        let (at, synced_seq) = {
            let state = self.lock();
            unless_dead(&state)?;
            (state.end, state.synced.seq - 1)
        };
        let head = Head {
            seq: at.seq,
            chain: at.chain,
            synced_seq,
            session: self.session,
            is_filler,
        };
        let (bytes, checksum) = frame.finish(head, self.seed, at.offset);
        let written = self.file.write(self.place.ring_start + at.offset, &bytes);
        self.unless_failed("written", written)?;
        let taken = match is_filler {
            true => self.ring_bytes - at.offset,
            false => bytes.len() as u64,
        };
        let mut state = self.lock();
        state.end = at.after(taken, checksum, self.ring_bytes);
        state.said_synced = synced_seq;
        Ok(at)
    }

    /// Makes durable what was appended. Tells up to which frame all is.
    pub(crate) fn sync(&self) -> Result<u64, CommitError> {
        let (end, said_synced) = {
            let state = self.lock();
            unless_dead(&state)?;
            if state.synced == state.end {
                return Ok(state.end.seq - 1);
            }
            (state.end, state.said_synced)
        };
        if !is_planted(Bug::SyncLeftOut) {
            let synced = self.file.sync();
            self.unless_failed("synced", synced)?;
        }
        let mut state = self.lock();
        // That is what the last frame among them says.
        state.vouched = said_synced;
        state.synced = end;
        Ok(end.seq - 1)
    }

    /// Has the disk begin with what was appended and is not durable yet, so that the next sync has less to wait for.
    pub(crate) fn write_out(&self) {
        let (from, to) = {
            let state = self.lock();
            (state.synced, state.end)
        };
        for (offset, length) in pieces(from, to, self.ring_bytes) {
            self.file.write_out(self.place.ring_start + offset, length);
        }
    }

    /// The bytes of all frames that are durable have reached their slots.
    pub(crate) fn note_applied(&self) {
        let mut state = self.lock();
        state.applied = state.synced;
    }

    /// The slots have what all frames before that place brought, durably, and keep it until frames after it say otherwise.
    pub(crate) fn note_frozen(&self, end: Position) {
        self.lock().applied = end;
    }

    /// Makes sure that a flip in the last frame will not look like a frame that a crash tore off. For who has the token, when nothing has
    /// been committed for a while. False if that was so already, or if there is no room.
    pub(crate) fn vouch(&self) -> Result<bool, CommitError> {
        let is_vouched = {
            let state = self.lock();
            state.vouched >= state.last_said
        };
        if is_vouched || !self.has_room(PAGE_BYTES) {
            return Ok(false);
        }
        self.sync()?;
        let mut frame = FrameBuilder::new();
        frame.push(&Op::Vouch);
        // A page always fits before the end of the ring.
        self.put(frame, false)?;
        self.sync()?;
        Ok(true)
    }

    /// Where a checkpoint that begins now brings the tail, if it moves at all.
    pub(super) fn goal(&self) -> Option<Position> {
        let state = self.lock();
        let is_worth_it = state.applied != state.tail && state.failure.is_none();
        is_worth_it.then_some(state.applied)
    }

    /// Reads from the ring.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(self.place.ring_start + offset, buffer)
    }

    /// Where the next frame would be.
    pub(crate) fn end(&self) -> Position {
        self.lock().end
    }

    /// The tables, or of a queue the origin, have all frames before that place, durably.
    pub(super) fn free(&self, tail: Position) {
        let mut state = self.lock();
        state.tail = tail;
        if state.applied.seq < tail.seq {
            state.applied = tail;
        }
        drop(state);
        self.freed.notify_all();
    }

    /// Waits until there is room for a frame of so many bytes, or the journal is dead, at most so long.
    pub(crate) fn await_room(&self, frame_bytes: u64, longest: Duration) {
        let state = self.lock();
        let lacks_room = |state: &mut State| {
            let used = distance(state.tail, state.end, self.ring_bytes);
            let needed = self.filler_bytes(state.end, frame_bytes) + frame_bytes;
            state.failure.is_none() && needed > self.ring_bytes - used
        };
        drop(sync::wait_while(&self.freed, state, longest, lacks_room));
    }

    /// Something has failed without which frames cannot be relied on.
    pub(crate) fn fail(&self, why: &str) -> CommitError {
        let mut state = self.lock();
        let why = state.failure.get_or_insert_with(|| why.into()).clone();
        drop(state);
        self.freed.notify_all();
        CommitError::Dead(why)
    }

    /// A failure ends the journal.
    pub(super) fn unless_failed<T>(
        &self,
        doing: &'static str,
        result: io::Result<T>,
    ) -> Result<T, CommitError> {
        result.map_err(|error| {
            let error = OpenError::io(&self.place.file_name, doing)(error);
            self.fail(&error.to_string())
        })
    }
}

fn unless_dead(state: &State) -> Result<(), CommitError> {
    match &state.failure {
        Some(why) => Err(CommitError::Dead(Arc::clone(why))),
        None => Ok(()),
    }
}

/// Where frames between two places are: offset and length, one after the other.
fn pieces(from: Position, to: Position, ring_bytes: u64) -> impl Iterator<Item = (u64, u64)> {
    let bytes = distance(from, to, ring_bytes);
    let before_end = bytes.min(ring_bytes - from.offset);
    let pieces = [(from.offset, before_end), (0, bytes - before_end)];
    pieces.into_iter().filter(|(_, length)| *length > 0)
}

/// What frames between two places take.
pub(super) fn distance(from: Position, to: Position, ring_bytes: u64) -> u64 {
    if from.seq == to.seq {
        return 0;
    }
    match (to.offset + ring_bytes - from.offset) % ring_bytes {
        0 => ring_bytes,
        bytes => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_between_two_places_are_in_one_piece_or_in_two() {
        let at = |seq, offset| Position {
            seq,
            offset,
            chain: 0,
        };
        let pieces = |from, to| pieces(from, to, 65536).collect::<Vec<_>>();
        assert_eq!(pieces(at(7, 4096), at(7, 4096)), []);
        assert_eq!(pieces(at(7, 4096), at(9, 12288)), [(4096, 8192)]);
        assert_eq!(pieces(at(7, 57344), at(9, 0)), [(57344, 8192)]);
        let split = [(57344, 8192), (0, 4096)];
        assert_eq!(pieces(at(7, 57344), at(9, 4096)), split);
        let all = [(8192, 57344), (0, 8192)];
        assert_eq!(pieces(at(7, 8192), at(19, 8192)), all);
    }
}
