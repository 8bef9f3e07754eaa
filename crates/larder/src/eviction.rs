//! Which block to evict.
//!
//! The engine tells what happens to slots and asks for victims. It keeps an [`Eviction`] under one
//! short mutex: every operation takes constant time on average and a bounded time at worst, and a
//! hit allocates nothing.
//!
//! No plain policy suits all block traces. Two compete here, and the requests decide:
//!
//! - **Probation, main and ghosts**, after S3-FIFO (J. Yang et al., "FIFO Queues are All You Need
//!   for Cache Eviction", SOSP 2023) and 2Q (T. Johnson and D. Shasha, VLDB 1994): a new block is
//!   evicted soon unless it is used again, so a scan does not sweep the cache. Real requests are
//!   often smaller than a block, so several in a row are one visit and not reuse: the *correlated
//!   reference period* of LRU-2 (E. O'Neil et al., SIGMOD 1993).
//! - **LRU**, which leads in small caches, where probation is over before a block can come back.
//!
//! Miniature simulations of both tell which one misses less. `larder replay` shows the result
//! with anybody's traces, `compare_policies` in `larder-replay` beside other policies.
//!
//! | file | what it decides |
//! |---|---|
//! | `queues` | the order in which blocks leave under a given policy |
//! | `ghosts` | whether a block was evicted lately |
//! | `duel` | which policy is the best one now |
//! | `lists`, `tag`, `pieces` | nothing: linked lists of slots, what is known of one, arrays by slot |
//!
//! A hit is only noted. Notes are acted on many at a time, and before anything else is: the memory of
//! blocks far apart then comes together, instead of each hit waiting for its own.
//!
//! Memory: 10 bytes per slot up to the highest one used, 4 bytes per ghost (as many as the limit
//! has slots) from the first eviction on, and at most 150 KiB for the simulations. Keys are the engine's to keep.
//!
//! Invariants: a tracked slot is on exactly one list; a victim is not tracked until it is handed
//! back; a slot that was removed is no victim.

mod duel;
mod ghosts;
mod lists;
mod pieces;
mod queues;
mod tag;
#[cfg(test)]
mod tests;

use std::hint::black_box;

use duel::{DEFAULT_POLICY, Duel};
use queues::{Queues, VisitClock};

/// No slot: what was used last when nothing was.
const NO_SLOT: u32 = u32::MAX;

/// So many hits are acted on together.
const NOTED_HITS: usize = 64;

/// Tells by which key the policy knows a block.
pub(crate) trait Keys {
    /// The hash of the volume and the number of the block in `slot`. For a tracked slot it is what
    /// [`Eviction::inserted`] or [`Eviction::reinserted`] was told.
    fn key(&self, slot: u32) -> u64;
}

/// The order in which blocks leave the cache.
pub(crate) struct Eviction<K> {
    keys: K,
    queues: Queues,
    /// None while the cache has no limit, when it hardly matters what is evicted.
    duel: Option<Duel>,
    clock: VisitClock,
    last_used: u32,
    /// Slots that were used, in order, and not acted on yet.
    hits: Vec<u32>,
    used_ahead: u64,
}

impl<K: Keys> Eviction<K> {
    /// For a cache of `capacity_slots` blocks, or of no limit.
    pub(crate) fn new(capacity_slots: Option<u64>, keys: K) -> Self {
        let duel = capacity_slots.map(Duel::new);
        let policy = duel.as_ref().map_or(DEFAULT_POLICY, Duel::first_policy);
        Self {
            keys,
            queues: Queues::new(policy, capacity_slots),
            duel,
            clock: VisitClock::default(),
            last_used: NO_SLOT,
            hits: Vec::with_capacity(NOTED_HITS),
            used_ahead: 0,
        }
    }

    /// The cache's limit has changed, for instance because the disk is full. Nothing is evicted by
    /// this; victims are given when asked for. What was learnt is kept while the limit stays within
    /// a factor of two of what it was.
    pub(crate) fn set_capacity(&mut self, capacity_slots: Option<u64>) {
        self.act_on_hits();
        let Some(new) = capacity_slots else {
            self.duel = None;
            self.queues.set_ghosts(0);
            return;
        };
        let known = self.duel.as_ref().map_or(0, Duel::capacity);
        if new < known / 2 || new > known.saturating_mul(2) || known == 0 {
            let duel = Duel::new(new);
            self.queues.set_policy(duel.first_policy());
            self.queues.set_ghosts(new);
            self.duel = Some(duel);
        }
    }

    /// A request used the block in `slot`. A slot that is not tracked is left alone.
    pub(crate) fn touched(&mut self, slot: u32) {
        // To use it twice in a row is to use it once.
        if self.hits.last() == Some(&slot) {
            return;
        }
        self.hits.push(slot);
        if self.hits.len() == NOTED_HITS {
            self.act_on_hits();
        }
    }

    /// `slot` now holds the block whose volume and number hash to `key`. A slot that is tracked
    /// already counts as removed before.
    pub(crate) fn inserted(&mut self, slot: u32, key: u64) {
        self.removed(slot);
        self.arrived(slot, key);
    }

    /// The same, although nobody has asked for the block yet: it leaves as a new block does, leaves no trace, and counts as
    /// new when it is touched for the first time.
    pub(crate) fn inserted_ahead(&mut self, slot: u32) {
        self.removed(slot);
        self.queues.insert_unused(slot, self.clock);
    }

    /// How many blocks were touched that were inserted before anybody had asked for them.
    pub(crate) fn used_ahead(&mut self) -> u64 {
        self.act_on_hits();
        self.used_ahead
    }

    /// `slot` holds a block that an earlier cache had there, with as much heat as [`Eviction::heat`] said.
    pub(crate) fn found(&mut self, slot: u32, key: u64, heat: u8) {
        self.queues.found(slot, fold(key), self.clock, heat);
    }

    /// How much use was seen of the block in `slot`, from 0 to 7.
    pub(crate) fn heat(&mut self, slot: u32) -> u8 {
        self.act_on_hits();
        self.queues.heat(slot)
    }

    fn arrived(&mut self, slot: u32, key: u64) {
        self.visit(slot);
        let key = fold(key);
        self.queues.insert(slot, key, self.clock);
        self.learn(key);
    }

    /// `slot` is free. A slot that is not tracked is left alone.
    pub(crate) fn removed(&mut self, slot: u32) {
        self.act_on_hits();
        if self.queues.is_tracked(slot) {
            self.queues.remove(slot);
        }
    }

    /// The next block to evict, tracked no more. `None` when nothing is tracked.
    pub(crate) fn victim(&mut self) -> Option<u32> {
        self.act_on_hits();
        self.queues.victim(|slot| fold(self.keys.key(slot)))
    }

    /// A victim that could not be evicted is tracked again: as if just used (`used`), or else such
    /// that it is a victim again soon, though not at once while there are others.
    pub(crate) fn reinserted(&mut self, slot: u32, key: u64, used: bool) {
        self.removed(slot);
        self.queues.put_back(slot, fold(key), self.clock, used);
    }

    /// How many slots are tracked.
    pub(crate) fn len(&self) -> usize {
        self.queues.len()
    }

    fn act_on_hits(&mut self) {
        let mut hits = std::mem::take(&mut self.hits);
        // What these look at depends on nothing, so the processor asks for all of it at once.
        for slot in &hits {
            black_box(self.queues.is_tracked(*slot));
        }
        for slot in hits.drain(..) {
            if self.queues.is_tracked(slot) && self.queues.is_unused(slot) {
                // Only now has anybody asked for it.
                self.used_ahead += 1;
                self.queues.remove(slot);
                self.arrived(slot, self.keys.key(slot));
            } else if self.queues.is_tracked(slot) {
                let is_new_visit = self.visit(slot);
                self.queues.touch(slot, self.clock);
                let rarity = self.queues.rarity(slot);
                let is_sample = |duel: &Duel| duel.may_sample(rarity);
                // Only a few keys are asked for: each is somewhere else in memory.
                if is_new_visit && self.duel.as_ref().is_some_and(is_sample) {
                    self.learn(fold(self.keys.key(slot)));
                }
            }
        }
        self.hits = hits;
    }

    /// Advances the clock if `slot` is not the one that was used last, and tells whether it did.
    fn visit(&mut self, slot: u32) -> bool {
        let is_new = self.last_used != slot;
        if is_new {
            self.last_used = slot;
            self.clock.advance();
        }
        is_new
    }

    /// A repeated use of one block is a hit under every policy, and need not come here.
    fn learn(&mut self, key: u32) {
        let Some(duel) = &mut self.duel else { return };
        if let Some(policy) = duel.access(key, self.clock, self.queues.policy()) {
            self.queues.set_policy(policy);
        }
    }
}

/// 32 bits that depend on all bits of `key`.
fn fold(key: u64) -> u32 {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}
