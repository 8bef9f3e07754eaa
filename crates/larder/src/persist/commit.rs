//! The commit token: one commit at a time, and whoever comes meanwhile shares the next one.
//!
//! The only maker of frames: so the order of records is the order of the states that they tell of. Nobody waits for the token with a pin or a
//! latch; who has it may wait for space in the journal, for its own writes to slots, and for a sync of the slots that somebody without it has begun,
//! and for nothing else.
//!
//! A panic while somebody has it is final: what the medium says and what memory says may differ in any way.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use super::batch::Batch;
use super::journal::{CommitError, Journal};
use crate::planted::{Bug, is_planted};
use crate::sync::{self, Condvar};

/// What a commit is to be about. Two that are asked for at once are one.
pub(crate) trait Scope {
    /// Takes another one in.
    fn join(&mut self, other: Self);
}

type Outcome = Arc<OnceLock<Result<(), CommitError>>>;

/// A commit that nobody has begun.
#[derive(Debug)]
struct Next<S> {
    scope: S,
    outcome: Outcome,
}

#[derive(Debug)]
struct State<S> {
    is_running: bool,
    has_panicked: bool,
    next: Option<Next<S>>,
}

/// The token.
#[derive(Debug)]
pub(crate) struct CommitToken<S> {
    state: Mutex<State<S>>,
    changed: Condvar,
}

impl<S> Default for CommitToken<S> {
    fn default() -> Self {
        let state = State {
            is_running: false,
            has_panicked: false,
            next: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

/// The token, held; returned when dropped.
struct Running<'t, S> {
    token: &'t CommitToken<S>,
    outcome: Outcome,
    has_ended: bool,
}

impl<S> Drop for Running<'_, S> {
    fn drop(&mut self) {
        let mut state = sync::lock(&self.token.state);
        state.is_running = false;
        if !self.has_ended {
            state.has_panicked = true;
            let _ = self.outcome.set(Err(after_panic()));
        }
        drop(state);
        self.token.changed.notify_all();
    }
}

const PANICKED: &str = "a commit has panicked";

fn after_panic() -> CommitError {
    CommitError::Dead(PANICKED.into())
}

impl<S: Scope> CommitToken<S> {
    /// Has all of the scope committed, by this thread with `run` or by one that takes it along. Whatever was so when this was called is
    /// in the commit.
    pub(crate) fn commit(
        &self,
        scope: S,
        run: impl FnOnce(S) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut state = sync::lock(&self.state);
        if state.has_panicked {
            return Err(after_panic());
        }
        let outcome = match &mut state.next {
            Some(next) => {
                next.scope.join(scope);
                Arc::clone(&next.outcome)
            }
            none => {
                let outcome = Outcome::default();
                *none = Some(Next {
                    scope,
                    outcome: Arc::clone(&outcome),
                });
                outcome
            }
        };
        loop {
            if let Some(result) = outcome.get() {
                return result.clone();
            }
            if state.has_panicked {
                return Err(after_panic());
            }
            if !state.is_running
                && let Some(next) = state.next.take()
            {
                state.is_running = true;
                drop(state);
                return self.lead(next, run);
            }
            state = sync::wait(&self.changed, state);
        }
    }

    /// The next commit is this thread's own, since nobody has begun it.
    fn lead(
        &self,
        next: Next<S>,
        run: impl FnOnce(S) -> Result<(), CommitError>,
    ) -> Result<(), CommitError> {
        let mut running = Running {
            token: self,
            outcome: next.outcome,
            has_ended: false,
        };
        let result = run(next.scope);
        let _ = running.outcome.set(result.clone());
        running.has_ended = true;
        result
    }

    /// Runs something that appends frames, unless somebody has the token, or wants it.
    pub(crate) fn try_alone<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        {
            let mut state = sync::lock(&self.state);
            if state.is_running || state.has_panicked || state.next.is_some() {
                return None;
            }
            state.is_running = true;
        }
        let mut running = Running {
            token: self,
            outcome: Outcome::default(),
            has_ended: false,
        };
        let result = run();
        running.has_ended = true;
        Some(result)
    }
}

/// Whether there is more to say than the batch has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Yes,
    No,
}

/// What the engine does in a commit.
pub(crate) trait CommitWork {
    /// Before each batch: sees to it that there is room for one.
    ///
    /// # Errors
    /// There is none, and the commit ends.
    fn prepare(&mut self) -> Result<(), CommitError> {
        Ok(())
    }

    /// An empty batch.
    fn batch(&self, journal: &Journal) -> Batch {
        Batch::new(journal.ring_bytes(), journal.longest_frame_bytes())
    }

    /// Says what there is to say until the batch is full.
    ///
    /// # Errors
    /// Nothing of this batch is written, and the commit ends.
    fn make(&mut self, batch: &mut Batch) -> io::Result<More>;

    /// Makes durable what slots hold.
    fn sync_slots(&mut self) -> io::Result<()>;

    /// That frame of the batch has this number now, and is durable with all up to it.
    fn appended(&mut self, frame: usize, seq: u64);

    /// All frames up to this one are durable: who waits for that is told, and bytes that only the journal had go into their slots. Tells
    /// whether all that any durable frame carries is in its slot now.
    fn durable(&mut self, seq: u64) -> bool;

    /// There is no room for a frame of so many bytes: does a checkpoint, or waits for one.
    ///
    /// # Errors
    /// There will be none.
    fn make_room(&mut self, frame_bytes: u64) -> Result<(), CommitError>;
}

/// Whether a commit ends with a sync of the journal, or waits for somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Now,
    WithTheNext,
}

/// What was half said must not be followed by anything, nor be closed over.
struct DeadAfterPanic<'j>(&'j Journal);

impl Drop for DeadAfterPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(PANICKED);
        }
    }
}

/// One commit. Whoever calls has the token.
pub(crate) fn run(
    journal: &Journal,
    work: &mut dyn CommitWork,
    durability: Durability,
) -> Result<(), CommitError> {
    let _guard = DeadAfterPanic(journal);
    loop {
        journal.check()?;
        work.prepare()?;
        let mut batch = work.batch(journal);
        let more = work.make(&mut batch)?;
        let is_left_out = batch.is_empty() && is_planted(Bug::ForeseenIsNotAwaited);
        write(journal, work, batch)?;
        if durability == Durability::Now && !is_left_out {
            settle(journal, work)?;
        }
        if more == More::No {
            return Ok(());
        }
    }
}

/// Data before what points to it.
fn write(journal: &Journal, work: &mut dyn CommitWork, batch: Batch) -> Result<(), CommitError> {
    if batch.needs_data() {
        work.sync_slots()
            .map_err(|error| journal.fail(&format!("slots cannot be synced: {error}")))?;
    }
    for (number, frame) in batch.into_frames().into_iter().enumerate() {
        let bytes = frame.padded_bytes();
        make_room(journal, work, bytes)?;
        work.appended(number, journal.append(frame)?);
    }
    Ok(())
}

/// As long as somebody frees something: it may be a checkpoint of another thread, after which one of this thread finds nothing to do.
fn make_room(
    journal: &Journal,
    work: &mut dyn CommitWork,
    frame_bytes: u64,
) -> Result<(), CommitError> {
    while !journal.has_room(frame_bytes) {
        let used = journal.used_bytes();
        // A checkpoint takes only frames that are durable and applied.
        settle(journal, work)?;
        let made = work.make_room(frame_bytes);
        if journal.has_room(frame_bytes) {
            break;
        }
        made?;
        if journal.used_bytes() >= used {
            return Err(CommitError::NoRoom);
        }
    }
    Ok(())
}

/// What was appended is durable, and its bytes are where they belong.
fn settle(journal: &Journal, work: &mut dyn CommitWork) -> Result<(), CommitError> {
    let seq = journal.sync()?;
    // What frames say of slots may have come to nothing meanwhile.
    journal.check()?;
    if work.durable(seq) {
        journal.note_applied();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
