//! The next layer on one connection: a handle that can be cloned, sent to other threads and kept
//! for too long, and still never makes nbdkit abort.
//!
//! Invariants:
//! - Size and capabilities are asked once, before `prepare`, and never change. Every request is
//!   checked against them here; what nbdkit would abort on comes back as an error instead.
//! - The C pointer is only used by who holds a pass (`access.rs`), so never after `finalize`.

use std::ffi::{CStr, CString, c_int};
use std::fmt;
use std::sync::Arc;

use crate::access::{Access, Pass, Window};
use crate::api;
use crate::capabilities::{BlockSize, Cache, Capabilities, Fua, ThreadModel, Zero, ZeroOptions};
use crate::error::{Error, Result};
use crate::extent::{Extent, ExtentList};
use crate::raw::{self, NextOps};

/// The next layer (a filter or the plugin) as one connection sees it.
///
/// Clones are cheap and may go to other threads. Each call fails
///
/// - with ESHUTDOWN once the connection has been finalized;
/// - with EBUSY if the thread model is not parallel and no callback of this connection is
///   running: other threads may then call only on behalf of a callback that waits for them;
/// - with EROFS, EINVAL or EOPNOTSUPP if the request is one that nbdkit would abort on.
#[derive(Clone)]
pub struct Next {
    inner: Arc<Inner>,
}

struct Inner {
    pointer: *mut NextOps,
    facts: Facts,
    access: Access,
}

/// What was asked before `prepare`.
#[derive(Clone, Copy, Debug)]
struct Facts {
    size: u64,
    capabilities: Capabilities,
    block_size: Option<BlockSize>,
}

// SAFETY: the pointer is used only under a pass, which bars use after finalize and, in models
// that are not parallel, use by two threads at once or outside a callback. nbdkit's functions
// take the connection from the context, not from the thread, so the thread does not matter.
unsafe impl Send for Inner {}
// SAFETY: as for Send.
unsafe impl Sync for Inner {}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("facts", &self.inner.facts)
            .field("access", &self.inner.access)
            .finish_non_exhaustive()
    }
}

impl Next {
    /// Asks for size and capabilities.
    ///
    /// # Safety
    ///
    /// `pointer` is what nbdkit passed to the `prepare` callback that is running, and
    /// [`Next::close`] is called before nbdkit closes that context.
    pub(crate) unsafe fn new(pointer: *mut NextOps, model: ThreadModel) -> Result<Self> {
        // SAFETY: as the caller promises.
        let facts = unsafe { Facts::ask(pointer)? };
        Ok(Self {
            inner: Arc::new(Inner {
                pointer,
                facts,
                access: Access::new(model),
            }),
        })
    }

    pub(crate) fn close(&self) {
        self.inner.access.close();
    }

    pub(crate) fn window(&self) -> Window<'_> {
        self.inner.access.window()
    }

    /// The size in bytes of the next layer.
    pub fn size(&self) -> u64 {
        self.inner.facts.size
    }

    /// What the next layer can do.
    pub fn capabilities(&self) -> Capabilities {
        self.inner.facts.capabilities
    }

    /// What the next layer asks of requests; `None` if nothing. nbdkit does not abort on requests
    /// that ignore it, but the plugin may fail them.
    pub fn block_size(&self) -> Option<BlockSize> {
        self.inner.facts.block_size
    }

    /// Whether threads may call outside this connection's callbacks.
    pub fn is_parallel(&self) -> bool {
        self.inner.access.is_parallel()
    }

    /// Whether the connection has not been finalized yet. It may be by the time this returns.
    pub fn is_open(&self) -> bool {
        !self.inner.access.is_closed()
    }

    /// The next layer's description of the export.
    pub fn export_description(&self) -> Result<Option<CString>> {
        let (ops, _pass) = self.enter()?;
        // SAFETY: `ops` is valid while the pass is held.
        let text = unsafe { ((*ops).export_description)(ops) };
        // SAFETY: nbdkit returns NULL or a string that lives as long as the connection.
        Ok((!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned()))
    }

    /// Fills `buffer` from `offset`.
    pub fn pread(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let count = self.count_of("pread", buffer.len())?;
        self.check_range("pread", count, offset)?;
        let (ops, _pass) = self.enter()?;
        let mut errno = 0;
        // SAFETY: `ops` is valid while the pass is held; the buffer has `count` bytes; the range
        // is inside the size this context was asked for.
        let result = unsafe {
            ((*ops).pread)(
                ops,
                buffer.as_mut_ptr().cast(),
                count,
                offset,
                0,
                &mut errno,
            )
        };
        answer(result, errno)
    }

    /// Writes `data` at `offset`; with `fua` it is durable on return.
    pub fn pwrite(&self, data: &[u8], offset: u64, fua: bool) -> Result<()> {
        let count = self.count_of("pwrite", data.len())?;
        self.check_change("pwrite", count, offset, fua)?;
        let (ops, _pass) = self.enter()?;
        let flags = if fua { raw::FLAG_FUA } else { 0 };
        let mut errno = 0;
        // SAFETY: as in `pread`; writing and, if wanted, FUA were said to be possible.
        let result =
            unsafe { ((*ops).pwrite)(ops, data.as_ptr().cast(), count, offset, flags, &mut errno) };
        answer(result, errno)
    }

    /// Makes durable what this connection was acknowledged before.
    pub fn flush(&self) -> Result<()> {
        if !self.capabilities().flush {
            return Err(lacking("flush"));
        }
        let (ops, _pass) = self.enter()?;
        let mut errno = 0;
        // SAFETY: `ops` is valid while the pass is held; flush was said to be possible.
        let result = unsafe { ((*ops).flush)(ops, 0, &mut errno) };
        answer(result, errno)
    }

    /// Tells that the content of `count` bytes from `offset` is no longer wanted.
    pub fn trim(&self, count: u32, offset: u64, fua: bool) -> Result<()> {
        self.check_change("trim", count, offset, fua)?;
        if !self.capabilities().trim {
            return Err(lacking("trim"));
        }
        let (ops, _pass) = self.enter()?;
        let flags = if fua { raw::FLAG_FUA } else { 0 };
        let mut errno = 0;
        // SAFETY: as in `pwrite`; trim was said to be possible.
        let result = unsafe { ((*ops).trim)(ops, count, offset, flags, &mut errno) };
        answer(result, errno)
    }

    /// Makes `count` bytes from `offset` read as zeros. Fails with ENOTSUP only if `options.fast`.
    pub fn zero(&self, count: u32, offset: u64, options: ZeroOptions) -> Result<()> {
        self.check_change("zero", count, offset, options.fua)?;
        if self.capabilities().zero == Zero::None {
            return Err(lacking("zero"));
        }
        if options.fast && !self.capabilities().fast_zero {
            return Err(lacking("fast zero"));
        }
        let (ops, _pass) = self.enter()?;
        let mut errno = 0;
        // SAFETY: as in `pwrite`; zero and, if wanted, fast zero were said to be possible.
        let result = unsafe { ((*ops).zero)(ops, count, offset, options.to_raw(), &mut errno) };
        answer(result, errno)
    }

    /// The status of the bytes from `offset` on: at least one extent, the first starting at
    /// `offset`, all inside the `count` bytes asked for and possibly covering fewer. With `one`
    /// the next layer may stop after the first.
    pub fn extents(&self, count: u32, offset: u64, one: bool) -> Result<Vec<Extent>> {
        self.check_range("extents", count, offset)?;
        if !self.capabilities().extents {
            return Err(lacking("extents"));
        }
        let list = api::OwnedExtents::new(offset, offset + u64::from(count))?;
        self.ask_extents(count, offset, one, list.pointer())?;
        let extents = list.to_vec();
        if extents.first().is_none_or(|first| first.offset != offset) {
            return Err(no_progress(offset));
        }
        Ok(extents)
    }

    /// Has the next layer fill the client's list. Where it lacks extents, all is data, as nbdkit
    /// itself would say.
    pub fn extents_into(
        &self,
        count: u32,
        offset: u64,
        one: bool,
        list: &mut ExtentList<'_>,
    ) -> Result<()> {
        self.check_range("extents", count, offset)?;
        if !self.capabilities().extents {
            return list.add(Extent {
                offset,
                length: u64::from(count),
                hole: false,
                zero: false,
            });
        }
        if !list.is_empty() || list.position() != offset {
            for extent in self.extents(count, offset, one)? {
                list.add(extent)?;
            }
            return Ok(());
        }
        self.ask_extents(count, offset, one, list.pointer())?;
        let end = api::end_of_extents(list.pointer()).ok_or_else(|| no_progress(offset))?;
        list.filled_to(end);
        Ok(())
    }

    /// Fetches without returning data.
    pub fn cache(&self, count: u32, offset: u64) -> Result<()> {
        self.check_range("cache", count, offset)?;
        if self.capabilities().cache == Cache::None {
            return Err(lacking("cache"));
        }
        let (ops, _pass) = self.enter()?;
        let mut errno = 0;
        // SAFETY: as in `pread`; cache was said to be possible.
        let result = unsafe { ((*ops).cache)(ops, count, offset, 0, &mut errno) };
        answer(result, errno)
    }

    fn ask_extents(
        &self,
        count: u32,
        offset: u64,
        one: bool,
        list: *mut raw::Extents,
    ) -> Result<()> {
        let (ops, _pass) = self.enter()?;
        let flags = if one { raw::FLAG_REQ_ONE } else { 0 };
        let mut errno = 0;
        // SAFETY: as in `pread`; extents were said to be possible; the list is alive and empty.
        let result = unsafe { ((*ops).extents)(ops, count, offset, flags, list, &mut errno) };
        answer(result, errno)
    }

    fn enter(&self) -> Result<(*mut NextOps, Pass<'_>)> {
        let pass = self.inner.access.enter()?;
        Ok((self.inner.pointer, pass))
    }

    fn count_of(&self, what: &str, length: usize) -> Result<u32> {
        u32::try_from(length)
            .map_err(|_| Error::invalid(format!("{what}: {length} bytes are too many at once")))
    }

    fn check_range(&self, what: &str, count: u32, offset: u64) -> Result<()> {
        let size = self.size();
        if count == 0 {
            return Err(Error::invalid(format!("{what}: a request for no bytes")));
        }
        match offset.checked_add(u64::from(count)) {
            Some(end) if end <= size => Ok(()),
            _ => Err(Error::invalid(format!(
                "{what}: {count} bytes at {offset} go beyond the next layer's {size}"
            ))),
        }
    }

    fn check_change(&self, what: &str, count: u32, offset: u64, fua: bool) -> Result<()> {
        if !self.capabilities().write {
            return Err(Error::new(
                libc::EROFS,
                format!("{what}: the next layer is read-only"),
            ));
        }
        if fua && self.capabilities().fua == Fua::None {
            return Err(lacking("FUA"));
        }
        self.check_range(what, count, offset)
    }
}

impl Facts {
    /// # Safety
    ///
    /// `ops` is the context of the `prepare` callback that is running.
    unsafe fn ask(ops: *mut NextOps) -> Result<Self> {
        let ask = |what: &str, function: raw::Ask| {
            // SAFETY: as the caller promises.
            match unsafe { function(ops) } {
                value if value < 0 => Err(unanswered(what)),
                value => Ok(value),
            }
        };
        // SAFETY: as the caller promises.
        let table = unsafe { &*ops };
        // SAFETY: as the caller promises.
        let size = unsafe { (table.get_size)(ops) };
        let size = u64::try_from(size).map_err(|_| unanswered("get_size"))?;
        let capabilities = Capabilities {
            write: ask("can_write", table.can_write)? != 0,
            flush: ask("can_flush", table.can_flush)? != 0,
            rotational: ask("is_rotational", table.is_rotational)? != 0,
            trim: ask("can_trim", table.can_trim)? != 0,
            zero: Zero::from_raw(ask("can_zero", table.can_zero)?),
            fast_zero: ask("can_fast_zero", table.can_fast_zero)? != 0,
            extents: ask("can_extents", table.can_extents)? != 0,
            fua: Fua::from_raw(ask("can_fua", table.can_fua)?),
            multi_conn: ask("can_multi_conn", table.can_multi_conn)? != 0,
            cache: Cache::from_raw(ask("can_cache", table.can_cache)?),
        };
        let (mut minimum, mut preferred, mut maximum) = (0, 0, 0);
        // SAFETY: as the caller promises; the numbers outlive the call.
        let result = unsafe { (table.block_size)(ops, &mut minimum, &mut preferred, &mut maximum) };
        if result == -1 {
            return Err(unanswered("block_size"));
        }
        let block_size = (minimum != 0).then_some(BlockSize {
            minimum,
            preferred,
            maximum,
        });
        Ok(Self {
            size,
            capabilities,
            block_size,
        })
    }
}

fn answer(result: c_int, errno: c_int) -> Result<()> {
    if result == -1 {
        return Err(Error::from_errno(errno));
    }
    Ok(())
}

fn unanswered(what: &str) -> Error {
    Error::new(libc::EIO, format!("{what}: the next layer could not tell"))
}

fn lacking(what: &str) -> Error {
    Error::new(
        libc::EOPNOTSUPP,
        format!("{what}: the next layer cannot do it"),
    )
}

fn no_progress(offset: u64) -> Error {
    Error::new(
        libc::EIO,
        format!("extents: the next layer tells nothing about {offset}"),
    )
}
