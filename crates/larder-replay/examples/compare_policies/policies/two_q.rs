//! 2Q, the full version (T. Johnson and D. Shasha, "2Q: A Low Overhead High Performance Buffer
//! Management Replacement Algorithm", VLDB 1994), with the sizes that it recommends.

use super::Policy;
use super::lists::Lists;

/// New blocks; ghosts of those; blocks used again.
const A1_IN: usize = 0;
const A1_OUT: usize = 1;
const AM: usize = 2;

pub(crate) struct TwoQ {
    capacity: usize,
    lists: Lists<3>,
}

impl TwoQ {
    pub(crate) fn new(capacity: usize, footprint: usize) -> Self {
        Self {
            capacity,
            lists: Lists::new(footprint),
        }
    }

    /// RECLAIMFOR: room for one block.
    fn make_room(&mut self) {
        let (new, main) = (self.lists.len(A1_IN), self.lists.len(AM));
        if new + main < self.capacity {
            return;
        }
        if new <= self.capacity / 4 && main > 0 {
            self.lists.pop(AM);
            return;
        }
        if let Some(victim) = self.lists.pop(A1_IN) {
            self.lists.push(A1_OUT, victim);
        }
        if self.lists.len(A1_OUT) > self.capacity / 2 {
            self.lists.pop(A1_OUT);
        }
    }
}

impl Policy for TwoQ {
    fn access(&mut self, block: u32) -> bool {
        match self.lists.of(block) {
            Some(AM) => {
                self.lists.push(AM, block);
                true
            }
            Some(A1_IN) => true,
            ghost => {
                // No ghost any more, whoever else becomes one now.
                self.lists.remove(block);
                self.make_room();
                self.lists.push(ghost.map_or(A1_IN, |_| AM), block);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::played;
    use super::*;

    #[test]
    fn a_ghost_that_comes_back_goes_to_main() {
        let mut cache = TwoQ::new(4, 20);
        // 0 leaves as the oldest new one although it was used again, and is a ghost.
        assert_eq!(played(&mut cache, &[0, 1, 2, 3, 0, 4, 0]), "mmmmhmm");
        assert_eq!(cache.lists.of(0), Some(AM));
        // Two ghosts at most: 1 left for 0, 2 for 5.
        assert_eq!(played(&mut cache, &[5, 0]), "mh");
        assert_eq!(
            (cache.lists.of(1), cache.lists.of(2)),
            (Some(A1_OUT), Some(A1_OUT))
        );
        assert_eq!(played(&mut cache, &[6]), "m");
        assert_eq!((cache.lists.of(1), cache.lists.of(3)), (None, Some(A1_OUT)));
    }

    #[test]
    fn main_gives_way_where_there_are_few_new_blocks() {
        let mut cache = TwoQ::new(4, 20);
        played(&mut cache, &[0, 1, 2, 3, 4, 0, 5, 1, 2]);
        assert_eq!((cache.lists.len(A1_IN), cache.lists.len(AM)), (1, 3));
        assert_eq!(played(&mut cache, &[9]), "m");
        assert_eq!((cache.lists.of(0), cache.lists.of(5)), (None, Some(A1_IN)));
    }
}
