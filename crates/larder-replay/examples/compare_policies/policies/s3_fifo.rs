//! S3-FIFO (J. Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023,
//! algorithm 1): a tenth for new blocks, and as many ghosts as there is room in the main queue.

use super::Policy;
use super::lists::Lists;

const SMALL: usize = 0;
const MAIN: usize = 1;
const GHOST: usize = 2;

/// Uses that count, at most.
const MAX_USES: u8 = 3;

pub(crate) struct S3Fifo {
    capacity: usize,
    small_capacity: usize,
    lists: Lists<3>,
    /// By block: uses since it came, or since it came to the main queue.
    uses: Vec<u8>,
}

impl S3Fifo {
    pub(crate) fn new(capacity: usize, footprint: usize) -> Self {
        Self {
            capacity,
            small_capacity: (capacity / 10).max(1),
            lists: Lists::new(footprint),
            uses: vec![0; footprint],
        }
    }

    fn main_capacity(&self) -> usize {
        self.capacity - self.small_capacity
    }

    fn evict(&mut self) {
        if self.lists.len(SMALL) >= self.small_capacity || self.lists.len(MAIN) == 0 {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        while let Some(block) = self.lists.pop(SMALL) {
            if self.uses[block as usize] <= 1 || self.main_capacity() == 0 {
                self.add_ghost(block);
                return;
            }
            self.uses[block as usize] = 0;
            // If main is full, that is the eviction.
            let is_full = self.lists.len(MAIN) >= self.main_capacity();
            if is_full {
                self.evict_main();
            }
            self.lists.push(MAIN, block);
            if is_full {
                return;
            }
        }
        self.evict_main();
    }

    fn evict_main(&mut self) {
        while let Some(block) = self.lists.pop(MAIN) {
            let uses = &mut self.uses[block as usize];
            if *uses == 0 {
                return;
            }
            *uses -= 1;
            self.lists.push(MAIN, block);
        }
    }

    fn add_ghost(&mut self, block: u32) {
        self.lists.push(GHOST, block);
        if self.lists.len(GHOST) > self.main_capacity() {
            self.lists.pop(GHOST);
        }
    }
}

impl Policy for S3Fifo {
    fn access(&mut self, block: u32) -> bool {
        let place = self.lists.of(block);
        if let Some(SMALL | MAIN) = place {
            let uses = &mut self.uses[block as usize];
            *uses = (*uses + 1).min(MAX_USES);
            return true;
        }
        self.lists.remove(block);
        if self.lists.len(SMALL) + self.lists.len(MAIN) >= self.capacity {
            self.evict();
        }
        self.uses[block as usize] = 0;
        self.lists.push(place.map_or(SMALL, |_| MAIN), block);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::played;
    use super::*;

    #[test]
    fn new_blocks_used_twice_more_move_on_and_others_leave() {
        let mut cache = S3Fifo::new(4, 20);
        // 0 is used twice more, 1 once more: that is not enough.
        assert_eq!(played(&mut cache, &[0, 1, 2, 3, 0, 0, 1]), "mmmmhhh");
        assert_eq!(played(&mut cache, &[4]), "m");
        assert_eq!(cache.lists.of(0), Some(MAIN));
        assert_eq!(cache.lists.of(1), Some(GHOST));
        assert_eq!(cache.lists.of(2), Some(SMALL));
    }

    #[test]
    fn a_ghost_goes_to_main_and_main_is_a_clock() {
        let mut cache = S3Fifo::new(4, 20);
        played(&mut cache, &[0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(cache.lists.len(GHOST), 3);
        // Ghosts 0, 1 and 2 come back; the fourth block is 6.
        assert_eq!(played(&mut cache, &[0, 1, 2]), "mmm");
        assert_eq!((cache.lists.len(MAIN), cache.lists.len(SMALL)), (3, 1));
        // 0 is used, so 1 goes when 3, a ghost again, needs room... in small first: 6 leaves.
        assert_eq!(played(&mut cache, &[0, 3]), "hm");
        assert_eq!(cache.lists.of(6), Some(GHOST));
        assert_eq!(cache.lists.len(MAIN), 4);
        assert_eq!(played(&mut cache, &[4]), "m");
        assert_eq!((cache.lists.of(0), cache.lists.of(1)), (Some(MAIN), None));
    }

    #[test]
    fn never_holds_more_than_fits() {
        for capacity in [1, 2, 3, 10, 25] {
            let mut cache = S3Fifo::new(capacity, 60);
            for step in 0..3000u32 {
                cache.access(step.wrapping_mul(2_654_435_761) % 60 % (1 + step % 60));
                let held = cache.lists.len(SMALL) + cache.lists.len(MAIN);
                assert!(held <= capacity, "{held} of {capacity} at step {step}");
            }
        }
    }
}
