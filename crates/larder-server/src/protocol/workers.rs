//! One client's own threads, for requests that have to wait for something.
//!
//! They come when there is more to do than they can take, and go when there has been nothing to do
//! for a while. They are not shared between clients: one whose origin is stuck, or that does not read
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
    pub(crate) _permit: Permit<'s>,
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
                threads: 0,
                charge: Charge::new(budget),
                idle: 0,
                is_closed: false,
            }),
            ready: Condvar::new(),
        }
    }

    /// Hands a job to a thread, if there is or can be one; gives it back if not. `work` is what a
    /// thread does with each.
    pub(crate) fn submit<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        job: Job<'s>,
        work: &'env (dyn Fn(Job<'s>) + Sync),
    ) -> Result<(), Job<'s>>
    where
        's: 'env,
    {
        let mut state = self.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || !state.add_thread() {
            drop(state);
            self.ready.notify_one();
            return Ok(());
        }
        drop(state);
        let name = "larder-worker".to_owned();
        let spawned = Builder::new()
            .name(name)
            .spawn_scoped(scope, || self.run(work));
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

    /// No more jobs come: threads end when what there is has been done.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.ready.notify_all();
    }

    fn run(&self, work: &(dyn Fn(Job<'s>) + Sync)) {
        while let Some(job) = self.next() {
            work(job);
        }
    }

    /// The next job, or None if the thread is to end.
    fn next(&self) -> Option<Job<'s>> {
        let mut state = self.lock();
        let mut has_waited = false;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
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
