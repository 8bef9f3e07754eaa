//! The cache of all exports: its file or its directory, its limit, its background work, its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::BinaryBytes;
use larder::medium::DirectoryMedium;
use larder::{Cache, Error, Log, Medium, SystemClock};
use larder_frontend::report::{found, one_line, plain, reason};
use larder_frontend::{CacheDirectory, CacheFile, Maintenance, Settings};

use crate::mapped_file::MappedFile;
use crate::mapped_medium::MappedMedium;

/// The cache, while the server runs.
#[derive(Debug)]
pub(crate) struct Storage {
    /// The engine.
    pub(crate) cache: Arc<Cache>,
    /// Reclaims, writes back by age, and looks after the directory.
    pub(crate) maintenance: Maintenance,
    /// Where the cache survives, if it does.
    directory: Option<PathBuf>,
    limit_bytes: u64,
    /// Where the cache is, if its limit comes from the room there.
    limited_by: Option<PathBuf>,
}

impl Storage {
    /// Makes the cache, or opens what is left of it in its directory.
    pub(crate) fn make(settings: &Settings, log: Arc<dyn Log>) -> Result<Self, String> {
        match &settings.directory {
            Some(path) => Self::open_directory(path, settings.clone(), log),
            None => Self::make_file(settings.clone(), log),
        }
    }

    fn make_file(mut settings: Settings, log: Arc<dyn Log>) -> Result<Self, String> {
        let made = CacheFile::create().map_err(|error| error.to_string())?;
        settings
            .fit_file_system(made.file_system_block_bytes)
            .map_err(|error| error.to_string())?;
        let limited_by = limit(&mut settings, &made.directory, 0)?;
        let config = settings.config;
        let limit_bytes = config.max_size_bytes.unwrap_or(u64::MAX);
        let clock = Arc::new(SystemClock::default());
        let file = MappedFile::new(made.file, limit_bytes);
        let cache =
            Cache::new(config, Box::new(file), clock, log).map_err(|error| error.to_string())?;
        Ok(Self::new(cache, None, limit_bytes, limited_by))
    }

    fn open_directory(
        path: &Path,
        mut settings: Settings,
        log: Arc<dyn Log>,
    ) -> Result<Self, String> {
        let told = |error: larder_frontend::ParameterError| error.to_string();
        let directory = CacheDirectory::open(path).map_err(told)?;
        settings
            .fit_file_system(directory.file_system_block_bytes)
            .map_err(told)?;
        let held_bytes = held_bytes(&directory.medium);
        let limited_by = limit(&mut settings, path, held_bytes)?;
        let limit_bytes = settings.config.max_size_bytes.unwrap_or(u64::MAX);
        let medium = Arc::new(MappedMedium::new(directory.medium, limit_bytes));
        let home = CacheDirectory::home(path, medium, &settings).map_err(told)?;
        let clock = Arc::new(SystemClock::default());
        let cache = Cache::open(settings.config.clone(), home, clock, Arc::clone(&log))
            .map_err(|error| plain(&error))?;
        if let Some(warning) = settings.warning_of_block(cache.config().block_bytes) {
            log.warning(&warning);
        }
        let directory = Some(path.to_owned());
        Ok(Self::new(cache, directory, limit_bytes, limited_by))
    }

    fn new(
        cache: Arc<Cache>,
        directory: Option<PathBuf>,
        limit_bytes: u64,
        limited_by: Option<PathBuf>,
    ) -> Self {
        Self {
            cache,
            maintenance: Maintenance::default(),
            directory,
            limit_bytes,
            limited_by,
        }
    }

    /// How large the cache may become, and why, for the line that tells what is served.
    pub(crate) fn limit(&self) -> String {
        let limit = BinaryBytes(self.limit_bytes);
        match &self.limited_by {
            Some(place) => {
                let without = if self.directory.is_some() {
                    " without it"
                } else {
                    ""
                };
                let place = place.display();
                format!("cache at most {limit}: half of what is free in {place}{without}")
            }
            None => format!("cache at most {limit}"),
        }
    }

    /// Where the cache survives and what was found there, for the line that tells it.
    pub(crate) fn found(&self) -> Option<String> {
        let directory = self.directory.as_ref()?.display();
        let found = found(self.cache.found()?);
        Some(format!("cache: {directory} ({found})"))
    }

    /// The end: background work, and what is to be kept. Every connection has gone.
    pub(crate) fn close(&self, log: &dyn Log) -> Result<(), Error> {
        self.maintenance.stop(&self.cache, log);
        self.cache.close()
    }
}

/// Sets the limit where none was given: half of what is free in `place`, to which belongs what the cache holds there already.
/// Returns the place, if it decided.
fn limit(
    settings: &mut Settings,
    place: &Path,
    held_bytes: u64,
) -> Result<Option<PathBuf>, String> {
    settings.config.background = true;
    settings.config.readahead_in_background = true;
    if settings.config.max_size_bytes.is_some() {
        return Ok(None);
    }
    let free_bytes = free_bytes(place)?.saturating_add(held_bytes);
    match settings.limit_to(free_bytes / 2) {
        Ok(()) => Ok(Some(place.to_owned())),
        Err(least) => Err(one_line(&format!(
            "{} is free in {}, and a cache that takes at most half of it needs at least {}; \
             cache-max-size=SIZE says how much to use",
            BinaryBytes(free_bytes),
            place.display(),
            BinaryBytes(least)
        ))),
    }
}

/// What the files of a directory take on disk. One that cannot be asked is for the engine to refuse.
fn held_bytes(medium: &DirectoryMedium) -> u64 {
    let names = medium.names().unwrap_or_default();
    let files = names
        .iter()
        .filter_map(|name| medium.open_file(name).ok()?.allocated_bytes().ok());
    files.sum()
}

fn free_bytes(place: &Path) -> Result<u64, String> {
    match rustix::fs::statvfs(place) {
        Ok(found) => Ok(found.f_bavail.saturating_mul(found.f_frsize)),
        Err(errno) => Err(one_line(&format!(
            "cannot see what is free in {}: {}; cache-max-size=SIZE says how much to use",
            place.display(),
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
    use crate::testing::Scratch;

    fn settings(given: &[(&str, &str)]) -> Settings {
        let mut parameters = Parameters::new(Defaults {
            is_limited: true,
            ..Defaults::default()
        });
        for (name, value) in given {
            parameters
                .set(name, OsStr::new(value), &PlainParser)
                .unwrap();
        }
        parameters.finish().unwrap()
    }

    fn storage(given: &[(&str, &str)]) -> Storage {
        Storage::make(&settings(given), Arc::new(Console::new(false))).unwrap()
    }

    #[test]
    fn without_a_limit_half_of_what_is_free_is_one() {
        let storage = storage(&[]);
        let free = free_bytes(&larder_frontend::temporary_directory()).unwrap();
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

    #[test]
    fn what_a_directory_holds_does_not_make_its_limit_smaller() {
        let scratch = Scratch::new();
        let path = scratch.path("");
        std::fs::write(path.join("slots"), vec![1; 3 << 20]).unwrap();
        std::fs::create_dir(path.join("no file")).unwrap();
        let medium = DirectoryMedium::open(&path).unwrap();
        let held = held_bytes(&medium);
        assert!((3 << 20..4 << 20).contains(&held), "{held}");
        let mut settings = settings(&[("cache-dir", "/c")]);
        let held = 1 << 60;
        let place = limit(&mut settings, &path, held).unwrap();
        assert_eq!(place.as_deref(), Some(&*path));
        assert!(settings.config.max_size_bytes > Some(held / 2));
    }

    #[test]
    fn a_directory_is_told_and_its_limit_with_it() {
        let scratch = Scratch::new();
        let path = scratch.path("cache");
        let text = path.display().to_string();
        let first = storage(&[("cache-dir", &text), ("cache-max-size", "64M")]);
        assert_eq!(first.found(), Some(format!("cache: {text} (new)")));
        assert_eq!(first.limit(), "cache at most 64.00 MiB");
        first.close(&Console::new(false)).unwrap();
        drop(first);
        let second = storage(&[("cache-dir", &text)]);
        assert_eq!(
            second.found(),
            Some(format!("cache: {text} (0 blocks found)"))
        );
        let told = second.limit();
        let end = format!(": half of what is free in {text} without it");
        assert!(told.ends_with(&end), "{told}");
        second.close(&Console::new(false)).unwrap();
        assert_eq!(storage(&[]).found(), None);
    }
}
