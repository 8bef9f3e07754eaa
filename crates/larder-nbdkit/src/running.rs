//! What exists once the parameters are known: the cache, its threads, and the names seen.

use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;

use larder::{Cache, SystemClock, Volume, Writeback};
use larder_frontend::report::{found, plain, stats_line};
use larder_frontend::{CacheDirectory, CacheFile, Exports, Fate, LockText, Maintenance, Settings};
use nbdkit_filter::{Error, Result, log};

use crate::debug_verbose;
use crate::identity::{SeenNames, volume_name};
use crate::report::{self, NbdkitLog, failed};

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
    /// Where the cache survives, if it does.
    kept: Option<Kept>,
}

/// A cache directory that is in use.
struct Kept {
    place: String,
    lock_text: LockText,
}

impl Running {
    /// Makes or opens the cache. With `background`, [`Running::start`] will be called.
    pub(crate) fn new(mut settings: Settings, background: bool) -> Result<Self> {
        settings.config.background = background;
        let (cache, kept) = match settings.directory.clone() {
            Some(path) => {
                let (cache, kept) = open(&path, &mut settings)?;
                (cache, Some(kept))
            }
            None => (make(&mut settings)?, None),
        };
        Ok(Self {
            cache,
            exports: settings.exports,
            seen_names: SeenNames::default(),
            maintenance: Maintenance::default(),
            kept,
        })
    }

    /// Starts background work, where there is to be any.
    pub(crate) fn start(&self) -> Result<()> {
        if let Some(kept) = &self.kept
            && let Err(error) = kept.lock_text.renew()
        {
            // It only tells others who has the directory.
            report::warning(&format!("{}: the lock's text: {error}", kept.place));
        }
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

    /// Ends background work, closes a directory, and tells what there is to tell. Every connection is gone.
    pub(crate) fn end(&self) {
        self.maintenance.stop(&self.cache, &NbdkitLog);
        if debug_verbose() {
            let stats = stats_line(&self.cache.stats(), self.cache.config());
            log::debug(&format!("cache: {stats}"));
        }
        let leftovers = self.cache.leftovers();
        // Whether they are kept depends on it.
        let closed = self.cache.close();
        let fate = Fate::of(&self.cache);
        if let Some(message) = fate.warning(&leftovers, ORIGIN) {
            report::warning(&message);
        }
        for message in fate.errors(&leftovers, ORIGIN) {
            log::error(&format!("cache: {message}"));
        }
        if let Err(error) = closed {
            log::error(&format!("cache: {}", plain(&error)));
        }
    }
}

/// Makes a cache that ends with the process.
fn make(settings: &mut Settings) -> Result<Arc<Cache>> {
    let made = CacheFile::create()
        .map_err(|error| Error::new(error.errno(), format!("cache: {error}")))?;
    settings
        .fit_file_system(made.file_system_block_bytes)
        .map_err(|error| Error::invalid(error.to_string()))?;
    let config = settings.config.clone();
    log::debug(&format!(
        "cache: cache file in {}, block size {}, mode {:?}, background {}",
        made.directory.display(),
        config.block_bytes,
        config.mode,
        config.background
    ));
    let clock = Arc::new(SystemClock::default());
    Cache::new(config, Box::new(made.file), clock, Arc::new(NbdkitLog)).map_err(failed)
}

/// Opens or makes a cache that survives the process.
fn open(path: &Path, settings: &mut Settings) -> Result<(Arc<Cache>, Kept)> {
    let invalid = |error: larder_frontend::ParameterError| Error::invalid(error.to_string());
    let directory = CacheDirectory::open(path).map_err(invalid)?;
    settings
        .fit_file_system(directory.file_system_block_bytes)
        .map_err(invalid)?;
    let home = CacheDirectory::home(path, Arc::new(directory.medium), settings).map_err(invalid)?;
    let (medium, place) = (Arc::clone(&home.medium), home.path.clone());
    let config = settings.config.clone();
    let clock = Arc::new(SystemClock::default());
    let cache = Cache::open(config, home, clock, Arc::new(NbdkitLog))
        .map_err(|error| Error::new(error.errno(), format!("cache: {}", plain(&error))))?;
    let config = cache.config();
    log::debug(&format!(
        "cache: cache directory {place} ({}), block size {}, mode {:?}, flush to {}{}, background {}",
        cache.found().map(found).unwrap_or_default(),
        config.block_bytes,
        config.mode,
        config.flush_to.name(),
        match config.writeback {
            Writeback::Unordered => "",
            Writeback::Ordered => ", in order",
        },
        config.background
    ));
    if let Some(warning) = settings.warning_of_block(config.block_bytes) {
        report::warning(&warning);
    }
    let lock_text = LockText::of(&*medium)
        .map_err(|error| Error::invalid(format!("cache: {place}: the lock's text: {error}")))?;
    Ok((cache, Kept { place, lock_text }))
}
