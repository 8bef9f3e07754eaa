//! Finds out which policy suits the requests at hand, by trying each in miniature.
//!
//! A shadow is a small cache that holds keys only and follows one policy. All shadows see the same
//! sample of the blocks, chosen by hash, and are smaller than the real cache by the same factor;
//! so the policy that misses least among them misses least in the real cache (C. Waldspurger et
//! al., "Cache Modeling and Optimization using Miniature Simulations", USENIX ATC 2017). Choosing
//! between policies by their misses on a few sets is "set dueling" (M. Qureshi et al., "Adaptive
//! Insertion Policies for High Performance Caching", ISCA 2007). A cache that is itself as small as
//! a shadow is followed in full.
//!
//! Invariant: a shadow's index holds exactly the slots its queues track.

use super::queues::{Policy, Queues, VisitClock};
use super::tag::MAX_RARITY;
use hashbrown::HashTable;

/// Slots of a shadow, at most.
const SHADOW_SLOTS: u64 = 1024;
/// Below this, a cache starts with LRU, and LRU gets the benefit of the doubt: probation in a small
/// cache is over before a block can come back.
const SMALL_CACHE_SLOTS: u64 = 512;
/// A choice is made, and what was seen before then counts half, whenever so many accesses per
/// shadow slot have been seen: often enough to follow a change, seldom enough to outweigh what a
/// change of policy costs.
const ACCESSES_PER_SLOT: u32 = 16;
const MIN_ACCESSES: u32 = 8192;
/// LRU's misses count for this much less (in a small cache) or more.
const LRU_BIAS_PERCENT: i64 = 3;

/// The policies that compete. Which one leads depends on the sizes of loops and scans.
const POLICIES: [Policy; 3] = [
    Policy::Lru,
    Policy::Probation { percent: 10 },
    Policy::Probation { percent: 30 },
];

/// The policy to start with when the cache is not small, or has no limit.
pub(super) const DEFAULT_POLICY: Policy = POLICIES[1];

/// A cache of keys.
struct Shadow {
    queues: Queues,
    /// By slot.
    keys: Vec<u32>,
    index: HashTable<u32>,
    slots: u32,
    misses: i64,
}

impl Shadow {
    fn new(policy: Policy, slots: u32) -> Self {
        let mut queues = Queues::new(policy, Some(u64::from(slots)));
        if policy == Policy::Lru {
            // It has no use for them.
            queues.set_ghosts(0);
        }
        Self {
            queues,
            keys: vec![0; slots as usize],
            // Twice the room, so that the table never has to grow because of erased entries.
            index: HashTable::with_capacity(slots as usize * 2),
            slots,
            misses: 0,
        }
    }

    fn access(&mut self, key: u32, now: VisitClock) {
        let keys = &mut self.keys;
        let is_it = |slot: &u32| keys[*slot as usize] == key;
        if let Some(slot) = self.index.find(spread(key), is_it) {
            return self.queues.touch(*slot, now);
        }
        self.misses += 1;
        let free = self.queues.len() as u32;
        let slot = if free < self.slots {
            free
        } else {
            let Some(victim) = self.queues.victim(|slot| keys[slot as usize]) else {
                return;
            };
            let hash = spread(keys[victim as usize]);
            if let Ok(entry) = self.index.find_entry(hash, |slot| *slot == victim) {
                entry.remove();
            }
            victim
        };
        self.queues.insert(slot, key, now);
        keys[slot as usize] = key;
        self.index
            .insert_unique(spread(key), slot, |slot| spread(keys[*slot as usize]));
    }
}

/// The shadows of one cache.
pub(super) struct Duel {
    shadows: [Shadow; POLICIES.len()],
    capacity: u64,
    /// Keys that spread to less than this are in the sample.
    sample_below: u64,
    accesses: u32,
    accesses_per_choice: u32,
}

impl Duel {
    /// For a cache of `capacity` slots.
    pub(super) fn new(capacity: u64) -> Self {
        let capacity = capacity.max(1);
        let slots = capacity.min(SHADOW_SLOTS) as u32;
        Self {
            shadows: POLICIES.map(|policy| Shadow::new(policy, slots)),
            capacity,
            sample_below: u64::MAX / capacity * u64::from(slots),
            accesses: 0,
            accesses_per_choice: (slots * ACCESSES_PER_SLOT).max(MIN_ACCESSES),
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The policy to start with.
    pub(super) fn first_policy(&self) -> Policy {
        if self.capacity < SMALL_CACHE_SLOTS {
            Policy::Lru
        } else {
            DEFAULT_POLICY
        }
    }

    /// False if no block of this rarity is in the sample.
    pub(super) fn may_sample(&self, rarity: u32) -> bool {
        rarity == MAX_RARITY || 1 << (u64::BITS - 1 - rarity) <= self.sample_below
    }

    /// A request used or brought in the block known by `key`. Gives the policy to change to from
    /// `current`, when it is time for a change.
    pub(super) fn access(&mut self, key: u32, now: VisitClock, current: Policy) -> Option<Policy> {
        if spread(key) > self.sample_below {
            return None;
        }
        for shadow in &mut self.shadows {
            shadow.access(key, now);
        }
        self.accesses += 1;
        (self.accesses >= self.accesses_per_choice)
            .then(|| self.choose(current))
            .flatten()
    }

    fn choose(&mut self, current: Policy) -> Option<Policy> {
        let best = self
            .shadows
            .iter()
            .min_by_key(|shadow| self.score(shadow))?;
        let incumbent = self
            .shadows
            .iter()
            .find(|shadow| shadow.queues.policy() == current)?;
        // The square root is about what chance alone makes of so many misses.
        let margin = 100 * incumbent.misses.isqrt();
        let change =
            (self.score(best) + margin < self.score(incumbent)).then(|| best.queues.policy());
        self.accesses /= 2;
        for shadow in &mut self.shadows {
            shadow.misses /= 2;
        }
        change
    }

    /// A shadow's misses in hundredths, with LRU's bias.
    fn score(&self, shadow: &Shadow) -> i64 {
        let bias = match shadow.queues.policy() {
            Policy::Probation { .. } => 0,
            Policy::Lru if self.capacity < SMALL_CACHE_SLOTS => -LRU_BIAS_PERCENT,
            Policy::Lru => LRU_BIAS_PERCENT,
        };
        shadow.misses * (100 + bias)
    }
}

/// What can be said in a few bits of whether a block is in a sample of any size.
pub(super) fn rarity(key: u32) -> u32 {
    spread(key).leading_zeros().min(MAX_RARITY)
}

/// Other bits of the hash than those which choose a ghost's bucket, for sample and index.
fn spread(key: u32) -> u64 {
    let product = u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (product ^ (product >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}
