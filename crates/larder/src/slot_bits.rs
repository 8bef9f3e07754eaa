//! A bit for each slot, without a lock.
//!
//! In leaves that are made as slots are used and never move; the lists of leaves double. Where a bit's meaning hangs on other
//! memory, whoever sets or clears it holds the slot's block by latch or by its shard's lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::directory::SlotNumber;

/// A leaf has a page of 4 KiB: so many bits, as a logarithm to base 2.
const LEAF_BITS: u32 = 15;
const LEAF_WORDS: usize = 1 << (LEAF_BITS - 6);
const LISTS: usize = 33 - LEAF_BITS as usize;

type Leaf = Box<[AtomicU64]>;

/// A set of slots.
#[derive(Debug)]
pub(crate) struct SlotBits {
    lists: [OnceLock<Box<[OnceLock<Leaf>]>>; LISTS],
}

impl Default for SlotBits {
    fn default() -> Self {
        Self {
            lists: std::array::from_fn(|_| OnceLock::new()),
        }
    }
}

impl SlotBits {
    /// Whether it was not in the set before.
    pub(crate) fn insert(&self, slot: SlotNumber) -> bool {
        self.insert_some(slot, bit(slot)) == 1
    }

    /// Inserts slots of the 64 that one word has, by [`bit`]. Tells how many were not in the set before.
    pub(crate) fn insert_some(&self, slot: SlotNumber, bits: u64) -> u32 {
        let (leaf, length, at) = place(slot);
        let list =
            self.lists[leaf.0].get_or_init(|| (0..length).map(|_| OnceLock::new()).collect());
        let words =
            list[leaf.1].get_or_init(|| (0..LEAF_WORDS).map(|_| AtomicU64::new(0)).collect());
        (bits & !words[at].fetch_or(bits, Ordering::SeqCst)).count_ones()
    }

    /// Whether it was in the set.
    pub(crate) fn remove(&self, slot: SlotNumber) -> bool {
        let bit = bit(slot);
        match self.word(slot) {
            // Most of the time it is not, and then nothing is written.
            Some(word) if word.load(Ordering::SeqCst) & bit != 0 => {
                word.fetch_and(!bit, Ordering::SeqCst) & bit != 0
            }
            _ => false,
        }
    }

    pub(crate) fn contains(&self, slot: SlotNumber) -> bool {
        self.word(slot)
            .is_some_and(|word| word.load(Ordering::SeqCst) & bit(slot) != 0)
    }

    fn word(&self, slot: SlotNumber) -> Option<&AtomicU64> {
        let (leaf, _, at) = place(slot);
        let words = self.lists[leaf.0].get()?[leaf.1].get()?;
        Some(&words[at])
    }
}

/// The list and the leaf in it, the list's length, and the word.
fn place(slot: SlotNumber) -> ((usize, usize), usize, usize) {
    // List 0 has the first leaf, list k the 2^(k-1) after those before it.
    let leaf = slot.0 >> LEAF_BITS;
    let list = (u32::BITS - leaf.leading_zeros()) as usize;
    let length = if list == 0 { 1 } else { 1 << (list - 1) };
    let at = (slot.0 >> 6) as usize % LEAF_WORDS;
    ((list, leaf as usize % length), length, at)
}

/// A slot among the 64 of its word.
pub(crate) fn bit(slot: SlotNumber) -> u64 {
    1 << (slot.0 % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_one_word_are_inserted_together() {
        let bits = SlotBits::default();
        bits.insert(SlotNumber(130));
        let some = [128, 130, 191].map(SlotNumber).map(bit);
        let all = some.into_iter().fold(0, |all, bit| all | bit);
        assert_eq!(bits.insert_some(SlotNumber(150), all), 2);
        let found = (0..300).filter(|slot| bits.contains(SlotNumber(*slot)));
        assert_eq!(found.collect::<Vec<u32>>(), [128, 130, 191]);
    }

    #[test]
    fn every_slot_has_a_bit_of_its_own() {
        let bits = SlotBits::default();
        let edges = [
            0,
            1,
            63,
            64,
            32767,
            32768,
            65535,
            65536,
            98304,
            1 << 24,
            u32::MAX - 1,
        ];
        for slot in edges.map(SlotNumber) {
            assert!(!bits.contains(slot));
            assert!(!bits.remove(slot));
            assert!(bits.insert(slot));
            assert!(!bits.insert(slot));
            assert!(bits.contains(slot));
        }
        for (index, slot) in edges.map(SlotNumber).into_iter().enumerate() {
            assert!(bits.remove(slot));
            assert!(!bits.contains(slot));
            let others = edges[index + 1..].iter().copied().map(SlotNumber);
            assert!(others.into_iter().all(|other| bits.contains(other)));
        }
    }
}
