//! Everything a directed test needs, put together: an origin, a cache file, a clock, a log, holds,
//! and the engine between them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder::{Cache, CacheState, Config, Connection, Error, Volume};

use crate::cache_file::CacheFileDouble;
use crate::clock::ManualClock;
use crate::contract::{serving, without_origin};
use crate::holds::{DEADLINE, Hold, Holds};
use crate::log::MemoryLog;
use crate::origin::{OriginConnection, OriginDouble, OriginSettings};
use crate::pace::{Kind, Phase, SharedPace, Stop};
use crate::random::content;
use crate::violation::Violations;

/// The engine and all around it. Dropped, it checks that no contract was broken.
pub struct Rig {
    /// What is cached.
    pub origin: OriginDouble,
    /// Where slots are.
    pub file: CacheFileDouble,
    /// The engine's time.
    pub clock: Arc<ManualClock>,
    /// What the engine said.
    pub log: Arc<MemoryLog>,
    /// What the doubles saw.
    pub violations: Violations,
    /// The engine.
    pub cache: Arc<Cache>,
    /// The volume that all clients share.
    pub volume: Arc<Volume>,
    holds: Arc<Holds>,
}

/// A client's connection and the origin's end of it.
pub struct Client {
    /// Where requests go in.
    pub connection: Connection,
    /// Where they come out.
    pub origin: Arc<OriginConnection>,
}

impl Client {
    /// `length` bytes from `offset`.
    pub fn get(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0x77; length];
        self.serve(|connection| connection.read(offset, &mut bytes))?;
        Ok(bytes)
    }

    /// Writes without FUA.
    pub fn put(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.serve(|connection| connection.write(offset, data, false))
    }

    /// The same as [`Client::get`], if the cache has it; it must not ask the origin.
    pub fn try_get(&self, offset: u64, length: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = vec![0x77; length];
        let read = self.serve(|one| without_origin(|| one.try_read(offset, &mut bytes)))?;
        Ok(read.then_some(bytes))
    }

    /// The same as [`Client::put`], if the cache takes it; it must not ask the origin.
    pub fn try_put(&self, offset: u64, data: &[u8]) -> Result<bool, Error> {
        self.serve(|one| without_origin(|| one.try_write(offset, data, false)))
    }

    /// What the cache holds: lengths and states. It must not ask the origin.
    pub fn status(&self, offset: u64, length: u64) -> Vec<(u64, CacheState)> {
        let status =
            self.serve(|one| without_origin(|| one.cache_status(offset, length, usize::MAX)));
        let extents = status.expect("a range within the volume");
        extents
            .iter()
            .map(|extent| (extent.length, extent.state))
            .collect()
    }

    /// Flushes.
    pub fn flush(&self) -> Result<(), Error> {
        self.serve(Connection::flush)
    }

    /// Leaves, after which the origin's end must be quiet.
    pub fn leave(&self) -> Result<(), Error> {
        let left = self.serve(Connection::disconnect);
        self.origin.close();
        left
    }

    /// Makes any request as this client.
    pub fn serve<T>(&self, request: impl FnOnce(&Connection) -> T) -> T {
        serving(self.origin.number(), || request(&self.connection))
    }
}

impl Rig {
    /// An engine over an origin like that.
    pub fn new(config: Config, settings: OriginSettings) -> Self {
        Self::over(config, settings, |_| {})
    }

    /// The same, with the cache file prepared by `prepare`.
    pub fn over(
        config: Config,
        settings: OriginSettings,
        prepare: impl FnOnce(&CacheFileDouble),
    ) -> Self {
        let violations = Violations::default();
        let pace = SharedPace::default();
        let holds = Arc::new(Holds::default());
        pace.set(Arc::clone(&holds) as _);
        let origin = OriginDouble::new(settings, violations.clone(), pace.clone());
        let file = CacheFileDouble::new(violations.clone(), pace);
        prepare(&file);
        let clock = Arc::new(ManualClock::default());
        let log = Arc::new(MemoryLog::default());
        let clock_dyn = Arc::clone(&clock) as _;
        let cache = Cache::new(config, file.file(), clock_dyn, Arc::clone(&log) as _)
            .expect("a configuration that is right");
        let volume = cache.volume("volume");
        Self {
            origin,
            file,
            clock,
            log,
            violations,
            cache,
            volume,
            holds,
        }
    }

    /// A client.
    pub fn client(&self) -> Arc<Client> {
        self.client_over(self.origin.connect())
    }

    /// A client over that connection to the origin.
    pub fn client_over(&self, origin: Arc<OriginConnection>) -> Arc<Client> {
        let connection = self
            .volume
            .connect(Arc::clone(&origin) as _)
            .expect("a connection");
        Arc::new(Client { connection, origin })
    }

    /// Holds the calls that `filter` accepts.
    pub fn hold(&self, filter: impl Fn(&Stop) -> bool + Send + 'static) -> Hold {
        self.holds.hold(filter)
    }

    /// Holds the origin's calls of that kind, before or after their effect.
    pub fn hold_origin(&self, kind: Kind, phase: Phase) -> Hold {
        self.hold(move |stop| stop.is_origin(kind, phase))
    }

    /// Puts durable content on the origin, and gives it back.
    pub fn fill(&self, seed: u64, offset: u64, length: usize) -> Vec<u8> {
        let bytes = content(seed, offset, length);
        self.origin.disk().fill(offset, &bytes);
        bytes
    }

    /// `length` bytes that the origin holds durably.
    pub fn durable(&self, offset: u64, length: usize) -> Vec<u8> {
        self.origin.disk().durable(offset, length)
    }

    /// `length` bytes that the origin answers now.
    pub fn on_origin(&self, offset: u64, length: usize) -> Vec<u8> {
        self.origin.disk().current(offset, length)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.violations.assert_none();
        }
    }
}

/// Long enough for a wrong engine to be caught nearly always; a right one passes with any length.
const MOMENT: Duration = Duration::from_millis(30);

/// A request that runs beside the test.
pub struct Running<T> {
    result: Receiver<T>,
    thread: JoinHandle<()>,
}

/// Runs a request beside the test.
pub fn run<T: Send + 'static>(request: impl FnOnce() -> T + Send + 'static) -> Running<T> {
    let (sender, result) = channel();
    let thread = std::thread::spawn(move || {
        // The test may have given up waiting.
        let _ = sender.send(request());
    });
    Running { result, thread }
}

impl<T> Running<T> {
    /// Its result. Panics when it hangs or panics.
    pub fn finish(self) -> T {
        let result = match self.result.recv_timeout(DEADLINE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => panic!("a request hangs"),
            Err(RecvTimeoutError::Disconnected) => panic!("a request panicked"),
        };
        let _ = self.thread.join();
        result
    }

    /// Waits a moment, or until it ends: a chance to do wrong.
    pub fn give_a_chance(&self) {
        let start = Instant::now();
        while !self.thread.is_finished() && start.elapsed() < MOMENT {
            std::thread::yield_now();
        }
    }

    /// Panics if it ends within a moment. An engine that is right never does, however slow the
    /// machine; one that is wrong nearly always does.
    pub fn assert_waits(&self) {
        match self.result.recv_timeout(MOMENT) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => panic!("a request ended that had to wait"),
        }
    }
}

/// Waits until `condition` holds. Panics when it does not come to that.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "it never came to this: {what}");
        std::thread::yield_now();
    }
}
