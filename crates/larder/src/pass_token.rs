//! The pass token: at most one writeback pass at a time in a volume, and flushes that share one.
//!
//! A flush needs a full pass that starts after the flush arrived. While a pass runs, flushes wait;
//! one of them leads the next pass, and if that succeeds it serves all who had arrived by its
//! start. If it fails, each leads one of its own, on its own connection; unless it was in vain because the origin
//! answers nothing: then it has waited for all of them, as long as each of them would.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::news::News;
use crate::sync::{self, Condvar};

#[derive(Debug, Default)]
struct State {
    is_running: bool,
    /// Full passes started so far.
    started: u64,
    /// The latest full pass that succeeded, counted from 1.
    succeeded: u64,
    /// The latest that met a silent origin.
    silent: u64,
    waiting: u32,
    /// Those of [`PassToken::take_turn`].
    in_turn: u32,
}

/// The token of a volume.
#[derive(Debug, Default)]
pub(crate) struct PassToken {
    state: Mutex<State>,
    returned: Condvar,
    news: Arc<News>,
}

/// The token, held; returned when dropped.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    token: &'a PassToken,
    /// Which full pass this is; 0 for one that does not take everything.
    full: u64,
    end: End,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Failed,
    Succeeded,
    Silent,
}

/// What a flush has to do.
#[derive(Debug)]
pub(crate) enum Turn<'a> {
    /// A full pass.
    Lead(Running<'a>),
    /// Nothing: somebody else's pass has done it.
    Done,
    /// Nothing: somebody else's pass has met a silent origin.
    Silent,
}

impl Running<'_> {
    /// The pass has done all it set out to do.
    pub(crate) fn succeed(&mut self) {
        self.end = End::Succeeded;
    }

    /// The origin answered nothing.
    pub(crate) fn meet_silence(&mut self) {
        self.end = End::Silent;
    }
}

impl PassToken {
    /// A token whose return is news for who waits for room.
    pub(crate) fn new(news: Arc<News>) -> Self {
        Self {
            news,
            ..Self::default()
        }
    }

    /// Waits for the token, for a pass over part of the volume.
    pub(crate) fn take(&self) -> Running<'_> {
        let mut state = sync::lock(&self.state);
        while state.is_running {
            state = self.wait(state);
        }
        state.is_running = true;
        self.running(0)
    }

    /// Waits for the token behind those who must have it and before those who only take it if it is free, at most
    /// so long.
    pub(crate) fn take_turn(&self, longest: Duration) -> Option<Running<'_>> {
        let mut state = sync::lock(&self.state);
        state.in_turn += 1;
        state = sync::wait_while(&self.returned, state, longest, |state| {
            state.is_running || state.waiting > 0
        });
        state.in_turn -= 1;
        // Whoever has it or comes before this one will tell those who let this one go first.
        if state.is_running || state.waiting > 0 {
            return None;
        }
        state.is_running = true;
        Some(self.running(0))
    }

    /// Whether somebody has it, or gets it next.
    pub(crate) fn is_taken(&self) -> bool {
        let state = sync::lock(&self.state);
        state.is_running || state.in_turn > 0
    }

    /// The token if nobody has it and nobody waits for it, as flushes do: their passes make room too.
    pub(crate) fn try_take(&self) -> Option<Running<'_>> {
        let mut state = sync::lock(&self.state);
        if state.is_running || state.waiting > 0 || state.in_turn > 0 {
            return None;
        }
        state.is_running = true;
        Some(self.running(0))
    }

    /// Waits for the token for a full pass, or until somebody else's full pass that started after
    /// this call has succeeded or met a silent origin: then there is nothing left to do.
    pub(crate) fn take_for_flush(&self) -> Turn<'_> {
        let mut state = sync::lock(&self.state);
        let needed = state.started + 1;
        loop {
            let turn = match state {
                _ if state.succeeded >= needed => Some(Turn::Done),
                _ if state.silent >= needed => Some(Turn::Silent),
                _ => None,
            };
            if let Some(turn) = turn {
                // Who wanted room let the flushes go first, and does not know yet that they are done.
                let is_free = !state.is_running && state.waiting == 0;
                drop(state);
                if is_free {
                    self.returned.notify_all();
                    self.news.room();
                }
                return turn;
            }
            if !state.is_running {
                state.is_running = true;
                state.started += 1;
                return Turn::Lead(self.running(state.started));
            }
            state = self.wait(state);
        }
    }

    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiting += 1;
        state = sync::wait(&self.returned, state);
        state.waiting -= 1;
        state
    }

    fn running(&self, full: u64) -> Running<'_> {
        Running {
            token: self,
            full,
            end: End::Failed,
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = sync::lock(&self.token.state);
        state.is_running = false;
        match self.end {
            End::Failed => {}
            End::Succeeded => state.succeeded = state.succeeded.max(self.full),
            End::Silent => state.silent = state.silent.max(self.full),
        }
        drop(state);
        self.token.returned.notify_all();
        self.token.news.room();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(token: &PassToken) -> Running<'_> {
        match token.take_for_flush() {
            Turn::Lead(running) => running,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_flush_is_not_served_by_a_pass_that_began_before_it() {
        let token = PassToken::default();
        let mut first = lead(&token);
        std::thread::scope(|scope| {
            let later = scope.spawn(|| matches!(token.take_for_flush(), Turn::Lead(_)));
            first.succeed();
            drop(first);
            // Whether it arrived during the first pass or after it, it leads one of its own.
            assert!(later.join().unwrap());
        });
    }

    #[test]
    fn a_failed_pass_serves_nobody() {
        let token = PassToken::default();
        drop(lead(&token));
        drop(lead(&token));
        assert!(token.try_take().is_some());
    }

    #[test]
    fn a_pass_in_vain_serves_all_who_waited_when_it_began() {
        let token = PassToken::default();
        let first = lead(&token);
        let wait_for = |count| {
            while sync::lock(&token.state).waiting < count {
                std::thread::yield_now();
            }
        };
        let flush = || match token.take_for_flush() {
            Turn::Lead(mut running) => {
                // All others have waited since before this began; one more comes too late for it.
                running.meet_silence();
                true
            }
            Turn::Silent => false,
            Turn::Done => panic!("nothing was done"),
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(flush)).collect();
            wait_for(8);
            drop(first);
            let leaders = all.into_iter().filter_map(|one| one.join().ok());
            assert_eq!(leaders.filter(|has_led| *has_led).count(), 1);
        });
        drop(lead(&token));
    }

    #[test]
    fn a_turn_comes_before_those_who_only_take_what_is_free() {
        let token = PassToken::default();
        let running = token.try_take().unwrap();
        std::thread::scope(|scope| {
            let turn = scope.spawn(|| token.take_turn(Duration::from_secs(60)).is_some());
            while sync::lock(&token.state).in_turn == 0 {
                std::thread::yield_now();
            }
            // As when it is returned and nobody has woken yet.
            sync::lock(&token.state).is_running = false;
            assert!(token.is_taken());
            assert!(token.try_take().is_none());
            sync::lock(&token.state).is_running = true;
            drop(running);
            assert!(turn.join().unwrap());
        });
        assert!(token.try_take().is_some());
    }

    #[test]
    fn a_turn_in_vain_leaves_nothing_behind() {
        let token = PassToken::default();
        let running = token.try_take().unwrap();
        assert!(token.take_turn(Duration::from_millis(1)).is_none());
        drop(running);
        assert!(!token.is_taken());
        assert!(token.try_take().is_some());
    }
}
