//! A volume's plan in pieces, by rising offset.

use super::plan::Plan;
use crate::zero_map::ZeroRange;

/// So much is sent between two flushes of the origin, in bytes: what must be sent again if its connection is lost.
const BATCH_BYTES: u64 = 256 << 20;
/// The same in pieces.
const BATCH_ITEMS: usize = 4096;

/// A piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The dirty sectors of the block at that place in the plan.
    Block(usize),
    Zeros(ZeroRange),
}

/// What is still to be done. What is behind may leave the plan meanwhile.
#[derive(Debug)]
pub(super) struct Work {
    next_block: usize,
    zeros_from: u64,
    /// The longest piece of zeros, in bytes.
    zero_bytes: u64,
}

impl Work {
    /// All of it, zeros in pieces of so many bytes.
    pub(super) fn all(zero_bytes: u64) -> Self {
        Self {
            next_block: 0,
            zeros_from: 0,
            zero_bytes,
        }
    }

    pub(super) fn next(&mut self, plan: &Plan) -> Option<Item> {
        let zeros = plan.zeros.overlapping(self.zeros_from, plan.size).next();
        let block = plan.blocks.get(self.next_block);
        match (zeros, block) {
            (Some(zeros), block)
                if block.is_none_or(|it| zeros.start < plan.geometry.base(it.block)) =>
            {
                let end = zeros.end.min(zeros.start.saturating_add(self.zero_bytes));
                self.zeros_from = end;
                Some(Item::Zeros(ZeroRange { end, ..zeros }))
            }
            (_, Some(_)) => {
                self.next_block += 1;
                Some(Item::Block(self.next_block - 1))
            }
            (_, None) => None,
        }
    }

    /// As much as is sent between two flushes.
    pub(super) fn next_batch(&mut self, plan: &Plan) -> Vec<Item> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && batch.len() < BATCH_ITEMS
            && let Some(item) = self.next(plan)
        {
            bytes += item.bytes(plan);
            batch.push(item);
        }
        batch
    }
}

impl Item {
    pub(super) fn bytes(&self, plan: &Plan) -> u64 {
        self.ranges(plan).map(|(start, end)| end - start).sum()
    }

    /// The bytes of the volume that it is.
    pub(super) fn ranges<'p>(&self, plan: &'p Plan) -> impl Iterator<Item = (u64, u64)> + 'p {
        let (block, zeros) = match self {
            Self::Block(at) => (Some(plan.blocks[*at]), None),
            Self::Zeros(zeros) => (None, Some((zeros.start, zeros.end))),
        };
        let ranges = block.into_iter().flat_map(move |it| {
            let runs = it.dirty.runs();
            runs.map(move |run| plan.geometry.bytes_of(it.block, run, plan.size))
        });
        ranges.chain(zeros)
    }
}
