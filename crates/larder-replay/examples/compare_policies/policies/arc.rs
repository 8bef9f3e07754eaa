//! ARC (N. Megiddo and D. Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003,
//! figure 4).

use super::Policy;
use super::lists::Lists;

/// Used once lately; used again; ghosts of the former and of the latter.
const T1: usize = 0;
const T2: usize = 1;
const B1: usize = 2;
const B2: usize = 3;

pub(crate) struct Arc {
    capacity: usize,
    lists: Lists<4>,
    /// The length that T1 should have: the paper's p.
    target: usize,
}

impl Arc {
    pub(crate) fn new(capacity: usize, footprint: usize) -> Self {
        Self {
            capacity,
            lists: Lists::new(footprint),
            target: 0,
        }
    }

    /// REPLACE: makes one block a ghost.
    fn replace(&mut self, is_in_b2: bool) {
        let length = self.lists.len(T1);
        let from_t1 = length > 0 && (length > self.target || (is_in_b2 && length == self.target));
        let (from, to) = if from_t1 { (T1, B1) } else { (T2, B2) };
        if let Some(victim) = self.lists.pop(from) {
            self.lists.push(to, victim);
        }
    }

    /// Case IV: a block that is not known at all.
    fn make_room(&mut self) {
        let len = |list| self.lists.len(list);
        let recent = len(T1) + len(B1);
        let all = recent + len(T2) + len(B2);
        if recent == self.capacity {
            if len(T1) < self.capacity {
                self.lists.pop(B1);
                self.replace(false);
            } else {
                self.lists.pop(T1);
            }
        } else if all >= self.capacity {
            if all == 2 * self.capacity {
                self.lists.pop(B2);
            }
            self.replace(false);
        }
    }
}

impl Policy for Arc {
    fn access(&mut self, block: u32) -> bool {
        let (ghosts1, ghosts2) = (self.lists.len(B1), self.lists.len(B2));
        match self.lists.of(block) {
            Some(T1 | T2) => {
                self.lists.push(T2, block);
                return true;
            }
            Some(B1) => {
                let step = (ghosts2 / ghosts1).max(1);
                self.target = (self.target + step).min(self.capacity);
                self.replace(false);
                self.lists.push(T2, block);
            }
            Some(_) => {
                let step = (ghosts1 / ghosts2).max(1);
                self.target = self.target.saturating_sub(step);
                self.replace(true);
                self.lists.push(T2, block);
            }
            None => {
                self.make_room();
                self.lists.push(T1, block);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::played;
    use super::*;

    #[test]
    fn what_was_used_twice_survives_a_scan() {
        let mut arc = Arc::new(3, 10);
        // 0 and 1 go to T2; of the scan only the last one stays in T1.
        assert_eq!(played(&mut arc, &[0, 1, 0, 1, 2, 3, 4, 0, 1]), "mmhhmmmhh");
        assert_eq!((arc.lists.len(T1), arc.lists.len(T2)), (1, 2));
        assert_eq!(arc.lists.len(B1), 2);
    }

    #[test]
    fn ghosts_move_the_target() {
        let mut arc = Arc::new(3, 10);
        played(&mut arc, &[0, 1, 0, 1, 2, 3]);
        assert_eq!((arc.target, arc.lists.of(2)), (0, Some(B1)));
        // A ghost of T1: T1 should be longer, so a block of T2 leaves next time.
        assert_eq!(played(&mut arc, &[2]), "m");
        assert_eq!(arc.target, 1);
        assert_eq!(arc.lists.of(2), Some(T2));
        // T1 had one block, which is not more than the target of 1; 0 was T2's oldest.
        assert_eq!((arc.lists.of(3), arc.lists.of(0)), (Some(T1), Some(B2)));
        // A ghost of T2 moves it back, and T1's block leaves.
        assert_eq!(played(&mut arc, &[0]), "m");
        assert_eq!((arc.target, arc.lists.of(3)), (0, Some(B1)));
    }

    #[test]
    fn no_more_blocks_and_ghosts_than_the_paper_allows() {
        let mut arc = Arc::new(4, 30);
        for step in 0..3000u32 {
            arc.access(step.wrapping_mul(2_654_435_761) % 30 % (1 + step % 30));
            let len = |list| arc.lists.len(list);
            assert!(len(T1) + len(T2) <= 4 && len(T1) + len(B1) <= 4);
            assert!((0..4).map(len).sum::<usize>() <= 8);
        }
    }
}
