//! How much one client may have under way: requests, and bytes of payload.
//!
//! Requests that may take very long, such as a hint about a whole disk, hold memory only for the piece that they are at.
//! Some bytes are its own share, the others come from the budget of all clients. Who waits here waits for
//! requests of the same client only, which end without anything from here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Charge};

/// Requests that wait or are worked on, at most.
const MAX_REQUESTS: usize = 320;
/// Bytes of their payloads, at most.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes beyond which requests that go piece by piece wait for each other and for others.
const MAX_PIECES_BYTES: u64 = MAX_BYTES / 2;
/// Bytes that each client may have under way whatever others have.
pub(crate) const OWN_BYTES: u64 = 256 << 10;

/// What one client has under way.
#[derive(Debug)]
pub(crate) struct InFlight {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    requests: usize,
    bytes: u64,
    /// What they are more than the client's own share.
    charge: Charge,
    /// Threads that wait for room: where there are none, nobody is woken.
    waiters: usize,
    /// Who receives waits until nothing is under way.
    is_idle_wanted: bool,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The client has too much under way.
    Client,
    /// All clients have.
    Budget,
}

/// One request under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'f> {
    in_flight: &'f InFlight,
    bytes: u64,
}

/// Memory for a piece of a request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Piece<'f> {
    in_flight: &'f InFlight,
    bytes: u64,
}

impl InFlight {
    /// Nothing under way.
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Self {
            state: Mutex::new(State {
                requests: 0,
                bytes: 0,
                charge: Charge::new(budget),
                waiters: 0,
                is_idle_wanted: false,
            }),
            freed: Condvar::new(),
        }
    }

    /// Lets a request with so many bytes of payload in, if there is room now.
    pub(crate) fn try_enter(&self, bytes: u64) -> Option<Permit<'_>> {
        self.lock().enter(bytes).ok()?;
        Some(self.permit(bytes))
    }

    /// Waits until the client has room for a request, and lets it in. None if it is more than the client's own
    /// share, and the others have left too little for it.
    pub(crate) fn enter_large(&self, bytes: u64) -> Option<Permit<'_>> {
        let mut state = self.lock();
        loop {
            match state.enter(bytes) {
                Ok(()) => return Some(self.permit(bytes)),
                Err(Full::Budget) if bytes > OWN_BYTES => return None,
                Err(_) => state = self.wait(state),
            }
        }
    }

    /// Waits until the client has room for a request of no more than its own share, and lets it in.
    pub(crate) fn enter(&self, bytes: u64) -> Permit<'_> {
        let mut state = self.lock();
        while state.enter(bytes).is_err() {
            state = self.wait(state);
        }
        self.permit(bytes)
    }

    /// Waits until the client has nothing under way, and every reply to it has been sent or waits to be. For who
    /// receives: nobody else lets anything in.
    pub(crate) fn wait_until_idle(&self) {
        let mut state = self.lock();
        state.is_idle_wanted = true;
        self.freed.notify_all();
        while state.requests > 0 {
            state = self.wait(state);
        }
        state.is_idle_wanted = false;
    }

    fn permit(&self, bytes: u64) -> Permit<'_> {
        Permit {
            in_flight: self,
            bytes,
        }
    }

    fn wait<'s>(&self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.waiters += 1;
        let waited = self.freed.wait(state);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        state
    }

    fn give_back(&self, mut state: MutexGuard<'_, State>, bytes: u64) {
        state.bytes -= bytes;
        let common = state.bytes.saturating_sub(OWN_BYTES);
        state.charge.shrink_to(common);
        if state.waiters > 0 {
            // They wait for different things.
            self.freed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, bytes: u64) -> Result<(), Full> {
        if self.requests == MAX_REQUESTS {
            return Err(Full::Client);
        }
        self.take(bytes, self.requests)?;
        self.requests += 1;
        Ok(())
    }

    /// Bytes for a piece, of which there are fewer if others have left too little, but never none for ever: what the
    /// client has under way ends.
    fn take_piece(&mut self, wanted: u64) -> Option<u64> {
        let few = wanted.min(OWN_BYTES);
        let (all, least) = (self.bytes + wanted, self.bytes + few);
        let fits = self.bytes == 0 || all <= MAX_PIECES_BYTES;
        let taken = if fits && self.charge.grow_to(all.saturating_sub(OWN_BYTES)) {
            wanted
        } else if least <= OWN_BYTES {
            few
        } else {
            return None;
        };
        self.bytes += taken;
        Some(taken)
    }

    /// So many more bytes for one request beside so many others.
    fn take(&mut self, bytes: u64, others: usize) -> Result<(), Full> {
        let all = self.bytes.saturating_add(bytes);
        if others > 0 && all > MAX_BYTES {
            return Err(Full::Client);
        }
        if !self.charge.grow_to(all.saturating_sub(OWN_BYTES)) {
            return Err(Full::Budget);
        }
        self.bytes = all;
        Ok(())
    }
}

impl Permit<'_> {
    /// Waits until there is memory for a piece of a request that may take very long, and takes it: so many bytes, or fewer
    /// where there is little. It leaves room for the client's other requests. None if who receives waits for the end of
    /// them all.
    pub(crate) fn piece(&self, wanted: u64) -> Option<Piece<'_>> {
        let mut state = self.in_flight.lock();
        while !state.is_idle_wanted {
            if let Some(bytes) = state.take_piece(wanted) {
                let in_flight = self.in_flight;
                return Some(Piece { in_flight, bytes });
            }
            state = self.in_flight.wait(state);
        }
        None
    }

    /// Makes it for so many bytes, waiting until the client has room for them. False if it is more than the client's own
    /// share then, and others have left too little: it stays as it is.
    pub(crate) fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let mut state = self.in_flight.lock();
        loop {
            let others = state.requests - 1;
            match state.take(more, others) {
                Ok(()) => break,
                Err(Full::Budget) if bytes > OWN_BYTES => return false,
                Err(_) => state = self.in_flight.wait(state),
            }
        }
        self.bytes += more;
        true
    }
}

impl Piece<'_> {
    /// How much it is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.in_flight.lock();
        state.requests -= 1;
        self.in_flight.give_back(state, self.bytes);
    }
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        let state = self.in_flight.lock();
        self.in_flight.give_back(state, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: u64 = 100 * MAX_BYTES;

    fn in_flight(budget: u64) -> InFlight {
        InFlight::new(&Arc::new(Budget::new(budget)))
    }

    #[test]
    fn requests_and_bytes_are_limited_and_one_request_always_fits() {
        let in_flight = in_flight(PLENTY);
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
        let in_flight = in_flight(PLENTY);
        let large = in_flight.enter(10 * MAX_BYTES);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(in_flight.enter(1)));
            drop(large);
            assert!(waiting.join().is_ok());
        });
    }

    #[test]
    fn the_own_share_is_there_when_others_have_everything_else() {
        let budget = Arc::new(Budget::new(1000));
        let (one, other) = (InFlight::new(&budget), InFlight::new(&budget));
        let greedy = one.enter_large(OWN_BYTES + 1000);
        assert!(greedy.is_some() && one.enter_large(OWN_BYTES + 1).is_none());
        assert!(other.enter_large(OWN_BYTES + 1).is_none());
        let own = other.enter(OWN_BYTES);
        assert!(other.try_enter(1).is_none());
        drop(greedy);
        assert!(other.try_enter(1000).is_some());
        drop(own);
        // All of it has been given back.
        assert!(one.try_enter(OWN_BYTES + 1000).is_some());
    }

    #[test]
    fn a_request_grows_as_long_as_there_is_room() {
        let budget = Arc::new(Budget::new(1000));
        let (one, other) = (InFlight::new(&budget), InFlight::new(&budget));
        let mut growing = one.enter(OWN_BYTES);
        assert!(growing.grow_to(OWN_BYTES + 600) && growing.bytes == OWN_BYTES + 600);
        let greedy = other.enter_large(OWN_BYTES + 400);
        assert!(!growing.grow_to(OWN_BYTES + 601) && growing.bytes == OWN_BYTES + 600);
        drop(greedy);
        assert!(growing.grow_to(OWN_BYTES + 1000));
        drop(growing);
        assert!(other.try_enter(OWN_BYTES + 1000).is_some());
    }

    #[test]
    fn pieces_leave_room_and_there_is_always_a_small_one() {
        let in_flight = in_flight(PLENTY);
        let (one, other) = (in_flight.enter(0), in_flight.enter(0));
        let large = one.piece(MAX_PIECES_BYTES).unwrap();
        assert_eq!(large.bytes(), MAX_PIECES_BYTES);
        assert!(in_flight.try_enter(MAX_PIECES_BYTES).is_some());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| other.piece(MAX_PIECES_BYTES).unwrap().bytes());
            drop(large);
            assert_eq!(waiting.join().unwrap(), MAX_PIECES_BYTES);
        });
        // Others have everything.
        let budget = Arc::new(Budget::new(0));
        let poor = InFlight::new(&budget);
        let permit = poor.enter(0);
        let small = permit.piece(MAX_PIECES_BYTES).unwrap();
        assert_eq!(small.bytes(), OWN_BYTES);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| permit.piece(1).unwrap().bytes());
            drop(small);
            assert_eq!(waiting.join().unwrap(), 1);
        });
    }

    #[test]
    fn who_goes_piece_by_piece_ends_for_who_waits_for_the_end_of_everything() {
        let in_flight = in_flight(PLENTY);
        let endless = in_flight.enter(0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while endless.piece(MAX_PIECES_BYTES).is_some() {}
                drop(endless);
            });
            in_flight.wait_until_idle();
        });
        assert!(in_flight.enter(0).piece(1).is_some());
    }

    #[test]
    fn who_waits_for_the_end_of_everything_waits_for_the_last() {
        let in_flight = in_flight(PLENTY);
        in_flight.wait_until_idle();
        let permits: Vec<_> = (0..3).map(|_| in_flight.enter(1)).collect();
        let left = std::sync::atomic::AtomicUsize::new(permits.len());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for permit in permits {
                    left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(permit);
                }
            });
            in_flight.wait_until_idle();
            assert_eq!(left.load(std::sync::atomic::Ordering::SeqCst), 0);
        });
    }

    #[test]
    fn a_small_request_waits_for_the_clients_own_and_not_for_others() {
        let budget = Arc::new(Budget::new(1000));
        let (greedy, client) = (InFlight::new(&budget), InFlight::new(&budget));
        let _greedy = greedy.enter_large(OWN_BYTES + 1000);
        let own = client.enter(OWN_BYTES);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(client.enter_large(OWN_BYTES)));
            drop(own);
            assert!(waiting.join().is_ok());
        });
    }
}
