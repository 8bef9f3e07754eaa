//! A client's connection to a volume. Every request enters the engine here.

use crate::origin::ZeroOptions;
use crate::{Error, Extent};

/// One client's connection. Requests may come from several threads at once.
pub struct Connection {}

impl Connection {
    /// The volume's size in bytes as this connection sees it.
    pub fn size(&self) -> u64 {
        unimplemented!()
    }

    /// Whether a flush on any one connection covers what all of them had acknowledged.
    pub fn multi_conn(&self) -> bool {
        unimplemented!()
    }

    /// Fills `buffer` from byte `offset`.
    pub fn read(&self, _offset: u64, _buffer: &mut [u8]) -> Result<(), Error> {
        unimplemented!()
    }

    /// Writes `data` at byte `offset`; with `fua` it is durable on the origin on return (unsafe mode ignores it).
    pub fn write(&self, _offset: u64, _data: &[u8], _fua: bool) -> Result<(), Error> {
        unimplemented!()
    }

    /// Makes `length` bytes from `offset` read as zeros. `fast` fails with ENOTSUP where it would cost as much as a write.
    pub fn zero(&self, _offset: u64, _length: u64, _options: ZeroOptions) -> Result<(), Error> {
        unimplemented!()
    }

    /// The range's content is no longer wanted.
    pub fn trim(&self, _offset: u64, _length: u64, _fua: bool) -> Result<(), Error> {
        unimplemented!()
    }

    /// Everything acknowledged on any connection of the volume before the call is durable on return (writeback); passed on (writethrough); ignored (unsafe).
    pub fn flush(&self) -> Result<(), Error> {
        unimplemented!()
    }

    /// Fetches the range into the cache without returning it.
    pub fn cache(&self, _offset: u64, _length: u64) -> Result<(), Error> {
        unimplemented!()
    }

    /// The status of the range from `offset`: at least one extent, possibly covering less than `length`, never more; with `one`, just the first.
    pub fn extents(&self, _offset: u64, _length: u64, _one: bool) -> Result<Vec<Extent>, Error> {
        unimplemented!()
    }

    /// Leaves the volume. In writeback mode the last writable connection writes everything back
    /// first; what could not be written stays dirty, is logged by range, and is the error.
    /// The origin is not used any more after the return, whatever the result. A second call does nothing.
    pub fn disconnect(&self) -> Result<(), Error> {
        unimplemented!()
    }
}
