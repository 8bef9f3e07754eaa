//! Whose turn it is to receive on a connection.
//!
//! A thread that waits for a reply receives, if nobody does: so its own reply wakes nobody else first. When it has
//! that, another one that waits is asked to go on. The connection's own thread receives where nobody waits, so
//! that the end of the connection is noticed, and where those who could do not come. Only an idle connection has it
//! waiting for bytes: while others receive it looks in now and then.
//!
//! Invariant: while the reader is here and replies are owed, somebody was asked to take it; if that one does not come
//! (its time may be over), the own thread does after a [`TICK`].

use std::io::{self, BufReader, Read};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::sync::{lock, wait_until};
use super::transport::Receiver;

const RECEIVE_BYTES: usize = 64 << 10;
/// How long the reader lies unused until the own thread takes it.
const TICK: Duration = Duration::from_millis(100);

/// The receiving half in the hands of whose turn it is. Between two replies it can be given to anybody.
#[derive(Debug)]
pub(super) struct Reader(BufReader<Receiver>);

impl Reader {
    /// Waits for a byte, until then; false if none has come. The end of the connection counts as one.
    pub(super) fn wait(&self, until: Option<Instant>) -> io::Result<bool> {
        match self.0.buffer().is_empty() {
            true => self.0.get_ref().wait(until),
            false => Ok(true),
        }
    }

    /// The bytes of a reply that has begun, to the end of which one waits until `is_over`, whether bytes come or not.
    pub(super) fn within<'r>(&'r mut self, is_over: &'r dyn Fn() -> bool) -> impl Read + 'r {
        Within {
            reader: &mut self.0,
            is_over,
        }
    }
}

struct Within<'r> {
    reader: &'r mut BufReader<Receiver>,
    is_over: &'r dyn Fn() -> bool,
}

impl Read for Within<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.reader.read(buffer);
            let is_tick = matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            if (is_tick || matches!(read, Ok(1..))) && (self.is_over)() {
                let message = "the server did not finish a reply in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            if !is_tick {
                return read;
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
    /// Whoever waits for a reply may receive.
    is_shared: bool,
}

#[derive(Debug)]
struct State {
    /// `None` while somebody receives.
    reader: Option<Reader>,
    /// Somebody has received since the own thread last looked.
    is_used: bool,
    /// The own thread is to receive at once.
    is_own_wanted: bool,
    is_closed: bool,
}

impl Turns {
    pub(super) fn new(receiver: Receiver) -> Self {
        Self {
            is_shared: receiver.can_wait(),
            state: Mutex::new(State {
                reader: Some(Reader(BufReader::with_capacity(RECEIVE_BYTES, receiver))),
                is_used: false,
                is_own_wanted: false,
                is_closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Whether those who wait for replies receive.
    pub(super) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The reader, if nobody receives, for one who waits for a reply.
    pub(super) fn take(&self) -> Option<Reader> {
        if !self.is_shared {
            return None;
        }
        let mut state = lock(&self.state);
        state.is_used = true;
        state.reader.take()
    }

    /// The reader for the own thread, once it is its turn. `None` when the connection has ended.
    pub(super) fn take_own(&self) -> Option<Reader> {
        let mut state = lock(&self.state);
        loop {
            if state.is_closed {
                return None;
            }
            let is_turn = std::mem::take(&mut state.is_own_wanted) || !state.is_used;
            if is_turn && let Some(reader) = state.reader.take() {
                return Some(reader);
            }
            state.is_used = false;
            state = wait_until(&self.changed, state, Instant::now() + TICK);
        }
    }

    /// The reader is anybody's again.
    pub(super) fn give_back(&self, reader: Reader) {
        let mut state = lock(&self.state);
        state.is_used = true;
        state.reader = Some(reader);
    }

    /// Whether nobody receives.
    pub(super) fn is_free(&self) -> bool {
        lock(&self.state).reader.is_some()
    }

    /// Nobody else can receive: the own thread is to.
    pub(super) fn call_own(&self) {
        lock(&self.state).is_own_wanted = true;
        self.changed.notify_one();
    }

    /// The connection has ended.
    pub(super) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.changed.notify_all();
    }
}
