//! How much one client may have under way: requests, and bytes of payload.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Requests that wait or are worked on, at most.
const MAX_REQUESTS: usize = 320;
/// Bytes of their payloads, at most; a single request may have more.
const MAX_BYTES: u64 = 64 << 20;

/// What one client has under way.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: usize,
    bytes: u64,
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'f> {
    in_flight: &'f InFlight,
    bytes: u64,
}

impl InFlight {
    /// Lets a request with so many bytes of payload in, if there is room now.
    pub(crate) fn try_enter(&self, bytes: u64) -> Option<Permit<'_>> {
        let state = self.lock();
        has_room(&state, bytes).then(|| self.enter_locked(state, bytes))
    }

    /// Waits for room, and lets a request in.
    pub(crate) fn enter(&self, bytes: u64) -> Permit<'_> {
        let mut state = self.lock();
        while !has_room(&state, bytes) {
            state = self
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.enter_locked(state, bytes)
    }

    fn enter_locked(&self, mut state: MutexGuard<'_, State>, bytes: u64) -> Permit<'_> {
        state.requests += 1;
        state.bytes += bytes;
        Permit {
            in_flight: self,
            bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_room(state: &State, bytes: u64) -> bool {
    state.requests == 0
        || (state.requests < MAX_REQUESTS && state.bytes.saturating_add(bytes) <= MAX_BYTES)
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.in_flight.lock();
        state.requests -= 1;
        state.bytes -= self.bytes;
        drop(state);
        self.in_flight.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_bytes_are_limited_and_one_request_always_fits() {
        let in_flight = InFlight::default();
        let large = in_flight.try_enter(10 * MAX_BYTES);
        assert!(large.is_some() && in_flight.try_enter(0).is_none());
        drop(large);
        let half = in_flight.try_enter(MAX_BYTES / 2);
        assert!(half.is_some() && in_flight.try_enter(MAX_BYTES / 2 + 1).is_none());
        let permits: Vec<_> = (1..MAX_REQUESTS).map(|_| in_flight.try_enter(1)).collect();
        assert!(permits.iter().all(Option::is_some) && in_flight.try_enter(0).is_none());
    }

    #[test]
    fn who_waits_is_let_in_when_room_comes_free() {
        let in_flight = InFlight::default();
        let large = in_flight.enter(10 * MAX_BYTES);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(in_flight.enter(1)));
            drop(large);
            assert!(waiting.join().is_ok());
        });
    }
}
