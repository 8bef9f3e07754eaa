//! An origin and a cache file that cost nothing, so that what is measured is the engine.

use std::io;
use std::sync::Arc;

use larder::{
    Cache, CacheFile, CacheOnRead, Capabilities, Config, Connection, Error, Extent, Log, Origin,
    RequestLimits, SystemClock, ZeroOptions,
};

/// The blocks of every cache here.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;

/// The origin's size: 4 TiB.
const ORIGIN_BYTES: u64 = 4 << 40;

/// A cache over a large origin, its misses stored.
pub(crate) fn connect(
    file: Box<dyn CacheFile>,
    max_size_bytes: Option<u64>,
) -> Result<Connection, Error> {
    let config = Config {
        block_bytes: BLOCK_BYTES,
        max_size_bytes,
        cache_on_read: CacheOnRead::Always,
        // Without thresholds in the way, what is cached is what was asked for, up to the limit.
        high_threshold_percent: 100,
        low_threshold_percent: 99,
        ..Config::default()
    };
    let clock = Arc::new(SystemClock::default());
    let cache = Cache::new(config, file, clock, Arc::new(Silence))?;
    cache.volume("disk").connect(Arc::new(Nothing))
}

/// An origin of nothing in particular: what is read is whatever was in the buffer.
struct Nothing;

impl Origin for Nothing {
    fn size(&self) -> u64 {
        ORIGIN_BYTES
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            parallel: true,
            ..Capabilities::default()
        }
    }

    fn limits(&self) -> RequestLimits {
        RequestLimits::default()
    }

    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8], _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn zero(&self, _: u64, _: u64, _: ZeroOptions) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn trim(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn extents(&self, _: u64, _: u64, _: bool) -> io::Result<Vec<Extent>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A cache file that keeps nothing.
pub(crate) struct Void;

impl CacheFile for Void {
    fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Silence;

impl Log for Silence {
    fn error(&self, message: &str) {
        eprintln!("{message}");
    }

    fn warning(&self, message: &str) {
        eprintln!("{message}");
    }

    fn debug(&self, _: &str) {}
}
