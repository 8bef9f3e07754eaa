//! Changes that nobody waits for any more and that the server has not answered: it may still do
//! them at any time. A later change of the same place waits, so that it is not undone by an older
//! one (invariant 6 of `nbd.rs`).
//!
//! Whether a change is answered is known by its slot. Who fills the slot of a change that was given
//! up says so here afterwards, and who waits looks at the slots under the lock.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::slot::Slot;
use super::sync::{lock, wait_until};

/// The changes of one session that were given up.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The session is lost.
    is_over: bool,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    range: Range<u64>,
    /// The number of the link that it was sent on.
    link: usize,
    slot: Arc<Slot>,
}

/// Whether a change may be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may.
    Free,
    /// The session is lost.
    Over,
    /// The deadline has passed. The link of this number owes the answer.
    TooLate(usize),
}

impl GivenUp {
    /// A change is given up. To be called before its caller learns of it. One that was answered
    /// meanwhile does no harm.
    pub(super) fn add(&self, range: Range<u64>, link: usize, slot: &Arc<Slot>) {
        let slot = Arc::clone(slot);
        lock(&self.state).changes.push(Change { range, link, slot });
    }

    /// A change that was given up is answered: its slot is filled.
    pub(super) fn answered(&self) {
        lock(&self.state).forget_answered();
        self.changed.notify_all();
    }

    /// The session is lost: the rest will not be answered.
    pub(super) fn end(&self) {
        lock(&self.state).is_over = true;
        self.changed.notify_all();
    }

    /// Waits until no change of the range that was given up is unanswered.
    pub(super) fn wait(&self, range: &Range<u64>, deadline: Instant) -> Turn {
        let mut state = lock(&self.state);
        loop {
            state.forget_answered();
            if state.is_over {
                return Turn::Over;
            }
            let overlaps = |it: &&Change| it.range.start < range.end && range.start < it.range.end;
            let Some(link) = state.changes.iter().find(overlaps).map(|it| it.link) else {
                return Turn::Free;
            };
            if Instant::now() >= deadline {
                return Turn::TooLate(link);
            }
            state = wait_until(&self.changed, state, deadline);
        }
    }
}

impl State {
    fn forget_answered(&mut self) {
        self.changes.retain(|change| !change.slot.is_answered());
    }
}
