//! Misses of LRU at every size at once.
//!
//! A block is in an LRU cache of n blocks if it is among the n used last. So one number for each use,
//! how many others were used since (its distance), tells for all sizes whether it is a hit
//! (R. Mattson et al., "Evaluation techniques for storage hierarchies", 1970). What has been used is
//! kept as marks in the order of time; when the times run out, they are numbered anew.
//!
//! A trimmed block leaves a *hole* in the order: its place stays taken, in caches that are large
//! enough to reach it, until a block from further down (or from outside) comes to the top. Then
//! those above the hole move down into it, and the hole is where that block was.

use std::collections::BinaryHeap;

use crate::marks::Marks;

/// Times to begin with.
const MIN_TIMES: u32 = 1 << 16;

/// The order in which blocks were used, and how often each distance came.
#[derive(Debug, Default)]
pub struct Recency {
    /// The times at which blocks were used last, and of holes.
    marks: Marks,
    /// By block: its time, or [`UNUSED`].
    times: Vec<u32>,
    /// Times of holes.
    holes: BinaryHeap<u32>,
    next_time: u32,
    bound: u32,
    /// By distance: how often it came.
    distances: Vec<u64>,
    uses: u64,
}

/// Never used, or trimmed since.
const UNUSED: u32 = u32::MAX;

impl Recency {
    /// A block is used. Blocks are numbered in the order in which they first come.
    pub fn use_block(&mut self, block: u32) {
        if self.next_time == self.bound {
            self.renumber();
        }
        self.uses += 1;
        let at = block as usize;
        if self.times.len() <= at {
            self.times.resize(at + 1, UNUSED);
        }
        let before = self.times[at];
        if before != UNUSED {
            self.count(self.marks.count() - self.marks.below(before) - 1);
        }
        match self.holes.peek() {
            Some(&hole) if before == UNUSED || hole > before => {
                self.holes.pop();
                self.marks.take(hole);
                if before != UNUSED {
                    self.holes.push(before);
                }
            }
            _ if before != UNUSED => self.marks.take(before),
            _ => {}
        }
        self.marks.add(self.next_time);
        self.times[at] = self.next_time;
        self.next_time += 1;
    }

    /// A block is dropped.
    pub fn drop_block(&mut self, block: u32) {
        if let Some(time) = self.times.get_mut(block as usize)
            && *time != UNUSED
        {
            self.holes.push(std::mem::replace(time, UNUSED));
        }
    }

    fn count(&mut self, distance: u32) {
        let at = distance as usize;
        if self.distances.len() <= at {
            self.distances.resize(at + 1, 0);
        }
        self.distances[at] += 1;
    }

    /// Gives all marks the lowest times, in the same order.
    fn renumber(&mut self) {
        let marks = &self.marks;
        for time in self.times.iter_mut().filter(|time| **time != UNUSED) {
            *time = marks.below(*time);
        }
        self.holes = self.holes.drain().map(|time| marks.below(time)).collect();
        self.next_time = marks.count();
        self.bound = (self.next_time.saturating_mul(2)).clamp(MIN_TIMES, UNUSED);
        self.marks = Marks::first(self.next_time, self.bound);
    }

    /// How many uses miss in caches of so many blocks, which are in rising order.
    pub fn misses(&self, capacities: &[u64]) -> Vec<u64> {
        let mut hits = 0;
        let mut counted = 0;
        let misses = capacities.iter().map(|capacity| {
            let end = (*capacity).min(self.distances.len() as u64) as usize;
            if end > counted {
                hits += self.distances[counted..end].iter().sum::<u64>();
                counted = end;
            }
            self.uses - hits
        });
        misses.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::survey::tests::Random;

    /// An LRU cache as one would write it down.
    #[derive(Default)]
    struct Plain {
        capacity: usize,
        newest_first: VecDeque<u32>,
        misses: u64,
    }

    impl Plain {
        fn use_block(&mut self, block: u32) {
            match self.newest_first.iter().position(|other| *other == block) {
                Some(at) => {
                    self.newest_first.remove(at);
                }
                None => {
                    self.misses += 1;
                    if self.newest_first.len() == self.capacity {
                        self.newest_first.pop_back();
                    }
                }
            }
            self.newest_first.push_front(block);
        }

        fn drop_block(&mut self, block: u32) {
            self.newest_first.retain(|other| *other != block);
        }
    }

    #[test]
    fn every_size_misses_as_often_as_a_cache_of_that_size() {
        for seed in 0..60 {
            let mut random = Random(seed);
            let blocks = 2 + random.below(40);
            let mut recency = Recency::default();
            let mut plain: Vec<Plain> = (1..=45)
                .map(|capacity| Plain {
                    capacity,
                    ..Plain::default()
                })
                .collect();
            for step in 0..600 {
                let block = random.below(blocks).min(random.below(blocks)) as u32;
                let is_dropped = seed % 2 == 1 && random.below(8) == 0;
                for cache in &mut plain {
                    if is_dropped {
                        cache.drop_block(block);
                    } else {
                        cache.use_block(block);
                    }
                }
                if is_dropped {
                    recency.drop_block(block);
                } else {
                    recency.use_block(block);
                }
                if step % 97 == 0 {
                    recency.renumber();
                }
            }
            let capacities: Vec<u64> = (1..=45).collect();
            let expected: Vec<u64> = plain.iter().map(|cache| cache.misses).collect();
            assert_eq!(recency.misses(&capacities), expected, "seed {seed}");
        }
    }

    #[test]
    fn a_long_trace_is_renumbered_in_time() {
        let mut recency = Recency::default();
        for round in 0..MIN_TIMES * 3 {
            recency.use_block(round % 5);
        }
        let uses = u64::from(MIN_TIMES) * 3;
        assert_eq!(recency.misses(&[1, 4, 5, 1000]), [uses, uses, 5, 5]);
        assert_eq!(recency.bound, MIN_TIMES);
    }
}
