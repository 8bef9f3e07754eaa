use super::*;
use std::collections::{BTreeMap, BTreeSet};

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
}

/// A table beside a map that says what must be in it.
#[derive(Default)]
struct Checked {
    table: SlotTable,
    model: BTreeMap<u64, SlotNumber>,
    keys: Vec<u64>,
    free: Vec<SlotNumber>,
}

impl Checked {
    fn insert(&mut self, key: u64) {
        if self.model.contains_key(&key) {
            return;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.keys.push(0);
            SlotNumber(self.keys.len() as u32 - 1)
        });
        self.keys[slot.0 as usize] = key;
        let keys = &self.keys;
        self.table.insert(key, slot, |slot| keys[slot.0 as usize]);
        self.model.insert(key, slot);
    }

    fn remove(&mut self, key: u64) {
        let keys = &self.keys;
        self.table.remove(key, |slot| keys[slot.0 as usize]);
        self.free.extend(self.model.remove(&key));
    }

    fn find(&self, key: u64) -> Option<SlotNumber> {
        self.table.find(key, |slot| self.keys[slot.0 as usize])
    }

    fn check(&self, context: &str) {
        for (key, slot) in &self.model {
            assert_eq!(self.find(*key), Some(*slot), "{context}: key {key}");
        }
        let slots: Vec<_> = self.table.iter().collect();
        assert_eq!(slots.len(), self.model.len(), "{context}");
        let slots: BTreeSet<_> = slots.into_iter().collect();
        assert_eq!(slots, self.model.values().copied().collect(), "{context}");
    }
}

#[test]
fn places_are_told_apart() {
    for bits in 0..14 {
        let places: BTreeSet<u64> = (0..1 << bits).map(|key| scatter(key, bits)).collect();
        assert_eq!(places.len(), 1 << bits);
        assert!(places.iter().all(|place| place >> bits == 0));
    }
}

#[test]
fn agrees_with_a_map() {
    // From tables of which the bits are the whole key to ones that must ask.
    for bits in [1, 4, 9, 13, 17, 20, 24, 30, 44, 51] {
        let mut random = Random(u64::from(bits));
        let mut checked = Checked::default();
        if bits % 2 == 0 {
            checked.table.widen(bits, |_| 0);
        }
        for step in 0..12_000 {
            // Grows at first, then shrinks.
            let inserts = if step < 6_000 { 7 } else { 2 };
            let key = random.next() >> (64 - bits);
            if random.next() % 10 < inserts {
                checked.insert(key);
            } else if let Some((&key, _)) = checked.model.range(key..).next() {
                checked.remove(key);
            }
            let absent = random.next() >> (64 - bits);
            assert_eq!(checked.find(absent), checked.model.get(&absent).copied());
            if step % 3000 == 0 {
                checked.check(&format!("{bits} bits, step {step}"));
            }
        }
        checked.check(&format!("{bits} bits"));
    }
}

#[test]
fn keys_beyond_what_was_expected_are_taken() {
    let mut checked = Checked::default();
    checked.table.widen(3, |_| 0);
    for at in 0..5000 {
        checked.insert(at * at * at);
        assert_eq!(checked.find(u64::MAX >> 13), None);
    }
    checked.check("cubes");
}

/// Whoever chooses the keys can bring them all into one bucket: the rest are stashed, and the table stays small.
#[test]
fn keys_of_one_home_do_not_blow_the_table_up() {
    let bits = 44;
    let mut checked = Checked::default();
    checked.table.widen(bits, |_| 0);
    let mut home: Vec<u64> = (0..500_000).collect();
    home.sort_unstable_by_key(|key| scatter(*key, bits));
    for key in &home[..1500] {
        checked.insert(*key);
    }
    assert!(checked.table.stash.len() > 500);
    assert!(checked.table.buckets.len() < 300);
    checked.check("crowded");
    for key in &home[..1490] {
        checked.remove(*key);
    }
    checked.check("after the crowd");
}

#[test]
fn is_nearly_full_at_every_size_and_stashes_little() {
    let mut random = Random(1);
    for bits in [17, 19, 40] {
        let mut checked = Checked::default();
        checked.table.widen(bits, |_| 0);
        while checked.model.len() < 50_000 {
            checked.insert(random.next() >> (64 - bits));
            let (len, table) = (checked.model.len(), &checked.table);
            if len > 800 {
                let bytes = size_of_val(&*table.buckets);
                assert!(bytes * 10 < len * 76, "{bytes} bytes for {len} entries");
                assert!(
                    table.stash.len() * 100 < len + 200,
                    "{} of {len}",
                    table.stash.len()
                );
            }
        }
        assert_eq!(checked.table.is_exact, bits < 40);
    }
}

#[test]
fn bucket_is_a_line() {
    assert_eq!(size_of::<Bucket>(), 64);
}
