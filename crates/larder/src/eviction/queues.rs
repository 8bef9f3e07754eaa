//! The queues that blocks wait in, and the rules by which they move.
//!
//! A new block waits in *probation*; if it is used again before it reaches the end, it moves on to
//! *main*, else it is evicted. A block that comes back soon after its eviction (a ghost) goes to
//! main at once. Main is a clock: a block that was used since it last came by gets another round
//! for every use, up to [`MAX_USES`]. Under the plain LRU policy there is no probation, and main is
//! in the order of last use.
//!
//! A policy may change at any time. Changing to LRU leaves blocks in probation; each victim moves a
//! few of them over, so that no change takes long.
//!
//! Invariants: a slot is tracked exactly if its tag says so, and is then on exactly the list that its tag names; the
//! tag of a slot that is not tracked keeps the list it was last on.

use super::duel;
use super::ghosts::Ghosts;
use super::lists::{Links, List, MAX_SLOT};
use super::pieces::Pieces;
use super::tag::{MAX_USES, Place, Tag};

/// A use of a block counts as the same visit until other blocks have been visited this many times
/// 16: several small requests within one block are not reuse.
const SAME_VISIT_TICKS: u8 = 4;
/// Main's clock goes on at most so many steps for one victim, to keep the engine's lock short.
const MAX_CLOCK_STEPS: u32 = 64;
/// Blocks moved from probation to main for each victim under LRU. More than one, so it comes to an end.
const DRAINED_PER_VICTIM: u32 = 2;
/// Ghosts that count, as a share of the tracked slots. More of them make a loop larger than the cache
/// churn main as it would churn LRU; fewer miss blocks that come back late.
const GHOSTS_PERCENT: usize = 75;
/// Every so many victims one is taken from the parked slots, if there are any.
const PARKED_TURN: u32 = 8;

/// How victims are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// The block used longest ago.
    Lru,
    /// Probation, main and ghosts, with this share of all blocks in probation.
    Probation { percent: u8 },
}

/// Counts visits: uses of a block that was not the last one used.
#[derive(Clone, Copy, Default)]
pub(super) struct VisitClock(u32);

impl VisitClock {
    pub(super) fn advance(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }

    /// Coarse and short: it comes around after 4,096 visits, when one use in 50 is misjudged.
    fn tick(self) -> u8 {
        (self.0 / 16) as u8
    }
}

/// All tracked slots in the order in which they leave.
pub(super) struct Queues {
    policy: Policy,
    links: Links,
    tags: Pieces<Tag>,
    probation: List,
    main: List,
    /// Victims that could not be evicted when it was their turn. Apart, because at the old end of
    /// another list one of them would be the very next victim again, and hide all others.
    parked: List,
    victims_since_parked: u32,
    ghosts: Ghosts,
}

impl Queues {
    /// For `capacity` slots, if that is known; there are as many ghosts.
    pub(super) fn new(policy: Policy, capacity: Option<u64>) -> Self {
        Self {
            policy,
            links: Links::default(),
            tags: Pieces::default(),
            probation: List::new(),
            main: List::new(),
            parked: List::new(),
            victims_since_parked: 0,
            ghosts: Ghosts::new(capacity.unwrap_or(0)),
        }
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Begins anew with `count` ghosts.
    pub(super) fn set_ghosts(&mut self, count: u64) {
        self.ghosts = Ghosts::new(count);
    }

    pub(super) fn len(&self) -> usize {
        self.probation.len() + self.main.len() + self.parked.len()
    }

    pub(super) fn is_tracked(&self, slot: u32) -> bool {
        self.tags.get(slot).is_some_and(|tag| tag.is_tracked())
    }

    /// The rarity of a tracked slot's block, see [`duel::rarity`].
    pub(super) fn rarity(&self, slot: u32) -> u32 {
        self.tags[slot].rarity()
    }

    /// A tracked slot was used.
    pub(super) fn touch(&mut self, slot: u32, now: VisitClock) {
        let tag = &mut self.tags[slot];
        let same_visit = now.tick().wrapping_sub(tag.visited()) <= SAME_VISIT_TICKS;
        tag.set_visited(now.tick());
        if !same_visit {
            tag.set_uses((tag.uses() + 1).min(MAX_USES));
        }
        let is_parked = tag.place() == Place::Parked;
        let to_main = self.policy == Policy::Lru && !self.main.is_newest(slot);
        if to_main || is_parked {
            self.unlink(slot);
            self.push(slot, Place::Main);
        }
    }

    /// A slot that is not tracked holds a new block.
    pub(super) fn insert(&mut self, slot: u32, key: u32, now: VisitClock) {
        let is_ghost = self.ghosts.take(key, self.len() * GHOSTS_PERCENT / 100);
        let place = match self.policy {
            Policy::Probation { .. } if !is_ghost => Place::Probation,
            _ => Place::Main,
        };
        self.cover(slot);
        self.tags[slot] = Tag::new(now.tick(), duel::rarity(key));
        self.push(slot, place);
    }

    /// A slot that is not tracked holds a block that has been there before, as hot as [`Queues::heat`] said.
    pub(super) fn found(&mut self, slot: u32, key: u32, now: VisitClock, heat: u8) {
        let (is_main, uses) = (heat > MAX_USES, heat.min(2 * MAX_USES + 1) % (MAX_USES + 1));
        let place = match self.policy {
            Policy::Probation { .. } if !is_main => Place::Probation,
            _ => Place::Main,
        };
        self.cover(slot);
        let mut tag = Tag::new(now.tick(), duel::rarity(key));
        tag.set_uses(uses);
        self.tags[slot] = tag;
        self.push(slot, place);
    }

    /// How much use was seen of a slot's block: what it has since it came to probation or to main, in which there is more.
    pub(super) fn heat(&self, slot: u32) -> u8 {
        if !self.is_tracked(slot) {
            return 0;
        }
        let tag = self.tags[slot];
        match tag.place() {
            Place::Main => MAX_USES + 1 + tag.uses(),
            Place::Probation | Place::Parked => tag.uses(),
        }
    }

    /// A slot that is not tracked holds a new block that nobody has asked for.
    pub(super) fn insert_unused(&mut self, slot: u32, now: VisitClock) {
        let place = match self.policy {
            Policy::Probation { .. } => Place::Probation,
            Policy::Lru => Place::Main,
        };
        self.cover(slot);
        self.tags[slot] = Tag::unused(now.tick());
        self.push(slot, place);
    }

    /// Whether nobody has asked for the block of a tracked slot since it came.
    pub(super) fn is_unused(&self, slot: u32) -> bool {
        self.tags[slot].is_unused()
    }

    /// A slot that was a victim stays: at the new end of the list it was on (`used`), or parked.
    pub(super) fn put_back(&mut self, slot: u32, key: u32, now: VisitClock, used: bool) {
        self.ghosts.take(key, 0);
        self.cover(slot);
        let tag = &mut self.tags[slot];
        tag.set_rarity(duel::rarity(key));
        let place = match tag.place() {
            _ if !used => Place::Parked,
            Place::Parked => Place::Main,
            place => place,
        };
        if used {
            tag.set_visited(now.tick());
        }
        self.push(slot, place);
    }

    /// Stops tracking a tracked slot.
    pub(super) fn remove(&mut self, slot: u32) {
        self.unlink(slot);
    }

    /// Stops tracking the slot whose turn it is, and remembers its block as a ghost.
    pub(super) fn victim(&mut self, key_of: impl FnOnce(u32) -> u32) -> Option<u32> {
        let slot = self.parked_victim().or_else(|| self.next_victim())?;
        self.unlink(slot);
        // What was never used is not missed.
        if !self.is_unused(slot) {
            self.ghosts.remember(key_of(slot));
        }
        Some(slot)
    }

    fn parked_victim(&mut self) -> Option<u32> {
        let slot = self.parked.oldest()?;
        self.victims_since_parked += 1;
        let is_only_choice = self.len() == self.parked.len();
        (is_only_choice || self.victims_since_parked >= PARKED_TURN).then(|| {
            self.victims_since_parked = 0;
            slot
        })
    }

    fn next_victim(&mut self) -> Option<u32> {
        match self.policy {
            Policy::Lru => {
                for _ in 0..DRAINED_PER_VICTIM {
                    self.promote_oldest();
                }
                self.main.oldest()
            }
            Policy::Probation { percent } => {
                let target = self.len() * usize::from(percent) / 100;
                self.probation_victim(target).or_else(|| {
                    let oldest = self.main_victim();
                    oldest.or_else(|| self.probation.oldest())
                })
            }
        }
    }

    /// The oldest slot of probation that was not used again, while there are more than `target`.
    fn probation_victim(&mut self, target: usize) -> Option<u32> {
        for _ in 0..MAX_CLOCK_STEPS {
            if self.probation.len() <= target {
                return None;
            }
            let slot = self.probation.oldest()?;
            if self.tags[slot].uses() == 0 {
                return Some(slot);
            }
            self.promote_oldest();
        }
        self.probation.oldest()
    }

    fn main_victim(&mut self) -> Option<u32> {
        for _ in 0..MAX_CLOCK_STEPS {
            let slot = self.main.oldest()?;
            let tag = &mut self.tags[slot];
            let Some(left) = tag.uses().checked_sub(1) else {
                return Some(slot);
            };
            tag.set_uses(left);
            self.unlink(slot);
            self.push(slot, Place::Main);
        }
        self.main.oldest()
    }

    /// Moves the oldest slot of probation to main, where it has to prove itself again.
    fn promote_oldest(&mut self) {
        if let Some(slot) = self.probation.oldest() {
            self.tags[slot].set_uses(0);
            self.unlink(slot);
            self.push(slot, Place::Main);
        }
    }

    fn cover(&mut self, slot: u32) {
        debug_assert!(slot <= MAX_SLOT);
        self.links.cover(slot);
        self.tags.cover(slot, Tag::default());
    }

    fn push(&mut self, slot: u32, place: Place) {
        self.tags[slot].set_place(place);
        self.tags[slot].set_tracked(true);
        let list = match place {
            Place::Probation => &mut self.probation,
            Place::Main => &mut self.main,
            Place::Parked => &mut self.parked,
        };
        self.links.push_newest(list, slot);
    }

    fn unlink(&mut self, slot: u32) {
        self.tags[slot].set_tracked(false);
        let list = match self.tags[slot].place() {
            Place::Probation => &mut self.probation,
            Place::Main => &mut self.main,
            Place::Parked => &mut self.parked,
        };
        self.links.unlink(list, slot);
    }

    /// All tracked slots, having checked every link and tag.
    #[cfg(test)]
    pub(super) fn check(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for (list, place) in [
            (&self.probation, Place::Probation),
            (&self.main, Place::Main),
            (&self.parked, Place::Parked),
        ] {
            for slot in self.links.walk(list) {
                assert_eq!(self.tags[slot].place(), place, "slot {slot}");
                assert!(self.is_tracked(slot), "slot {slot}");
                all.push(slot);
            }
        }
        all
    }
}
