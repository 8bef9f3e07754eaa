//! A client's connection to a volume. Every request enters the engine here.
//!
//! A panic below this line poisons the volume: the request fails, everything that it held is let go
//! by unwinding, so that those who wait wake up, and later requests fail at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::attached::AttachedList;
use crate::client::Client;
use crate::config::Mode;
use crate::origin::{Extent, ZeroOptions};
use crate::present::Target;
use crate::status::{self, CacheExtent};
use crate::{Error, ErrorKind};
use crate::{extents, flush, read, readahead, reclaim, survival, trim, unwritten, write, zero};

/// One client's connection. Requests may come from several threads at once.
pub struct Connection {
    client: Client,
    size: u64,
    has_left: AtomicBool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("volume", &self.client.volume)
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            size: client.attached.origin.size(),
            client,
            has_left: AtomicBool::new(false),
        }
    }

    /// The volume's size in bytes as this connection sees it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a flush on any one connection covers what all of them had acknowledged.
    pub fn multi_conn(&self) -> bool {
        self.client.multi_conn()
    }

    /// Whether changes are accepted.
    pub fn can_write(&self) -> bool {
        self.client.attached.capabilities.write
    }

    /// Fills `buffer` from byte `offset`.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let length = buffer.len() as u64;
        self.request("read", offset, length, || {
            read::read(&self.client, length, Target::new(offset, buffer))
        })
    }

    /// Does what [`Connection::read`] does, and gives the filled buffer to `taker`, once, as soon as it can: what was
    /// fetched may be stored after that, and others who want the same block wait until `taker` returns. Not
    /// called if nothing was read; called, an error still tells of a volume that was poisoned since.
    pub fn read_for(
        &self,
        offset: u64,
        buffer: &mut [u8],
        taker: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        let length = buffer.len() as u64;
        self.request("read", offset, length, || {
            read::read(
                &self.client,
                length,
                Target::for_taker(offset, buffer, taker),
            )
        })
    }

    /// Fills `buffer` from byte `offset` if the cache holds all of it, without asking the origin and
    /// waiting for nothing but the cache file. `Ok(false)` if not: then the buffer holds anything, nothing
    /// was counted, and [`Connection::read`] is the way. It may be false without need, as it is before
    /// the connection's first request of another kind. Without [`crate::Config::background`], maintenance is
    /// done here as in every request.
    pub fn try_read(&self, offset: u64, buffer: &mut [u8]) -> Result<bool, Error> {
        let length = buffer.len() as u64;
        self.at_once("read", offset, length, || {
            Ok(read::try_read(
                &self.client,
                length,
                Target::new(offset, buffer),
            ))
        })
    }

    /// Whether [`Connection::fetch_ahead`] has something to do. For [`crate::Config::readahead_in_background`].
    pub fn is_ahead_due(&self) -> bool {
        self.client.readahead.is_due()
    }

    /// For a front end with [`crate::Config::readahead_in_background`]: waits until something is to be fetched
    /// ahead of a reader, and fetches it. `charge` is told how many bytes of memory that takes at most, and what it returns
    /// is kept as long; with none of it, nothing is fetched. False where nothing was to be fetched for as long as `patience`, once the
    /// connection has ended, or the volume is poisoned. A call that is under way at [`Connection::disconnect`] ends after the
    /// request to the origin that it is waiting for.
    pub fn fetch_ahead<C>(
        &self,
        patience: Duration,
        charge: impl FnOnce(u64) -> Option<C>,
    ) -> bool {
        let Some(window) = self.client.readahead.wait_for_window(patience) else {
            return false;
        };
        let fetched = self.run("readahead", || {
            match charge(readahead::most_bytes(&self.client, &window)) {
                Some(_charge) => readahead::fetch_window(&self.client, window),
                None => self.client.readahead.failed(window.stream),
            }
            Ok(())
        });
        fetched.is_ok()
    }

    /// Writes `data` at byte `offset`; with `fua` it is durable on the origin on return (unsafe
    /// mode ignores it).
    pub fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Error> {
        self.change("write", offset, data.len() as u64, || {
            write::write(&self.client, offset, data, fua)
        })
    }

    /// Does what [`Connection::write`] does if the cache can take all of it at once: without asking the origin,
    /// and without waiting for room, a fetch, a range or a pass. `Ok(false)` if not: then nothing was
    /// written, and [`Connection::write`] is the way. It may be false without need, as it is before the
    /// connection's first request of another kind. In one rare case it does wait: if another request or the cache file
    /// spoils a write that has begun, the rest of it is written as [`Connection::write`] would, so
    /// that no part of a write is ever written twice. Where a flush is foreseen, the
    /// cache directory is told of it here as in every write. Without [`crate::Config::background`], maintenance
    /// is done here as in every request.
    pub fn try_write(&self, offset: u64, data: &[u8], fua: bool) -> Result<bool, Error> {
        let length = data.len() as u64;
        self.check_change("write", offset, length)?;
        self.at_once("write", offset, length, || {
            write::try_write(&self.client, offset, data, fua)
        })
    }

    /// Makes `length` bytes from `offset` read as zeros. With `fast` it fails with ENOTSUP where
    /// that would cost as much as a write.
    pub fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> Result<(), Error> {
        self.change("zero", offset, length, || {
            zero::zero(&self.client, offset, length, options)
        })
    }

    /// The range's content is no longer wanted.
    pub fn trim(&self, offset: u64, length: u64, fua: bool) -> Result<(), Error> {
        self.change("trim", offset, length, || {
            trim::trim(&self.client, offset, length, fua)
        })
    }

    /// Writeback: everything acknowledged on any connection of the volume before the call is
    /// durable on return. Writethrough: passed on. Unsafe: ignored.
    pub fn flush(&self) -> Result<(), Error> {
        self.request("flush", 0, 0, || flush::flush(&self.client))
    }

    /// Fetches the range into the cache without returning it.
    pub fn cache(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.request("cache", offset, length, || {
            read::read(&self.client, length, Target::nowhere(offset))
        })
    }

    /// The status of the range from `offset`: at least one extent, possibly covering less than
    /// `length`, never more; with `one`, just the first.
    pub fn extents(&self, offset: u64, length: u64, one: bool) -> Result<Vec<Extent>, Error> {
        self.request("extents", offset, length, || {
            extents::extents(&self.client, offset, length, one)
        })
    }

    /// What the cache holds of the range from `offset`, without asking the origin: neighbours of one state
    /// are one extent, there are at most `most` of them (at least one), and they cover at least the
    /// beginning of the range, never more than it; none for an empty range. Each byte's state is one that it
    /// had during the call.
    pub fn cache_status(
        &self,
        offset: u64,
        length: u64,
        most: usize,
    ) -> Result<Vec<CacheExtent>, Error> {
        self.request("cache status", offset, length, || {
            Ok(status::status(&self.client.volume, offset, length, most))
        })
    }

    /// Leaves the volume. In writeback mode the last writable connection in use writes everything
    /// back first; what could not be written stays dirty, is logged by range, and is the error.
    /// The origin is not used any more after the return, whatever the result, but by a
    /// [`Connection::fetch_ahead`] that is still under way. A second call does nothing.
    pub fn disconnect(&self) -> Result<(), Error> {
        if self.has_left.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.client.readahead.end();
        let _gone = Gone(&self.client);
        let Client {
            volume, attached, ..
        } = &self.client;
        let is_last = volume.attached.leave(attached) && attached.capabilities.write;
        if volume.flushes_to_cache() && !volume.is_poisoned() {
            // Nobody else's flush may cover what this connection has changed on the origin. If it fails, the next flush tells.
            let _ = self.catching("disconnect", || flush::flush_what_went_past(&self.client));
        }
        if !is_last {
            return Ok(());
        }
        let ended = self.end_writing();
        if !volume.is_poisoned() {
            self.catching("disconnect", || {
                survival::left(volume, &*attached.origin);
                Ok(())
            })?;
        }
        ended
    }

    /// What the last writable connection in use owes the others.
    fn end_writing(&self) -> Result<(), Error> {
        let volume = &self.client.volume;
        let has_own = volume.has_unwritten() || volume.kept.is_sealed();
        if self.client.store().config.mode != Mode::Writeback || !has_own {
            return Ok(());
        }
        if volume.is_poisoned() {
            unwritten::report(volume);
            return self.client.check_poison();
        }
        self.catching("disconnect", || flush::flush_as_last(&self.client))
    }

    fn change<R>(
        &self,
        what: &str,
        offset: u64,
        length: u64,
        action: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.check_change(what, offset, length)?;
        self.request(what, offset, length, action)
    }

    fn check_change(&self, what: &str, offset: u64, length: u64) -> Result<(), Error> {
        if !self.can_write() {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                format!("{what} at {offset}: the origin is read-only on this connection"),
            ));
        }
        if length == 0 {
            return Err(Error::new(
                ErrorKind::OutOfRange,
                format!("{what} of no bytes at {offset}"),
            ));
        }
        Ok(())
    }

    fn request<R>(
        &self,
        what: &str,
        offset: u64,
        length: u64,
        action: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.check(what, offset, length)?;
        if !self
            .client
            .volume
            .activate(&self.client.attached, self.size)
        {
            return Err(Error::new(
                ErrorKind::Origin,
                format!(
                    "{what}: volume '{}' has changed its size since this connection began",
                    self.client.volume.name()
                ),
            ));
        }
        self.run(what, action)
    }

    /// A request that does not wait. The first one may have to, for others who join.
    fn at_once(
        &self,
        what: &str,
        offset: u64,
        length: u64,
        action: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        self.check(what, offset, length)?;
        if !self.client.attached.is_active() {
            return Ok(false);
        }
        self.run(what, action)
    }

    fn check(&self, what: &str, offset: u64, length: u64) -> Result<(), Error> {
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
        Ok(())
    }

    fn run<R>(&self, what: &str, action: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
        let result = self.catching(what, action);
        if !self.client.store().config.background && !self.client.volume.is_poisoned() {
            self.catching("reclaim", || {
                reclaim::maintain_inline(&self.client);
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
        self.client.check_poison()?;
        catch_unwind(AssertUnwindSafe(action)).unwrap_or_else(|_| {
            self.client.volume.poison();
            let message = format!(
                "volume '{}': a panic during a {what}: the volume answers nothing any more",
                self.client.volume.name()
            );
            self.client.store().log.error(&message);
            Err(Error::new(ErrorKind::Poisoned, message))
        })
    }
}

/// A connection that is leaving: gone for all others when this is dropped.
struct Gone<'c>(&'c Client);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let attached = &self.0.attached;
        AttachedList::wait_for_borrows(attached);
        self.0.volume.attached.gone(attached);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Err(error) = self.disconnect() {
            self.client.store().log.error(&error.to_string());
        }
    }
}
