//! Which acknowledged changes are not durable yet, and how many losses there were.
//!
//! Sessions follow one another: one begins only after the one before was lost. Changes are counted
//! as they are acknowledged; a flush covers as many as had been counted when it was sent.
//! See the head of `nbd.rs` for the invariants.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sync::lock;

/// A session's number. No two sessions of a ledger have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionNumber(u64);

/// How many of a session's changes were acknowledged, and how many of them flushed, when a request was sent that is
/// about durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covered {
    acknowledged: u64,
    flushed: u64,
}

/// The number of refusals that were about durability, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusals(u64);

/// The number of losses at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Losses(u64);

/// What one handle was told of.
#[derive(Debug)]
pub(super) struct Told(AtomicU64);

#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    session: u64,
    is_live: bool,
    acknowledged: u64,
    flushed: u64,
    refusals: u64,
    losses: u64,
    /// How many of the losses at least one handle was told of.
    told: u64,
}

impl State {
    fn is_current(&self, session: SessionNumber) -> bool {
        self.is_live && self.session == session.0
    }
}

impl Ledger {
    /// A session begins. The one before, if any, must have been lost.
    pub(super) fn begin(&self) -> SessionNumber {
        let mut state = lock(&self.state);
        debug_assert!(!state.is_live);
        state.session += 1;
        state.is_live = true;
        state.acknowledged = 0;
        state.flushed = 0;
        SessionNumber(state.session)
    }

    /// The session is lost. Returns whether changes may be lost with it; `None` if it was lost
    /// before.
    pub(super) fn lose(&self, session: SessionNumber) -> Option<bool> {
        let mut state = lock(&self.state);
        if !state.is_current(session) {
            return None;
        }
        state.is_live = false;
        let is_loss = state.acknowledged > state.flushed;
        state.losses += u64::from(is_loss);
        Some(is_loss)
    }

    /// Whether the session lives.
    pub(super) fn is_live(&self, session: SessionNumber) -> bool {
        lock(&self.state).is_current(session)
    }

    /// The refusals so far.
    pub(super) fn refusals(&self) -> Refusals {
        Refusals(lock(&self.state).refusals)
    }

    /// A change was acknowledged that is not durable, and that was sent when there were `before` refusals. Any since
    /// may have been of this change, which the server did first, and the next flush may not say so: it may be lost.
    /// False if the session was lost: it does not count.
    pub(super) fn acknowledge(&self, session: SessionNumber, before: Refusals) -> bool {
        let mut state = lock(&self.state);
        if !state.is_current(session) {
            return false;
        }
        state.acknowledged += 1;
        state.losses += u64::from(state.refusals > before.0);
        true
    }

    /// What a flush that is sent after this covers. `None` if the session was lost.
    pub(super) fn cover(&self, session: SessionNumber) -> Option<Covered> {
        let state = lock(&self.state);
        state.is_current(session).then_some(Covered {
            acknowledged: state.acknowledged,
            flushed: state.flushed,
        })
    }

    /// A flush succeeded. False if the session was lost: it covers nothing.
    pub(super) fn flushed(&self, session: SessionNumber, covered: Covered) -> bool {
        let mut state = lock(&self.state);
        let is_current = state.is_current(session);
        if is_current {
            state.flushed = state.flushed.max(covered.acknowledged);
        }
        is_current
    }

    /// All that was acknowledged counts as flushed, since the server has no flush, unless there are more losses than
    /// `before`: who would have to be told of those has settled nothing.
    pub(super) fn settle(&self, before: Losses) {
        let mut state = lock(&self.state);
        if state.losses == before.0 {
            state.flushed = state.acknowledged;
        }
    }

    /// A flush, or a change that was to be durable, was refused: what was unflushed when it was sent, or changed since,
    /// may be lost, and the next flush may not say so (what is in flight now: see [`Ledger::acknowledge`]). Nor may one that was sent beside it and succeeded: which of the
    /// two the server did first is not known. The handle `told` learns of it by the refusal, and is not told again.
    /// False if the session was lost: it counts as not answered.
    pub(super) fn refused(
        &self,
        session: SessionNumber,
        covered: Covered,
        told: Option<&Told>,
    ) -> bool {
        let mut state = lock(&self.state);
        if !state.is_current(session) {
            return false;
        }
        state.refusals += 1;
        if state.acknowledged > covered.flushed {
            let before = state.losses;
            state.losses += 1;
            if let Some(told) = told
                && told.0.load(Ordering::Relaxed) == before
            {
                told.0.store(state.losses, Ordering::Relaxed);
                state.told = state.losses;
            }
        }
        true
    }

    /// The losses so far.
    pub(super) fn losses(&self) -> Losses {
        Losses(lock(&self.state).losses)
    }

    /// What a handle that is opened now counts as told of: what any other was. A loss that nobody heard of, since
    /// whoever wrote had left, is told to whoever flushes first.
    pub(super) fn opened(&self) -> Told {
        Told(AtomicU64::new(lock(&self.state).told))
    }

    /// Whether a flush that began when there were `before` losses must fail. Then the handle
    /// counts as told.
    pub(super) fn is_owed(&self, told: &Told, before: Losses) -> bool {
        let mut state = lock(&self.state);
        state.told = state.losses;
        let known = told.0.swap(state.losses, Ordering::Relaxed);
        known < state.losses || before.0 < state.losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unflushed_changes_are_lost_with_their_session_and_told_once() {
        let ledger = Ledger::default();
        let (first, second) = (ledger.opened(), ledger.opened());
        let session = ledger.begin();
        assert!(ledger.acknowledge(session, ledger.refusals()));
        assert_eq!(ledger.lose(session), Some(true));
        assert_eq!(ledger.lose(session), None);
        let unheard = ledger.opened();
        for told in [&first, &second, &unheard] {
            assert!(ledger.is_owed(told, ledger.losses()));
            assert!(!ledger.is_owed(told, ledger.losses()));
        }
        assert!(!ledger.is_owed(&ledger.opened(), ledger.losses()));
    }

    #[test]
    fn flushed_changes_are_not_lost() {
        let ledger = Ledger::default();
        let session = ledger.begin();
        assert!(ledger.acknowledge(session, ledger.refusals()));
        let covered = ledger.cover(session).unwrap();
        assert!(ledger.flushed(session, covered));
        assert_eq!(ledger.lose(session), Some(false));
    }

    #[test]
    fn a_flush_covers_nothing_that_was_acknowledged_after_it_was_sent() {
        let ledger = Ledger::default();
        let session = ledger.begin();
        ledger.acknowledge(session, ledger.refusals());
        let covered = ledger.cover(session).unwrap();
        ledger.acknowledge(session, ledger.refusals());
        assert!(ledger.flushed(session, covered));
        assert_eq!(ledger.lose(session), Some(true));
    }

    #[test]
    fn an_older_flush_takes_nothing_back() {
        let ledger = Ledger::default();
        let session = ledger.begin();
        let old = ledger.cover(session).unwrap();
        ledger.acknowledge(session, ledger.refusals());
        let new = ledger.cover(session).unwrap();
        assert!(ledger.flushed(session, new) && ledger.flushed(session, old));
        assert_eq!(ledger.lose(session), Some(false));
    }

    #[test]
    fn nothing_counts_that_comes_after_the_loss() {
        let ledger = Ledger::default();
        let told = ledger.opened();
        let session = ledger.begin();
        let covered = ledger.cover(session).unwrap();
        assert_eq!(ledger.lose(session), Some(false));
        assert!(!ledger.acknowledge(session, ledger.refusals()));
        assert!(!ledger.flushed(session, covered));
        assert!(!ledger.refused(session, covered, Some(&told)));
        assert_eq!(ledger.cover(session), None);
        let next = ledger.begin();
        assert!(ledger.is_live(next) && !ledger.is_live(session));
        assert_eq!(ledger.lose(session), None);
        assert!(
            !ledger.acknowledge(session, ledger.refusals())
                && ledger.acknowledge(next, ledger.refusals())
        );
    }

    #[test]
    fn every_flush_in_flight_fails_though_its_handle_was_told() {
        let ledger = Ledger::default();
        let told = ledger.opened();
        let session = ledger.begin();
        let before = ledger.losses();
        ledger.acknowledge(session, ledger.refusals());
        ledger.lose(session);
        assert!(ledger.is_owed(&told, before));
        assert!(ledger.is_owed(&told, before));
        assert!(!ledger.is_owed(&told, ledger.losses()));
    }

    #[test]
    fn a_refused_flush_is_told_to_the_others() {
        let ledger = Ledger::default();
        let (refused, other) = (ledger.opened(), ledger.opened());
        let session = ledger.begin();
        let covered = ledger.cover(session).unwrap();
        assert!(ledger.refused(session, covered, Some(&refused)));
        assert!(!ledger.is_owed(&other, ledger.losses()), "nothing was lost");
        ledger.acknowledge(session, ledger.refusals());
        assert!(ledger.refused(session, covered, Some(&refused)));
        assert!(!ledger.is_owed(&refused, ledger.losses()));
        assert!(ledger.is_owed(&other, ledger.losses()));
        assert!(ledger.is_live(session));
    }

    #[test]
    fn a_refused_durable_change_is_told_to_all() {
        let ledger = Ledger::default();
        let told = ledger.opened();
        let session = ledger.begin();
        ledger.acknowledge(session, ledger.refusals());
        let covered = ledger.cover(session).unwrap();
        assert!(ledger.refused(session, covered, None));
        assert!(ledger.is_owed(&told, ledger.losses()));
    }

    #[test]
    fn a_success_that_is_heard_first_hides_no_refusal() {
        let ledger = Ledger::default();
        let (refused, other) = (ledger.opened(), ledger.opened());
        let session = ledger.begin();
        ledger.acknowledge(session, ledger.refusals());
        let covered = ledger.cover(session).unwrap();
        assert!(ledger.flushed(session, covered));
        assert!(ledger.refused(session, covered, Some(&refused)));
        assert!(ledger.is_owed(&other, ledger.losses()));
        let later = ledger.cover(session).unwrap();
        assert!(ledger.refused(session, later, None));
        assert!(
            !ledger.is_owed(&other, ledger.losses()),
            "all of it had been flushed"
        );
    }

    #[test]
    fn a_change_in_flight_may_be_what_a_flush_was_refused_for() {
        let ledger = Ledger::default();
        let (refused, other) = (ledger.opened(), ledger.opened());
        let session = ledger.begin();
        let in_flight = ledger.refusals();
        let covered = ledger.cover(session).unwrap();
        assert!(ledger.refused(session, covered, Some(&refused)));
        assert!(!ledger.is_owed(&other, ledger.losses()), "nothing is known");
        assert!(ledger.acknowledge(session, in_flight));
        assert!(ledger.is_owed(&other, ledger.losses()));
        assert!(ledger.acknowledge(session, ledger.refusals()));
        assert!(
            !ledger.is_owed(&other, ledger.losses()),
            "it was sent since"
        );
    }

    #[test]
    fn who_is_told_of_a_loss_settles_nothing() {
        let ledger = Ledger::default();
        let before = ledger.losses();
        let session = ledger.begin();
        ledger.acknowledge(session, ledger.refusals());
        assert_eq!(ledger.lose(session), Some(true));
        let next = ledger.begin();
        ledger.acknowledge(next, ledger.refusals());
        ledger.settle(before);
        assert_eq!(ledger.lose(next), Some(true));
        let last = ledger.begin();
        ledger.acknowledge(last, ledger.refusals());
        ledger.settle(ledger.losses());
        assert_eq!(ledger.lose(last), Some(false));
    }
}
