//! The cache: one cache file's slots, shared by all volumes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stats::StatsSnapshot;
use crate::store::Store;
use crate::volume::Volume;
use crate::{CacheFile, Clock, Config, Error, Log};
use crate::{reclaim, sync, unwritten};

/// How long background work rests after a failure, unless its caller asks for less.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

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
        Ok(Arc::new(Self {
            store: Arc::new(Store::new(config, file, clock, log)),
            volumes: Mutex::default(),
        }))
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

    /// Ends [`Cache::maintain`] for good. Connections still work.
    pub fn stop(&self) {
        self.store.maintenance.stop();
    }

    /// The figures an operator needs.
    pub fn stats(&self) -> StatsSnapshot {
        let volumes = self.store.volumes();
        let oldest = volumes
            .iter()
            .filter_map(|volume| volume.oldest_dirty())
            .min();
        let age = oldest.map_or(Duration::ZERO, |oldest| self.store.clock.since(oldest));
        StatsSnapshot {
            oldest_dirty_ms: age.as_millis() as u64,
            slots_used: self.store.slots.usage().used,
            readahead_used_bytes: sync::lock(&self.store.eviction).used_ahead()
                * self.store.config.block_bytes,
            ..self.store.stats.snapshot()
        }
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
}
