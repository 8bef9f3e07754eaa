//! The connections of a volume to its origin, and who may use them.
//!
//! Background work borrows a live writable connection. A connection that leaves is marked
//! first, so that nobody borrows it any more, and waits in the end until every borrow has ended.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use std::io;

use crate::ordered::QueuedOrigin;
use crate::origin::{Capabilities, Fua, Origin, RequestLimits};
use crate::scratch::Scratch;
use crate::sync::{self, Condvar};

/// Tells connections apart, also from those that have gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionNumber(pub u64);

/// One connection to the origin, with what it said of itself.
pub(crate) struct Attached {
    pub number: ConnectionNumber,
    /// When it joined, see [`crate::unflushed::Flush`].
    pub joined: u64,
    pub origin: Arc<dyn Origin>,
    /// The same, where it is the queue in front of one that gets everything in order.
    pub queued: Option<Arc<QueuedOrigin>>,
    pub capabilities: Capabilities,
    pub limits: RequestLimits,
    /// How often it told of a lost connection.
    pub losses: AtomicU64,
    /// It has served a request. One that has not may be a handshake that will never end properly.
    active: AtomicBool,
    /// It writes back for the last time, and is not to be borrowed any more.
    leaving: AtomicBool,
    borrows: Mutex<usize>,
    returned: Condvar,
}

impl Attached {
    /// With the volume's queue before the origin.
    pub(crate) fn queued(queued: Arc<QueuedOrigin>, joined: u64) -> Arc<Self> {
        Self::make(Arc::clone(&queued) as Arc<dyn Origin>, Some(queued), joined)
    }

    pub(crate) fn new(origin: Arc<dyn Origin>, joined: u64) -> Arc<Self> {
        Self::make(origin, None, joined)
    }

    fn make(origin: Arc<dyn Origin>, queued: Option<Arc<QueuedOrigin>>, joined: u64) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            number: ConnectionNumber(NEXT.fetch_add(1, Ordering::Relaxed)),
            joined,
            capabilities: origin.capabilities(),
            limits: origin.limits(),
            origin,
            queued,
            losses: AtomicU64::new(0),
            active: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            borrows: Mutex::new(0),
            returned: Condvar::new(),
        })
    }

    pub(crate) fn set_active(&self) {
        self.active.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst)
    }

    /// Reads at least the bytes from `start` to `end`, as the origin's minimum and maximum want it.
    /// Gives the offset of the first byte read, too.
    pub(crate) fn read_span(&self, start: u64, end: u64) -> io::Result<(u64, Scratch)> {
        let minimum = u64::from(self.limits.minimum.max(1));
        let first = start / minimum * minimum;
        let last = (end.div_ceil(minimum) * minimum).min(self.origin.size());
        if last < end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut buffer = Scratch::new((last - first) as usize);
        self.read_into(first, &mut buffer)?;
        Ok((first, buffer))
    }

    /// Whether a read of these bytes needs no widening.
    pub(crate) fn is_aligned(&self, start: u64, end: u64) -> bool {
        let minimum = u64::from(self.limits.minimum.max(1));
        start.is_multiple_of(minimum) && (end.is_multiple_of(minimum) || end == self.origin.size())
    }

    /// Fills `buffer` from an aligned offset, in as many requests as the maximum wants.
    pub(crate) fn read_into(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        for part in buffer.chunks_mut(self.maximum_bytes()) {
            self.origin.read(at, part)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes aligned data, in as many requests as the maximum wants. With `durable` it is on
    /// stable storage on return, as far as the origin knows how.
    pub(crate) fn write(&self, offset: u64, data: &[u8], durable: bool) -> io::Result<()> {
        let fua = durable && self.fua_per_request(data.len());
        let mut at = offset;
        for part in data.chunks(self.maximum_bytes()) {
            self.origin.write(at, part, fua)?;
            at += part.len() as u64;
        }
        if durable && !fua {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Whether to ask for durability with each of the requests that so many bytes need, rather
    /// than flush once after them.
    fn fua_per_request(&self, bytes: usize) -> bool {
        match self.capabilities.fua {
            Fua::None => false,
            Fua::Emulated => bytes <= self.maximum_bytes(),
            Fua::Native => true,
        }
    }

    /// Flushes the origin if it can, and hears what it has lost.
    pub(crate) fn flush(&self) -> io::Result<()> {
        if self.capabilities.takes_flush() {
            self.origin.flush()
        } else {
            Ok(())
        }
    }

    /// The longest request, in bytes.
    pub(crate) fn maximum_bytes(&self) -> usize {
        let minimum = self.limits.minimum.max(1);
        (self.limits.maximum / minimum * minimum).max(minimum) as usize
    }

    fn is_active_writer(&self) -> bool {
        self.capabilities.write && self.is_active() && !self.leaving.load(Ordering::SeqCst)
    }
}

/// A connection that somebody else uses; given back when dropped.
pub(crate) struct Borrowed {
    attached: Arc<Attached>,
}

impl std::ops::Deref for Borrowed {
    type Target = Attached;
    fn deref(&self) -> &Attached {
        &self.attached
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        *sync::lock(&self.attached.borrows) -= 1;
        self.attached.returned.notify_all();
    }
}

/// All live connections of a volume.
#[derive(Default)]
pub(crate) struct AttachedList {
    list: Mutex<Vec<Arc<Attached>>>,
    /// Borrows go round, so that one connection that has died does not stop all background work.
    next_to_borrow: AtomicUsize,
}

impl AttachedList {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Attached>>> {
        sync::lock(&self.list)
    }

    pub(crate) fn join(&self, attached: Arc<Attached>) {
        self.lock().push(attached);
    }

    /// A live writable connection whose origin allows calls from other threads.
    pub(crate) fn borrow_writer(&self) -> Option<Borrowed> {
        let list = self.lock();
        let first = self.next_to_borrow.fetch_add(1, Ordering::Relaxed);
        let round = list.iter().cycle().skip(first % list.len().max(1));
        let attached = round
            .take(list.len())
            .find(|attached| attached.is_active_writer() && attached.capabilities.parallel)?;
        *sync::lock(&attached.borrows) += 1;
        Some(Borrowed {
            attached: Arc::clone(attached),
        })
    }

    /// Whether any connection has served a request.
    pub(crate) fn any_active(&self) -> bool {
        self.lock().iter().any(|attached| attached.is_active())
    }

    /// A connection begins to leave: nobody borrows it from now on, but it is still being served
    /// until [`AttachedList::gone`]. True if no other writable one is in use.
    pub(crate) fn leave(&self, leaving: &Attached) -> bool {
        let list = self.lock();
        leaving.leaving.store(true, Ordering::SeqCst);
        !list.iter().any(|attached| attached.is_active_writer())
    }

    /// A connection has left.
    pub(crate) fn gone(&self, left: &Arc<Attached>) {
        self.lock().retain(|attached| !Arc::ptr_eq(attached, left));
    }

    /// Waits until nobody else uses a connection that is off the list.
    pub(crate) fn wait_for_borrows(leaving: &Attached) {
        let mut borrows = sync::lock(&leaving.borrows);
        while *borrows > 0 {
            borrows = sync::wait(&leaving.returned, borrows);
        }
    }
}
