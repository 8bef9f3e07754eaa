//! A set of numbers that tells quickly how many of them are below a given one.
//!
//! Bits, and a Fenwick tree (P. Fenwick, 1994) over the counts of 64 bits each.

/// Numbers below a bound.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    words: Vec<u64>,
    tree: Vec<u32>,
    count: u32,
}

impl Marks {
    /// All numbers below `count` are in the set, and others below `bound` may come.
    pub(crate) fn first(count: u32, bound: u32) -> Self {
        let words = bound.div_ceil(64) as usize;
        let mut marks = Self {
            words: vec![0; words],
            tree: vec![0; words + 1],
            count,
        };
        for (at, word) in marks.words.iter_mut().enumerate() {
            let ones = u64::from(count).saturating_sub(at as u64 * 64);
            *word = if ones >= 64 {
                u64::MAX
            } else {
                (1 << ones) - 1
            };
            marks.tree[at + 1] = word.count_ones();
        }
        for at in 1..marks.tree.len() {
            let parent = at + lowest_bit(at);
            if parent < marks.tree.len() {
                marks.tree[parent] += marks.tree[at];
            }
        }
        marks
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Adds a number that is not in the set.
    pub(crate) fn add(&mut self, number: u32) {
        self.words[number as usize / 64] |= 1 << (number % 64);
        self.count += 1;
        let mut at = number as usize / 64 + 1;
        while at < self.tree.len() {
            self.tree[at] += 1;
            at += lowest_bit(at);
        }
    }

    /// Takes a number out that is in the set.
    pub(crate) fn take(&mut self, number: u32) {
        self.words[number as usize / 64] &= !(1 << (number % 64));
        self.count -= 1;
        let mut at = number as usize / 64 + 1;
        while at < self.tree.len() {
            self.tree[at] -= 1;
            at += lowest_bit(at);
        }
    }

    /// How many are smaller than `number`, which is below the bound.
    pub(crate) fn below(&self, number: u32) -> u32 {
        let word = number as usize / 64;
        let mask = (1u64 << (number % 64)) - 1;
        let mut sum = (self.words[word] & mask).count_ones();
        let mut at = word;
        while at > 0 {
            sum += self.tree[at];
            at -= lowest_bit(at);
        }
        sum
    }
}

fn lowest_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn counts_as_a_set_does() {
        const BOUND: u32 = 1000;
        for first in [0, 1, 63, 64, 500, BOUND] {
            let mut marks = Marks::first(first, BOUND);
            let mut set: BTreeSet<u32> = (0..first).collect();
            for step in 0..2000u32 {
                let number = step.wrapping_mul(2_654_435_761) % BOUND;
                if set.remove(&number) {
                    marks.take(number);
                } else {
                    set.insert(number);
                    marks.add(number);
                }
                let probe = step.wrapping_mul(40_503) % BOUND;
                let expected = set.range(..probe).count() as u32;
                assert_eq!(marks.below(probe), expected, "step {step}");
                assert_eq!(marks.count(), set.len() as u32);
            }
        }
    }
}
