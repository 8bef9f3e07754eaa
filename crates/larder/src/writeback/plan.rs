//! What a pass will send: byte ranges in origin order, neighbours joined, in batches.

use std::collections::VecDeque;

use crate::origin::MAX_RANGE_BYTES;
use crate::sector::BlockNumber;
use crate::volume::Volume;

/// The most data between two flushes, in bytes.
const BATCH_BYTES: u64 = 256 << 20;
/// The most requests between two flushes.
const BATCH_ITEMS: usize = 16384;
/// Blocks looked at at once.
const BLOCKS_AT_ONCE: usize = 8192;

/// One request to the origin, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub start: u64,
    pub end: u64,
    /// Planned as zeros: it carries no data, most likely.
    pub is_zero: bool,
}

/// The requests still to be made.
pub(super) struct Plan<'v> {
    volume: &'v Volume,
    items: VecDeque<Item>,
    numbers: VecDeque<BlockNumber>,
}

impl<'v> Plan<'v> {
    /// The blocks, in order.
    pub(super) fn new(volume: &'v Volume, numbers: Vec<BlockNumber>) -> Self {
        Self {
            volume,
            items: VecDeque::new(),
            numbers: numbers.into(),
        }
    }

    pub(super) fn add_zeros(&mut self, ranges: &[(u64, u64)]) {
        for &(start, end) in ranges {
            let mut at = start;
            while at < end {
                let stop = end.min(at + MAX_RANGE_BYTES / 2);
                self.items.push_back(Item {
                    start: at,
                    end: stop,
                    is_zero: true,
                });
                at = stop;
            }
        }
    }

    /// The next requests; what is planned now is of at most `longest` bytes each.
    pub(super) fn next_batch(&mut self, longest: u64) -> Vec<Item> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            if self.items.is_empty() {
                self.plan_blocks(longest);
            }
            let Some(item) = self.items.pop_front() else {
                break;
            };
            if !item.is_zero {
                bytes += item.end - item.start;
            }
            batch.push(item);
        }
        batch
    }

    /// Plans the dirty runs of the next blocks, joining neighbours across blocks.
    fn plan_blocks(&mut self, longest: u64) {
        let geometry = self.volume.geometry();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let count = self.numbers.len().min(BLOCKS_AT_ONCE);
        for number in self.numbers.drain(..count) {
            let pin = self.volume.pin(number);
            let state = pin.latch_shared();
            let planned = state.dirty | self.volume.zero_mask(number);
            for run in planned.runs() {
                let (start, end) = geometry.bytes_of(number, run, self.volume.size());
                match runs.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    _ => runs.push((start, end)),
                }
            }
        }
        for (start, end) in runs {
            let mut at = start;
            while at < end {
                let stop = end.min(at + longest);
                self.items.push_back(Item {
                    start: at,
                    end: stop,
                    is_zero: false,
                });
                at = stop;
            }
        }
        if self.items.is_empty() && !self.numbers.is_empty() {
            self.plan_blocks(longest);
        }
    }
}
