//! A client's connection to a volume. Every request enters the engine here.
//!
//! A panic below this line poisons the volume: the request fails, everything that it held is let go
//! by unwinding, so that those who wait wake up, and later requests fail at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::attached::{Attached, AttachedList};
use crate::config::{CacheOnRead, Mode};
use crate::origin::{Extent, ZeroOptions};
use crate::read::Target;
use crate::store::Store;
use crate::volume::Volume;
use crate::{Error, ErrorKind};
use crate::{extents, flush, read, room, trim, write, zero};

/// One client's connection. Requests may come from several threads at once.
pub struct Connection {
    pub(crate) volume: Arc<Volume>,
    pub(crate) attached: Arc<Attached>,
    size: u64,
    has_left: AtomicBool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("volume", &self.volume)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(volume: Arc<Volume>, attached: Arc<Attached>) -> Self {
        Self {
            size: attached.origin.size(),
            volume,
            attached,
            has_left: AtomicBool::new(false),
        }
    }

    /// The volume's size in bytes as this connection sees it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a flush on any one connection covers what all of them had acknowledged.
    pub fn multi_conn(&self) -> bool {
        match self.store().config.mode {
            Mode::Unsafe => true,
            Mode::Writethrough => self.attached.capabilities.multi_conn,
            // A flush writes back everything through its own connection and flushes that. One
            // that cannot write needs another's, which only parallel origins allow.
            Mode::Writeback => {
                self.attached.capabilities.write || self.attached.capabilities.parallel
            }
        }
    }

    /// Fills `buffer` from byte `offset`.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let length = buffer.len() as u64;
        self.request("read", offset, length, || {
            read::read(self, length, Target::new(offset, buffer))
        })
    }

    /// Writes `data` at byte `offset`; with `fua` it is durable on the origin on return (unsafe
    /// mode ignores it).
    pub fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Error> {
        self.change("write", offset, data.len() as u64, || {
            write::write(self, offset, data, fua)
        })
    }

    /// Makes `length` bytes from `offset` read as zeros. With `fast` it fails with ENOTSUP where
    /// that would cost as much as a write.
    pub fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> Result<(), Error> {
        self.change("zero", offset, length, || {
            zero::zero(self, offset, length, options)
        })
    }

    /// The range's content is no longer wanted.
    pub fn trim(&self, offset: u64, length: u64, fua: bool) -> Result<(), Error> {
        self.change("trim", offset, length, || {
            trim::trim(self, offset, length, fua)
        })
    }

    /// Writeback: everything acknowledged on any connection of the volume before the call is
    /// durable on return. Writethrough: passed on. Unsafe: ignored.
    pub fn flush(&self) -> Result<(), Error> {
        self.request("flush", 0, 0, || flush::flush(self))
    }

    /// Fetches the range into the cache without returning it.
    pub fn cache(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.request("cache", offset, length, || {
            read::read(self, length, Target::nowhere(offset))
        })
    }

    /// The status of the range from `offset`: at least one extent, possibly covering less than
    /// `length`, never more; with `one`, just the first.
    pub fn extents(&self, offset: u64, length: u64, one: bool) -> Result<Vec<Extent>, Error> {
        self.request("extents", offset, length, || {
            extents::extents(self, offset, length, one)
        })
    }

    /// Leaves the volume. In writeback mode the last writable connection in use writes everything
    /// back first; what could not be written stays dirty, is logged by range, and is the error.
    /// The origin is not used any more after the return, whatever the result. A second call
    /// does nothing.
    pub fn disconnect(&self) -> Result<(), Error> {
        if self.has_left.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let is_last = self.volume.attached.leave(&self.attached);
        let writes_back = is_last
            && self.attached.capabilities.write
            && self.store().config.mode == Mode::Writeback
            && !self.volume.is_poisoned()
            && self.volume.is_dirty();
        let result = if writes_back {
            self.catching("disconnect", || flush::flush_as_last(self))
        } else {
            Ok(())
        };
        if is_last && self.volume.is_poisoned() && self.volume.is_dirty() {
            flush::report_unwritten(&self.volume);
        }
        AttachedList::wait_for_borrows(&self.attached);
        result
    }

    pub(crate) fn store(&self) -> &Store {
        self.volume.store()
    }

    /// Whether misses are to be stored. Asked on a miss only: it may look at a file system.
    pub(crate) fn stores_misses(&self) -> bool {
        match &self.store().config.cache_on_read {
            CacheOnRead::Never => false,
            CacheOnRead::Always => true,
            CacheOnRead::WhileExists(path) => path.exists(),
        }
    }

    fn change<R>(
        &self,
        what: &str,
        offset: u64,
        length: u64,
        action: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        if !self.attached.capabilities.write {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                format!("{what} at {offset}: the origin is read-only on this connection"),
            ));
        }
        if what != "flush" && length == 0 {
            return Err(Error::new(
                ErrorKind::OutOfRange,
                format!("{what} of no bytes at {offset}"),
            ));
        }
        self.request(what, offset, length, action)
    }

    fn request<R>(
        &self,
        what: &str,
        offset: u64,
        length: u64,
        action: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        let size = self.size;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(Error::new(
                ErrorKind::OutOfRange,
                format!("{what} of {length} bytes at {offset}: past the end at {size}"),
            ));
        }
        if self.has_left.load(Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Origin,
                format!("{what}: the connection has ended"),
            ));
        }
        if !self.volume.activate(&self.attached, self.size) {
            return Err(Error::new(
                ErrorKind::Origin,
                format!(
                    "{what}: volume '{}' has changed its size since this connection began",
                    self.volume.name()
                ),
            ));
        }
        let result = self.catching(what, action);
        if !self.store().config.background && !self.volume.is_poisoned() {
            self.catching("reclaim", || {
                room::maintain_inline(self);
                Ok(())
            })?;
        }
        result
    }

    fn catching<R>(
        &self,
        what: &str,
        action: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.check_poison()?;
        catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
            self.volume.poison();
            let message = format!(
                "volume '{}': a panic during a {what}: the volume answers nothing any more",
                self.volume.name()
            );
            self.store().log.error(&message);
            Err(Error::new(ErrorKind::Poisoned, message))
        })
    }

    /// Fails if the volume is poisoned. Asked again after every wait.
    pub(crate) fn check_poison(&self) -> Result<(), Error> {
        if self.volume.is_poisoned() {
            return Err(Error::new(
                ErrorKind::Poisoned,
                format!(
                    "volume '{}' answers nothing any more after a panic",
                    self.volume.name()
                ),
            ));
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Err(error) = self.disconnect() {
            self.store().log.error(&error.to_string());
        }
    }
}
