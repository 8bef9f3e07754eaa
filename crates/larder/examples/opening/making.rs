//! The directory, and how the engine is started over it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder::{Cache, CacheHome, CacheOnRead, Config, Connection, SystemClock};

use crate::doubles::{Complaints, WithoutSlots, Zeros};

/// The blocks of the cache.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;

/// The origin, all of which is cached: 100 GiB.
const ORIGIN_BYTES: u64 = 100 << 30;

/// A directory that is removed at the end.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn make(within: &Path) -> Result<Self, Box<dyn Error>> {
        let path = within.join(format!("larder-opening-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// Starts the engine there.
    pub(crate) fn open(&self) -> Result<Arc<Cache>, Box<dyn Error>> {
        let config = Config {
            cache_on_read: CacheOnRead::Always,
            cache_id: Some("zeros".to_owned()),
            // Without thresholds in the way, what is cached is what was asked for.
            high_threshold_percent: 100,
            low_threshold_percent: 99,
            block_bytes: BLOCK_BYTES,
            ..Config::default()
        };
        let home = CacheHome {
            medium: Arc::new(WithoutSlots::open(&self.0)?),
            path: self.0.display().to_string(),
            block_is_given: true,
            uuid_bits: 1,
            lock_text: "an example".to_owned(),
            sizes: None,
        };
        let clock = Arc::new(SystemClock::default());
        Ok(Cache::open(config, home, clock, Arc::new(Complaints))?)
    }

    /// Caches every block of the origin, and ends properly. Tells how many there are.
    pub(crate) fn fill(&self) -> Result<u64, Box<dyn Error>> {
        let cache = self.open()?;
        let connection = connect(&cache)?;
        let blocks = ORIGIN_BYTES / BLOCK_BYTES;
        for block in 0..blocks {
            connection.cache(block * BLOCK_BYTES, BLOCK_BYTES)?;
        }
        end(&cache, connection)?;
        Ok(blocks)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

/// Joins the volume.
pub(crate) fn connect(cache: &Arc<Cache>) -> Result<Connection, Box<dyn Error>> {
    Ok(cache
        .volume("disk")
        .connect(Arc::new(Zeros(ORIGIN_BYTES)))?)
}

/// Ends the engine as a front end does.
pub(crate) fn end(cache: &Cache, connection: Connection) -> Result<(), Box<dyn Error>> {
    connection.disconnect()?;
    drop(connection);
    cache.stop();
    Ok(cache.close()?)
}
