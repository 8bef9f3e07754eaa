//! The parameters: what a user typed becomes what the engine is told.
//!
//! Each is checked as it comes, for what it is by itself; what must hold between them is checked
//! once all are known ([`Parameters::finish`]) and, for the block, once the cache file's file
//! system is known ([`Settings::fit_file_system`]). One given twice counts as given last, as
//! nbdkit's filters do. Sizes, numbers and booleans are parsed by a [`Parser`], which is nbdkit's
//! own in a filter: what may be typed is the same everywhere.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use larder::config::{MAX_BLOCK_BYTES, MIN_BLOCK_BYTES, MIN_MAX_SIZE_BYTES};
use larder::{CacheOnRead, Config, FlushTo, Mode, Writeback};

use crate::report::one_line;
use crate::{Exports, Parser, spelling};

mod flush;
mod survival;
mod value;

/// A parameter that cannot be: what was typed, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub struct ParameterError {
    typed: String,
    advice: String,
}

impl ParameterError {
    /// `name` was given as `value`, and `advice` says what would be right.
    pub fn new(name: &str, value: &OsStr, advice: impl Into<String>) -> Self {
        Self {
            typed: one_line(&format!("{name}={}", value.to_string_lossy())),
            advice: advice.into(),
        }
    }
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.typed, self.advice)
    }
}

impl std::error::Error for ParameterError {}

/// What holds where nothing is said, as far as front ends differ.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Whether misses are stored.
    pub cache_on_read: CacheOnRead,
    /// When dirty data is written back without a flush. Where flushes end in the cache, there is an age in any case.
    pub dirty_age: Option<Duration>,
    /// The most that is fetched ahead of a reader, in bytes; 0 for nothing.
    pub readahead_bytes: u64,
    /// There is a maximum size even where none is given: see [`Settings::limit_to`].
    pub is_limited: bool,
    /// No origin can tell whether it is what it was: only `cache-id` does.
    pub is_blind: bool,
}

/// A value together with the way it was typed, for messages.
#[derive(Clone, Debug)]
struct Typed<T> {
    value: T,
    text: OsString,
}

/// The parameters given so far.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    mode: Mode,
    flush_to: Option<Typed<FlushTo>>,
    writeback: Option<Typed<Writeback>>,
    min_block_bytes: Option<Typed<u64>>,
    max_size_bytes: Option<Typed<u64>>,
    high_threshold_percent: Option<Typed<u32>>,
    low_threshold_percent: Option<Typed<u32>>,
    cache_on_read: CacheOnRead,
    exports: Exports,
    /// The outer None is nothing given, the inner one `off`.
    dirty_age: Option<Option<Duration>>,
    default_dirty_age: Option<Duration>,
    dirty_share_percent: Option<Typed<u32>>,
    /// 0 for nothing.
    readahead_bytes: u64,
    readahead_text: Option<OsString>,
    is_limited: bool,
    is_blind: bool,
    directory: Option<Typed<PathBuf>>,
    id: Option<Typed<String>>,
}

impl Parameters {
    /// No parameter given yet.
    pub fn new(defaults: Defaults) -> Self {
        Self {
            cache_on_read: defaults.cache_on_read,
            default_dirty_age: defaults.dirty_age,
            readahead_bytes: defaults.readahead_bytes,
            is_limited: defaults.is_limited,
            is_blind: defaults.is_blind,
            ..Self::default()
        }
    }

    /// Takes `name=value`. A name that is none of [`spelling::NAMES`] is an error.
    pub fn set(
        &mut self,
        name: &str,
        value: &OsStr,
        parser: &dyn Parser,
    ) -> Result<(), ParameterError> {
        // What is not UTF-8 is no word and no number; only a path may be it.
        let text = value.to_str().unwrap_or("\u{fffd}");
        let refused = |advice: &str| ParameterError::new(name, value, advice);
        match name {
            "cache" => {
                self.mode = value::mode(text)
                    .ok_or_else(|| refused("must be writeback, writethrough or unsafe"))?;
            }
            "cache-flush" => {
                let flush_to =
                    value::flush_to(text).ok_or_else(|| refused("must be origin or cache"))?;
                self.flush_to = Some(typed(flush_to, value));
            }
            "cache-writeback" => {
                let writeback = value::writeback(name, value)?;
                self.writeback = Some(typed(writeback, value));
            }
            "cache-min-block-size" => {
                let bytes = value::block_bytes(text, parser).ok_or_else(|| {
                    refused("must be a power of two from 4096 (4K) to 2147483648 (2G)")
                })?;
                self.min_block_bytes = Some(typed(bytes, value));
            }
            "cache-max-size" => {
                let bytes = value::max_size_bytes(text, parser)
                    .ok_or_else(|| refused("must be a size of at least 1M"))?;
                self.max_size_bytes = Some(typed(bytes, value));
            }
            "cache-high-threshold" => {
                let percent = value::percent(name, value, parser)?;
                self.high_threshold_percent = Some(typed(percent, value));
            }
            "cache-low-threshold" => {
                let percent = value::percent(name, value, parser)?;
                self.low_threshold_percent = Some(typed(percent, value));
            }
            "cache-on-read" => {
                self.cache_on_read = value::cache_on_read(value, text, parser)
                    .ok_or_else(|| refused("must be true, false or a path that begins with /"))?;
            }
            "cache-exports" => {
                self.exports = Exports::from_word(text)
                    .ok_or_else(|| refused("must be separate, shared or connection"))?;
            }
            "cache-dirty-age" => {
                let age = value::dirty_age(name, text, parser)
                    .ok_or_else(|| refused("must be off or a number of seconds, at least 1"))?;
                self.dirty_age = Some(age);
            }
            "cache-dirty-share" => {
                let percent = value::share(name, value, parser)?;
                self.dirty_share_percent = Some(typed(percent, value));
            }
            "cache-readahead" => {
                self.readahead_bytes = value::readahead_bytes(text, parser).ok_or_else(|| {
                    refused("must be off or a size from 4096 (4K) to 67108864 (64M)")
                })?;
                self.readahead_text = Some(value.to_owned());
            }
            "cache-dir" => {
                let path = value::directory(value).map_err(|advice| refused(&advice))?;
                self.directory = Some(typed(path, value));
            }
            "cache-id" => {
                let id = value::id(value)
                    .ok_or_else(|| refused("must be a text of 1 to 4096 bytes in UTF-8"))?;
                self.id = Some(typed(id, value));
            }
            _ => return Err(misspelt(name, value)),
        }
        Ok(())
    }

    /// Checks what must hold between the parameters.
    pub fn finish(&self) -> Result<Settings, ParameterError> {
        let mut warnings = Vec::new();
        let mut config = Config {
            mode: self.mode,
            flush_to: flush::flush_to(self),
            writeback: flush::writeback(self),
            cache_on_read: self.cache_on_read.clone(),
            dirty_age: flush::dirty_age(self),
            dirty_share_percent: flush::dirty_share_percent(self),
            readahead_bytes: self.readahead_bytes,
            max_size_bytes: self.max_size_bytes.as_ref().map(|size| size.value),
            cache_id: self.id.as_ref().map(|id| id.value.clone()),
            ..Config::default()
        };
        if let Some(block) = &self.min_block_bytes {
            config.block_bytes = block.value;
        }
        if let Some(high) = &self.high_threshold_percent {
            config.high_threshold_percent = at_most_100("high", high, &mut warnings);
        }
        if let Some(low) = &self.low_threshold_percent {
            config.low_threshold_percent = at_most_100("low", low, &mut warnings);
        }
        flush::check(self)?;
        survival::check(self, &config)?;
        warnings.extend(flush::idle_share(self, &config));
        let directory = self.directory.as_ref().map(|typed| typed.value.clone());
        let place = place(&directory);
        if let Some(size) = &self.max_size_bytes {
            room_for_a_block(&size.text, size.value, config.block_bytes, place)?;
        }
        if self.is_limited || self.max_size_bytes.is_some() {
            let (low, high) = (config.low_threshold_percent, config.high_threshold_percent);
            if low >= high {
                return Err(self.thresholds_crossed(low, high));
            }
        }
        // A default that does not fit is nothing to speak of.
        let readahead_text = self
            .readahead_text
            .clone()
            .filter(|_| config.readahead_bytes > 0);
        if let Some(text) = &readahead_text {
            block_in_readahead(text, config.readahead_bytes, config.block_bytes, place)?;
            warnings.extend(idle_readahead(text, &config));
        }
        Ok(Settings {
            config,
            exports: self.exports,
            block_is_given: self.min_block_bytes.is_some(),
            directory,
            warnings,
            max_size_text: self.max_size_bytes.as_ref().map(|size| size.text.clone()),
            readahead_text,
        })
    }

    /// The message for thresholds the wrong way round names one that was typed.
    fn thresholds_crossed(&self, low: u32, high: u32) -> ParameterError {
        match (&self.low_threshold_percent, &self.high_threshold_percent) {
            (None, Some(typed)) => ParameterError::new(
                "cache-high-threshold",
                &typed.text,
                format!("must be more than cache-low-threshold, which is {low}"),
            ),
            (typed, _) => ParameterError::new(
                "cache-low-threshold",
                typed.as_ref().map_or(OsStr::new(""), |typed| &typed.text),
                format!("must be less than cache-high-threshold, which is {high}"),
            ),
        }
    }
}

/// Parameters that agree with each other.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For the engine. `background` is for the caller to set.
    pub config: Config,
    /// How a volume is known.
    pub exports: Exports,
    /// Where the cache survives, as an absolute path. Without it the cache ends with the process.
    pub directory: Option<PathBuf>,
    /// A block size was given: a cache that is there must have it.
    pub block_is_given: bool,
    /// What a user should hear that stops nothing.
    pub warnings: Vec<String>,
    max_size_text: Option<OsString>,
    readahead_text: Option<OsString>,
}

impl Settings {
    /// Raises the block to the block size of the file system that the cache is on.
    pub fn fit_file_system(&mut self, file_system_block_bytes: u64) -> Result<(), ParameterError> {
        let block = file_system_block_bytes
            .checked_next_power_of_two()
            .unwrap_or(MAX_BLOCK_BYTES)
            .clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES);
        self.config.block_bytes = self.config.block_bytes.max(block);
        let block = self.config.block_bytes;
        if let Some(directory) = &self.directory {
            survival::check_block(directory, block)?;
        }
        let place = place(&self.directory);
        if let (Some(max), Some(text)) = (self.config.max_size_bytes, &self.max_size_text) {
            room_for_a_block(text, max, block, place)?;
        }
        match &self.readahead_text {
            Some(text) => block_in_readahead(text, self.config.readahead_bytes, block, place),
            None => Ok(()),
        }
    }

    /// What a user should hear of a cache that was there, whose blocks have `block_bytes`.
    pub fn warning_of_block(&self, block_bytes: u64) -> Option<String> {
        let text = self.readahead_text.as_ref()?;
        (self.config.readahead_bytes < block_bytes).then(|| {
            format!(
                "cache-readahead={}: nothing is fetched ahead: a block of this cache is {block_bytes} bytes",
                text.to_string_lossy()
            )
        })
    }

    /// Sets a maximum of `bytes` where none was given. Called once the block is known. The error is the least that
    /// there may be.
    pub fn limit_to(&mut self, bytes: u64) -> Result<(), u64> {
        let least = match self.directory {
            Some(_) => survival::MIN_MAX_SIZE_BYTES,
            None => MIN_MAX_SIZE_BYTES,
        };
        let least = self.config.block_bytes.max(least);
        match self.config.max_size_bytes {
            None if bytes < least => Err(least),
            None => {
                self.config.max_size_bytes = Some(bytes);
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }
}

fn typed<T>(value: T, text: &OsStr) -> Typed<T> {
    Typed {
        value,
        text: text.to_owned(),
    }
}

fn misspelt(key: &str, value: &OsStr) -> ParameterError {
    let advice = match spelling::meant(key) {
        Some(name) => format!("there is no such parameter; did you mean {name}?"),
        None => format!(
            "there is no such parameter; there are {}",
            spelling::NAMES.join(", ")
        ),
    };
    ParameterError::new(key, value, advice)
}

fn at_most_100(which: &str, typed: &Typed<u32>, warnings: &mut Vec<String>) -> u32 {
    if typed.value > 100 {
        let text = typed.text.to_string_lossy();
        warnings.push(format!(
            "cache-{which}-threshold={text}: more than 100 percent counts as 100"
        ));
    }
    typed.value.min(100)
}

/// What says where the cache is, and so on which file system.
fn place(directory: &Option<PathBuf>) -> &'static str {
    match directory {
        Some(_) => "cache-dir",
        None => "TMPDIR",
    }
}

fn a_block(bytes: u64, place: &str) -> String {
    format!(
        "a block is {bytes} bytes \
         (the larger of cache-min-block-size and the block size of {place}'s file system)"
    )
}

fn block_in_readahead(
    text: &OsStr,
    bytes: u64,
    block: u64,
    place: &str,
) -> Result<(), ParameterError> {
    if bytes >= block {
        return Ok(());
    }
    let a_block = a_block(block, place);
    let advice = format!("must be off or at least one block, and {a_block}");
    Err(ParameterError::new("cache-readahead", text, advice))
}

/// The warning about a readahead that never happens.
fn idle_readahead(text: &OsStr, config: &Config) -> Option<String> {
    let why = if config.cache_on_read == CacheOnRead::Never {
        "nothing is fetched ahead with cache-on-read=false"
    } else if config.max_size_bytes? / 8 < config.block_bytes {
        "nothing is fetched ahead into a cache of less than 8 blocks (cache-max-size)"
    } else {
        return None;
    };
    Some(format!("cache-readahead={}: {why}", text.to_string_lossy()))
}

fn room_for_a_block(
    max_text: &OsStr,
    max: u64,
    block: u64,
    place: &str,
) -> Result<(), ParameterError> {
    if max >= block {
        return Ok(());
    }
    let a_block = a_block(block, place);
    let advice = format!("must be at least one block, and {a_block}");
    Err(ParameterError::new("cache-max-size", max_text, advice))
}

#[cfg(test)]
mod tests;
