//! The figures an operator needs.

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
    /// Slots in use now.
    pub slots_used: u64,
}
