//! The cache: one cache file's slots, shared by all volumes.

use std::sync::Arc;
use std::time::Duration;

use crate::stats::StatsSnapshot;
use crate::volume::Volume;
use crate::{CacheFile, Clock, Config, Error, Log};

/// One cache file and the volumes that share it.
pub struct Cache {}

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
        _config: Config,
        _file: Box<dyn CacheFile>,
        _clock: Arc<dyn Clock>,
        _log: Arc<dyn Log>,
    ) -> Result<Arc<Self>, Error> {
        unimplemented!()
    }

    /// What the cache was told.
    pub fn config(&self) -> &Config {
        unimplemented!()
    }

    /// The volume of that name, made if there is none.
    pub fn volume(self: &Arc<Self>, _name: &str) -> Arc<Volume> {
        unimplemented!()
    }

    /// A volume that nobody else finds and that ends with its last connection.
    pub fn private_volume(self: &Arc<Self>, _name: &str) -> Arc<Volume> {
        unimplemented!()
    }

    /// For a front end with `Config::background`: waits until there is work (reclaim or age) or
    /// until [`Cache::stop`], for at most `timeout`, and does it. False once stopped.
    pub fn maintain(&self, _timeout: Duration) -> bool {
        unimplemented!()
    }

    /// Ends [`Cache::maintain`] for good. Connections still work.
    pub fn stop(&self) {
        unimplemented!()
    }

    /// The figures an operator needs.
    pub fn stats(&self) -> StatsSnapshot {
        unimplemented!()
    }

    /// What is dirty now, by volume. After every connection has gone, this is what was not saved.
    pub fn leftovers(&self) -> Vec<Leftover> {
        unimplemented!()
    }
}
