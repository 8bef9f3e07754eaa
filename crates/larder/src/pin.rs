//! Pins: what one must hold for a block and its slot to stay. Its latch is had through one.

use std::sync::Arc;

use crate::block::{Block, FetchNumber, TicketNumber};
use crate::index::Unpinned;
use crate::latch::{Latch, SharedLatch};
use crate::sector::BlockNumber;
use crate::survival;
use crate::volume::Volume;

/// A pin: the block stays, with its slot, until this is dropped.
pub(crate) struct Pin<'v> {
    volume: &'v Volume,
    block: Arc<Block>,
}

impl Volume {
    /// Pins a block, whether it has a slot or not.
    ///
    /// What was found again in a cache directory is verified by the first pin.
    pub(crate) fn pin(&self, number: BlockNumber) -> Pin<'_> {
        let pin = Pin::new(self, number);
        if let Some(survival) = &self.store().survival
            && survival.marks.any_unverified()
        {
            survival::verify(survival, &pin, self);
        }
        pin
    }
}

impl<'v> Pin<'v> {
    fn new(volume: &'v Volume, number: BlockNumber) -> Self {
        let store = volume.store();
        // In hand before it can be met in the index.
        store.slots.take_in_hand();
        let pinning = volume
            .index()
            .pin(number, volume.geometry().full(), &store.directory);
        if !pinning.is_first {
            store.slots.let_go();
        }
        Self {
            volume,
            block: pinning.block,
        }
    }

    pub(crate) fn number(&self) -> BlockNumber {
        self.block.number()
    }

    /// The latch, shared: the slot's content and the masks do not change meanwhile.
    pub(crate) fn latch_shared(&self) -> SharedLatch<'_> {
        SharedLatch::of(self.volume, &self.block)
    }

    /// The latch, alone.
    pub(crate) fn latch(&self) -> Latch<'_> {
        Latch::of(self.volume, &self.block)
    }

    /// See [`Block::fetches_ended`].
    pub(crate) fn fetches_ended(&self) -> u64 {
        self.block.fetches_ended()
    }

    /// See [`Block::wait_for_fetch`].
    pub(crate) fn wait_for_fetch(&self, seen: u64) -> Option<FetchNumber> {
        self.block.wait_for_fetch(seen)
    }

    /// See [`Block::end_fetch`].
    pub(crate) fn end_fetch(&self, ticket: TicketNumber, silent: Option<FetchNumber>) {
        self.block.end_fetch(ticket, silent);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let store = self.volume.store();
        let full = self.volume.geometry().full();
        let number = self.number();
        let leaving = |slot| store.leaving(slot, self.volume, number);
        let index = self.volume.index();
        match index.unpin(&self.block, full, &store.directory, leaving) {
            Unpinned::Shared => {}
            Unpinned::Last => store.slots.settle(),
            Unpinned::LastFreed(slot) => {
                store.release(slot);
                store.slots.settle();
            }
        }
    }
}
