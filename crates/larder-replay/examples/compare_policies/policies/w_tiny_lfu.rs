//! W-TinyLFU with a window that adapts (G. Einziger et al., "Adaptive Software Cache Management",
//! Middleware 2018), as Caffeine has it: a small LRU window, a segmented LRU behind it, admission by
//! frequency, and a hill climber that moves the border. Caffeine's protection against attackers who
//! know the hash, which lets in a few at random, is left out.

use super::Policy;
use super::lists::Lists;
use super::sketch::Sketch;

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

/// Shares to begin with: of the window in all, of the protected in the rest.
const WINDOW_SHARE: f64 = 0.01;
const PROTECTED_SHARE: f64 = 0.8;
/// The climber's first step, as a share of the capacity, and how a step becomes smaller.
const STEP_SHARE: f64 = 0.0625;
const STEP_DECAY: f64 = 0.98;
/// A change of the hit rate by this much begins with a large step again.
const RESTART: f64 = 0.05;
/// Uses between two steps, for each block of the capacity.
const SAMPLE: usize = 10;

pub(crate) struct WTinyLfu {
    capacity: usize,
    window_capacity: usize,
    protected_capacity: usize,
    lists: Lists<3>,
    sketch: Sketch,
    climber: Climber,
}

struct Climber {
    capacity: f64,
    step: f64,
    hits: usize,
    uses: usize,
    hit_rate_before: f64,
}

impl Climber {
    fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity as f64,
            step: -STEP_SHARE * capacity as f64,
            hits: 0,
            uses: 0,
            hit_rate_before: 0.0,
        }
    }

    /// Blocks by which the window should grow, once enough was seen.
    fn change(&mut self, hit: bool) -> Option<f64> {
        self.hits += usize::from(hit);
        self.uses += 1;
        if self.uses < SAMPLE * self.capacity as usize {
            return None;
        }
        let hit_rate = self.hits as f64 / self.uses as f64;
        let gain = hit_rate - self.hit_rate_before;
        // On in the same direction if that was good, else back.
        let change = if gain >= 0.0 { self.step } else { -self.step };
        self.step = if gain.abs() >= RESTART {
            (STEP_SHARE * self.capacity).copysign(change)
        } else {
            change * STEP_DECAY
        };
        self.hit_rate_before = hit_rate;
        (self.hits, self.uses) = (0, 0);
        Some(change)
    }
}

impl WTinyLfu {
    pub(crate) fn new(capacity: usize, footprint: usize) -> Self {
        let window_capacity = ((capacity as f64 * WINDOW_SHARE) as usize).max(1);
        let main = capacity - window_capacity;
        Self {
            capacity,
            window_capacity,
            protected_capacity: (main as f64 * PROTECTED_SHARE) as usize,
            lists: Lists::new(footprint),
            sketch: Sketch::new(capacity),
            climber: Climber::new(capacity),
        }
    }

    fn hit(&mut self, block: u32, list: usize) {
        match list {
            WINDOW => self.lists.push(WINDOW, block),
            _ => self.lists.push(PROTECTED, block),
        }
        self.demote();
    }

    fn demote(&mut self) {
        while self.lists.len(PROTECTED) > self.protected_capacity {
            if let Some(block) = self.lists.pop(PROTECTED) {
                self.lists.push(PROBATION, block);
            }
        }
    }

    /// What does not fit into the window competes for a place behind it.
    fn evict(&mut self) {
        let mut candidate = None;
        while self.lists.len(WINDOW) > self.window_capacity {
            let Some(block) = self.lists.pop(WINDOW) else {
                break;
            };
            self.lists.push(PROBATION, block);
            candidate = Some(block);
        }
        let held: usize = (0..3).map(|list| self.lists.len(list)).sum();
        if held <= self.capacity {
            return;
        }
        let victim = self
            .lists
            .oldest(PROBATION)
            .or_else(|| self.lists.oldest(PROTECTED))
            .or_else(|| self.lists.oldest(WINDOW));
        let Some(victim) = victim else { return };
        let is_admitted = candidate
            .is_none_or(|candidate| self.sketch.count(candidate) > self.sketch.count(victim));
        let loser = if is_admitted {
            victim
        } else {
            candidate.unwrap_or(victim)
        };
        self.lists.remove(loser);
    }

    fn move_border(&mut self, change: f64) {
        let quota = change.abs() as usize;
        if change > 0.0 {
            let quota = quota.min(self.protected_capacity);
            self.protected_capacity -= quota;
            self.window_capacity += quota;
            self.demote();
            for _ in 0..quota {
                let from = if self.lists.len(PROBATION) > 0 {
                    PROBATION
                } else {
                    PROTECTED
                };
                let Some(block) = self.lists.pop(from) else {
                    break;
                };
                self.lists.push(WINDOW, block);
            }
            return;
        }
        let quota = quota.min(self.window_capacity - 1);
        self.window_capacity -= quota;
        self.protected_capacity += quota;
        while self.lists.len(WINDOW) > self.window_capacity {
            let Some(block) = self.lists.pop(WINDOW) else {
                break;
            };
            self.lists.push(PROBATION, block);
        }
    }
}

impl Policy for WTinyLfu {
    fn access(&mut self, block: u32) -> bool {
        self.sketch.add(block);
        let place = self.lists.of(block);
        match place {
            Some(list) => self.hit(block, list),
            None => {
                self.lists.push(WINDOW, block);
                self.evict();
            }
        }
        if let Some(change) = self.climber.change(place.is_some()) {
            self.move_border(change);
        }
        place.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::played;
    use super::*;

    #[test]
    fn what_comes_often_keeps_its_place() {
        let mut cache = WTinyLfu::new(3, 10);
        // A window of 1; 0 and 1 behind it, used twice. 2, 3 and 4 came once: none gets past it.
        assert_eq!(played(&mut cache, &[0, 1, 0, 1, 2, 3, 4]), "mmhhmmm");
        assert_eq!(played(&mut cache, &[0, 1, 4]), "hhh");
        assert_eq!(cache.lists.of(4), Some(WINDOW));
        // 4 has come twice, more often than nobody: 1 came three times.
        assert_eq!(played(&mut cache, &[5, 4, 1, 0]), "mmhh");
    }

    #[test]
    fn a_hit_behind_the_window_protects() {
        let mut cache = WTinyLfu::new(6, 20);
        assert_eq!(cache.protected_capacity, 4);
        played(&mut cache, &[0, 1, 2, 0]);
        assert_eq!(
            (cache.lists.of(0), cache.lists.of(1)),
            (Some(PROTECTED), Some(PROBATION))
        );
    }

    #[test]
    fn the_climber_turns_when_it_gets_worse() {
        let mut climber = Climber::new(100);
        let mut sample = |hits: usize| {
            let changes: Vec<f64> = (0..1000)
                .filter_map(|at| climber.change(at < hits))
                .collect();
            assert_eq!(changes.len(), 1);
            changes[0]
        };
        assert_eq!(sample(300), -6.25);
        // Better by 5 % or more: a whole step in the same direction.
        assert_eq!(sample(400), -6.25);
        // A little worse: back; and then, since that was good, on with a shorter step.
        assert_eq!(sample(390), 6.25);
        assert_eq!(sample(391), 6.25 * STEP_DECAY);
    }

    #[test]
    fn never_holds_more_than_fits_wherever_the_border_is() {
        for capacity in [1, 2, 5, 40] {
            let mut cache = WTinyLfu::new(capacity, 200);
            for step in 0..20_000u32 {
                let spread = if step / 4000 % 2 == 0 { 200 } else { 30 };
                cache.access(step.wrapping_mul(2_654_435_761) % spread);
                let held: usize = (0..3).map(|list| cache.lists.len(list)).sum();
                assert!(held <= capacity, "{held} of {capacity} at step {step}");
                assert!(cache.window_capacity + cache.protected_capacity <= capacity);
            }
        }
    }
}
