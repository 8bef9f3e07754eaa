//! The blocks of a volume of which the cache directory says something else than what is so.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::sector::BlockNumber;
use crate::sync;

/// A set of blocks. A leaf lock.
#[derive(Debug, Default)]
pub(crate) struct Unrecorded(Mutex<BTreeSet<BlockNumber>>);

impl Unrecorded {
    /// The directory is to be told of a block.
    pub(crate) fn insert(&self, number: BlockNumber) {
        sync::lock(&self.0).insert(number);
    }

    /// It is being told of a block.
    pub(crate) fn remove(&self, number: BlockNumber) {
        sync::lock(&self.0).remove(&number);
    }

    /// All of them, unless there are more than that.
    pub(crate) fn few(&self, most: usize) -> Vec<BlockNumber> {
        let all = sync::lock(&self.0);
        match all.len() > most {
            true => Vec::new(),
            false => all.iter().copied().collect(),
        }
    }

    /// All of them, which are forgotten here.
    pub(crate) fn take(&self) -> BTreeSet<BlockNumber> {
        std::mem::take(&mut *sync::lock(&self.0))
    }
}
