//! Stops every call at the doubles and lets them go on one at a time in seeded order, so that
//! races really happen, and a failing seed replays as closely as threads allow.
//!
//! Calls that are stopped are told apart by what they do, not by when they came, so that the
//! same seed makes the same choice among the same calls. A choice is made when every worker is
//! stopped; since a worker may also wait inside the engine for another, or compute, it is made as
//! well when nobody new has come for a moment. That moment affects only which races are seen,
//! never whether a result is right.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::pace::{Pace, Phase, Side, Stop};
use crate::random::Random;

/// When nobody new came for so long, all others are taken to wait inside the engine.
const QUIET: Duration = Duration::from_micros(150);

struct Waiting {
    ticket: u64,
    stop: Stop,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    released: Vec<u64>,
    last_ticket: u64,
    workers: usize,
    open: bool,
}

struct Shared {
    state: Mutex<State>,
    /// A call came, a worker left, or the gate opened.
    arrived: Condvar,
    /// A call may go on.
    released: Condvar,
    cache_file: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The gate. It opens for good when it is dropped.
pub struct Gate {
    shared: Arc<Shared>,
    controller: Option<JoinHandle<()>>,
}

/// The part of the gate that the doubles see.
struct Door(Arc<Shared>);

impl Gate {
    /// A gate with that order. With `cache_file`, calls to the cache file are stopped as well.
    pub fn new(random: Random, cache_file: bool) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            arrived: Condvar::new(),
            released: Condvar::new(),
            cache_file,
        });
        let inside = Arc::clone(&shared);
        let controller = std::thread::spawn(move || control(&inside, random));
        Self {
            shared,
            controller: Some(controller),
        }
    }

    /// What the doubles are to be given.
    pub fn pace(&self) -> Arc<dyn Pace> {
        Arc::new(Door(Arc::clone(&self.shared)))
    }

    /// A worker starts: as long as not all of them are stopped, it is worth waiting a moment.
    pub fn worker_comes(&self) {
        self.shared.lock().workers += 1;
    }

    /// A worker has ended.
    pub fn worker_goes(&self) {
        self.shared.lock().workers -= 1;
        self.shared.arrived.notify_all();
    }

    /// Nothing is stopped from here on.
    pub fn open(&self) {
        self.shared.lock().open = true;
        self.shared.arrived.notify_all();
        self.shared.released.notify_all();
    }

    /// The calls stopped now, to tell why a test hangs.
    pub fn waiting(&self) -> Vec<Stop> {
        let state = self.shared.lock();
        let stops = state.waiting.iter().map(|waiting| waiting.stop.clone());
        stops.collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
        if let Some(controller) = self.controller.take() {
            // It cannot panic, and a test that ends has nothing to do about it.
            let _ = controller.join();
        }
    }
}

impl Pace for Door {
    fn stop(&self, stop: &Stop) {
        let shared = &self.0;
        // A third stop of every call would show few races that the other two do not.
        let is_third = stop.phase == Phase::Acknowledged;
        if is_third || (stop.side == Side::CacheFile && !shared.cache_file) {
            return;
        }
        let mut state = shared.lock();
        if state.open {
            return;
        }
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        state.waiting.push(Waiting {
            ticket,
            stop: stop.clone(),
        });
        shared.arrived.notify_all();
        while !state.open && !state.released.contains(&ticket) {
            state = shared
                .released
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.released.retain(|&released| released != ticket);
        state.waiting.retain(|waiting| waiting.ticket != ticket);
    }
}

fn control(shared: &Shared, mut random: Random) {
    let mut state = shared.lock();
    while !state.open {
        let stopped = state.waiting.len() - state.released.len();
        if stopped == 0 {
            state = wait(shared, state);
            continue;
        }
        if stopped < state.workers {
            let before = state.last_ticket;
            let (after, timeout) = shared
                .arrived
                .wait_timeout(state, QUIET)
                .unwrap_or_else(PoisonError::into_inner);
            state = after;
            if state.last_ticket != before || !timeout.timed_out() {
                continue;
            }
        }
        release_one(&mut state, &mut random);
        shared.released.notify_all();
    }
}

fn wait<'a>(shared: &'a Shared, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    shared
        .arrived
        .wait(state)
        .unwrap_or_else(PoisonError::into_inner)
}

fn release_one(state: &mut State, random: &mut Random) {
    let mut stopped: Vec<&Waiting> = state
        .waiting
        .iter()
        .filter(|waiting| !state.released.contains(&waiting.ticket))
        .collect();
    stopped.sort_by(|a, b| a.stop.cmp(&b.stop));
    if !stopped.is_empty() {
        let chosen = stopped[random.below(stopped.len() as u64) as usize].ticket;
        state.released.push(chosen);
    }
}
