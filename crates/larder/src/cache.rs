//! The cache: one cache file's slots, shared by all volumes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stats::StatsSnapshot;
use crate::store::Store;
use crate::survival::{CacheHome, Found, Survival};
use crate::volume::Volume;
use crate::{CacheFile, Clock, Config, Error, ErrorKind, FlushTo, Log};
use crate::{reclaim, survival, sync, unwritten};

/// How long background work rests after a failure, unless its caller asks for less.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// How long the directory rests between two looks, at most.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// From so many volumes on, empty ones are forgotten.
const MANY_VOLUMES: usize = 64;

/// One cache file and the volumes that share it.
pub struct Cache {
    store: Arc<Store>,
    volumes: Mutex<HashMap<String, Arc<Volume>>>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("config", &self.store.config)
            .finish_non_exhaustive()
    }
}

/// Dirty data that never reached the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The volume's name.
    pub volume: String,
    /// Byte ranges, in order: offset and length.
    pub ranges: Vec<(u64, u64)>,
}

impl Cache {
    /// Makes an empty cache. `file` is empty and holds nothing else.
    pub fn new(
        config: Config,
        file: Box<dyn CacheFile>,
        clock: Arc<dyn Clock>,
        log: Arc<dyn Log>,
    ) -> Result<Arc<Self>, Error> {
        config.check()?;
        if config.flush_to == FlushTo::Cache {
            let message = "cache-flush=cache needs a cache directory (cache-dir)";
            return Err(Error::new(ErrorKind::Config, message));
        }
        Ok(Arc::new(Self {
            store: Arc::new(Store::new(config, file, clock, log)),
            volumes: Mutex::default(),
        }))
    }

    /// Opens the cache that lives in a directory, or makes one there. What volumes it had are found again as they are asked for; what is
    /// cached of them is kept if [`Origin::version`] and [`Config::cache_id`] show that it is still what the origin has.
    ///
    /// [`Config::block_bytes`] is that of the directory afterwards, unless one was given.
    ///
    /// [`Origin::version`]: crate::Origin::version
    pub fn open(
        mut config: Config,
        home: CacheHome,
        clock: Arc<dyn Clock>,
        log: Arc<dyn Log>,
    ) -> Result<Arc<Self>, Error> {
        let opening = survival::open(&mut config, home)?;
        let survival = Some(opening.survival);
        let store = Store::with_slots(config, opening.slots, survival, clock, log);
        let store = Arc::new(store);
        let found = survival::load(&store, &opening.loading)?;
        let named = |volume: Arc<Volume>| (volume.name().to_owned(), volume);
        Ok(Arc::new(Self {
            store,
            volumes: Mutex::new(found.into_iter().map(named).collect()),
        }))
    }

    /// What was found in the cache's directory; nothing where it has none.
    pub fn found(&self) -> Option<Found> {
        self.store.survival.as_ref().map(Survival::found)
    }

    /// What the cache was told.
    pub fn config(&self) -> &Config {
        &self.store.config
    }

    /// The volume of that name, made if there is none.
    pub fn volume(self: &Arc<Self>, name: &str) -> Arc<Volume> {
        let mut volumes = sync::lock(&self.volumes);
        if let Some(volume) = volumes.get(name) {
            return Arc::clone(volume);
        }
        if volumes.len() >= MANY_VOLUMES {
            // Clients may invent names; what nobody uses and holds nothing is forgotten.
            volumes.retain(|_, volume| Arc::strong_count(volume) > 1 || !volume.is_empty());
        }
        let volume = Volume::new(Arc::clone(&self.store), name, false);
        volumes.insert(name.to_owned(), Arc::clone(&volume));
        volume
    }

    /// A volume that nobody else finds and that ends with its last connection.
    pub fn private_volume(self: &Arc<Self>, name: &str) -> Arc<Volume> {
        Volume::new(Arc::clone(&self.store), name, true)
    }

    /// For a front end with `Config::background`: waits until there is work (reclaim or age) or
    /// until [`Cache::stop`], for at most `timeout`, and does it. False once stopped.
    pub fn maintain(&self, timeout: Duration) -> bool {
        if !self.store.maintenance.wait(timeout) {
            return false;
        }
        // A panic has poisoned its volume; the others still want this thread.
        let maintained = catch_unwind(AssertUnwindSafe(|| reclaim::maintain(&self.store)));
        if maintained.unwrap_or(false) {
            return true;
        }
        self.store
            .maintenance
            .rest(timeout.min(PAUSE_AFTER_FAILURE))
    }

    /// For a front end with threads: looks after the cache's directory, for at most `timeout` and until [`Cache::stop`]. False once
    /// stopped, and where there is no directory.
    pub fn maintain_medium(&self, timeout: Duration) -> bool {
        let Some(survival) = &self.store.survival else {
            return false;
        };
        if !survival.maintenance.wait(timeout.min(LONGEST_REST)) {
            return false;
        }
        let maintained = catch_unwind(AssertUnwindSafe(|| {
            survival::maintain(&self.store, survival)
        }));
        if maintained.unwrap_or(false) {
            return true;
        }
        survival.maintenance.rest(timeout.min(LONGEST_REST))
    }

    /// Ends [`Cache::maintain`] and [`Cache::maintain_medium`] for good. Connections still work.
    pub fn stop(&self) {
        self.store.maintenance.stop();
        if let Some(survival) = &self.store.survival {
            survival.maintenance.stop();
        }
    }

    /// Ends the use of the cache's directory, so that the next start finds what is cached. Called when every connection has gone and
    /// the threads that maintained the cache have ended; does nothing where there is no directory, nor a second time.
    pub fn close(&self) -> Result<(), Error> {
        match &self.store.survival {
            Some(survival) => survival::close(&self.store, survival),
            None => Ok(()),
        }
    }

    /// The figures an operator needs.
    pub fn stats(&self) -> StatsSnapshot {
        let volumes = self.store.volumes();
        let oldest = volumes
            .iter()
            .filter_map(|volume| volume.oldest_dirty())
            .min();
        let age = oldest.map_or(Duration::ZERO, |oldest| self.store.clock.since(oldest));
        let figures = self.store.stats.snapshot();
        let queued = volumes.iter().filter_map(|volume| volume.queue.get());
        let figures = queued.fold(figures, |figures, queue| queue.count_in(figures));
        StatsSnapshot {
            oldest_dirty_ms: age.as_millis() as u64,
            slots_used: self.store.slots.usage().used,
            readahead_used_bytes: sync::lock(&self.store.eviction).used_ahead()
                * self.store.config.block_bytes,
            ..figures
        }
    }

    /// Whether all that [`Cache::leftovers`] tells is in the cache's directory, where the next start goes on with it: after a [`Cache::close`] that
    /// has left it there.
    pub fn keeps_leftovers(&self) -> bool {
        let survival = self.store.survival.as_ref();
        survival.is_some_and(Survival::keeps_leftovers)
    }

    /// What is dirty now, by volume. After every connection has gone, this is what was not saved.
    pub fn leftovers(&self) -> Vec<Leftover> {
        let volumes = self.store.volumes().into_iter();
        let leftovers = volumes.map(|volume| Leftover {
            volume: volume.name().to_owned(),
            ranges: unwritten::ranges(&volume),
        });
        leftovers
            .filter(|leftover| !leftover.ranges.is_empty())
            .collect()
    }

    /// What origins have acknowledged since their last flush, by volume, where the cache keeps account of it: in writethrough mode, and
    /// with a directory.
    pub fn unflushed(&self) -> Vec<Leftover> {
        let volumes = self.store.volumes().into_iter();
        let unflushed = volumes.map(|volume| Leftover {
            volume: volume.name().to_owned(),
            ranges: unwritten::unflushed_ranges(&volume),
        });
        unflushed
            .filter(|leftover| !leftover.ranges.is_empty())
            .collect()
    }
}
