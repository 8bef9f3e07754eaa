//! What is under test, seen from above: the engine, or something simpler that stands in for it
//! while the harness itself is tested.

use std::sync::Arc;
use std::time::Duration;

use larder::{
    Cache, CacheExtent, CacheState, Connection, Error, Extent, Origin, StatsSnapshot, Volume,
    ZeroOptions,
};

/// A client's connection: the requests of [`larder::Connection`].
pub trait Client: Send + Sync {
    /// See [`Connection::multi_conn`].
    fn multi_conn(&self) -> bool;
    /// See [`Connection::read`].
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error>;
    /// See [`Connection::write`].
    fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Error>;
    /// See [`Connection::try_read`].
    fn try_read(&self, _offset: u64, _buffer: &mut [u8]) -> Result<bool, Error> {
        Ok(false)
    }
    /// See [`Connection::fetch_ahead`].
    fn fetch_ahead(&self) -> bool {
        false
    }
    /// See [`Connection::try_write`].
    fn try_write(&self, _offset: u64, _data: &[u8], _fua: bool) -> Result<bool, Error> {
        Ok(false)
    }
    /// See [`Connection::cache_status`].
    fn cache_status(
        &self,
        _offset: u64,
        length: u64,
        _most: usize,
    ) -> Result<Vec<CacheExtent>, Error> {
        let state = CacheState::Absent;
        Ok(vec![CacheExtent { length, state }])
    }
    /// See [`Connection::zero`].
    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> Result<(), Error>;
    /// See [`Connection::trim`].
    fn trim(&self, offset: u64, length: u64, fua: bool) -> Result<(), Error>;
    /// See [`Connection::flush`].
    fn flush(&self) -> Result<(), Error>;
    /// See [`Connection::cache`].
    fn cache(&self, offset: u64, length: u64) -> Result<(), Error>;
    /// See [`Connection::extents`].
    fn extents(&self, offset: u64, length: u64, one: bool) -> Result<Vec<Extent>, Error>;
    /// See [`Connection::disconnect`].
    fn disconnect(&self) -> Result<(), Error>;
}

/// A volume over one origin.
pub trait Subject: Send + Sync {
    /// A client's connection.
    fn connect(&self, origin: Arc<dyn Origin>) -> Result<Box<dyn Client>, Error>;
    /// See [`Cache::maintain`].
    fn maintain(&self, timeout: Duration) -> bool;
    /// See [`Cache::stop`].
    fn stop(&self);
    /// See [`Cache::stats`].
    fn stats(&self) -> StatsSnapshot;
    /// Dirty ranges of the volume now.
    fn leftovers(&self) -> Vec<(u64, u64)>;
}

/// The engine.
pub struct Larder {
    /// Its cache.
    pub cache: Arc<Cache>,
    /// The volume that all clients share.
    pub volume: Arc<Volume>,
}

impl Subject for Larder {
    fn connect(&self, origin: Arc<dyn Origin>) -> Result<Box<dyn Client>, Error> {
        Ok(Box::new(self.volume.connect(origin)?))
    }

    fn maintain(&self, timeout: Duration) -> bool {
        self.cache.maintain(timeout)
    }

    fn stop(&self) {
        self.cache.stop();
    }

    fn stats(&self) -> StatsSnapshot {
        self.cache.stats()
    }

    fn leftovers(&self) -> Vec<(u64, u64)> {
        let leftovers = self.cache.leftovers();
        leftovers.into_iter().flat_map(|one| one.ranges).collect()
    }
}

impl Client for Connection {
    fn multi_conn(&self) -> bool {
        Self::multi_conn(self)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if offset % 1024 < 512 {
            return Self::read(self, offset, buffer);
        }
        // The other way to read, which must come to the same.
        let mut taken = Vec::new();
        let read = self.read_for(offset, buffer, &mut |data| taken.push(data.to_vec()));
        assert!(taken.len() <= 1, "a read was given {} times", taken.len());
        if read.is_ok() {
            assert!(
                taken.concat() == buffer,
                "what was given is not what was read"
            );
        }
        read
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Error> {
        Self::write(self, offset, data, fua)
    }

    fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        Self::try_read(self, offset, buffer)
    }

    fn fetch_ahead(&self) -> bool {
        Self::fetch_ahead(self, Duration::MAX, |_| Some(()))
    }

    fn try_write(&self, offset: u64, data: &[u8], fua: bool) -> Result<bool, Error> {
        Self::try_write(self, offset, data, fua)
    }

    fn cache_status(
        &self,
        offset: u64,
        length: u64,
        most: usize,
    ) -> Result<Vec<CacheExtent>, Error> {
        Self::cache_status(self, offset, length, most)
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> Result<(), Error> {
        Self::zero(self, offset, length, options)
    }

    fn trim(&self, offset: u64, length: u64, fua: bool) -> Result<(), Error> {
        Self::trim(self, offset, length, fua)
    }

    fn flush(&self) -> Result<(), Error> {
        Self::flush(self)
    }

    fn cache(&self, offset: u64, length: u64) -> Result<(), Error> {
        Self::cache(self, offset, length)
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> Result<Vec<Extent>, Error> {
        Self::extents(self, offset, length, one)
    }

    fn disconnect(&self) -> Result<(), Error> {
        Self::disconnect(self)
    }
}
