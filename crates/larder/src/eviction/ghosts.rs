//! Remembers which blocks were evicted lately, as fingerprints of 3 bytes.
//!
//! A table of small buckets: a block's hash chooses the bucket, and an entry there holds 16 bits
//! of the hash and the time of the eviction. Time is counted in evictions. Nothing ever sweeps the
//! table: a new entry pushes the oldest out of its bucket and clears those that are so old that the clock would come
//! around, and an entry counts only while it is young. A rare error follows and is harmless, since a ghost is only a
//! hint: another block with the same bits (one look-up in 4,000).

/// Entries of a bucket.
const WAYS: usize = 16;
/// The table has room for this many entries per ghost wanted, in quarters: a bucket that is full by
/// chance drops ghosts before their time.
const ROOM_QUARTERS: u64 = 5;
/// The clock's ticks in the time it takes to evict as many blocks as there are ghosts.
const TICKS_PER_LIFE: u64 = 64;
/// No entry grows older than this, in ticks. Two lives, in which each bucket has some 25 new entries.
const MAX_AGE: u8 = 127;
/// No more ghosts than this, whatever the cache's limit says: 240 MiB.
const MAX_GHOSTS: u64 = 1 << 26;

/// The blocks evicted lately.
pub(super) struct Ghosts {
    /// None before the first eviction. The newest entry of a bucket comes first.
    entries: Option<Entries>,
    buckets: u64,
    evictions: u64,
    evictions_per_tick: u64,
}

/// The entries of all buckets.
struct Entries {
    /// 0 where there is no entry.
    fingerprints: Vec<u16>,
    ticks: Vec<u8>,
}

impl Ghosts {
    /// Room for `count` ghosts; for none, nothing is remembered.
    pub(super) fn new(count: u64) -> Self {
        let count = count.min(MAX_GHOSTS);
        Self {
            entries: None,
            buckets: (count * ROOM_QUARTERS / 4).div_ceil(WAYS as u64),
            evictions: 0,
            evictions_per_tick: (count / TICKS_PER_LIFE).max(1),
        }
    }

    /// The block known by `key` has been evicted.
    pub(super) fn remember(&mut self, key: u32) {
        self.evictions += 1;
        if self.buckets == 0 {
            return;
        }
        let (now, start) = (self.tick(), self.start(key));
        let entries = self.entries.get_or_insert_with(|| {
            let room = self.buckets as usize * WAYS;
            Entries {
                fingerprints: vec![0; room],
                ticks: vec![0; room],
            }
        });
        let (fingerprints, ticks) = entries.bucket(start);
        fingerprints.copy_within(..WAYS - 1, 1);
        ticks.copy_within(..WAYS - 1, 1);
        (fingerprints[0], ticks[0]) = (fingerprint(key), now);
        for (fingerprint, tick) in fingerprints.iter_mut().zip(ticks).rev() {
            if *fingerprint != 0 && now.wrapping_sub(*tick) <= MAX_AGE {
                break;
            }
            *fingerprint = 0;
        }
    }

    /// Forgets the block known by `key`, and tells whether it was among the last `count` evicted.
    pub(super) fn take(&mut self, key: u32, count: usize) -> bool {
        let (now, start) = (self.tick(), self.start(key));
        let youth = count as u64 / self.evictions_per_tick;
        let Some(entries) = &mut self.entries else {
            return false;
        };
        let (fingerprints, ticks) = entries.bucket(start);
        let wanted = fingerprint(key);
        let Some(at) = fingerprints.iter().position(|found| *found == wanted) else {
            return false;
        };
        let is_young = u64::from(now.wrapping_sub(ticks[at])) <= youth;
        fingerprints.copy_within(at + 1.., at);
        ticks.copy_within(at + 1.., at);
        fingerprints[WAYS - 1] = 0;
        is_young
    }

    fn tick(&self) -> u8 {
        (self.evictions / self.evictions_per_tick) as u8
    }

    /// Where the bucket of `key` begins.
    fn start(&self, key: u32) -> usize {
        ((u64::from(key) * self.buckets) >> 32) as usize * WAYS
    }
}

impl Entries {
    fn bucket(&mut self, start: usize) -> (&mut [u16], &mut [u8]) {
        let all = start..start + WAYS;
        (&mut self.fingerprints[all.clone()], &mut self.ticks[all])
    }
}

/// Never 0, so that no entry looks empty.
fn fingerprint(key: u32) -> u16 {
    (key as u16).max(1)
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

    /// However long the clock runs.
    #[test]
    fn what_is_old_stays_forgotten_when_the_clock_comes_around() {
        let mut ghosts = Ghosts::new(640);
        for number in 0..50 {
            ghosts.remember(key(number));
        }
        let mut taken = 0;
        for number in 1000..1000 + 300 * 64 {
            // Taken at once, so that nothing is pushed out of any bucket.
            ghosts.remember(key(number));
            ghosts.take(key(number), 640);
            taken += usize::from(ghosts.take(key(number % 50), 640) && number > 2000);
        }
        assert_eq!(taken, 0);
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
