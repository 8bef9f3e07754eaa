//! Holding chosen calls for a directed test: it says which, waits until they are there, and lets
//! them go. Deadlines exist only so that a broken engine fails instead of hanging.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pace::{Pace, Stop};

/// How long anything may take that must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

type Filter = Box<dyn Fn(&Stop) -> bool + Send>;

struct Entry {
    id: u64,
    filter: Filter,
    held: Vec<Stop>,
    /// How many of the held calls may go on.
    tickets: u64,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    last_id: u64,
}

impl State {
    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }
}

/// The calls that a test holds.
#[derive(Default)]
pub struct Holds {
    state: Mutex<State>,
    changed: Condvar,
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds every call that `filter` accepts, until the returned hold is released or dropped.
    pub fn hold(self: &Arc<Self>, filter: impl Fn(&Stop) -> bool + Send + 'static) -> Hold {
        let mut state = self.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.entries.push(Entry {
            id,
            filter: Box::new(filter),
            held: Vec::new(),
            tickets: 0,
        });
        Hold {
            holds: Arc::clone(self),
            id,
        }
    }
}

impl Pace for Holds {
    fn stop(&self, stop: &Stop) {
        let mut state = self.lock();
        let Some(entry) = state.entries.iter_mut().find(|entry| (entry.filter)(stop)) else {
            return;
        };
        entry.held.push(stop.clone());
        let id = entry.id;
        self.changed.notify_all();
        loop {
            match state.entry(id) {
                None => return,
                Some(entry) if entry.tickets > 0 => {
                    entry.tickets -= 1;
                    let place = entry.held.iter().position(|held| held == stop);
                    entry.held.remove(place.unwrap_or(0));
                    self.changed.notify_all();
                    return;
                }
                Some(_) => {}
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Accepts only the first call that `filter` accepts.
pub fn only_first(filter: impl Fn(&Stop) -> bool + Send) -> impl Fn(&Stop) -> bool + Send {
    let taken = AtomicBool::new(false);
    move |stop| filter(stop) && !taken.swap(true, Ordering::SeqCst)
}

/// Some calls being held.
pub struct Hold {
    holds: Arc<Holds>,
    id: u64,
}

impl Hold {
    /// Waits until that many calls are held at once. Panics when they do not come.
    pub fn wait_for(&self, calls: usize) -> Vec<Stop> {
        let start = Instant::now();
        let mut state = self.holds.lock();
        loop {
            let held = state.entry(self.id).map(|entry| entry.held.clone());
            let held = held.unwrap_or_default();
            if held.len() >= calls {
                return held;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{calls} calls were to be held, only these came: {held:?}"
            );
            state = self
                .holds
                .changed
                .wait_timeout(state, Duration::from_millis(50))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// How many calls are held now.
    pub fn held(&self) -> usize {
        let mut state = self.holds.lock();
        state.entry(self.id).map_or(0, |entry| entry.held.len())
    }

    /// Lets one held call go on, the next one too if none is held now.
    pub fn release_one(&self) {
        if let Some(entry) = self.holds.lock().entry(self.id) {
            entry.tickets += 1;
        }
        self.holds.changed.notify_all();
    }

    /// Lets all go on and holds no more.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holds
            .lock()
            .entries
            .retain(|entry| entry.id != self.id);
        self.holds.changed.notify_all();
    }
}
