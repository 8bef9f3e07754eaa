//! One client's own threads, for requests that have to wait for something.
//!
//! They come when there is more to do than they can take, and go when there has been nothing to do
//! for a while. They are not shared between clients: one whose origin is stuck, or that does not read
//! its replies, blocks its own and nobody else's.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Duration;

use nbd_wire::Request;

use super::in_flight::Permit;

/// Threads of one client, at most.
const MAX_THREADS: usize = 64;
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
#[derive(Debug, Default)]
pub(crate) struct Workers<'s> {
    state: Mutex<State<'s>>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State<'s> {
    jobs: VecDeque<Job<'s>>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

impl<'s> Workers<'s> {
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
        if state.idle >= state.jobs.len() || state.threads == MAX_THREADS {
            drop(state);
            self.ready.notify_one();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let name = "larder-worker".to_owned();
        let spawned = Builder::new()
            .name(name)
            .spawn_scoped(scope, || self.run(work));
        if spawned.is_ok() {
            return Ok(());
        }
        let mut state = self.lock();
        state.threads -= 1;
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
                state.threads -= 1;
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
