//! A hash table from keys to slots that is nearly full at every size, grows in small steps and, as a rule,
//! answers out of one line of the processor's cache.
//!
//! Memory: 6 bytes an entry and at most an eighth more, where a table that doubles wastes half of itself just after
//! it did. Growing moves the entries of this table only, in the order in which they lie.
//!
//! - A key of so many bits is scattered over numbers of as many bits, each onto its own (*its place*), so nothing is
//!   lost by it. The buckets divide the places among themselves in equal ranges.
//! - An entry is in its home bucket, or in one of a few at fixed distances if that is full, or else in the *stash*, an
//!   ordinary hash table. A home counts its entries that are away, so a search seldom leaves it.
//! - An entry keeps the low bits of its place, and how far it is from home. Where a bucket has no more places than
//!   those bits can tell apart, bucket and entry together are the whole key: the table is *exact*, and whoever searches
//!   need not look up which block the slot holds. That is so unless the keys' range is about a thousand times as
//!   large as the table.
//!
//! Invariants: every key is less than 2^bits; a slot is in the table once; no key is there twice.

use hashbrown::HashMap;

use crate::directory::SlotNumber;

/// Entries of a bucket: it fills one line of 64 bytes.
const WAYS: usize = 10;
/// How far from its home an entry may be, in buckets. Not in a row, where full buckets would make their neighbours full.
const DISTANCES: [usize; 8] = [0, 1, 5, 13, 29, 53, 71, 97];
/// Bits of its place that an entry keeps; the others of its 16 tell its distance.
const KEPT_BITS: u32 = u16::BITS - DISTANCES.len().ilog2();
/// Beyond this share of its entries a table grows.
const FULL_PERCENT: usize = 93;
/// Below this one it shrinks, to the share in the middle.
const SPARSE_PERCENT: usize = 50;
const MIDDLE_PERCENT: usize = 85;
/// A table of so few buckets does not shrink.
const FEW_BUCKETS: usize = 4;
/// No slot has this number.
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// The entries' marks, see [`mark`].
    marks: [u16; WAYS],
    slots: [u32; WAYS],
    /// Entries whose home this is and that are elsewhere.
    away: u32,
}

impl Bucket {
    const NEW: Self = Self {
        marks: [0; WAYS],
        slots: [EMPTY; WAYS],
        away: 0,
    };

    fn put(&mut self, mark: u16, slot: SlotNumber) -> bool {
        let free = ways(|way| self.slots[way] == EMPTY).next();
        if let Some(way) = free {
            self.marks[way] = mark;
            self.slots[way] = slot.0;
        }
        free.is_some()
    }

    fn entries(&self) -> impl Iterator<Item = (u16, SlotNumber)> {
        let all = self.marks.into_iter().zip(self.slots);
        all.filter(|(_, slot)| *slot != EMPTY)
            .map(|(mark, slot)| (mark, SlotNumber(slot)))
    }
}

/// The entries of a bucket for which `is_it`. All are asked at once: which one it is cannot be foreseen.
#[inline]
fn ways(is_it: impl Fn(usize) -> bool) -> impl Iterator<Item = usize> {
    let mut left = (0..WAYS).fold(0_u32, |set, way| set | u32::from(is_it(way)) << way);
    std::iter::from_fn(move || {
        let way = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (way < u32::BITS).then_some(way as usize)
    })
}

/// Slots by the keys of what they hold. The table may have to be told what a slot's key is.
#[derive(Default)]
pub(crate) struct SlotTable {
    buckets: Vec<Bucket>,
    len: usize,
    bits: u32,
    is_exact: bool,
    stash: HashMap<u64, SlotNumber>,
}

/// Where an entry is.
enum Found {
    In { bucket: usize, way: usize },
    Stashed(SlotNumber),
}

impl SlotTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All slots, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SlotNumber> {
        let entries = self.buckets.iter().flat_map(Bucket::entries);
        let stashed = self.stash.values().copied();
        entries.map(|(_, slot)| slot).chain(stashed)
    }

    /// Keys of so many bits are to be expected. Others are taken as well, but only by moving everything.
    pub(crate) fn widen(&mut self, bits: u32, key_of: impl Fn(SlotNumber) -> u64) {
        if bits > self.bits {
            self.rebuild(self.buckets.len(), bits, key_of);
        }
    }

    /// So many more are to come: makes room for them at once, as much as if they came one by one.
    pub(crate) fn expect(&mut self, more: usize, key_of: impl Fn(SlotNumber) -> u64) {
        let full = (self.len + more) * 100 / (WAYS * FULL_PERCENT) + 1;
        let count = full + full / 16;
        if more > 0 && count > self.buckets.len() {
            self.rebuild(count, self.bits, key_of);
        }
    }

    /// The slot that holds `key`.
    #[inline]
    pub(crate) fn find(&self, key: u64, key_of: impl Fn(SlotNumber) -> u64) -> Option<SlotNumber> {
        Some(match self.locate(key, key_of)? {
            Found::In { bucket, way } => SlotNumber(self.buckets[bucket].slots[way]),
            Found::Stashed(slot) => slot,
        })
    }

    /// `slot` holds `key`, which no slot of the table did.
    pub(crate) fn insert(
        &mut self,
        key: u64,
        slot: SlotNumber,
        key_of: impl Fn(SlotNumber) -> u64,
    ) {
        debug_assert!(self.find(key, &key_of).is_none());
        let bits = self.bits.max(u64::BITS - key.leading_zeros());
        if bits > self.bits || self.len >= self.buckets.len() * WAYS * FULL_PERCENT / 100 {
            let count = self.buckets.len();
            self.rebuild(count + count / 16 + 1, bits, key_of);
        }
        self.len += 1;
        if !self.put(scatter(key, self.bits), slot) {
            self.stash.insert(key, slot);
        }
    }

    /// Takes `key` out.
    pub(crate) fn remove(&mut self, key: u64, key_of: impl Fn(SlotNumber) -> u64) {
        let home = self.home(scatter(key, self.bits));
        match self.locate(key, &key_of) {
            None => return,
            Some(Found::In { bucket, way }) => {
                self.buckets[bucket].slots[way] = EMPTY;
                let is_home = usize::from(self.buckets[bucket].marks[way]) % DISTANCES.len() == 0;
                self.buckets[home].away -= u32::from(!is_home);
            }
            Some(Found::Stashed(_)) => {
                self.stash.remove(&key);
                self.buckets[home].away -= 1;
            }
        }
        self.len -= 1;
        let room = self.buckets.len() * WAYS;
        if self.buckets.len() > FEW_BUCKETS && self.len < room * SPARSE_PERCENT / 100 {
            let count = self.len * 100 / (WAYS * MIDDLE_PERCENT) + 1;
            self.rebuild(count, self.bits, key_of);
        }
    }

    #[inline]
    fn locate(&self, key: u64, key_of: impl Fn(SlotNumber) -> u64) -> Option<Found> {
        if self.buckets.is_empty() || key >> self.bits != 0 {
            return None;
        }
        let place = scatter(key, self.bits);
        let home = self.home(place);
        for (step, distance) in DISTANCES.into_iter().enumerate() {
            let at = self.bucket_at(home, distance);
            let bucket = &self.buckets[at];
            let mark = mark(place, step);
            for way in ways(|way| bucket.marks[way] == mark) {
                if bucket.slots[way] != EMPTY
                    && (self.is_exact || key_of(SlotNumber(bucket.slots[way])) == key)
                {
                    return Some(Found::In { bucket: at, way });
                }
            }
            if step == 0 && bucket.away == 0 {
                return None;
            }
        }
        self.stash.get(&key).copied().map(Found::Stashed)
    }

    /// Puts an entry into a bucket. False if it is for the stash, which its home has counted.
    fn put(&mut self, place: u64, slot: SlotNumber) -> bool {
        let home = self.home(place);
        for (step, distance) in DISTANCES.into_iter().enumerate() {
            let at = self.bucket_at(home, distance);
            if self.buckets[at].put(mark(place, step), slot) {
                self.buckets[home].away += u32::from(step > 0);
                return true;
            }
        }
        self.buckets[home].away += 1;
        false
    }

    /// Moves all entries into so many buckets, for keys of so many bits.
    fn rebuild(&mut self, count: usize, bits: u32, key_of: impl Fn(SlotNumber) -> u64) {
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::NEW; count]);
        let stashed = std::mem::take(&mut self.stash);
        let places = Places {
            count: old.len(),
            bits: self.bits,
        };
        let are_places_known = self.is_exact && bits == self.bits;
        self.bits = bits;
        self.is_exact = Places { count, bits }.are_known();
        for (at, bucket) in old.iter().enumerate() {
            // All of a bucket's before any is put, so that what they are asked for comes together.
            let mut moved = [(0, SlotNumber(EMPTY)); WAYS];
            let mut count = 0;
            for (mark, slot) in bucket.entries() {
                let place = if are_places_known {
                    places.place(at, mark)
                } else {
                    scatter(key_of(slot), bits)
                };
                moved[count] = (place, slot);
                count += 1;
            }
            for (place, slot) in &moved[..count] {
                if !self.put(*place, *slot) {
                    self.stash.insert(key_of(*slot), *slot);
                }
            }
        }
        for (key, slot) in stashed {
            if !self.put(scatter(key, bits), slot) {
                self.stash.insert(key, slot);
            }
        }
    }

    fn home(&self, place: u64) -> usize {
        ((u128::from(place) * self.buckets.len() as u128) >> self.bits) as usize
    }

    fn bucket_at(&self, home: usize, distance: usize) -> usize {
        let at = home + distance;
        if at < self.buckets.len() {
            at
        } else {
            at % self.buckets.len()
        }
    }
}

/// What an entry keeps: the low bits of its place, and which of the distances from its home it is at.
fn mark(place: u64, step: usize) -> u16 {
    (place << (u16::BITS - KEPT_BITS)) as u16 | step as u16
}

/// How places are divided among buckets.
#[derive(Clone, Copy)]
struct Places {
    count: usize,
    bits: u32,
}

impl Places {
    /// Whether a bucket and a mark are enough to know a place: no two places of one home have the same low bits.
    fn are_known(self) -> bool {
        self.bits <= KEPT_BITS || 1_u128 << self.bits <= (self.count as u128) << KEPT_BITS
    }

    /// The place, in a table where it is known, of an entry with this mark.
    fn place(self, bucket: usize, mark: u16) -> u64 {
        let step = usize::from(mark) % DISTANCES.len();
        let low = u64::from(mark) >> (u16::BITS - KEPT_BITS);
        if self.bits <= KEPT_BITS {
            return low;
        }
        let home = (bucket + self.count - DISTANCES[step] % self.count) % self.count;
        // The first place of this home.
        let first = ((home as u128) << self.bits).div_ceil(self.count as u128) as u64;
        first + (low.wrapping_sub(first) & ((1 << KEPT_BITS) - 1))
    }
}

/// Scatters numbers of so many bits over the numbers of so many bits, each onto its own.
#[inline]
fn scatter(key: u64, bits: u32) -> u64 {
    let mask = (1_u64 << bits) - 1;
    // Every step can be undone: a shift to the right that is added without carry, and an odd factor.
    let shift = bits / 2 + 1;
    let mut place = key;
    place = (place ^ (place >> shift)).wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask;
    place = (place ^ (place >> shift)).wrapping_mul(0xD6E8_FEB8_6659_FD93) & mask;
    place ^ (place >> shift)
}

#[cfg(test)]
mod tests;
