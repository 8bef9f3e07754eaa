//! Which blocks of a volume are dirty, in origin order, and since when.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::sector::BlockNumber;

/// The blocks that have dirty or written sectors.
#[derive(Debug, Default)]
pub(crate) struct DirtySet {
    since: BTreeMap<BlockNumber, Duration>,
    /// In order of becoming dirty; entries that `since` does not confirm are over.
    order: VecDeque<(Duration, BlockNumber)>,
}

impl DirtySet {
    pub(crate) fn insert(&mut self, number: BlockNumber, now: Duration) {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.since.entry(number) {
            vacant.insert(now);
            self.order.push_back((now, number));
        }
    }

    /// What was dirty is the origin's now, but the block has been written again meanwhile.
    pub(crate) fn renew(&mut self, number: BlockNumber, now: Duration) {
        if self.since.contains_key(&number) {
            self.remove(number);
            self.insert(number, now);
        }
    }

    pub(crate) fn remove(&mut self, number: BlockNumber) {
        self.since.remove(&number);
        // The order keeps at most as many entries that are over as there are dirty blocks.
        if self.order.len() > 2 * self.since.len() + 64 {
            let since = &self.since;
            self.order
                .retain(|(at, number)| since.get(number) == Some(at));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    pub(crate) fn contains(&self, number: BlockNumber) -> bool {
        self.since.contains_key(&number)
    }

    /// The dirty blocks in a range of numbers, in order.
    pub(crate) fn within(
        &self,
        range: RangeInclusive<BlockNumber>,
    ) -> impl Iterator<Item = BlockNumber> {
        self.since.range(range).map(|(number, _)| *number)
    }

    /// All dirty blocks, in order.
    pub(crate) fn all(&self) -> Vec<BlockNumber> {
        self.since.keys().copied().collect()
    }

    /// When the oldest became dirty.
    pub(crate) fn oldest(&mut self) -> Option<Duration> {
        while let Some((at, number)) = self.order.front() {
            if self.since.get(number) == Some(at) {
                return Some(*at);
            }
            self.order.pop_front();
        }
        None
    }

    /// The blocks that became dirty no later than `moment`, in origin order.
    pub(crate) fn no_later_than(&mut self, moment: Duration) -> Vec<BlockNumber> {
        let since = &self.since;
        let mut old: Vec<BlockNumber> = self
            .order
            .iter()
            .take_while(|(at, _)| *at <= moment)
            .filter(|(at, number)| since.get(number) == Some(at))
            .map(|(_, number)| *number)
            .collect();
        old.sort_unstable();
        old.dedup();
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_that_of_the_first_write_since_clean() {
        let mut set = DirtySet::default();
        let at = Duration::from_secs;
        set.insert(BlockNumber(7), at(1));
        set.insert(BlockNumber(3), at(2));
        set.insert(BlockNumber(7), at(3));
        assert_eq!(set.oldest(), Some(at(1)));
        assert_eq!(set.no_later_than(at(2)), [BlockNumber(3), BlockNumber(7)]);
        set.remove(BlockNumber(7));
        set.insert(BlockNumber(7), at(4));
        assert_eq!(set.oldest(), Some(at(2)));
        assert_eq!(set.no_later_than(at(3)), [BlockNumber(3)]);
    }
}
