//! The current session with the server, and its replacement after a loss.
//!
//! A thread of its own connects, for as long as requests wait for it: at once after a loss, then
//! after 50 ms and up to a second. What it finds is compared with what was found at first.

use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{io, thread};

use nbd_wire::RequestFormat;

use super::address::{NbdAddress, NbdServer};
use super::connect::Limits;
use super::export::Export;
use super::handshake::{Failure, negotiate};
use super::ledger::Ledger;
use super::report::Report;
use super::session::{Connection, Session};
use super::sync::{lock, wait_until};
use super::tls::Tls;
use super::transport::Channel;
use crate::reason::reason;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long that of a connection may take that is good to have.
const EXTRA_HANDSHAKE: Duration = Duration::from_secs(3);
/// How many connections are used where the server says multi-conn.
const CONNECTIONS: usize = 4;
/// A server that took fewer is asked for all of them again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(300);
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(1);
/// A session that lived so long is replaced at once.
const STABLE: Duration = Duration::from_secs(1);

/// How to reach the server.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) address: NbdAddress,
    pub(super) tls: Option<Tls>,
    /// For so long TCP goes on with what the server does not confirm.
    pub(super) unconfirmed: Duration,
}

impl Way {
    /// One connection, ready for requests.
    pub(super) fn connect(&self, limit: Duration) -> Result<(Connection, Export), Failure> {
        let limits = Limits {
            deadline: Instant::now() + limit,
            unconfirmed: self.unconfirmed,
        };
        let mut channel = Channel::connect(&self.address.server, limits)?;
        let export = negotiate(&mut channel, &self.address.export, self.tls.as_ref())?;
        let connection = Connection {
            dialect: export.dialect,
            halves: channel.split()?,
        };
        Ok((connection, export))
    }

    /// How many of the connections are worth using for large payloads at a time, if the server does several requests of
    /// one at once.
    ///
    /// Through memory a connection keeps two processors busy, one at either end. More than there are processors for
    /// only spread the payloads over more of the server's threads, each of which has a buffer of its own: the pages of
    /// those cost more than what is in them.
    fn worth_for_large(&self, connections: usize) -> usize {
        match (&self.address.server, &self.tls) {
            (NbdServer::Unix(_), None) => thread::available_parallelism()
                .map_or(connections, |processors| processors.get().div_ceil(2)),
            _ => connections,
        }
    }

    /// The first connection to a server.
    pub(super) fn connect_first(&self) -> Result<(Connection, Export), Failure> {
        self.connect(HANDSHAKE)
    }
}

/// How many connections the server took when it was last asked for more.
#[derive(Clone, Copy, Debug)]
struct Taken {
    count: usize,
    when: Instant,
}

impl Taken {
    fn new(count: usize) -> Self {
        Self {
            count,
            when: Instant::now(),
        }
    }

    /// How many are worth trying for, at least one: all again after a while, since it may just have been busy.
    fn worth_trying(self, now: Instant) -> usize {
        match now.saturating_duration_since(self.when) >= ASK_AGAIN {
            true => CONNECTIONS,
            false => self.count.max(1),
        }
    }
}

#[derive(Debug)]
pub(super) struct Pool {
    way: Way,
    read_only: bool,
    timeout: Duration,
    promised: Export,
    ledger: Arc<Ledger>,
    report: Arc<Report>,
    /// How many connections the server was found to take.
    taken: Mutex<Taken>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Arc<Session>>,
    is_connecting: bool,
    /// Threads that wait for a session.
    waiters: usize,
    delay: Duration,
    last_attempt: Option<Instant>,
    last_error: String,
    /// What is other than it was of the export, once that was told.
    told_change: Option<String>,
}

impl Pool {
    /// With the connection by which the export was found.
    pub(super) fn new(
        way: Way,
        (read_only, timeout): (bool, Duration),
        report: Report,
        (connection, export): (Connection, Export),
    ) -> io::Result<Arc<Self>> {
        let pool = Self {
            way,
            read_only,
            timeout,
            promised: export.clone(),
            ledger: Arc::default(),
            report: Arc::new(report),
            taken: Mutex::new(Taken::new(CONNECTIONS)),
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        let session = pool.begin(connection, &export)?;
        // One that the server does not take now is not tried for again soon: it may have waited for it
        // in vain.
        *lock(&pool.taken) = Taken::new(session.connections());
        lock(&pool.state).session = Some(session);
        Ok(Arc::new(pool))
    }

    pub(super) fn export(&self) -> &Export {
        &self.promised
    }

    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// When a request that begins now is given up.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// The error of a request whose deadline has passed.
    pub(super) fn too_late(&self) -> io::Error {
        let state = lock(&self.state);
        let is_live = state.session.as_ref().is_some_and(|it| it.is_live());
        let why = if is_live || state.last_error.is_empty() {
            "no answer"
        } else {
            &state.last_error
        };
        let message = format!(
            "{}: given up after {} s: {why}",
            self.report.address(),
            self.timeout.as_secs_f64()
        );
        io::Error::new(io::ErrorKind::TimedOut, message)
    }

    /// A session that lives, or the error of a request that cannot have one until its deadline.
    pub(super) fn session(self: &Arc<Self>, deadline: Instant) -> io::Result<Arc<Session>> {
        let mut state = lock(&self.state);
        loop {
            if Instant::now() >= deadline {
                drop(state);
                return Err(self.too_late());
            }
            if let Some(session) = &state.session
                && session.is_live()
            {
                return Ok(Arc::clone(session));
            }
            if !state.is_connecting {
                self.start_connecting(&mut state);
            }
            let until = match state.is_connecting {
                true => deadline,
                false => deadline.min(Instant::now() + state.delay),
            };
            state.waiters += 1;
            state = wait_until(&self.changed, state, until);
            state.waiters -= 1;
        }
    }

    /// Has a thread connect. Without one to be had, it is tried again after the delay.
    fn start_connecting(self: &Arc<Self>, state: &mut State) {
        if let Some(lost) = state.session.take() {
            state.last_error = lost.reason();
            state.delay = match lost.started().elapsed() >= STABLE {
                true => Duration::ZERO,
                false => next_delay(state.delay),
            };
        }
        let pool = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name("nbd-connect".to_owned())
            .spawn(move || pool.connect_again());
        match spawned {
            Ok(_) => state.is_connecting = true,
            Err(error) => {
                state.last_error = format!("a thread cannot be started: {error}");
                state.delay = next_delay(state.delay);
            }
        }
    }

    /// Connects until it succeeds, or nobody waits for it any more.
    fn connect_again(&self) {
        /// However the thread ends, the next request may start another.
        struct End<'a>(&'a Pool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                lock(&self.0.state).is_connecting = false;
                self.0.changed.notify_all();
            }
        }
        let _end = End(self);
        while self.wait_for_turn() {
            let attempt = self.attempt();
            let mut state = lock(&self.state);
            match attempt {
                Ok(session) => {
                    state.session = Some(session);
                    return;
                }
                Err(reason) => {
                    state.last_error = reason;
                    state.delay = next_delay(state.delay);
                }
            }
        }
    }

    /// Waits out the delay. False if nobody waits for a session any more.
    fn wait_for_turn(&self) -> bool {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let due = state.last_attempt.map_or(now, |last| last + state.delay);
            if due <= now {
                state.last_attempt = Some(now);
                return state.waiters > 0;
            }
            if state.waiters == 0 {
                return false;
            }
            state = wait_until(&self.changed, state, due);
        }
    }

    /// The error is why there is no new session now; later there may be.
    fn attempt(&self) -> Result<Arc<Session>, String> {
        let (connection, export) = self
            .way
            .connect(HANDSHAKE)
            .map_err(|failure| failure.to_string())?;
        let broken = self.promised.broken_promise(&export, self.read_only);
        self.tell_change(broken.as_ref());
        if let Some(reason) = broken {
            return Err(changed(&reason));
        }
        let session = self
            .begin(connection, &export)
            .map_err(|error| reason(&error))?;
        self.report.back();
        Ok(session)
    }

    /// Tells what is other than it was, once until it is as it was or other again.
    fn tell_change(&self, broken: Option<&String>) {
        let mut state = lock(&self.state);
        if state.told_change.as_ref() == broken {
            return;
        }
        state.told_change = broken.cloned();
        drop(state);
        if let Some(reason) = broken {
            self.report.changed(&changed(reason));
        }
    }

    /// Makes the other connections, where there are to be any, and begins the session.
    fn begin(&self, first: Connection, export: &Export) -> io::Result<Arc<Session>> {
        let mut connections = vec![first];
        if export.is_multi_conn() {
            connections.extend(self.connect_extra(export));
        }
        let dialect = match (export.dialect.format, export.dialect.is_structured) {
            (RequestFormat::Extended, _) => "extended headers",
            (RequestFormat::Compact, true) => "structured replies",
            (RequestFormat::Compact, false) => "simple replies",
        };
        let count = connections.len();
        self.report
            .note(&format!("connections: {count}, {dialect}"));
        let connections = (connections, self.way.worth_for_large(count));
        Session::start(connections, &self.ledger, &self.report, self.timeout / 2)
    }

    /// Those that the server takes.
    fn connect_extra(&self, export: &Export) -> Vec<Connection> {
        let count = lock(&self.taken).worth_trying(Instant::now()) - 1;
        let connect = || self.way.connect(EXTRA_HANDSHAKE);
        let began = Instant::now();
        let results: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .filter_map(|_| thread::Builder::new().spawn_scoped(scope, connect).ok())
                .collect();
            threads
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        let mut connections = Vec::new();
        for result in results {
            match result {
                Ok(Ok((connection, same))) if is_same(export, &same) => {
                    connections.push(connection)
                }
                Ok(Err(failure)) => self
                    .report
                    .note(&format!("a further connection: {failure}")),
                _ => {}
            }
        }
        if began.elapsed() >= EXTRA_HANDSHAKE {
            // Those that were waited for in vain would be again, each time.
            *lock(&self.taken) = Taken::new(connections.len() + 1);
        }
        connections
    }
}

fn changed(reason: &str) -> String {
    format!(
        "the export is not what it was: {reason}; it is used again once it is as it was, \
         or as it is after a new start"
    )
}

/// Whether two connections can be used as one.
fn is_same(first: &Export, second: &Export) -> bool {
    first.size_bytes == second.size_bytes
        && first.flags == second.flags
        && first.limits == second.limits
        && first.dialect == second.dialect
}

fn next_delay(delay: Duration) -> Duration {
    (delay * 2).clamp(FIRST_DELAY, LAST_DELAY)
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(session) = &lock(&self.state).session {
            session.disconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_took_fewer_connections_is_asked_for_all_again_after_a_while() {
        let taken = Taken::new(1);
        assert_eq!(taken.worth_trying(taken.when), 1);
        assert_eq!(taken.worth_trying(taken.when + ASK_AGAIN), CONNECTIONS);
    }
}
