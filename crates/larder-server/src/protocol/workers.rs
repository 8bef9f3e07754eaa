//! One client's own threads, for requests that have to wait for something.
//!
//! They come when there is more to do than they can take, and go when there has been nothing to do
//! for a while. One of them takes over receiving where that lets who received do a job without waking anybody first. They are not shared between clients: one whose origin is stuck, or that does not read
//! its replies, blocks its own and nobody else's. A few each client may always have; there are more
//! as long as the budget of all clients has some.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Duration;

use nbd_wire::Request;

use super::budget::{Budget, Charge};
use super::in_flight::Permit;

/// Threads of one client, at most.
const MAX_THREADS: usize = 64;
/// Threads that each client may have whatever others have.
const OWN_THREADS: usize = 4;
/// A thread that has had nothing to do for so long ends.
const IDLE: Duration = Duration::from_secs(5);

/// A request, with its payload, that waits for a thread.
#[derive(Debug)]
pub(crate) struct Job<'s> {
    /// The request, checked.
    pub(crate) request: Request,
    /// What a write brings.
    pub(crate) payload: Vec<u8>,
    /// How much of a read has been answered already.
    pub(crate) answered_bytes: usize,
    /// Its place among what the client has under way.
    pub(crate) permit: Permit<'s>,
}

/// What a thread does next.
#[derive(Debug)]
pub(crate) enum Task<'s> {
    /// What somebody asked for.
    Job(Job<'s>),
    /// Receiving, which is whose it was no more.
    Receive,
}

/// The jobs and the threads for them.
#[derive(Debug)]
pub(crate) struct Workers<'s> {
    state: Mutex<State<'s>>,
    ready: Condvar,
}

#[derive(Debug)]
struct State<'s> {
    jobs: VecDeque<Job<'s>>,
    /// Nobody receives: a thread that has nothing to do is to. Meanwhile nobody submits.
    is_receiver_wanted: bool,
    threads: usize,
    /// The threads beyond the client's own.
    charge: Charge,
    idle: usize,
    is_closed: bool,
}

impl<'s> Workers<'s> {
    /// No thread yet.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                is_receiver_wanted: false,
                threads: 0,
                charge: Charge::new(budget),
                idle: 0,
                is_closed: false,
            }),
            ready: Condvar::new(),
        }
    }

    /// Hands a job to a thread, if there is or can be one; gives it back if not. `run` is what a new thread does.
    pub(crate) fn submit<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        job: Job<'s>,
        run: impl FnOnce() + Send + 'scope,
    ) -> Result<(), Job<'s>> {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || !state.add_thread() {
            drop(state);
            self.ready.notify_one();
            return Ok(());
        }
        drop(state);
        let name = "larder-worker".to_owned();
        let spawned = Builder::new().name(name).spawn_scoped(scope, run);
        if spawned.is_ok() {
            return Ok(());
        }
        let mut state = self.lock();
        state.remove_thread();
        if state.threads > 0 {
            self.ready.notify_one();
            return Ok(());
        }
        // No thread at all: whoever submitted must do it.
        state.jobs.pop_back().map_or(Ok(()), Err)
    }

    /// Whether a thread with nothing to do will receive from now on, so that who has received until now can do its
    /// job. If so it counts as one of the others, and says so with [`Workers::wake_receiver`] when it has let go.
    pub(crate) fn offer_turn(&self) -> bool {
        let mut state = self.lock();
        state.is_receiver_wanted = state.idle > state.jobs.len();
        state.is_receiver_wanted
    }

    /// Wakes who is to receive now.
    pub(crate) fn wake_receiver(&self) {
        self.ready.notify_one();
    }

    /// No more jobs come: threads end when what there is has been done.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.is_receiver_wanted = false;
        drop(state);
        self.ready.notify_all();
    }

    /// What the thread does next, or None if it is to end.
    pub(crate) fn next(&self) -> Option<Task<'s>> {
        let mut state = self.lock();
        let mut has_waited = false;
        loop {
            if std::mem::take(&mut state.is_receiver_wanted) {
                return Some(Task::Receive);
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(Task::Job(job));
            }
            if state.is_closed || has_waited {
                state.remove_thread();
                return None;
            }
            state.idle += 1;
            let waited = self.ready.wait_timeout(state, IDLE);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            has_waited = timeout.timed_out();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<'s>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State<'_> {
    /// Counts one more thread, if there may be one.
    fn add_thread(&mut self) -> bool {
        let threads = self.threads + 1;
        let is_allowed = threads <= MAX_THREADS
            && self
                .charge
                .grow_to(threads.saturating_sub(OWN_THREADS) as u64);
        if is_allowed {
            self.threads = threads;
        }
        is_allowed
    }

    fn remove_thread(&mut self) {
        self.threads -= 1;
        let common = self.threads.saturating_sub(OWN_THREADS) as u64;
        self.charge.shrink_to(common);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_threads_are_there_for_each_and_more_while_the_budget_lasts() {
        let budget = Arc::new(Budget::new(10));
        let (one, other) = (Workers::new(&budget), Workers::new(&budget));
        let add =
            |workers: &Workers<'_>| (0..100).take_while(|_| workers.lock().add_thread()).count();
        assert_eq!((add(&one), add(&other)), (OWN_THREADS + 10, OWN_THREADS));
        one.lock().remove_thread();
        assert_eq!((add(&other), add(&one)), (1, 0));
        for _ in 0..OWN_THREADS + 9 {
            one.lock().remove_thread();
        }
        assert_eq!((add(&other), add(&one)), (9, OWN_THREADS));
    }

    #[test]
    fn one_client_has_no_more_than_its_limit() {
        let workers = Workers::new(&Arc::new(Budget::new(1000)));
        let added = (0..100).filter(|_| workers.lock().add_thread()).count();
        assert_eq!(added, MAX_THREADS);
    }
}
