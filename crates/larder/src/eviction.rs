//! Which block to evict.
//!
//! The engine tells what happens to slots and asks for victims; it keeps an [`Eviction`] under one
//! short mutex, so every operation is O(1) and the hit path allocates nothing.
//!
//! Invariant: a tracked slot is on exactly one list, and a victim is tracked no more.

mod lists;
#[cfg(test)]
mod tests;

use lists::{Links, List, MAX_SLOT};

/// Slots for which room is reserved up front, at most: a limit may be far above what will be used.
const MAX_RESERVED_SLOTS: u64 = 1 << 24;

/// Every so many victims one is taken from the parked slots, if there are any.
const PARKED_TURN: u32 = 8;

/// The order in which blocks leave the cache.
pub struct Eviction {
    links: Links,
    recent: List,
    /// Victims that could not be evicted when it was their turn. Apart, because at the old end of
    /// `recent` one of them would be the very next victim again, and hide all others.
    parked: List,
    /// By slot: whether it is in `parked` rather than in `recent`.
    is_parked: Vec<bool>,
    victims_since_parked: u32,
}

impl Eviction {
    /// For a cache of `capacity_slots` blocks, or of no limit.
    pub fn new(capacity_slots: Option<u64>) -> Self {
        let reserved = capacity_slots.unwrap_or(0).min(MAX_RESERVED_SLOTS) as usize;
        Self {
            links: Links::with_room(reserved),
            recent: List::new(),
            parked: List::new(),
            is_parked: Vec::with_capacity(reserved),
            victims_since_parked: 0,
        }
    }

    /// The cache's limit has changed, for instance because the disk is full. Victims are still only
    /// given when asked for.
    pub fn set_capacity(&mut self, _capacity_slots: Option<u64>) {}

    /// A request used the block in `slot`. A slot that is not tracked is left alone.
    pub fn touched(&mut self, slot: u32) {
        if self.recent.is_newest(slot) || !self.links.is_linked(slot) {
            return;
        }
        self.unlink(slot);
        self.links.push_newest(&mut self.recent, slot);
    }

    /// `slot` now holds the block whose volume and number hash to `key`. A slot that is tracked
    /// already counts as touched.
    pub fn inserted(&mut self, slot: u32, _key: u64) {
        self.removed(slot);
        self.cover(slot);
        self.links.push_newest(&mut self.recent, slot);
    }

    /// `slot` is free. A slot that is not tracked is left alone.
    pub fn removed(&mut self, slot: u32) {
        if self.links.is_linked(slot) {
            self.unlink(slot);
        }
    }

    /// The next block to evict, tracked no more. `None` when nothing is tracked.
    pub fn victim(&mut self) -> Option<u32> {
        self.victims_since_parked += 1;
        let parked = self.parked.oldest();
        let slot = match self.recent.oldest() {
            Some(slot) if parked.is_none() || self.victims_since_parked < PARKED_TURN => slot,
            _ => {
                self.victims_since_parked = 0;
                parked?
            }
        };
        self.unlink(slot);
        Some(slot)
    }

    /// A victim that could not be evicted is tracked again: as just used (`used`), or else such that
    /// it is a victim again soon, though not at once while there are others.
    pub fn reinserted(&mut self, slot: u32, key: u64, used: bool) {
        if used {
            return self.inserted(slot, key);
        }
        self.removed(slot);
        self.cover(slot);
        self.is_parked[slot as usize] = true;
        self.links.push_newest(&mut self.parked, slot);
    }

    /// How many slots are tracked.
    pub fn len(&self) -> usize {
        self.recent.len() + self.parked.len()
    }

    /// Whether nothing is tracked.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn cover(&mut self, slot: u32) {
        debug_assert!(slot <= MAX_SLOT);
        self.links.cover(slot);
        if self.is_parked.len() < self.links.covered() {
            self.is_parked.resize(self.links.covered(), false);
        }
    }

    /// Takes a tracked slot off its list.
    fn unlink(&mut self, slot: u32) {
        let list = if std::mem::take(&mut self.is_parked[slot as usize]) {
            &mut self.parked
        } else {
            &mut self.recent
        };
        self.links.unlink(list, slot);
    }
}
