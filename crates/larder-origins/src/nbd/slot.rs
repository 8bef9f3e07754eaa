//! Where a thread finds its reply, and is asked to receive others' meanwhile.

use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::reply::{Answer, Refusal};
use super::sync::{lock, wait_until};

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// With a reply.
    Replied(Result<Answer, Refusal>),
    /// Without: nothing is known of what the server did.
    Lost,
}

/// Where a thread finds its reply.
#[derive(Debug, Default)]
pub(super) struct Slot {
    place: Mutex<Place>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Place {
    outcome: Option<Outcome>,
    /// Nobody waits any more.
    is_given_up: bool,
    /// Its thread sleeps, and may be asked to receive.
    is_waiting: bool,
    /// Its thread is to receive.
    is_asked: bool,
}

impl Slot {
    pub(super) fn fill(&self, outcome: Outcome) {
        self.fill_if(|_| Some(outcome));
    }

    /// Fills the slot with what is found, told whether anybody waits for it.
    pub(super) fn fill_if(&self, find: impl FnOnce(bool) -> Option<Outcome>) {
        let mut place = lock(&self.place);
        let outcome = find(!place.is_given_up);
        if place.outcome.is_none() && outcome.is_some() {
            place.outcome = outcome;
            self.filled.notify_one();
        }
    }

    /// The outcome, if it has come. If not, nobody waits for it any more.
    pub(super) fn give_up(&self) -> Option<Outcome> {
        let mut place = lock(&self.place);
        place.is_given_up = place.outcome.is_none();
        place.outcome.take()
    }

    /// Whether the server has answered, and nobody has taken the answer.
    pub(super) fn is_answered(&self) -> bool {
        matches!(lock(&self.place).outcome, Some(Outcome::Replied(_)))
    }

    pub(super) fn is_filled(&self) -> bool {
        lock(&self.place).outcome.is_some()
    }

    /// The outcome, if it has come.
    pub(super) fn take(&self) -> Option<Outcome> {
        lock(&self.place).outcome.take()
    }

    /// Waits for the outcome, until then, or to be asked to receive, if it may be: true if it was.
    pub(super) fn wait(&self, until: Instant, may_be_asked: bool) -> bool {
        let mut place = lock(&self.place);
        place.is_waiting = may_be_asked;
        while place.outcome.is_none() && !place.is_asked && Instant::now() < until {
            place = wait_until(&self.filled, place, until);
        }
        place.is_waiting = false;
        std::mem::take(&mut place.is_asked)
    }

    /// Asks the thread that waits to receive. False if none does.
    pub(super) fn ask(&self) -> bool {
        let mut place = lock(&self.place);
        if !place.is_waiting || place.outcome.is_some() {
            return false;
        }
        place.is_asked = true;
        self.filled.notify_one();
        true
    }
}
