//! Pins and latches: what one must hold to look into a block, or to change it.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

use crate::block::{Block, BlockState, TicketNumber};
use crate::directory::SlotNumber;
use crate::index::Unpinned;
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;

/// A pin: the block stays, with its slot, until this is dropped.
pub(crate) struct Pin<'v> {
    volume: &'v Volume,
    block: Arc<Block>,
}

impl Volume {
    /// Pins a block, whether it has a slot or not.
    pub(crate) fn pin(&self, number: BlockNumber) -> Pin<'_> {
        Pin::new(self, number)
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
    pub(crate) fn latch_shared(&self) -> RwLockReadGuard<'_, BlockState> {
        self.block.shared()
    }

    /// The latch, alone.
    pub(crate) fn latch(&self) -> Latch<'_> {
        let state = self.block.alone();
        Latch {
            was_unsettled: state.unsettled(),
            volume: self.volume,
            number: self.block.number(),
            state,
        }
    }

    /// See [`Block::fetches_ended`].
    pub(crate) fn fetches_ended(&self) -> u64 {
        self.block.fetches_ended()
    }

    /// See [`Block::wait_for_fetch`].
    pub(crate) fn wait_for_fetch(&self, seen: u64) {
        self.block.wait_for_fetch(seen);
    }

    /// See [`Block::end_fetch`].
    pub(crate) fn end_fetch(&self, ticket: TicketNumber) {
        self.block.end_fetch(ticket);
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let store = self.volume.store();
        let full = self.volume.geometry().full();
        match self
            .volume
            .index()
            .unpin(&self.block, full, &store.directory)
        {
            Unpinned::Shared => {}
            Unpinned::Last => store.slots.settle(),
            Unpinned::LastFreed(slot) => {
                store.release(slot);
                store.slots.settle();
            }
        }
    }
}

/// A block's latch, held alone. Keeps the volume's dirty set true when it is let go.
pub(crate) struct Latch<'p> {
    volume: &'p Volume,
    number: BlockNumber,
    was_unsettled: Mask,
    state: RwLockWriteGuard<'p, BlockState>,
}

impl Latch<'_> {
    /// Brings the dirty set up to date now rather than at the end. A sector that goes from the zero map
    /// into the dirty set must be in the second before it leaves the first.
    pub(crate) fn publish(&mut self) {
        let now = self.state.unsettled();
        if now != self.was_unsettled {
            self.volume
                .note_unsettled(self.number, self.was_unsettled, now);
            self.was_unsettled = now;
        }
    }

    /// Gives the block a slot.
    pub(crate) fn assign(&mut self, slot: SlotNumber) {
        debug_assert!(self.state.slot.is_none());
        self.state.slot = Some(slot);
        self.volume.store().assigned(slot, self.volume, self.number);
    }

    /// Gives the block a slot although nobody has asked for it yet.
    pub(crate) fn assign_ahead(&mut self, slot: SlotNumber) {
        debug_assert!(self.state.slot.is_none());
        self.state.slot = Some(slot);
        let store = self.volume.store();
        store.assigned_ahead(slot, self.volume, self.number);
    }
}

impl Deref for Latch<'_> {
    type Target = BlockState;
    fn deref(&self) -> &BlockState {
        &self.state
    }
}

impl DerefMut for Latch<'_> {
    fn deref_mut(&mut self) -> &mut BlockState {
        &mut self.state
    }
}

impl Drop for Latch<'_> {
    fn drop(&mut self) {
        self.publish();
    }
}
