//! What the cache holds of a range, and how much of that the origin does not have.
//!
//! The unsettled blocks and the ranges of zeros are looked at together, at one moment; then each block that was
//! unsettled or has a slot is looked at under its latch. So a sector that was dirty or zero at that moment is found
//! as what it has become, and the ranges of zeros stand for blocks of which nothing else is known.

use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;

/// What the cache holds of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// Nothing: a read asks the origin.
    Absent,
    /// The same as the origin.
    Clean,
    /// The origin does not have it durably: data or zeros still to be written, or not flushed since.
    Dirty,
}

/// A run of bytes of one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheExtent {
    /// Length in bytes, never 0.
    pub length: u64,
    /// The state of all of it.
    pub state: CacheState,
}

/// The most blocks, and the most ranges of zeros, that one answer looks at.
const MOST_LOOKED_AT: usize = 1 << 18;
/// The same where few extents are wanted: memory for those who ask for one at a time, over and over.
const FEW_LOOKED_AT: usize = 1 << 14;
/// So many extents are few.
const FEW: usize = 64;

/// The state of the range, in at most `most` extents.
pub(crate) fn status(volume: &Volume, offset: u64, length: u64, most: usize) -> Vec<CacheExtent> {
    let own = own_status(volume, offset, length, most);
    // Asked after that: what leaves the one is in the other before.
    let queued = volume
        .queue
        .get()
        .map(|queue| queue.ranges(offset, offset + length));
    match queued.filter(|queued| !queued.is_empty()) {
        Some(queued) => with_queued(offset, own, queued, most),
        None => own,
    }
}

/// The same with these ranges, which the origin does not have either.
fn with_queued(
    offset: u64,
    own: Vec<CacheExtent>,
    queued: Vec<(u64, u64)>,
    most: usize,
) -> Vec<CacheExtent> {
    let mut queued = queued.into_iter().peekable();
    let mut runs = Runs {
        at: offset,
        end: offset + own.iter().map(|extent| extent.length).sum::<u64>(),
        most: most.max(1),
        extents: Vec::new(),
    };
    let mut at = offset;
    for extent in own {
        let end = at + extent.length;
        while let Some(&(start, stop)) = queued.peek()
            && start < end
        {
            runs.push(start.min(end), extent.state);
            runs.push(stop.min(end), CacheState::Dirty);
            if stop > end {
                break;
            }
            queued.next();
        }
        runs.push(end, extent.state);
        at = end;
    }
    runs.extents
}

fn own_status(volume: &Volume, offset: u64, length: u64, most: usize) -> Vec<CacheExtent> {
    let mut runs = Runs {
        at: offset,
        end: offset + length,
        most: most.max(1),
        extents: Vec::new(),
    };
    if length == 0 {
        return runs.extents;
    }
    let geometry = volume.geometry();
    let looked_at = if most <= FEW {
        FEW_LOOKED_AT
    } else {
        MOST_LOOKED_AT
    };
    let complete_to = |blocks: &[BlockNumber], end: u64| match blocks.last() {
        // The list is full: where its last block ends.
        Some(last) if blocks.len() == looked_at => {
            geometry.base(*last).saturating_add(geometry.block_bytes())
        }
        _ => end,
    };
    let (mut blocks, zeros) = volume.unsettled_within(offset, runs.end, looked_at);
    if zeros.len() == looked_at {
        runs.end = zeros[looked_at - 1].1;
    }
    runs.end = runs.end.min(complete_to(&blocks, runs.end));
    let first = geometry.block_of(offset);
    let after = BlockNumber(geometry.block_of(runs.end - 1).0 + 1);
    let directory = &volume.store().directory;
    let known = volume
        .index()
        .lowest_known_within(first, after, directory, looked_at);
    runs.end = runs.end.min(complete_to(&known, runs.end));
    blocks.extend(known);
    blocks.sort_unstable();
    blocks.dedup();
    let mut zeros = zeros.into_iter().peekable();
    for number in blocks {
        let base = geometry.base(number);
        if base >= runs.end || runs.at >= runs.end {
            break;
        }
        runs.zeros_until(base, &mut zeros);
        runs.block(volume, number);
    }
    runs.zeros_until(runs.end, &mut zeros);
    runs.extents
}

/// Extents as they are put together.
struct Runs {
    /// How far they go.
    at: u64,
    end: u64,
    most: usize,
    extents: Vec<CacheExtent>,
}

impl Runs {
    /// What lies before `until` and was not told yet is of that state.
    fn push(&mut self, until: u64, state: CacheState) {
        let until = until.min(self.end);
        if until <= self.at {
            return;
        }
        let length = until - self.at;
        let is_full = self.extents.len() == self.most;
        match self.extents.last_mut() {
            Some(last) if last.state == state => last.length += length,
            _ if is_full => {
                // This would be one too many.
                self.end = self.at;
                return;
            }
            _ => self.extents.push(CacheExtent { length, state }),
        }
        self.at = until;
    }

    /// Up to `until` nothing is known but these zeros.
    fn zeros_until(
        &mut self,
        until: u64,
        zeros: &mut std::iter::Peekable<impl Iterator<Item = (u64, u64)>>,
    ) {
        while let Some(&(start, end)) = zeros.peek()
            && start < until
        {
            self.push(start.min(until), CacheState::Absent);
            self.push(end.min(until), CacheState::Dirty);
            if end > until {
                break;
            }
            zeros.next();
        }
        self.push(until, CacheState::Absent);
    }

    fn block(&mut self, volume: &Volume, number: BlockNumber) {
        let geometry = volume.geometry();
        let existing = volume.existing(number);
        let peeked = volume
            .index()
            .peek(number, geometry.full(), &volume.store().directory);
        let (valid, dirty) =
            if peeked.unsettled().is_empty() && (existing - peeked.valid).is_empty() {
                (peeked.valid, Mask::EMPTY)
            } else {
                let pin = volume.pin(number);
                let state = pin.latch_shared();
                (state.valid, state.unsettled() | volume.zero_mask(number))
            };
        let states = [
            (dirty, CacheState::Dirty),
            (valid - dirty, CacheState::Clean),
            (existing - valid - dirty, CacheState::Absent),
        ];
        let mut runs: Vec<((u32, u32), CacheState)> = states
            .into_iter()
            .flat_map(|(mask, state)| (mask & existing).runs().map(move |run| (run, state)))
            .collect();
        runs.sort_unstable_by_key(|(run, _)| *run);
        for (run, state) in runs {
            let (_, end) = geometry.bytes_of(number, run, volume.size());
            self.push(end, state);
        }
    }
}
