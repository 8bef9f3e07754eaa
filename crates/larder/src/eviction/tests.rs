use super::queues::Policy;
use super::*;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// SplitMix64: seeded, so that a failure replays.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What each slot holds, as the engine would know it.
#[derive(Clone, Default)]
struct KeyOfSlot(Rc<RefCell<HashMap<u32, u64>>>);

impl KeyOfSlot {
    fn set(&self, slot: u32, key: u64) {
        self.0.borrow_mut().insert(slot, key);
    }
}

impl Keys for KeyOfSlot {
    fn key(&self, slot: u32) -> u64 {
        self.0.borrow().get(&slot).copied().unwrap_or_default()
    }
}

type TestEviction = Eviction<KeyOfSlot>;

fn eviction(capacity: Option<u64>) -> TestEviction {
    Eviction::new(capacity, KeyOfSlot::default())
}

fn insert(eviction: &mut TestEviction, slot: u32, key: u64) {
    eviction.keys.set(slot, key);
    eviction.inserted(slot, key);
}

/// A cache of `capacity` blocks as the engine would keep it.
struct Cache {
    eviction: TestEviction,
    slots: HashMap<u64, u32>,
    blocks: HashMap<u32, u64>,
    capacity: u32,
}

impl Cache {
    fn new(capacity: u32) -> Self {
        Self {
            eviction: eviction(Some(u64::from(capacity))),
            slots: HashMap::new(),
            blocks: HashMap::new(),
            capacity,
        }
    }

    fn access(&mut self, block: u64) -> bool {
        if let Some(slot) = self.slots.get(&block) {
            self.eviction.touched(*slot);
            return true;
        }
        let slot = self.place(block);
        insert(&mut self.eviction, slot, Random(block).next());
        false
    }

    fn insert_ahead(&mut self, block: u64) {
        let slot = self.place(block);
        self.eviction.keys.set(slot, Random(block).next());
        self.eviction.inserted_ahead(slot);
    }

    /// A slot for a block that has none.
    fn place(&mut self, block: u64) -> u32 {
        let mut slot = self.blocks.len() as u32;
        if slot == self.capacity {
            slot = self.eviction.victim().unwrap();
            self.slots.remove(&self.blocks[&slot]);
        }
        self.slots.insert(block, slot);
        self.blocks.insert(slot, block);
        slot
    }

    fn hits(&mut self, blocks: impl Iterator<Item = u64>) -> usize {
        blocks.filter(|block| self.access(*block)).count()
    }

    fn policy(&self) -> Policy {
        self.eviction.queues.policy()
    }
}

fn victims(eviction: &mut TestEviction) -> Vec<u32> {
    std::iter::from_fn(|| eviction.victim()).collect()
}

fn check(eviction: &TestEviction, model: &BTreeSet<u32>, context: &str) {
    let tracked = eviction.queues.check();
    assert_eq!(eviction.len(), model.len(), "{context}");
    assert_eq!(tracked.len(), model.len(), "{context}");
    assert_eq!(
        &tracked.into_iter().collect::<BTreeSet<_>>(),
        model,
        "{context}"
    );
}

fn random_operations(seed: u64, capacity: Option<u64>) {
    const SLOTS: u64 = 60;
    let mut random = Random(seed);
    let mut eviction = eviction(capacity);
    let mut model = BTreeSet::new();
    for step in 0..4000 {
        let slot = random.below(SLOTS) as u32;
        let key = random.below(200);
        let action = random.below(100);
        match action {
            0..30 => eviction.touched(slot),
            30..60 => {
                insert(&mut eviction, slot, key);
                model.insert(slot);
            }
            60..70 => {
                eviction.removed(slot);
                model.remove(&slot);
            }
            70..85 => {
                let victim = eviction.victim();
                assert_eq!(victim.is_none(), model.is_empty());
                assert!(victim.is_none_or(|victim| model.remove(&victim)));
            }
            85..96 => {
                if let Some(victim) = eviction.victim() {
                    eviction.keys.set(victim, key);
                    eviction.reinserted(victim, key, action.is_multiple_of(2));
                }
            }
            96 => eviction.set_capacity((key > 20).then_some(key)),
            _ => {
                let percent = (key % 100) as u8;
                let policies = [Policy::Lru, Policy::Probation { percent }];
                eviction.queues.set_policy(policies[slot as usize % 2]);
            }
        }
        check(&eviction, &model, &format!("seed {seed}, step {step}"));
    }
    let victims = victims(&mut eviction);
    assert_eq!(victims.len(), model.len(), "seed {seed}: each slot once");
    assert_eq!(victims.into_iter().collect::<BTreeSet<_>>(), model);
}

#[test]
fn tracks_the_same_slots_as_a_set_does() {
    for seed in 0..40 {
        random_operations(seed, (seed % 4 != 0).then_some(seed * 2));
    }
}

#[test]
fn a_small_cache_starts_in_lru_order() {
    let mut eviction = eviction(Some(4));
    for slot in 0..4 {
        insert(&mut eviction, slot, u64::from(slot));
    }
    eviction.touched(0);
    eviction.removed(2);
    eviction.removed(99);
    eviction.touched(99);
    assert_eq!(victims(&mut eviction), [1, 3, 0]);
    assert_eq!(eviction.len(), 0);
}

#[test]
fn another_block_in_a_tracked_slot_is_new() {
    let mut eviction = eviction(Some(4));
    insert(&mut eviction, 0, 70);
    insert(&mut eviction, 1, 71);
    insert(&mut eviction, 0, 75);
    assert_eq!(eviction.len(), 2);
    assert_eq!(victims(&mut eviction), [1, 0]);
}

#[test]
fn a_victim_handed_back_does_not_hide_the_others() {
    let mut eviction = eviction(Some(40));
    for slot in 0..40 {
        insert(&mut eviction, slot, u64::from(slot));
    }
    let dirty = eviction.victim().unwrap();
    eviction.reinserted(dirty, u64::from(dirty), false);
    let next: Vec<u32> = (0..10).filter_map(|_| eviction.victim()).collect();
    assert_ne!(next[0], dirty);
    assert!(next.contains(&dirty), "it has its turn soon: {next:?}");
}

#[test]
fn a_pinned_victim_handed_back_as_used_leaves_last() {
    for policy in [Policy::Lru, Policy::Probation { percent: 100 }] {
        let mut eviction = eviction(Some(40));
        eviction.queues.set_policy(policy);
        for slot in 0..40 {
            insert(&mut eviction, slot, u64::from(slot));
        }
        let pinned = eviction.victim().unwrap();
        eviction.reinserted(pinned, u64::from(pinned), true);
        assert_eq!(victims(&mut eviction).last(), Some(&pinned), "{policy:?}");
    }
}

#[test]
fn a_scan_does_not_sweep_a_large_cache() {
    let mut cache = Cache::new(2000);
    for _ in 0..3 {
        cache.hits(0..1000);
    }
    cache.hits(1_000_000..1_010_000);
    let hits = cache.hits(0..1000);
    assert!(hits > 950, "{hits} of 1000 blocks survived the scan");
}

/// Requests of a sixteenth of a block: every block of the scan is used 16 times in a row.
#[test]
fn several_requests_in_one_block_are_one_visit() {
    let mut cache = Cache::new(2000);
    for _ in 0..3 {
        cache.hits(0..1000);
    }
    cache.hits((0..160_000).map(|request| 1_000_000 + request / 16));
    let hits = cache.hits(0..1000);
    assert!(hits > 950, "{hits} of 1000 blocks survived the scan");
}

#[test]
fn a_block_that_comes_back_soon_after_its_eviction_stays() {
    let mut cache = Cache::new(2000);
    cache.hits(0..3000);
    assert!(!cache.access(500), "it was evicted");
    cache.hits(1_000_000..1_001_500);
    assert!(cache.access(500), "it came back, and outlived newer blocks");
}

/// A few blocks are used again and again, but further apart than LRU can bridge.
#[test]
fn scans_move_a_small_cache_away_from_lru() {
    let mut cache = Cache::new(200);
    assert_eq!(cache.policy(), Policy::Lru);
    let mixed = |round: u64| (0..100).chain(1000 + round * 150..1150 + round * 150);
    cache.hits((0..200).flat_map(mixed));
    assert_ne!(cache.policy(), Policy::Lru);
    let hits = cache.hits((200..210).flat_map(mixed));
    assert!(hits > 950, "{hits} of 1000");
}

/// Each block is used again once, when more others were used than fit into probation.
#[test]
fn reuse_at_a_distance_brings_a_large_cache_to_lru() {
    let mut cache = Cache::new(1000);
    assert_ne!(cache.policy(), Policy::Lru);
    cache.hits((0..100_000).flat_map(|at| [at + 400, at]));
    assert_eq!(cache.policy(), Policy::Lru);
    let hits = cache.hits((100_000..110_000).flat_map(|at| [at + 400, at]));
    assert!(hits > 9_900, "{hits} of 10000");
}

#[test]
fn without_a_limit_nothing_is_learnt_until_there_is_one() {
    let mut eviction = eviction(None);
    for slot in 0..5000 {
        insert(&mut eviction, slot, u64::from(slot));
    }
    assert!(eviction.duel.is_none());
    eviction.set_capacity(Some(4000));
    assert!(eviction.duel.is_some());
    assert_eq!(victims(&mut eviction).len(), 5000);
}

#[test]
fn a_block_that_came_ahead_is_new_when_it_is_first_touched() {
    // One cache is told of blocks when they are asked for, the other long before.
    let [mut plain, mut ahead] = [Cache::new(1024), Cache::new(1024)];
    let mut hits = [0; 2];
    let mut random = Random(1);
    for scanned in 0..12_800_u64 {
        let used = 1_000_000 + random.below(700);
        hits[0] += usize::from(plain.access(used));
        hits[1] += usize::from(ahead.access(used));
        plain.access(scanned);
        if scanned.is_multiple_of(128) {
            (scanned..scanned + 128).for_each(|block| ahead.insert_ahead(block));
        }
        ahead.access(scanned);
    }
    assert!(hits[1] * 100 >= hits[0] * 97, "{hits:?}");
    assert_eq!(ahead.eviction.used_ahead(), 12_800);
}

#[test]
fn what_came_ahead_and_was_never_used_leaves_before_what_was_and_is_no_ghost() {
    let mut cache = Cache::new(20);
    for block in 0..10 {
        cache.access(block);
    }
    (100..110).for_each(|block| cache.insert_ahead(block));
    for round in 0..100 {
        cache.access(round % 10);
    }
    assert_eq!(cache.hits(200..210), 0);
    assert_eq!(cache.hits(0..10), 10);
    assert_eq!(cache.eviction.used_ahead(), 0);
    assert!((100..110).all(|block| !cache.slots.contains_key(&block)));
}
