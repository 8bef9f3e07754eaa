//! Dirty blocks of which the directory could not be told, because their slots cannot be read.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::recording::BlockKey;
use crate::directory::VolumeNumber;
use crate::sector::BlockNumber;
use crate::sync;

/// The blocks, and why. A leaf lock.
#[derive(Debug, Default)]
pub(super) struct Unrecordable(Mutex<BTreeMap<BlockKey, String>>);

impl Unrecordable {
    pub(super) fn insert(&self, key: BlockKey, why: String) {
        sync::lock(&self.0).insert(key, why);
    }

    /// The directory was told.
    pub(super) fn remove(&self, key: BlockKey) {
        sync::lock(&self.0).remove(&key);
    }

    /// Why the directory does not have all of a volume, if so.
    pub(super) fn of(&self, volume: VolumeNumber) -> Option<String> {
        let all = (volume, BlockNumber(0))..=(volume, BlockNumber(u64::MAX));
        let blocks = sync::lock(&self.0);
        blocks.range(all).next().map(|(_, why)| why.clone())
    }

    /// The same of some of its blocks.
    pub(super) fn of_blocks(&self, volume: VolumeNumber, some: &[BlockNumber]) -> Option<String> {
        let blocks = sync::lock(&self.0);
        some.iter()
            .find_map(|number| blocks.get(&(volume, *number)).cloned())
    }
}
