//! LRU: the block used longest ago leaves.

use super::Policy;
use super::lists::Lists;

pub(crate) struct Lru {
    capacity: usize,
    blocks: Lists<1>,
}

impl Lru {
    pub(crate) fn new(capacity: usize, footprint: usize) -> Self {
        Self {
            capacity,
            blocks: Lists::new(footprint),
        }
    }
}

impl Policy for Lru {
    fn access(&mut self, block: u32) -> bool {
        let hit = self.blocks.of(block).is_some();
        if !hit && self.blocks.len(0) == self.capacity {
            self.blocks.pop(0);
        }
        self.blocks.push(0, block);
        hit
    }
}

#[cfg(test)]
mod tests {
    use super::super::played;
    use super::*;

    #[test]
    fn the_block_used_longest_ago_leaves() {
        let mut lru = Lru::new(2, 4);
        // 0 1, then 0 is used, so 2 takes the place of 1.
        assert_eq!(played(&mut lru, &[0, 1, 0, 2, 0, 1, 2]), "mmhmhmm");
    }
}
