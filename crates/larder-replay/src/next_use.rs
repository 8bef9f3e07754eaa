//! When each block that is used will be used next: what the optimum must know.

/// Never used again.
pub(crate) const NEVER: u32 = u32::MAX;

/// Uses that are kept in one piece, so that no growth copies them.
const CHUNK_USES: usize = 1 << 20;

/// For each use of a block, in order, when that block is used next. Four bytes a use.
#[derive(Debug, Default)]
pub struct NextUses {
    chunks: Vec<Vec<u32>>,
    /// By block: its last use, or [`NEVER`].
    last_uses: Vec<u32>,
    uses: u32,
    is_too_long: bool,
}

impl NextUses {
    /// A block is used. Blocks are numbered in the order in which they first come.
    pub fn use_block(&mut self, block: u32) {
        if self.uses == NEVER {
            self.is_too_long = true;
            return;
        }
        let at = block as usize;
        if self.last_uses.len() <= at {
            self.last_uses.resize(at + 1, NEVER);
        }
        let before = std::mem::replace(&mut self.last_uses[at], self.uses);
        if before != NEVER {
            self.chunks[before as usize / CHUNK_USES][before as usize % CHUNK_USES] = self.uses;
        }
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_USES => chunk.push(NEVER),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK_USES);
                chunk.push(NEVER);
                self.chunks.push(chunk);
            }
        }
        self.uses += 1;
    }

    /// A block is dropped: its next use will be a miss in any case.
    pub fn drop_block(&mut self, block: u32) {
        if let Some(last) = self.last_uses.get_mut(block as usize) {
            *last = NEVER;
        }
    }

    /// Whether there were more uses than can be told apart, 2^32 - 1.
    pub(crate) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    pub(crate) fn uses(&self) -> u32 {
        self.uses
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.chunks.iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_knows_the_next_one() {
        let mut uses = NextUses::default();
        for block in [0, 1, 0, 2, 1, 0] {
            uses.use_block(block);
        }
        let next: Vec<u32> = uses.iter().collect();
        assert_eq!(next, [2, 4, 5, NEVER, NEVER, NEVER]);
    }

    #[test]
    fn a_block_that_is_dropped_has_no_next_use() {
        let mut uses = NextUses::default();
        uses.use_block(0);
        uses.drop_block(0);
        uses.drop_block(7);
        uses.use_block(0);
        uses.use_block(0);
        assert_eq!(uses.iter().collect::<Vec<_>>(), [NEVER, 2, NEVER]);
    }

    #[test]
    fn uses_far_apart_are_in_different_chunks() {
        let mut uses = NextUses::default();
        uses.use_block(0);
        for _ in 0..CHUNK_USES {
            uses.use_block(1);
        }
        uses.use_block(0);
        assert_eq!(uses.iter().next(), Some(CHUNK_USES as u32 + 1));
        assert_eq!(uses.uses() as usize, CHUNK_USES + 2);
    }
}
