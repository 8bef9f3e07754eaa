//! A set of numbers that gives its largest quickly: bits, and bits that tell which words of bits
//! are not empty, and so on up.

/// Numbers below a bound. An eighth of a byte for each that may come.
#[derive(Debug)]
pub(crate) struct Peaks {
    /// The lowest level first; the highest has one word.
    levels: Vec<Vec<u64>>,
}

impl Peaks {
    /// An empty set of numbers below `bound`.
    pub(crate) fn new(bound: u32) -> Self {
        let mut levels = Vec::new();
        let mut words = bound as usize;
        loop {
            words = words.div_ceil(64).max(1);
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
        }
    }

    pub(crate) fn add(&mut self, number: u32) {
        let mut at = number as usize;
        for level in &mut self.levels {
            level[at / 64] |= 1 << (at % 64);
            at /= 64;
        }
    }

    /// Takes a number out; tells whether it was in the set.
    pub(crate) fn take(&mut self, number: u32) -> bool {
        let mut at = number as usize;
        if self.levels[0][at / 64] >> (at % 64) & 1 == 0 {
            return false;
        }
        for level in &mut self.levels {
            level[at / 64] &= !(1 << (at % 64));
            if level[at / 64] != 0 {
                break;
            }
            at /= 64;
        }
        true
    }

    /// Takes the largest number out.
    pub(crate) fn take_largest(&mut self) -> Option<u32> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level[at];
            at = at * 64 + word.checked_ilog2()? as usize;
        }
        self.take(at as u32);
        Some(at as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn gives_the_largest_as_a_set_does() {
        for bound in [1, 64, 65, 5000, 300_000] {
            let mut peaks = Peaks::new(bound);
            let mut set = BTreeSet::new();
            for step in 0..5000u32 {
                let number = step.wrapping_mul(2_654_435_761) % bound;
                match step % 4 {
                    0 => assert_eq!(peaks.take(number), set.remove(&number)),
                    1 if step % 8 == 1 => assert_eq!(peaks.take_largest(), set.pop_last()),
                    _ => {
                        peaks.add(number);
                        set.insert(number);
                    }
                }
            }
            while let Some(largest) = set.pop_last() {
                assert_eq!(peaks.take_largest(), Some(largest));
            }
            assert_eq!(peaks.take_largest(), None);
        }
    }
}
