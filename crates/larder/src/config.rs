//! What a cache is told when it is made. Parsing belongs to the front ends; the rules are here.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// When a write is acknowledged, and when it reaches the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Acknowledged from the cache; on the origin by the next flush.
    #[default]
    Writeback,
    /// Acknowledged by the origin.
    Writethrough,
    /// Acknowledged from the cache; flushes are ignored.
    Unsafe,
}

impl Mode {
    /// As parameters spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writeback => "writeback",
            Self::Writethrough => "writethrough",
            Self::Unsafe => "unsafe",
        }
    }
}

/// Where what a flush covers is durable when it returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushTo {
    /// On the origin.
    #[default]
    Origin,
    /// In the cache's directory. The origin gets it later.
    Cache,
}

impl FlushTo {
    /// As parameters spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Cache => "cache",
        }
    }
}

/// In which order the origin gets what was flushed into the cache's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writeback {
    /// In any, and only the last of what was written to a place.
    #[default]
    Unordered,
    /// Flush by flush: at any moment the origin has all of some flush, and beside that only what was written before the next.
    Ordered,
}

impl Writeback {
    /// As parameters spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unordered => "unordered",
            Self::Ordered => "ordered",
        }
    }
}

/// Whether what was read is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheOnRead {
    /// Misses pass through.
    #[default]
    Never,
    /// Misses are stored.
    Always,
    /// Misses are stored while this path exists. Looked at on each miss, never on a hit.
    WhileExists(PathBuf),
}

/// The smallest block, in bytes.
pub const MIN_BLOCK_BYTES: u64 = 4096;
/// The largest block, in bytes: 2 GiB.
pub const MAX_BLOCK_BYTES: u64 = 1 << 31;
/// The block when nothing is said, in bytes.
pub const DEFAULT_BLOCK_BYTES: u64 = 64 << 10;
/// The smallest size limit, in bytes.
pub const MIN_MAX_SIZE_BYTES: u64 = 1 << 20;

/// The most that may be fetched ahead of a reader, in bytes: 64 MiB.
pub const MAX_READAHEAD_BYTES: u64 = 64 << 20;

/// The longest [`Config::cache_id`], in bytes.
pub const MAX_CACHE_ID_BYTES: usize = 4096;

/// All that a cache is told when it is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// The mode of every volume.
    pub mode: Mode,
    /// Where a flush is durable. In the cache only with [`Mode::Writeback`], and only a cache in a directory.
    pub flush_to: FlushTo,
    /// In which order the origin gets it then. [`Writeback::Ordered`] only with [`FlushTo::Cache`].
    pub writeback: Writeback,
    /// The unit of caching, in bytes: a power of two.
    pub block_bytes: u64,
    /// The hard limit on allocated bytes; unlimited without.
    pub max_size_bytes: Option<u64>,
    /// Reclaim starts above this share of the limit, in percent.
    pub high_threshold_percent: u32,
    /// Reclaim ends below this share of the limit, in percent.
    pub low_threshold_percent: u32,
    /// Whether misses are stored.
    pub cache_on_read: CacheOnRead,
    /// The most that is fetched ahead of a sequential reader, in bytes, where misses are stored: whole blocks, and at
    /// most an eighth of the cache. 0 for nothing.
    pub readahead_bytes: u64,
    /// The front end calls [`crate::Connection::fetch_ahead`] from a thread of its own. Without it, or where the origin
    /// takes no calls from other threads, a sequential miss asks the origin for more.
    pub readahead_in_background: bool,
    /// Dirty data older than this is written back.
    pub dirty_age: Option<Duration>,
    /// When more than this share of the limit is dirty, the oldest of it is written back, in percent. Without a limit it says nothing.
    pub dirty_share_percent: Option<u32>,
    /// What the operator calls the origins' content, for a cache in a directory: as long as it is the same, so are they, where they cannot tell
    /// themselves. At most 4096 bytes.
    pub cache_id: Option<String>,
    /// The front end calls [`crate::Cache::maintain`] from a thread of its own. Without it,
    /// requests do that work themselves.
    pub background: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            flush_to: FlushTo::default(),
            writeback: Writeback::default(),
            block_bytes: DEFAULT_BLOCK_BYTES,
            max_size_bytes: None,
            high_threshold_percent: 95,
            low_threshold_percent: 80,
            cache_on_read: CacheOnRead::default(),
            readahead_bytes: 0,
            readahead_in_background: false,
            dirty_age: None,
            dirty_share_percent: None,
            cache_id: None,
            background: false,
        }
    }
}

impl Config {
    /// Checks every rule that needs no I/O. The message names the value and what would be right.
    pub fn check(&self) -> Result<(), Error> {
        let block = self.block_bytes;
        if !block.is_power_of_two() || !(MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&block) {
            return Err(bad(format!(
                "block size {block} must be a power of two from {MIN_BLOCK_BYTES} to {MAX_BLOCK_BYTES}"
            )));
        }
        let readahead = self.readahead_bytes;
        if readahead > MAX_READAHEAD_BYTES {
            return Err(bad(format!(
                "readahead {readahead} must be at most {MAX_READAHEAD_BYTES} (64M)"
            )));
        }
        if self.flush_to == FlushTo::Cache && self.mode != Mode::Writeback {
            return Err(bad(format!(
                "cache-flush=cache needs cache=writeback, not {}",
                self.mode.name()
            )));
        }
        if self.writeback == Writeback::Ordered && self.flush_to != FlushTo::Cache {
            return Err(bad(
                "cache-writeback=ordered needs cache-flush=cache".to_owned()
            ));
        }
        if let Some(share) = self.dirty_share_percent
            && !(1..=100).contains(&share)
        {
            return Err(bad(format!(
                "cache-dirty-share {share} must be from 1 to 100 (percent)"
            )));
        }
        if let Some(id) = &self.cache_id
            && !(1..=MAX_CACHE_ID_BYTES).contains(&id.len())
        {
            return Err(bad(format!(
                "cache-id of {} bytes must have from 1 to {MAX_CACHE_ID_BYTES}",
                id.len()
            )));
        }
        let Some(max) = self.max_size_bytes else {
            return Ok(());
        };
        if max < MIN_MAX_SIZE_BYTES {
            return Err(bad(format!(
                "maximum size {max} must be at least {MIN_MAX_SIZE_BYTES} (1M)"
            )));
        }
        if max < block {
            return Err(bad(format!(
                "maximum size {max} must be at least one block ({block})"
            )));
        }
        let (high, low) = (self.high_threshold_percent, self.low_threshold_percent);
        if low == 0 || low >= high || high > 100 {
            return Err(bad(format!(
                "thresholds must be 0 < low < high <= 100, not low {low} and high {high}"
            )));
        }
        Ok(())
    }
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}
