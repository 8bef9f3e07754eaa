//! How nbdkit's cache filter chooses (nbdkit 1.32, filters/cache/lru.c and reclaim.c): two bitmaps hold the
//! blocks used lately, between an eighth and a quarter of the limit and at least 50 to 100 of them.
//! Reclaim goes round the disk in block order and takes a block that is in neither; when there is none,
//! any block. The real one takes two at a time between its thresholds, and may exceed its limit; here
//! it is held to it, one block at a time, as the others are.

use super::Policy;

pub(crate) struct CFilter {
    capacity: usize,
    cached: Vec<bool>,
    len: usize,
    recent: [Vec<bool>; 2],
    recent_count: usize,
    recent_limit: usize,
    /// The block that was taken last.
    hand: usize,
}

impl CFilter {
    pub(crate) fn new(capacity: usize, footprint: usize) -> Self {
        Self {
            capacity,
            cached: vec![false; footprint],
            len: 0,
            recent: [vec![false; footprint], vec![false; footprint]],
            recent_count: 0,
            recent_limit: (capacity / 4).max(100) / 2,
            hand: 0,
        }
    }

    fn reclaim(&mut self) {
        let footprint = self.cached.len();
        let round = (1..=footprint).map(|step| (self.hand + step) % footprint);
        let mut cached = round.filter(|block| self.cached[*block]);
        let is_old = |block: &usize| !self.recent[0][*block] && !self.recent[1][*block];
        if let Some(victim) = cached.clone().find(is_old).or_else(|| cached.next()) {
            self.cached[victim] = false;
            self.len -= 1;
            self.hand = victim;
        }
    }

    fn set_recent(&mut self, block: usize) {
        if !std::mem::replace(&mut self.recent[0][block], true) {
            self.recent_count += 1;
            if self.recent_count >= self.recent_limit {
                self.recent.swap(0, 1);
                self.recent[0].fill(false);
                self.recent_count = 0;
            }
        }
    }
}

impl Policy for CFilter {
    fn access(&mut self, block: u32) -> bool {
        let block = block as usize;
        if !self.cached[block] && self.len == self.capacity {
            self.reclaim();
        }
        let hit = std::mem::replace(&mut self.cached[block], true);
        self.len += usize::from(!hit);
        self.set_recent(block);
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::super::played;
    use super::*;

    #[test]
    fn goes_round_the_disk_and_passes_over_what_was_used_lately() {
        let mut cache = CFilter::new(3, 10);
        // Two blocks fill a bitmap: after 0 1 | 2 3 both bitmaps know 2 and 3, and 0 1 are forgotten.
        cache.recent_limit = 2;
        assert_eq!(played(&mut cache, &[0, 1, 2]), "mmm");
        // 0, 1 and 2 were all used lately: any will do, and the first after block 0 is 1.
        assert_eq!(played(&mut cache, &[3]), "m");
        assert!(!cache.cached[1] && cache.cached[0]);
        // Now 0 is old, and is taken although the hand meets 2 and 3 before it.
        assert_eq!(played(&mut cache, &[4]), "m");
        assert!(!cache.cached[0] && cache.cached[2]);
        assert_eq!(played(&mut cache, &[2, 3, 4]), "hhh");
    }
}
