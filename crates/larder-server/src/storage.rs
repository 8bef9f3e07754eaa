//! The cache of all exports: its file, its limit, its background work.

use std::path::PathBuf;
use std::sync::Arc;

use indicatif::BinaryBytes;
use larder::{Cache, Log, SystemClock};
use larder_frontend::report::{one_line, reason};
use larder_frontend::{CacheFile, Maintenance, Settings};

use crate::mapped_file::MappedFile;

/// The cache, while the server runs.
#[derive(Debug)]
pub(crate) struct Storage {
    /// The engine.
    pub(crate) cache: Arc<Cache>,
    /// Reclaims and writes back by age.
    pub(crate) maintenance: Maintenance,
    limit_bytes: u64,
    /// Where the cache is, if its limit comes from the room there.
    limited_by: Option<PathBuf>,
}

impl Storage {
    /// Makes the cache file and the cache.
    pub(crate) fn make(settings: &Settings, log: Arc<dyn Log>) -> Result<Self, String> {
        let made = CacheFile::create().map_err(|error| error.to_string())?;
        let mut settings = settings.clone();
        settings
            .fit_file_system(made.file_system_block_bytes)
            .map_err(|error| error.to_string())?;
        let mut limited_by = None;
        if settings.config.max_size_bytes.is_none() {
            settings.limit_to(free_bytes(&made)? / 2);
            limited_by = Some(made.directory);
        }
        let mut config = settings.config;
        config.background = true;
        config.readahead_in_background = true;
        let limit_bytes = config.max_size_bytes.unwrap_or(u64::MAX);
        let clock = Arc::new(SystemClock::default());
        let file = MappedFile::new(made.file, limit_bytes);
        let cache =
            Cache::new(config, Box::new(file), clock, log).map_err(|error| error.to_string())?;
        Ok(Self {
            cache,
            maintenance: Maintenance::default(),
            limit_bytes,
            limited_by,
        })
    }

    /// How large the cache may become, and why, for the line that tells what is served.
    pub(crate) fn limit(&self) -> String {
        let limit = BinaryBytes(self.limit_bytes);
        match &self.limited_by {
            Some(directory) => {
                let directory = directory.display();
                format!("cache at most {limit}: half of what is free in {directory}")
            }
            None => format!("cache at most {limit}"),
        }
    }
}

fn free_bytes(made: &CacheFile) -> Result<u64, String> {
    let directory = &made.directory;
    match rustix::fs::statvfs(directory) {
        Ok(found) => Ok(found.f_bavail.saturating_mul(found.f_frsize)),
        Err(errno) => Err(one_line(&format!(
            "cannot see what is free in {}: {}; cache-max-size=SIZE says how much to use",
            directory.display(),
            reason(&errno.into())
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use larder_frontend::{Defaults, Parameters, PlainParser};

    use super::*;
    use crate::console::Console;

    fn storage(given: &[(&str, &str)]) -> Storage {
        let mut parameters = Parameters::new(Defaults {
            is_limited: true,
            ..Defaults::default()
        });
        for (name, value) in given {
            parameters
                .set(name, OsStr::new(value), &PlainParser)
                .unwrap();
        }
        let settings = parameters.finish().unwrap();
        Storage::make(&settings, Arc::new(Console::new(false))).unwrap()
    }

    #[test]
    fn without_a_limit_half_of_what_is_free_is_one() {
        let storage = storage(&[]);
        let made = CacheFile::create().unwrap();
        let free = free_bytes(&made).unwrap();
        // Others use the disk meanwhile.
        let difference = storage.limit_bytes.abs_diff(free / 2);
        assert!(difference <= free / 4, "{} of {free}", storage.limit_bytes);
        assert!(storage.limit().contains(": half of what is free in /"));
        assert!(storage.cache.config().background);
    }

    #[test]
    fn a_limit_that_was_given_is_kept() {
        let storage = storage(&[("cache-max-size", "3M")]);
        assert_eq!(storage.cache.config().max_size_bytes, Some(3 << 20));
        assert_eq!(storage.limit(), "cache at most 3.00 MiB");
    }
}
