//! What exists once the parameters are known: the cache, its thread, and the names seen.

use std::env;
use std::ffi::CStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder::cache_file::TemporaryFile;
use larder::{Cache, SystemClock, Volume};
use nbdkit_filter::{Error, Result, log};

use crate::debug_verbose;
use crate::identity::{Exports, SeenNames, volume_name};
use crate::maintenance::Maintenance;
use crate::parameters::Settings;
use crate::report::{self, NbdkitLog};

/// Where the cache file goes when TMPDIR says nothing.
const DEFAULT_DIRECTORY: &str = "/var/tmp";

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
        let directory = directory();
        let refused = |error: io::Error| {
            let told = no_cache_file(&directory, &error);
            Error::new(error.raw_os_error().unwrap_or(0), told)
        };
        let file = TemporaryFile::create_in(&directory).map_err(refused)?;
        let file_system_block_bytes = file.file_system_block_size().map_err(refused)?;
        settings
            .fit_file_system(file_system_block_bytes)
            .map_err(|error| Error::invalid(error.to_string()))?;
        let mut config = settings.config;
        config.background = background;
        log::debug(&format!(
            "cache: cache file in {}, block size {}, mode {:?}, background {background}",
            directory.display(),
            config.block_bytes,
            config.mode
        ));
        let clock = Arc::new(SystemClock::default());
        let cache = Cache::new(config, Box::new(file), clock, Arc::new(NbdkitLog))
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
        self.maintenance.stop(&self.cache);
        if debug_verbose() {
            log::debug(&report::stats_line(&self.cache.stats()));
        }
        for message in report::farewell(self.cache.config().mode, &self.cache.leftovers()) {
            log::error(&message);
        }
    }
}

/// One line with the directory, the reason and what to do.
fn no_cache_file(directory: &Path, error: &io::Error) -> String {
    let directory = report::one_line(&directory.display().to_string());
    let reason = report::reason(error);
    format!(
        "cache: cannot make the cache file in {directory}: {reason}; \
         TMPDIR must be a directory that can be written"
    )
}

/// An empty TMPDIR is no directory and counts as none given.
fn directory() -> PathBuf {
    env::var_os("TMPDIR")
        .filter(|directory| !directory.is_empty())
        .map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_told_with_path_and_reason() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(
            no_cache_file(Path::new("/no/such"), &error),
            "cache: cannot make the cache file in /no/such: No such file or directory; \
             TMPDIR must be a directory that can be written"
        );
    }
}
