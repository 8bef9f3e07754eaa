//! Accepting clients: one thread for all listeners, and one for each connection.
//!
//! The loop ends as soon as the end begins: its poll watches for that too. When the system has no
//! descriptors or memory left it rests a little instead of asking again at once.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use larder::Log;
use larder_frontend::report::reason;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::listen::Listener;
use crate::protocol::Service;
use crate::rate_limit::RateLimit;
use crate::stopping::Stopping;
use crate::stream::Stream;
use crate::traffic::Traffic;

/// Clients taken from one listener before the others are looked at.
const CLIENTS_AT_ONCE: usize = 64;
/// How long to rest when the system has nothing left for a connection.
const REST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// What the accepting thread works with.
pub(crate) struct Acceptor {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) service: Arc<Service>,
    pub(crate) stopping: Stopping,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) max_connections: usize,
    pub(crate) messages: Messages,
    /// What all clients send and are sent.
    pub(crate) traffic: Arc<Traffic>,
}

/// What is told about clients that are not served.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    too_many: RateLimit,
    failed: RateLimit,
}

impl Acceptor {
    /// Accepts clients until the end begins. The listeners are closed then.
    pub(crate) fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name("larder-accept".to_owned())
            .spawn(move || self.run())
    }

    fn run(&self) {
        let mut is_resting = false;
        while !self.stopping.is_stopping() {
            is_resting = match self.wait(is_resting) {
                Ok(ready) => ready
                    .into_iter()
                    .any(|listener| !self.accept_from(listener)),
                Err(errno) => {
                    self.tell_failure(&errno.into());
                    true
                }
            };
        }
    }

    /// The listeners that have clients. While resting, none is asked.
    fn wait(&self, is_resting: bool) -> Result<Vec<&Listener>, Errno> {
        let stop = self.stopping.event();
        let mut watched = vec![PollFd::from_borrowed_fd(stop, PollFlags::IN)];
        if !is_resting {
            let listeners = self.listeners.iter();
            watched.extend(listeners.map(|one| PollFd::new(one, PollFlags::IN)));
        }
        match poll(&mut watched, is_resting.then_some(&REST)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let ready = self.listeners.iter().zip(&watched[1..]);
        let ready = ready.filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(listener, _)| listener).collect())
    }

    /// Takes the clients that wait. False if it is better to rest.
    fn accept_from(&self, listener: &Listener) -> bool {
        for _ in 0..CLIENTS_AT_ONCE {
            match listener.accept() {
                Ok(stream) => self.admit(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    self.tell_failure(&error);
                    return false;
                }
            }
        }
        true
    }

    /// Serves a client on a thread of its own, if there is room for one more.
    fn admit(&self, stream: Stream) {
        let Some(registered) = self.stopping.register(&stream, self.max_connections) else {
            let message = format!(
                "{}: closed at once, since there are {} connections already (max-connections)",
                stream.peer(),
                self.max_connections
            );
            if let Some(message) = self.messages.too_many.pass(Instant::now(), message) {
                self.log.warning(&message);
            }
            return;
        };
        stream.count_in(&self.traffic);
        let service = Arc::clone(&self.service);
        let spawned = thread::Builder::new()
            .name("larder-client".to_owned())
            .spawn(move || {
                service.serve(stream, &registered);
            });
        if let Err(error) = spawned {
            self.tell_failure(&error);
        }
    }

    fn tell_failure(&self, error: &io::Error) {
        let message = format!("a client could not be accepted: {}", reason(error));
        if let Some(message) = self.messages.failed.pass(Instant::now(), message) {
            self.log.error(&message);
        }
    }
}

/// Whether the error concerns a connection that was lost before it was accepted, and nobody else
/// (accept(2), "Error handling").
fn is_of_one_client(error: &io::Error) -> bool {
    [
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NONET,
        Errno::CONNRESET,
        Errno::NOTCONN,
        Errno::PERM,
    ]
    .iter()
    .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Lets this process have as many descriptors as it may: each connection needs one, and origins need more. Returns how many it might have
/// before, if that is fewer.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current.filter(|_| limit.current != limit.maximum);
    limit.current = limit.maximum;
    // Without it, there is room for fewer connections, and that is told when it matters.
    let _ = setrlimit(Resource::Nofile, limit);
    before
}

/// How long clients may take for their last replies, when a request to the origin may take `timeout`.
pub(crate) fn patience(timeout: Duration) -> Duration {
    timeout + Duration::from_secs(10)
}

#[cfg(test)]
mod tests;
