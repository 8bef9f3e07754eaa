//! Misses of the optimum: evict what is used again last (L. Belady, 1966).
//!
//! Every block in the cache has a next use of its own, or none. So the set of next uses is all that
//! has to be known of the cache, and a use is a hit if its own time is in the set.

use crate::next_use::{NEVER, NextUses};
use crate::peaks::Peaks;

/// How many uses miss in the best cache of `capacity` blocks, at least one.
pub fn optimum_misses(next_uses: &NextUses, capacity: u64) -> u64 {
    let mut next = Peaks::new(next_uses.uses());
    let mut misses = 0;
    let mut blocks = 0u64;
    // Blocks in the cache that are not used again, or are dropped before. Free places are as good.
    let mut useless = 0u64;
    for (now, next_use) in next_uses.iter().enumerate() {
        if !next.take(now as u32) {
            misses += 1;
            if blocks < capacity {
                blocks += 1;
            } else if useless > 0 {
                useless -= 1;
            } else {
                next.take_largest();
            }
        }
        if next_use == NEVER {
            useless += 1;
        } else {
            next.add(next_use);
        }
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::tests::Random;

    /// The fewest misses that any choice of victims leads to.
    fn fewest(cache: &mut Vec<u32>, capacity: usize, uses: &[u32]) -> u64 {
        let Some((&block, rest)) = uses.split_first() else {
            return 0;
        };
        if cache.contains(&block) {
            return fewest(cache, capacity, rest);
        }
        if cache.len() < capacity {
            cache.push(block);
            let misses = 1 + fewest(cache, capacity, rest);
            cache.pop();
            return misses;
        }
        let choices = (0..capacity).map(|victim| {
            let evicted = std::mem::replace(&mut cache[victim], block);
            let misses = 1 + fewest(cache, capacity, rest);
            cache[victim] = evicted;
            misses
        });
        choices.min().unwrap_or(0)
    }

    #[test]
    fn no_choice_of_victims_misses_less() {
        for seed in 0..150 {
            let mut random = Random(seed);
            let blocks = 3 + random.below(4);
            let uses: Vec<u32> = (0..12).map(|_| random.below(blocks) as u32).collect();
            let mut next_uses = NextUses::default();
            for &block in &uses {
                next_uses.use_block(block);
            }
            for capacity in 1..=3 {
                let expected = fewest(&mut Vec::new(), capacity, &uses);
                let found = optimum_misses(&next_uses, capacity as u64);
                assert_eq!(found, expected, "seed {seed}, {capacity} blocks: {uses:?}");
            }
        }
    }

    #[test]
    fn what_is_dropped_makes_room() {
        let mut uses = NextUses::default();
        uses.use_block(0);
        uses.use_block(1);
        uses.drop_block(1);
        uses.use_block(2);
        uses.use_block(0);
        uses.use_block(2);
        uses.use_block(1);
        assert_eq!(optimum_misses(&uses, 2), 4);
        assert_eq!(optimum_misses(&uses, 1), 6);
    }
}
