//! An engine whose cache lives in a directory of a simulated machine, for directed tests of what is found again.

use std::sync::Arc;

use larder::{Cache, CacheHome, Config, Error, HomeSizes, Volume};

use crate::clock::ManualClock;
use crate::crash::{Image, Machine};
use crate::log::MemoryLog;
use crate::origin::{OriginDouble, OriginSettings};
use crate::pace::SharedPace;
use crate::rig::Client;
use crate::violation::Violations;

/// A machine with a cache directory, beside an origin that outlives it.
pub struct Survivor {
    /// What is cached.
    pub origin: OriginDouble,
    /// Where the directory is.
    pub machine: Machine,
    /// What the doubles saw.
    pub violations: Violations,
}

/// One life of the cache.
pub struct Life {
    /// The engine.
    pub cache: Arc<Cache>,
    /// The volume that all clients share.
    pub volume: Arc<Volume>,
    /// What the engine said.
    pub log: Arc<MemoryLog>,
    /// The engine's time.
    pub clock: Arc<ManualClock>,
    origin: OriginDouble,
}

impl Survivor {
    /// An empty directory beside an origin like that.
    pub fn new(settings: OriginSettings) -> Self {
        let violations = Violations::default();
        let pace = SharedPace::default();
        Self {
            origin: OriginDouble::new(settings, violations.clone(), pace),
            machine: Machine::new(Image::default(), 1),
            violations,
        }
    }

    /// Starts the cache.
    pub fn try_start(&self, config: Config, block_is_given: bool) -> Result<Life, Error> {
        self.try_start_with(config, block_is_given, None)
    }

    /// Starts it with parts of these sizes.
    pub fn try_start_with(
        &self,
        config: Config,
        block_is_given: bool,
        sizes: Option<HomeSizes>,
    ) -> Result<Life, Error> {
        let log = Arc::new(MemoryLog::default());
        let home = CacheHome {
            medium: Arc::new(self.machine.medium()),
            path: "/cache".to_owned(),
            block_is_given,
            uuid_bits: 0x1234_5678,
            lock_text: "pid 7".to_owned(),
            sizes,
        };
        let clock = Arc::new(ManualClock::default());
        let clock_dyn = Arc::clone(&clock) as _;
        let cache = Cache::open(config, home, clock_dyn, Arc::clone(&log) as _)?;
        let volume = cache.volume("volume");
        Ok(Life {
            cache,
            volume,
            log,
            clock,
            origin: self.origin.clone(),
        })
    }

    /// Starts the cache, which must work.
    pub fn start(&self, config: &Config) -> Life {
        self.try_start(config.clone(), false)
            .expect("a directory that can be used")
    }

    /// Power fails, for the machine and for the origin, and comes back: nothing is there but what was synced. Clients are dropped when it has failed.
    pub fn power_cut(&mut self, life: Life, clients: Vec<Arc<Client>>) {
        let left = self.machine.durable();
        self.kill(life, clients);
        self.machine = Machine::new(left, 1);
    }

    /// The process is killed: what it has written to files is there, but power fails for the origin.
    pub fn kill(&self, life: Life, clients: Vec<Arc<Client>>) {
        self.origin.disk().crash(None);
        self.machine.kill();
        drop((clients, life));
        self.origin.disk().restart();
    }
}

impl Life {
    /// A client of the volume.
    pub fn client(&self) -> Arc<Client> {
        self.client_of(&self.volume)
    }

    /// A client of another volume over the same origin.
    pub fn client_of(&self, volume: &Arc<Volume>) -> Arc<Client> {
        let origin = self.origin.connect();
        let connection = volume.connect(Arc::clone(&origin) as _);
        Arc::new(Client {
            connection: connection.expect("a connection"),
            origin,
        })
    }

    /// The clean end, after all clients have left.
    pub fn end(self) {
        self.cache.stop();
        self.cache.close().expect("a clean end");
    }
}

impl Drop for Survivor {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.violations.assert_none();
        }
    }
}
