//! The trait a filter's connection implements: what happens for one client.
//!
//! Order of calls: `prepare` once and alone; then anything, from many threads; then `finalize`
//! once and alone; then the connection is dropped. `finalize` is left out if `prepare` failed or
//! an outer layer's `finalize` did.

use std::ffi::CString;

use crate::capabilities::{BlockSize, Cache, Fua, Zero, ZeroOptions};
use crate::error::Result;
use crate::extent::ExtentList;
use crate::next::Next;

/// One client's connection. Each default passes on to the next layer as nbdkit itself would.
///
/// An error has its message logged and its errno sent to the client. A panic becomes EIO.
/// Requests arrive checked by nbdkit: inside the size this connection reported, not empty, and
/// only of kinds and with flags it said it can do.
pub trait Connection: Sized + Send + Sync + 'static {
    /// The next layer is open; its size and capabilities are known. `readonly` is what this layer
    /// was opened with.
    fn prepare(&mut self, _next: &Next, _readonly: bool) -> Result<()> {
        Ok(())
    }

    /// The last moment for `next`: when this has returned, every clone of it fails. nbdkit's
    /// `nbdkit_nanosleep` fails on the calling thread here (delay and retry filters use it), so
    /// write what is left from a thread of your own and join it.
    fn finalize(&self, _next: &Next) -> Result<()> {
        Ok(())
    }

    /// The size in bytes that the client sees.
    fn get_size(&self, next: &Next) -> Result<u64> {
        Ok(next.size())
    }

    /// What the client is told the export is.
    fn export_description(&self, next: &Next) -> Result<Option<CString>> {
        next.export_description()
    }

    /// Constraints for the client's requests; `None` for none.
    fn block_size(&self, next: &Next) -> Result<Option<BlockSize>> {
        Ok(next.block_size())
    }

    /// The client may write.
    fn can_write(&self, next: &Next) -> Result<bool> {
        Ok(next.capabilities().write)
    }

    /// The client may flush.
    fn can_flush(&self, next: &Next) -> Result<bool> {
        Ok(next.capabilities().flush)
    }

    /// The medium rotates.
    fn is_rotational(&self, next: &Next) -> Result<bool> {
        Ok(next.capabilities().rotational)
    }

    /// The client may trim.
    fn can_trim(&self, next: &Next) -> Result<bool> {
        Ok(next.capabilities().trim)
    }

    /// How zero requests are served.
    fn can_zero(&self, next: &Next) -> Result<Zero> {
        Ok(next.capabilities().zero)
    }

    /// The client may ask for fast zeroing.
    fn can_fast_zero(&self, next: &Next) -> Result<bool> {
        Ok(next.capabilities().fast_zero)
    }

    /// The client may ask for block status.
    fn can_extents(&self, next: &Next) -> Result<bool> {
        Ok(next.capabilities().extents)
    }

    /// How FUA is served.
    fn can_fua(&self, next: &Next) -> Result<Fua> {
        Ok(next.capabilities().fua)
    }

    /// A flush on one connection covers what any connection had acknowledged.
    fn can_multi_conn(&self, next: &Next) -> Result<bool> {
        Ok(next.capabilities().multi_conn)
    }

    /// How cache requests are served.
    fn can_cache(&self, next: &Next) -> Result<Cache> {
        Ok(next.capabilities().cache)
    }

    /// Fills `buffer` from `offset`.
    fn pread(&self, next: &Next, buffer: &mut [u8], offset: u64) -> Result<()> {
        next.pread(buffer, offset)
    }

    /// Writes `data` at `offset`; with `fua` it is durable on return.
    fn pwrite(&self, next: &Next, data: &[u8], offset: u64, fua: bool) -> Result<()> {
        next.pwrite(data, offset, fua)
    }

    /// Makes durable what was acknowledged before.
    fn flush(&self, next: &Next) -> Result<()> {
        next.flush()
    }

    /// The content of `count` bytes from `offset` is no longer wanted.
    fn trim(&self, next: &Next, count: u32, offset: u64, fua: bool) -> Result<()> {
        next.trim(count, offset, fua)
    }

    /// Makes `count` bytes from `offset` read as zeros. ENOTSUP is an answer only if
    /// `options.fast` is set; otherwise the client gets EIO for it.
    fn zero(&self, next: &Next, count: u32, offset: u64, options: ZeroOptions) -> Result<()> {
        next.zero(count, offset, options)
    }

    /// Tells the status of the bytes from `offset` on: at least one extent, the first starting at
    /// `offset`. With `one`, one is enough. Extents may go past `count`.
    fn extents(
        &self,
        next: &Next,
        count: u32,
        offset: u64,
        one: bool,
        list: &mut ExtentList<'_>,
    ) -> Result<()> {
        next.extents_into(count, offset, one, list)
    }

    /// Fetches without returning data.
    fn cache(&self, next: &Next, count: u32, offset: u64) -> Result<()> {
        next.cache(count, offset)
    }
}

/// Passes everything on.
impl Connection for () {}
