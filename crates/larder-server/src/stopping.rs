//! The end of serving, and everybody who has to hear of it.
//!
//! Once it has begun it is never taken back. A connection that blocks in a read is woken by shutting
//! its socket down for reading: it finds an end of the stream and finishes what it has begun. One that
//! registers later is shut down as it comes, under the same lock, so none is missed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use crate::stream::Stream;

/// A client that takes longer to choose an export may have to make room for others.
const LONG_HANDSHAKE: Duration = Duration::from_secs(1);
/// How often it is looked which clients do not take their replies.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Whether the server is ending, and the connections that are open.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    has_begun: AtomicBool,
    /// Readable for ever once the end has begun.
    event: OwnedFd,
    open: Mutex<Open>,
    one_ended: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
    /// Those of them that have been closed to make room, and have not ended yet.
    closed_for_others: usize,
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client has not chosen an export since then.
    Handshake(Instant),
    /// It is served.
    Served,
    /// It was closed to make room for another.
    ClosedForAnother,
}

/// A connection that is open; it has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    stopping: Stopping,
    number: u64,
}

impl Stopping {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(Inner {
            has_begun: AtomicBool::new(false),
            event: rustix::event::eventfd(0, flags)?,
            open: Mutex::default(),
            one_ended: Condvar::new(),
        })))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the end has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.0.has_begun.load(Ordering::SeqCst)
    }

    /// Becomes readable when the end begins, and stays so: for poll(2).
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// Begins the end: nothing more is read from any connection.
    pub(crate) fn begin(&self) {
        let open = self.open();
        self.0.has_begun.store(true, Ordering::SeqCst);
        // A counter of 1 fits, so this does not fail.
        let _ = rustix::io::write(&self.0.event, &1_u64.to_ne_bytes());
        for connection in open.connections.values() {
            connection.stream.shutdown_read();
        }
    }

    /// Notes that a connection is open. Where there are `limit` already, the one whose client has taken longest to choose
    /// an export makes room for it: who only connects must not keep out those who have something to ask. None if no
    /// client has taken long.
    pub(crate) fn register(&self, stream: &Stream, limit: usize) -> Option<Registered> {
        let mut open = self.open();
        if open.connections.len() - open.closed_for_others >= limit && !open.close_the_slowest() {
            return None;
        }
        if self.is_stopping() {
            stream.shutdown_read();
        }
        let number = open.next;
        open.next += 1;
        let connection = Connection {
            stream: stream.clone(),
            phase: Phase::Handshake(Instant::now()),
        };
        open.connections.insert(number, connection);
        Some(Registered {
            stopping: self.clone(),
            number,
        })
    }

    /// Whether a client is connected.
    pub(crate) fn has_connections(&self) -> bool {
        !self.open().connections.is_empty()
    }

    /// Waits until every connection has ended. Those whose client does not take its replies, or has chosen no export, are
    /// closed once `patience` is over; what others have begun is finished, however long it takes. Returns how many were closed.
    pub(crate) fn wait_for_all(&self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        let mut closed = HashSet::new();
        let mut open = self.open();
        while !open.connections.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let all = open.connections.iter();
                for (number, stuck) in all.filter(|(_, one)| one.has_begun_nothing()) {
                    stuck.stream.shutdown_both();
                    closed.insert(*number);
                }
            }
            let time = if left.is_zero() { LOOK_AGAIN } else { left };
            let waited = self.0.one_ended.wait_timeout(open, time);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        closed.len()
    }
}

impl Connection {
    /// Whether it waits only for its client.
    fn has_begun_nothing(&self) -> bool {
        self.stream.is_stuck() || matches!(self.phase, Phase::Handshake(_))
    }
}

impl Open {
    /// Closes the connection whose client has been longest without an export, if that is long enough.
    fn close_the_slowest(&mut self) -> bool {
        let handshakes = self.connections.values_mut();
        let slowest = handshakes
            .filter_map(|connection| match connection.phase {
                Phase::Handshake(since) => Some((since, connection)),
                _ => None,
            })
            .min_by_key(|(since, _)| *since)
            .filter(|(since, _)| since.elapsed() >= LONG_HANDSHAKE);
        let Some((_, connection)) = slowest else {
            return false;
        };
        connection.stream.shutdown_both();
        connection.phase = Phase::ClosedForAnother;
        self.closed_for_others += 1;
        true
    }
}

impl Registered {
    /// The client has chosen its export.
    pub(crate) fn is_served(&self) {
        let mut open = self.stopping.open();
        let connection = open.connections.get_mut(&self.number);
        if let Some(connection) = connection
            && let Phase::Handshake(_) = connection.phase
        {
            connection.phase = Phase::Served;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut open = self.stopping.open();
        let ended = open.connections.remove(&self.number);
        if ended.is_some_and(|ended| ended.phase == Phase::ClosedForAnother) {
            open.closed_for_others -= 1;
        }
        drop(open);
        self.stopping.0.one_ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn pair() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::unix(ours).unwrap(), theirs)
    }

    #[test]
    fn a_blocked_read_ends_and_replies_still_go_out() {
        let stopping = Stopping::new().unwrap();
        let (stream, mut client) = pair();
        let registered = stopping.register(&stream, 1).unwrap();
        let (sender, reading) = mpsc::channel();
        let thread = thread::spawn(move || {
            let _registered = registered;
            sender.send(()).unwrap();
            let read = (&stream).read(&mut [0; 8]).unwrap();
            (&stream).write_all(b"reply").unwrap();
            read
        });
        reading.recv().unwrap();
        stopping.begin();
        assert_eq!(stopping.wait_for_all(Duration::from_secs(30)), 0);
        assert_eq!(thread.join().unwrap(), 0);
        let mut reply = [0; 5];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"reply");
    }

    #[test]
    fn whoever_comes_late_is_told_as_well() {
        let stopping = Stopping::new().unwrap();
        stopping.begin();
        let (stream, _client) = pair();
        let _registered = stopping.register(&stream, 1).unwrap();
        assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn a_client_that_takes_no_replies_is_closed_after_a_while_and_others_are_waited_for() {
        let stopping = Stopping::new().unwrap();
        let ((stream, _client), (working, _other)) = (pair(), pair());
        let registered = stopping.register(&stream, 2).unwrap();
        let at_work = stopping.register(&working, 2).unwrap();
        registered.is_served();
        at_work.is_served();
        stream.note_stuck(true);
        let thread = thread::spawn(move || {
            let _registered = registered;
            while (&stream).write(&[0; 4096]).is_ok() {}
            // The other has something to do until now.
            drop(at_work);
        });
        stopping.begin();
        assert_eq!(stopping.wait_for_all(Duration::from_millis(50)), 1);
        thread.join().unwrap();
        // It could have answered.
        assert!((&working).write(b"reply").is_ok());
    }

    #[test]
    fn a_handshake_whose_replies_are_not_taken_is_closed_after_a_while() {
        let stopping = Stopping::new().unwrap();
        let (stream, _client) = pair();
        let registered = stopping.register(&stream, 1).unwrap();
        let thread = thread::spawn(move || {
            let _registered = registered;
            while (&stream).write(&[0; 4096]).is_ok() {}
        });
        stopping.begin();
        assert_eq!(stopping.wait_for_all(Duration::from_millis(50)), 1);
        thread.join().unwrap();
    }

    #[test]
    fn who_has_long_chosen_nothing_makes_room() {
        let stopping = Stopping::new().unwrap();
        let pairs: Vec<_> = (0..4).map(|_| pair()).collect();
        let register = |number: usize| stopping.register(&pairs[number].0, 2);
        let (served, silent) = (register(0), register(1));
        served.as_ref().unwrap().is_served();
        // Nobody has taken long.
        assert!(register(2).is_none());
        let long_ago = Instant::now().checked_sub(LONG_HANDSHAKE).unwrap();
        for connection in stopping.open().connections.values_mut() {
            if let Phase::Handshake(since) = &mut connection.phase {
                *since = long_ago;
            }
        }
        let newcomer = register(2);
        assert!(newcomer.is_some());
        // The silent one's connection has ended, and it alone.
        assert_eq!((&pairs[1].1).read(&mut [0]).unwrap(), 0);
        pairs[0].1.set_nonblocking(true).unwrap();
        assert!((&pairs[0].1).read(&mut [0]).is_err());
        // It is gone already, as far as others are concerned.
        assert!(register(3).is_none());
        drop(silent);
        assert!(register(3).is_none());
        drop(newcomer);
        assert!(register(3).is_some());
    }

    #[test]
    fn there_is_a_limit_that_frees_itself() {
        let stopping = Stopping::new().unwrap();
        let (stream, _client) = pair();
        let first = stopping.register(&stream, 1);
        assert!(first.is_some());
        assert!(stopping.register(&stream, 1).is_none());
        drop(first);
        assert!(stopping.register(&stream, 1).is_some());
    }
}
