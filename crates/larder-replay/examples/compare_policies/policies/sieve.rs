//! SIEVE (Y. Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, algorithm 1).

use super::Policy;
use super::lists::Lists;

pub(crate) struct Sieve {
    capacity: usize,
    blocks: Lists<1>,
    was_used: Vec<bool>,
    /// The next block to look at; the oldest without.
    hand: Option<u32>,
}

impl Sieve {
    pub(crate) fn new(capacity: usize, footprint: usize) -> Self {
        Self {
            capacity,
            blocks: Lists::new(footprint),
            was_used: vec![false; footprint],
            hand: None,
        }
    }

    fn evict(&mut self) {
        let mut looked_at = self.hand.or_else(|| self.blocks.oldest(0));
        while let Some(block) = looked_at {
            if !std::mem::take(&mut self.was_used[block as usize]) {
                self.hand = self.blocks.newer(block);
                self.blocks.remove(block);
                return;
            }
            looked_at = self.blocks.newer(block).or_else(|| self.blocks.oldest(0));
        }
    }
}

impl Policy for Sieve {
    fn access(&mut self, block: u32) -> bool {
        if self.blocks.of(block).is_some() {
            self.was_used[block as usize] = true;
            return true;
        }
        if self.blocks.len(0) == self.capacity {
            self.evict();
        }
        self.was_used[block as usize] = false;
        self.blocks.push(0, block);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::played;
    use super::*;

    #[test]
    fn the_hand_passes_over_what_was_used_and_goes_on_from_there() {
        let mut sieve = Sieve::new(3, 10);
        // 0 was used: the hand clears it, and takes 1. It stands at 2 then, which 4 replaces,
        // then at 3, which 5 replaces, although 0 is older and was not used again.
        assert_eq!(played(&mut sieve, &[0, 1, 2, 0, 3]), "mmmhm");
        assert_eq!((sieve.blocks.of(1), sieve.hand), (None, Some(2)));
        assert_eq!(played(&mut sieve, &[4, 5]), "mm");
        assert_eq!(played(&mut sieve, &[0, 4, 5]), "hhh");
        // All were used: the hand goes all the way round.
        assert_eq!(played(&mut sieve, &[6]), "m");
        assert_eq!(sieve.blocks.len(0), 3);
        assert_eq!(sieve.was_used.iter().filter(|used| **used).count(), 0);
    }
}
