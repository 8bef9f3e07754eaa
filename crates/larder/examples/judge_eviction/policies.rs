//! The policies that are compared. Each is a cache of blocks that are numbered from 0.

use larder::eviction::{Eviction, Keys};
use std::cell::Cell;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// A cache that follows some policy.
pub(crate) trait Policy {
    /// A request uses `block`. Tells whether it was in the cache; afterwards it is.
    fn access(&mut self, block: u32) -> bool;
}

/// When a cache begins to evict, and when it stops, in blocks.
#[derive(Clone, Copy)]
pub(crate) struct Thresholds {
    /// The cache's limit.
    capacity: usize,
    /// Evicting begins with this many blocks in the cache.
    high: usize,
    /// It goes on until there are fewer than this.
    low: usize,
}

impl Thresholds {
    /// The C filter's defaults.
    pub(crate) fn of_nbdkit(capacity: usize) -> Self {
        Self {
            capacity,
            high: (capacity * 95 / 100).max(1),
            low: (capacity * 80 / 100).max(1),
        }
    }

    /// One block at a time makes room for the next.
    pub(crate) fn full(capacity: usize) -> Self {
        Self {
            capacity,
            high: capacity,
            low: capacity,
        }
    }
}

const NONE: u32 = u32::MAX;

/// Plain LRU, independent of the code under test.
pub(crate) struct Lru {
    /// By block, and one more for the ends: the neighbours used (later, earlier).
    neighbours: Vec<(u32, u32)>,
    len: usize,
    thresholds: Thresholds,
}

impl Lru {
    pub(crate) fn new(footprint: usize, thresholds: Thresholds) -> Self {
        let mut neighbours = vec![(NONE, NONE); footprint + 1];
        neighbours[footprint] = (footprint as u32, footprint as u32);
        Self {
            neighbours,
            len: 0,
            thresholds,
        }
    }

    fn ends(&self) -> u32 {
        (self.neighbours.len() - 1) as u32
    }

    fn unlink(&mut self, block: u32) {
        let (later, earlier) = self.neighbours[block as usize];
        self.neighbours[later as usize].1 = earlier;
        self.neighbours[earlier as usize].0 = later;
        self.neighbours[block as usize] = (NONE, NONE);
        self.len -= 1;
    }
}

impl Policy for Lru {
    fn access(&mut self, block: u32) -> bool {
        let ends = self.ends();
        let hit = self.neighbours[block as usize].0 != NONE;
        if hit {
            self.unlink(block);
        } else if self.len >= self.thresholds.high {
            while self.len >= self.thresholds.low {
                self.unlink(self.neighbours[ends as usize].0);
            }
        }
        let newest = self.neighbours[ends as usize].1;
        self.neighbours[block as usize] = (ends, newest);
        self.neighbours[newest as usize].0 = block;
        self.neighbours[ends as usize].1 = block;
        self.len += 1;
        hit
    }
}

/// A model of how nbdkit's cache filter chooses: two bitmaps hold the blocks used recently, between
/// an eighth and a quarter of the limit and at least 50 to 100 of them. Reclaim goes round the disk
/// in block order and takes blocks that are in neither; when there are none, any block, until it is
/// done. It takes two blocks per request.
pub(crate) struct CFilter {
    cached: Vec<bool>,
    len: usize,
    thresholds: Thresholds,
    recent: [Vec<bool>; 2],
    recent_count: usize,
    recent_limit: usize,
    hand: usize,
    reclaiming: Reclaiming,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reclaiming {
    No,
    Lru,
    Any,
}

impl CFilter {
    pub(crate) fn new(footprint: usize, thresholds: Thresholds) -> Self {
        Self {
            cached: vec![false; footprint],
            len: 0,
            thresholds,
            recent: [vec![false; footprint], vec![false; footprint]],
            recent_count: 0,
            recent_limit: (thresholds.capacity / 4).max(100) / 2,
            hand: 0,
            reclaiming: Reclaiming::No,
        }
    }

    fn reclaim(&mut self) {
        if self.thresholds.high == self.thresholds.low {
            if self.len >= self.thresholds.high {
                self.reclaiming = Reclaiming::Lru;
                self.reclaim_one();
            }
            return;
        }
        match self.reclaiming {
            Reclaiming::No if self.len < self.thresholds.high => return,
            Reclaiming::No => self.reclaiming = Reclaiming::Lru,
            _ if self.len < self.thresholds.low => {
                self.reclaiming = Reclaiming::No;
                return;
            }
            _ => {}
        }
        self.reclaim_one();
        self.reclaim_one();
    }

    fn reclaim_one(&mut self) {
        let footprint = self.cached.len();
        let round = (1..=footprint).map(|step| (self.hand + step) % footprint);
        let mut cached = round.filter(|block| self.cached[*block]);
        let victim = match self.reclaiming {
            Reclaiming::Any => cached.next(),
            _ => cached
                .clone()
                .find(|block| !self.recent[0][*block] && !self.recent[1][*block])
                .or_else(|| {
                    self.reclaiming = Reclaiming::Any;
                    cached.next()
                }),
        };
        if let Some(victim) = victim {
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
        let one_at_a_time = self.thresholds.high == self.thresholds.low;
        if !(one_at_a_time && self.cached[block]) {
            self.reclaim();
        }
        let hit = std::mem::replace(&mut self.cached[block], true);
        self.len += usize::from(!hit);
        self.set_recent(block);
        hit
    }
}

/// The code under test, with the index and the free slots that the engine would have.
pub(crate) struct LarderPolicy {
    eviction: Eviction<BlockOfSlot>,
    slot_of_block: Vec<u32>,
    block_of_slot: BlockOfSlot,
    free: Vec<u32>,
    thresholds: Thresholds,
}

#[derive(Clone)]
struct BlockOfSlot(Rc<[Cell<u32>]>);

impl Keys for BlockOfSlot {
    fn key(&self, slot: u32) -> u64 {
        hash(self.0[slot as usize].get())
    }
}

impl LarderPolicy {
    pub(crate) fn new(footprint: usize, thresholds: Thresholds) -> Self {
        let capacity = thresholds.capacity;
        let block_of_slot = BlockOfSlot((0..capacity).map(|_| Cell::new(NONE)).collect());
        Self {
            eviction: Eviction::new(Some(capacity as u64), block_of_slot.clone()),
            slot_of_block: vec![NONE; footprint],
            block_of_slot,
            free: (0..capacity as u32).rev().collect(),
            thresholds,
        }
    }

    fn make_room(&mut self) {
        if self.eviction.len() < self.thresholds.high {
            return;
        }
        while self.eviction.len() >= self.thresholds.low {
            let Some(slot) = self.eviction.victim() else {
                return;
            };
            let block = self.block_of_slot.0[slot as usize].get();
            self.slot_of_block[block as usize] = NONE;
            self.free.push(slot);
        }
    }
}

impl Policy for LarderPolicy {
    fn access(&mut self, block: u32) -> bool {
        let slot = self.slot_of_block[block as usize];
        if slot != NONE {
            self.eviction.touched(slot);
            return true;
        }
        self.make_room();
        if let Some(slot) = self.free.pop() {
            self.slot_of_block[block as usize] = slot;
            self.block_of_slot.0[slot as usize].set(block);
            self.eviction.inserted(slot, hash(block));
        }
        false
    }
}

/// The finalizer of SplitMix64.
fn hash(block: u32) -> u64 {
    let mut x = u64::from(block).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Misses of the optimal policy (L. Belady, 1966): evict what is used again last.
pub(crate) fn min_misses(blocks: &[u32], footprint: usize, capacity: usize) -> usize {
    let mut next_use = vec![usize::MAX; blocks.len()];
    let mut seen_at = vec![usize::MAX; footprint];
    for (at, &block) in blocks.iter().enumerate().rev() {
        next_use[at] = seen_at[block as usize];
        seen_at[block as usize] = at;
    }
    // The next use of each cached block; heap entries that differ from it are out of date.
    let mut cached: Vec<Option<usize>> = vec![None; footprint];
    let mut farthest = BinaryHeap::new();
    let (mut len, mut misses) = (0, 0);
    for (&block, &next) in blocks.iter().zip(&next_use) {
        if cached[block as usize].is_none() {
            misses += 1;
            len += 1;
            while len > capacity {
                let Some((use_at, victim)) = farthest.pop() else {
                    break;
                };
                if cached[victim as usize] == Some(use_at) {
                    cached[victim as usize] = None;
                    len -= 1;
                }
            }
        }
        cached[block as usize] = Some(next);
        farthest.push((next, block));
    }
    misses
}
