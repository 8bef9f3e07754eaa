//! Zeros as state: ranges that read as zeros although the origin may hold something else.
//!
//! Ranges start and end on sector boundaries (or at the volume's end), never overlap, and are
//! disjoint from what is valid in slots. A block's part is only changed with its latch held, or its
//! shard's lock where it has no entry.

use std::collections::BTreeMap;

use std::time::Duration;

use crate::sector::{BlockNumber, Geometry, Mask};

/// Where a range of zeros is on its way to the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The origin has not been told.
    Dirty,
    /// The origin was told, and has not been flushed since.
    Writing,
}

/// A range of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZeroRange {
    pub start: u64,
    pub end: u64,
    /// A hole will do.
    pub may_trim: bool,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    end: u64,
    may_trim: bool,
    phase: Phase,
}

/// All ranges of zeros of a volume, in bytes.
#[derive(Debug, Default)]
pub(crate) struct ZeroMap {
    ranges: BTreeMap<u64, Rest>,
    since: Option<Duration>,
}

impl ZeroMap {
    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Since when there have been any.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.since
    }

    /// Keeps [`ZeroMap::since`] true after a change.
    pub(crate) fn note_time(&mut self, now: Duration) {
        if self.ranges.is_empty() {
            self.since = None;
        } else {
            self.since.get_or_insert(now);
        }
    }

    /// Makes the range zero, whatever it was, and joins it with like neighbours.
    pub(crate) fn insert(&mut self, range: ZeroRange) {
        self.remove(range.start, range.end);
        let (mut start, mut end) = (range.start, range.end);
        let alike = |rest: &Rest| rest.may_trim == range.may_trim && rest.phase == range.phase;
        if let Some((&before, rest)) = self.ranges.range(..start).next_back()
            && rest.end == start
            && alike(rest)
        {
            start = before;
        }
        if let Some(rest) = self.ranges.get(&end).copied()
            && alike(&rest)
        {
            self.ranges.remove(&end);
            end = rest.end;
        }
        self.ranges.insert(
            start,
            Rest {
                end,
                may_trim: range.may_trim,
                phase: range.phase,
            },
        );
    }

    /// Forgets the range's zeros.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        let overlapping: Vec<ZeroRange> = self.touching(start, end).collect();
        for old in overlapping {
            self.ranges.remove(&old.start);
            let rest = |end| Rest {
                end,
                may_trim: old.may_trim,
                phase: old.phase,
            };
            if old.start < start {
                self.ranges.insert(old.start, rest(start));
            }
            if end < old.end {
                self.ranges.insert(end, rest(old.end));
            }
        }
    }

    fn touching(&self, start: u64, end: u64) -> impl Iterator<Item = ZeroRange> {
        let before = self.ranges.range(..start).next_back();
        before
            .into_iter()
            .chain(self.ranges.range(start..end.max(start)))
            .filter(move |(_, rest)| rest.end > start)
            .map(|(&at, rest)| ZeroRange {
                start: at,
                end: rest.end,
                may_trim: rest.may_trim,
                phase: rest.phase,
            })
    }

    /// The ranges that overlap the bytes from `start` to `end`, cut to them, in order.
    pub(crate) fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = ZeroRange> {
        self.touching(start, end).map(move |range| ZeroRange {
            start: range.start.max(start),
            end: range.end.min(end),
            ..range
        })
    }

    /// Marks what is dirty within the bytes as being written, and tells what that was.
    pub(crate) fn take_dirty(&mut self, start: u64, end: u64) -> Vec<ZeroRange> {
        let taken: Vec<ZeroRange> = self
            .overlapping(start, end)
            .filter(|range| range.phase == Phase::Dirty)
            .collect();
        for range in &taken {
            self.insert(ZeroRange {
                phase: Phase::Writing,
                ..*range
            });
        }
        taken
    }

    /// What was being written within the bytes is the origin's now, or dirty again.
    pub(crate) fn settle(&mut self, start: u64, end: u64, durable: bool) {
        let writing: Vec<ZeroRange> = self
            .overlapping(start, end)
            .filter(|range| range.phase == Phase::Writing)
            .collect();
        for range in writing {
            if durable {
                self.remove(range.start, range.end);
            } else {
                self.insert(ZeroRange {
                    phase: Phase::Dirty,
                    ..range
                });
            }
        }
    }

    /// The sectors of a block that are zero.
    pub(crate) fn mask(&self, geometry: Geometry, number: BlockNumber, size: u64) -> Mask {
        let base = geometry.base(number);
        let end = base.saturating_add(geometry.block_bytes()).min(size);
        let mut mask = Mask::EMPTY;
        for range in self.overlapping(base, end) {
            let first = (range.start - base).div_ceil(geometry.sector_bytes());
            let last = if range.end == size {
                (range.end - base).div_ceil(geometry.sector_bytes())
            } else {
                (range.end - base) / geometry.sector_bytes()
            };
            mask |= Mask::span(first as u32, last as u32);
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::RequestLimits;

    fn dirty(start: u64, end: u64) -> ZeroRange {
        ZeroRange {
            start,
            end,
            may_trim: true,
            phase: Phase::Dirty,
        }
    }

    #[test]
    fn neighbours_join_and_removal_splits() {
        let mut map = ZeroMap::default();
        map.insert(dirty(0, 512));
        map.insert(dirty(1024, 2048));
        map.insert(dirty(512, 1024));
        assert_eq!(map.len(), 1);
        map.remove(512, 1024);
        let left: Vec<_> = map.overlapping(0, 4096).collect();
        assert_eq!(left, [dirty(0, 512), dirty(1024, 2048)]);
        map.insert(ZeroRange {
            may_trim: false,
            ..dirty(512, 1024)
        });
        assert_eq!(map.len(), 3, "whether holes are allowed is kept per range");
    }

    #[test]
    fn a_range_zeroed_again_while_being_written_stays_dirty() {
        let mut map = ZeroMap::default();
        map.insert(dirty(0, 4096));
        assert_eq!(map.take_dirty(0, 4096), [dirty(0, 4096)]);
        map.insert(dirty(1024, 2048));
        map.remove(0, 512);
        map.settle(0, 4096, true);
        assert_eq!(
            map.overlapping(0, 4096).collect::<Vec<_>>(),
            [dirty(1024, 2048)]
        );
    }

    #[test]
    fn a_failed_write_makes_zeros_dirty_again() {
        let mut map = ZeroMap::default();
        map.insert(dirty(0, 4096));
        map.take_dirty(0, 2048);
        map.settle(0, 4096, false);
        assert_eq!(
            map.overlapping(0, 4096).collect::<Vec<_>>(),
            [dirty(0, 4096)]
        );
    }

    #[test]
    fn the_mask_holds_whole_sectors_and_the_tail() {
        let geometry = Geometry::new(4096, RequestLimits::default()).unwrap();
        let mut map = ZeroMap::default();
        map.insert(dirty(1024, 5000));
        assert_eq!(map.mask(geometry, BlockNumber(0), 5000), Mask::span(2, 8));
        assert_eq!(map.mask(geometry, BlockNumber(1), 5000), Mask::span(0, 2));
    }
}
