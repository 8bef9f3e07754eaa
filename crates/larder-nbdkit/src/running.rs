//! What exists once the parameters are known: the cache, its thread, and the names seen.

use std::ffi::CStr;
use std::sync::Arc;

use larder::{Cache, SystemClock, Volume};
use larder_frontend::report::{discarded, lost, stats_line};
use larder_frontend::{CacheFile, Exports, Maintenance, Settings};
use nbdkit_filter::{Error, Result, log};

use crate::debug_verbose;
use crate::identity::{SeenNames, volume_name};
use crate::report::{self, NbdkitLog};

/// What this front end calls the origin.
const ORIGIN: &str = "the plugin";

/// The cache and what belongs to it.
pub(crate) struct Running {
    /// The engine.
    pub(crate) cache: Arc<Cache>,
    /// How a volume is known.
    pub(crate) exports: Exports,
    /// The export names seen so far.
    pub(crate) seen_names: SeenNames,
    maintenance: Maintenance,
}

impl Running {
    /// Makes the cache file and the cache. With `background`, [`Running::start`] will be called.
    pub(crate) fn new(mut settings: Settings, background: bool) -> Result<Self> {
        let made = CacheFile::create()
            .map_err(|error| Error::new(error.errno(), format!("cache: {error}")))?;
        settings
            .fit_file_system(made.file_system_block_bytes)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let mut config = settings.config;
        config.background = background;
        log::debug(&format!(
            "cache: cache file in {}, block size {}, mode {:?}, background {background}",
            made.directory.display(),
            config.block_bytes,
            config.mode
        ));
        let clock = Arc::new(SystemClock::default());
        let cache = Cache::new(config, Box::new(made.file), clock, Arc::new(NbdkitLog))
            .map_err(|error| Error::new(error.errno(), format!("cache: {error}")))?;
        Ok(Self {
            cache,
            exports: settings.exports,
            seen_names: SeenNames::default(),
            maintenance: Maintenance::default(),
        })
    }

    /// Starts background work, where there is to be any.
    pub(crate) fn start(&self) -> Result<()> {
        if !self.cache.config().background {
            return Ok(());
        }
        self.maintenance
            .start(&self.cache)
            .map_err(|error| Error::new(0, format!("cache: cannot start a thread: {error}")))
    }

    /// The volume of a connection to the export `name`.
    pub(crate) fn volume(&self, name: &CStr) -> Arc<Volume> {
        let name = volume_name(name);
        match self.exports {
            Exports::Separate => self.cache.volume(&name),
            Exports::Shared => self.cache.volume(""),
            Exports::Connection => self.cache.private_volume(&name),
        }
    }

    /// Ends background work and tells what there is to tell. Every connection is gone.
    pub(crate) fn end(&self) {
        self.maintenance.stop(&self.cache, &NbdkitLog);
        if debug_verbose() {
            let stats = stats_line(&self.cache.stats());
            log::debug(&format!("cache: {stats}"));
        }
        let (mode, leftovers) = (self.cache.config().mode, self.cache.leftovers());
        if let Some(message) = discarded(mode, &leftovers, ORIGIN) {
            report::warning(&message);
        }
        for message in lost(mode, &leftovers, ORIGIN) {
            log::error(&format!("cache: {message}"));
        }
    }
}
