//! The figures an operator needs.

use std::sync::atomic::{AtomicU64, Ordering};

/// All figures at one moment. Requests count blocks unless the name says bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Block reads answered without the origin.
    pub hits: u64,
    /// Block reads that needed the origin and were stored.
    pub misses: u64,
    /// Block reads that needed the origin and were not stored, as `cache-on-read` says.
    pub pass_through_reads: u64,
    /// Block reads not stored because no room could be made.
    pub no_room_reads: u64,
    /// Block writes into the cache.
    pub writes: u64,
    /// Block writes that went to the origin because no room could be made.
    pub no_room_writes: u64,
    /// Bytes read from the origin.
    pub origin_read_bytes: u64,
    /// Bytes written to the origin.
    pub origin_write_bytes: u64,
    /// Dirty bytes now, in slots.
    pub dirty_bytes: u64,
    /// Age of the oldest dirty data now, in milliseconds; 0 when nothing is dirty.
    pub oldest_dirty_ms: u64,
    /// Blocks evicted.
    pub reclaimed: u64,
    /// Blocks dirty when eviction wanted them, written back first.
    pub reclaim_writebacks: u64,
    /// Origin writes and zeros that failed during a writeback.
    pub writeback_errors: u64,
    /// Times a request waited for room.
    pub room_waits: u64,
    /// Times a request waited for somebody else's fetch.
    pub fetch_waits: u64,
    /// Bytes fetched into the cache ahead of a sequential reader.
    pub readahead_bytes: u64,
    /// Bytes of those whose blocks have been used since; about, where many requests run at once.
    pub readahead_used_bytes: u64,
    /// Sectors that were not in the cache directory as they had been written there, and that the origin has too: they were read again.
    pub bad_clean_sectors: u64,
    /// Bytes of changes that are queued now for an origin that gets them in order, dirty data in slots apart.
    pub queued_bytes: u64,
    /// Flushes among them, of clients and of the cache's own, that the origin does not have yet.
    pub queued_flushes: u64,
    /// Flushes that origins have got in order.
    pub sent_flushes: u64,
    /// Slots in use now.
    pub slots_used: u64,
}

/// A figure that only grows, or goes up and down; kept without a lock.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The figures as they are counted; see [`StatsSnapshot`] for what they mean.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub hits: Counter,
    pub misses: Counter,
    pub pass_through_reads: Counter,
    pub no_room_reads: Counter,
    pub writes: Counter,
    pub no_room_writes: Counter,
    pub origin_read_bytes: Counter,
    pub origin_write_bytes: Counter,
    pub dirty_bytes: Counter,
    /// Blocks with something that the origin does not have for sure.
    pub dirty_blocks: Counter,
    pub reclaimed: Counter,
    pub reclaim_writebacks: Counter,
    pub writeback_errors: Counter,
    pub room_waits: Counter,
    pub fetch_waits: Counter,
    pub readahead_bytes: Counter,
    pub bad_clean_sectors: Counter,
}

impl Stats {
    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            hits: self.hits.get(),
            misses: self.misses.get(),
            pass_through_reads: self.pass_through_reads.get(),
            no_room_reads: self.no_room_reads.get(),
            writes: self.writes.get(),
            no_room_writes: self.no_room_writes.get(),
            origin_read_bytes: self.origin_read_bytes.get(),
            origin_write_bytes: self.origin_write_bytes.get(),
            dirty_bytes: self.dirty_bytes.get(),
            reclaimed: self.reclaimed.get(),
            reclaim_writebacks: self.reclaim_writebacks.get(),
            writeback_errors: self.writeback_errors.get(),
            room_waits: self.room_waits.get(),
            fetch_waits: self.fetch_waits.get(),
            readahead_bytes: self.readahead_bytes.get(),
            bad_clean_sectors: self.bad_clean_sectors.get(),
            ..StatsSnapshot::default()
        }
    }
}
