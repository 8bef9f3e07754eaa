//! Readahead: what is fetched ahead of the streams of one connection.
//!
//! In the background (the front end calls [`crate::Connection::fetch_ahead`]) a stream's next window becomes due when its
//! reader comes to the marker in the last one. Elsewhere a stream's miss asks the origin for more than the reader did.
//!
//! Either way it is a courtesy: it takes free slots and clean victims and waits for nothing; what somebody else is
//! fetching is left to them; what cannot be had fails nobody's request. What it fetches is claimed, checked and stored as
//! every fetch is (see `fetch.rs`).
//!
//! The lock of the streams is a leaf. Readers that follow no stream meet it on a miss only.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::client::Client;
use crate::config::CacheOnRead;
use crate::fetch;
use crate::origin::Capabilities;
use crate::sector::{BlockNumber, Geometry};
use crate::store::Store;
use crate::streams::{Asked, Growth, StreamNumber, Streams, Window, Windows};
use crate::sync::{self, Condvar};

/// The first window of a stream, at least.
const FIRST_WINDOW_BYTES: u64 = 128 << 10;
/// What a window may take of the cache: one part in so many.
const SHARE_OF_CACHE: u64 = 8;
/// The first request of a connection for a window in the background.
const FIRST_PART_BYTES: u64 = 1 << 20;
/// Requests become shorter that take longer than this, since a reader may wait for them, and the end of the connection.
const LONG: Duration = Duration::from_millis(400);
/// Requests become longer that take less than this.
const SHORT: Duration = Duration::from_millis(100);

/// What is fetched ahead of one connection's readers.
#[derive(Debug)]
pub(crate) struct Readahead {
    /// None where nothing is.
    streams: Option<Mutex<Streams>>,
    in_background: bool,
    /// See [`Streams::markers`].
    markers: AtomicU64,
    is_due: AtomicBool,
    has_ended: AtomicBool,
    changed: Condvar,
    /// Blocks that reads which missed are waiting for.
    waited_for: AtomicU64,
    part_bytes: AtomicU64,
}

impl Readahead {
    /// For a connection to an origin that can do `capabilities`.
    pub(crate) fn new(store: &Store, geometry: Geometry, capabilities: &Capabilities) -> Self {
        let config = &store.config;
        let in_background = config.readahead_in_background && capabilities.parallel;
        let share = u64::from(store.slots.limit()) / SHARE_OF_CACHE;
        let size = (config.readahead_bytes / geometry.block_bytes()).min(share);
        let is_on = size > 0 && config.cache_on_read != CacheOnRead::Never;
        let windows = Windows {
            first: (FIRST_WINDOW_BYTES / geometry.block_bytes()).max(1),
            // In the background, the next window comes while the reader is in the last one.
            most: if in_background {
                (size / 2).max(1)
            } else {
                size
            },
        };
        Self {
            streams: is_on.then(|| Mutex::new(Streams::new(windows, in_background))),
            in_background,
            markers: AtomicU64::new(0),
            is_due: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            changed: Condvar::new(),
            waited_for: AtomicU64::new(0),
            part_bytes: AtomicU64::new(FIRST_PART_BYTES),
        }
    }

    /// A read that was tried at once has missed. Told here as well as by the read that follows, since that may be
    /// overtaken by others.
    pub(crate) fn missed_at_once(&self, geometry: Geometry, offset: u64, length: u64) {
        if self.in_background {
            self.missed(asked(geometry, offset, length));
        }
    }

    /// A read has missed, and is told how it may be made longer. It waits until what is returned is dropped.
    pub(crate) fn waits(&self, geometry: Geometry, offset: u64, length: u64) -> Waits<'_> {
        let asked = asked(geometry, offset, length);
        let growth = self.missed(asked);
        self.waited_for.fetch_add(asked.blocks(), Ordering::Relaxed);
        Waits {
            readahead: self,
            blocks: asked.blocks(),
            growth,
        }
    }

    fn missed(&self, asked: Asked) -> Option<Growth> {
        let mut streams = sync::lock(self.streams.as_ref()?);
        let growth = streams.missed(asked, self.waited_for.load(Ordering::Relaxed));
        self.publish(&streams);
        growth
    }

    /// A reader has come to a block that is here.
    #[inline]
    pub(crate) fn reached(&self, number: BlockNumber) {
        if self.markers.load(Ordering::Relaxed) >> (number.0 & 63) & 1 == 1 {
            self.reached_marker(number);
        }
    }

    #[cold]
    fn reached_marker(&self, number: BlockNumber) {
        if let Some(streams) = &self.streams {
            let mut streams = sync::lock(streams);
            streams.reached(number.0);
            self.publish(&streams);
        }
    }

    /// A read was made longer, up to that block.
    pub(crate) fn grew(&self, stream: StreamNumber, end: u64) {
        if let Some(streams) = &self.streams {
            sync::lock(streams).grew(stream, end);
        }
    }

    /// What was only fetched ahead could not be had.
    pub(crate) fn failed(&self, stream: StreamNumber) {
        if let Some(streams) = &self.streams {
            let mut streams = sync::lock(streams);
            streams.failed(stream);
            self.publish(&streams);
        }
    }

    /// Called with the lock of the streams held.
    fn publish(&self, streams: &Streams) {
        self.markers.store(streams.markers(), Ordering::Relaxed);
        let is_due = streams.is_due();
        if self.is_due.swap(is_due, Ordering::SeqCst) != is_due && is_due {
            self.changed.notify_one();
        }
    }

    /// Whether something is to be fetched in the background.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Relaxed)
    }

    /// Nothing more is fetched ahead.
    pub(crate) fn end(&self) {
        if let Some(streams) = &self.streams {
            let _streams = sync::lock(streams);
            self.has_ended.store(true, Ordering::SeqCst);
            self.changed.notify_all();
        }
    }

    /// Waits for a window that is due. None if none was for so long, or once it has ended.
    pub(crate) fn wait_for_window(&self, patience: Duration) -> Option<Window> {
        let streams = sync::lock(self.streams.as_ref()?);
        let mut window = None;
        let _streams = sync::wait_while(&self.changed, streams, patience, |streams| {
            if self.has_ended.load(Ordering::SeqCst) {
                return false;
            }
            window = streams.take_due();
            self.publish(streams);
            window.is_none()
        });
        window
    }
}

fn asked(geometry: Geometry, offset: u64, length: u64) -> Asked {
    let first = geometry.block_of(offset);
    let last = geometry.block_of(offset + length.max(1) - 1);
    Asked::new(first.0, last.0 + 1, geometry.base(first) == offset)
}

/// A read that waits for what it missed.
pub(crate) struct Waits<'r> {
    readahead: &'r Readahead,
    blocks: u64,
    /// How it may be made longer.
    pub growth: Option<Growth>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let waited_for = &self.readahead.waited_for;
        waited_for.fetch_sub(self.blocks, Ordering::Relaxed);
    }
}

/// How much memory fetching a window takes at most, in bytes: that of its longest request.
pub(crate) fn most_bytes(client: &Client, window: &Window) -> u64 {
    let block_bytes = client.volume.geometry().block_bytes();
    let longest = fetch::CHUNK_BYTES.min(client.attached.maximum_bytes() as u64);
    let blocks = window.blocks.end.saturating_sub(window.blocks.start);
    (blocks * block_bytes).min(longest.max(block_bytes))
}

/// Fetches a window in requests that are not too long, unless the connection ends.
pub(crate) fn fetch_window(client: &Client, window: Window) {
    let store = client.store();
    let readahead = &client.readahead;
    let geometry = client.volume.geometry();
    let end = client.volume.size().div_ceil(geometry.block_bytes());
    let end = window.blocks.end.min(end);
    let mut at = window.blocks.start;
    while at < end && !readahead.has_ended.load(Ordering::SeqCst) && client.stores_misses() {
        let part_bytes = readahead.part_bytes.load(Ordering::Relaxed);
        let longest = part_bytes.min(client.attached.maximum_bytes() as u64);
        let stop = end.min(at + (longest / geometry.block_bytes()).max(1));
        let began = store.clock.now();
        if let Err(error) = fetch::ahead::fetch(client, at..stop) {
            store.trace(|| format!("readahead of blocks {at} to {stop}: {error}"));
            readahead.failed(window.stream);
            return;
        }
        match store.clock.since(began) {
            long if long > LONG => readahead.set_part_bytes(part_bytes / 2),
            short if short < SHORT => readahead.set_part_bytes(part_bytes * 2),
            _ => {}
        }
        at = stop;
    }
}

impl Readahead {
    fn set_part_bytes(&self, bytes: u64) {
        let bytes = bytes.clamp(FIRST_WINDOW_BYTES, fetch::CHUNK_BYTES);
        self.part_bytes.store(bytes, Ordering::Relaxed);
    }
}
