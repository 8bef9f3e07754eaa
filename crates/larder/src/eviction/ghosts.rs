//! Remembers which blocks were evicted lately, as fingerprints of 4 bytes.
//!
//! A table of small buckets: a block's hash chooses the bucket, and an entry there holds 16 bits
//! of the hash and the time of the eviction. Time is counted in evictions. Nothing ever sweeps the
//! table: a new entry pushes the oldest out of its bucket, and an entry counts only while it is
//! young. Two rare errors follow and are harmless, since a ghost is only a hint: another block with
//! the same bits (one look-up in 4,000), and an entry so old that the clock came around.

/// Entries of a bucket: 64 bytes.
const WAYS: usize = 16;
/// The table has room for this many entries per ghost wanted, in quarters: a bucket that is full by
/// chance drops ghosts before their time.
const ROOM_QUARTERS: u64 = 5;
/// The clock's ticks in the time it takes to evict as many blocks as there are ghosts.
const TICKS_PER_LIFE: u64 = 64;
/// No more ghosts than this, whatever the cache's limit says: 320 MiB.
const MAX_GHOSTS: u64 = 1 << 26;

/// The blocks evicted lately.
pub(super) struct Ghosts {
    /// Tick in the upper half, fingerprint in the lower; 0 is an empty entry. The newest of a bucket
    /// comes first.
    entries: Vec<u32>,
    buckets: u64,
    evictions: u64,
    evictions_per_tick: u64,
}

impl Ghosts {
    /// Room for `count` ghosts; for none, nothing is remembered.
    pub(super) fn new(count: u64) -> Self {
        let count = count.min(MAX_GHOSTS);
        let buckets = (count * ROOM_QUARTERS / 4).div_ceil(WAYS as u64);
        Self {
            entries: vec![0; buckets as usize * WAYS],
            buckets,
            evictions: 0,
            evictions_per_tick: (count / TICKS_PER_LIFE).max(1),
        }
    }

    /// The block known by `key` has been evicted.
    pub(super) fn remember(&mut self, key: u32) {
        self.evictions += 1;
        let now = self.tick();
        let entry = u32::from(now) << 16 | u32::from(fingerprint(key));
        let bucket = self.bucket(key);
        if let Some(others) = bucket.len().checked_sub(1) {
            bucket.copy_within(..others, 1);
            bucket[0] = entry;
        }
    }

    /// Forgets the block known by `key`, and tells whether it was among the last `count` evicted.
    pub(super) fn take(&mut self, key: u32, count: usize) -> bool {
        let now = self.tick();
        let youth = count as u64 / self.evictions_per_tick;
        let wanted = fingerprint(key);
        let bucket = self.bucket(key);
        let Some(at) = bucket.iter().position(|entry| *entry as u16 == wanted) else {
            return false;
        };
        let is_young = u64::from(age(now, bucket[at])) <= youth;
        bucket.copy_within(at + 1.., at);
        if let Some(last) = bucket.last_mut() {
            *last = 0;
        }
        is_young
    }

    fn tick(&self) -> u16 {
        (self.evictions / self.evictions_per_tick) as u16
    }

    fn bucket(&mut self, key: u32) -> &mut [u32] {
        let start = ((u64::from(key) * self.buckets) >> 32) as usize * WAYS;
        let end = self.entries.len().min(start + WAYS);
        &mut self.entries[start..end]
    }
}

/// Never 0, so that no entry looks empty.
fn fingerprint(key: u32) -> u16 {
    (key as u16).max(1)
}

fn age(now: u16, entry: u32) -> u16 {
    now.wrapping_sub((entry >> 16) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> u32 {
        number.wrapping_mul(0x9E37_79B9)
    }

    #[test]
    fn the_last_evicted_are_remembered_and_older_ones_are_not() {
        let mut ghosts = Ghosts::new(1000);
        for number in 0..5000 {
            ghosts.remember(key(number));
        }
        let recent = (4100..5000).filter(|n| ghosts.take(key(*n), 1000)).count();
        let old = (0..3900).filter(|n| ghosts.take(key(*n), 1000)).count();
        assert!(recent > 850, "{recent} of 900 remembered");
        assert!(old < 10, "{old} of 3900 remembered too long");
    }

    #[test]
    fn a_ghost_is_taken_once() {
        let mut ghosts = Ghosts::new(10);
        ghosts.remember(7);
        assert!(ghosts.take(7, 10));
        assert!(!ghosts.take(7, 10));
    }

    #[test]
    fn without_room_nothing_is_remembered() {
        let mut ghosts = Ghosts::new(0);
        ghosts.remember(7);
        assert!(!ghosts.take(7, 10));
    }
}
