//! Blocks in lists. A block is on one list at most.

/// No block.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Links {
    /// The neighbour that came later, or an end.
    newer: u32,
    /// The neighbour that came before, or an end.
    older: u32,
    /// The list that the block is on, if it is on one.
    list: Option<u8>,
}

/// So many lists of blocks, each from the oldest to the newest.
pub(super) struct Lists<const N: usize> {
    links: Vec<Links>,
    oldest: [u32; N],
    newest: [u32; N],
    lengths: [usize; N],
}

impl<const N: usize> Lists<N> {
    /// Empty lists, for blocks below `footprint`.
    pub(super) fn new(footprint: usize) -> Self {
        let links = Links {
            newer: NONE,
            older: NONE,
            list: None,
        };
        Self {
            links: vec![links; footprint],
            oldest: [NONE; N],
            newest: [NONE; N],
            lengths: [0; N],
        }
    }

    /// The list that a block is on.
    pub(super) fn of(&self, block: u32) -> Option<usize> {
        self.links[block as usize].list.map(usize::from)
    }

    pub(super) fn len(&self, list: usize) -> usize {
        self.lengths[list]
    }

    pub(super) fn oldest(&self, list: usize) -> Option<u32> {
        some(self.oldest[list])
    }

    /// The block of the same list that came next after this one.
    pub(super) fn newer(&self, block: u32) -> Option<u32> {
        some(self.links[block as usize].newer)
    }

    /// Puts a block at the new end of a list, wherever it was.
    pub(super) fn push(&mut self, list: usize, block: u32) {
        self.remove(block);
        let older = std::mem::replace(&mut self.newest[list], block);
        match some(older) {
            Some(older) => self.links[older as usize].newer = block,
            None => self.oldest[list] = block,
        }
        self.links[block as usize] = Links {
            newer: NONE,
            older,
            list: Some(list as u8),
        };
        self.lengths[list] += 1;
    }

    /// Takes a block off the list that it is on, if it is on one.
    pub(super) fn remove(&mut self, block: u32) {
        let Links { newer, older, list } = self.links[block as usize];
        let Some(list) = list.map(usize::from) else {
            return;
        };
        match some(newer) {
            Some(newer) => self.links[newer as usize].older = older,
            None => self.newest[list] = older,
        }
        match some(older) {
            Some(older) => self.links[older as usize].newer = newer,
            None => self.oldest[list] = newer,
        }
        self.links[block as usize].list = None;
        self.lengths[list] -= 1;
    }

    /// Takes the oldest block off a list.
    pub(super) fn pop(&mut self, list: usize) -> Option<u32> {
        let block = self.oldest(list)?;
        self.remove(block);
        Some(block)
    }
}

fn some(block: u32) -> Option<u32> {
    (block != NONE).then_some(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_move_between_lists_in_order() {
        let mut lists: Lists<2> = Lists::new(5);
        for block in 0..5 {
            lists.push(0, block);
        }
        lists.push(1, 2);
        lists.push(0, 0);
        lists.remove(4);
        lists.remove(4);
        assert_eq!((lists.of(2), lists.of(4)), (Some(1), None));
        assert_eq!((lists.len(0), lists.len(1)), (3, 1));
        assert_eq!(lists.newer(1), Some(3));
        let order: Vec<u32> = std::iter::from_fn(|| lists.pop(0)).collect();
        assert_eq!(order, [1, 3, 0]);
        assert_eq!(lists.oldest(1), Some(2));
    }
}
