//! The blocks whose recorded bytes are in frames of the journal: those frames must stay until the slots have them.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::recording::BlockKey;
use crate::sync;

/// A set of blocks. A leaf lock; changed with the commit token only.
#[derive(Debug, Default)]
pub(super) struct Journaled(Mutex<BTreeSet<BlockKey>>);

impl Journaled {
    /// A frame with bytes of the block was appended.
    pub(super) fn insert(&self, key: BlockKey) {
        sync::lock(&self.0).insert(key);
    }

    /// The directory has no use for the block's bytes.
    pub(super) fn remove(&self, key: BlockKey) {
        sync::lock(&self.0).remove(&key);
    }

    pub(super) fn is_empty(&self) -> bool {
        sync::lock(&self.0).is_empty()
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> Vec<BlockKey> {
        sync::lock(&self.0).iter().copied().collect()
    }

    /// The slots have everything.
    pub(super) fn clear(&self) {
        sync::lock(&self.0).clear();
    }
}
