//! A pinned block: its latch, what is known of each sector, and the fetches under way.
//!
//! Invariants, whenever the latch is free: dirty and writing are subsets of valid; valid is empty
//! without a slot; valid is disjoint from the volume's zero map; the volume's dirty set holds the
//! block exactly when dirty or writing is not empty.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::directory::SlotNumber;
use crate::index::Unpinned;
use crate::sector::{BlockNumber, Mask};
use crate::sync;
use crate::volume::Volume;

/// Names a fetch under way among those of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TicketNumber(u64);

/// A look at the origin whose answer is still to come.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    number: TicketNumber,
    /// Sectors that were written, zeroed or trimmed since: what the origin answers may be older.
    stale: Mask,
}

/// What is known of a block.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockState {
    pub slot: Option<SlotNumber>,
    /// In the slot.
    pub valid: Mask,
    /// Newer than the origin.
    pub dirty: Mask,
    /// Sent to the origin, and not flushed there since.
    pub writing: Mask,
    /// Somebody is fetching the block to store it; others who would do the same wait.
    pub is_being_fetched: bool,
    tickets: Vec<Ticket>,
    next_ticket: u64,
}

impl BlockState {
    /// A block in a slot that nobody is fetching.
    pub(crate) fn in_slot(slot: SlotNumber, valid: Mask, dirty: Mask, writing: Mask) -> Self {
        Self {
            slot: Some(slot),
            valid,
            dirty,
            writing,
            ..Self::default()
        }
    }

    /// What may not be forgotten.
    pub(crate) fn unsettled(&self) -> Mask {
        self.dirty | self.writing
    }

    /// Begins a look at the origin.
    pub(crate) fn open_ticket(&mut self) -> TicketNumber {
        let number = TicketNumber(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.push(Ticket {
            number,
            stale: Mask::EMPTY,
        });
        number
    }

    /// The sectors that changed since the ticket was opened.
    pub(crate) fn stale(&self, number: TicketNumber) -> Mask {
        let ticket = self.tickets.iter().find(|ticket| ticket.number == number);
        ticket.map_or(!Mask::EMPTY, |ticket| ticket.stale)
    }

    /// Ends a look at the origin.
    pub(crate) fn close_ticket(&mut self, number: TicketNumber) {
        self.tickets.retain(|ticket| ticket.number != number);
    }

    /// These sectors were written, zeroed or trimmed, here or on the origin, or may have been.
    pub(crate) fn changed(&mut self, sectors: Mask) {
        for ticket in &mut self.tickets {
            ticket.stale |= sectors;
        }
    }

    /// Forgets what the slot holds of these sectors.
    pub(crate) fn drop_sectors(&mut self, sectors: Mask) {
        self.valid -= sectors;
        self.dirty -= sectors;
        self.writing -= sectors;
    }

    /// A writeback of these sectors ended: they are the origin's, or dirty again.
    pub(crate) fn settle(&mut self, sectors: Mask, durable: bool) {
        let settled = sectors & self.writing;
        self.writing -= settled;
        if !durable {
            self.dirty |= settled;
        }
    }
}

/// A block that somebody has pinned.
#[derive(Debug)]
pub(crate) struct Block {
    number: BlockNumber,
    state: RwLock<BlockState>,
    fetches_ended: Mutex<u64>,
    fetch_ended: Condvar,
}

impl Block {
    pub(crate) fn new(number: BlockNumber, state: BlockState) -> Self {
        Self {
            number,
            state: RwLock::new(state),
            fetches_ended: Mutex::new(0),
            fetch_ended: Condvar::new(),
        }
    }

    pub(crate) fn number(&self) -> BlockNumber {
        self.number
    }

    /// A copy of the masks and the slot.
    pub(crate) fn look(&self) -> BlockState {
        let state = sync::read(&self.state);
        BlockState {
            slot: state.slot,
            valid: state.valid,
            dirty: state.dirty,
            writing: state.writing,
            ..BlockState::default()
        }
    }
}

/// A pin: the block stays, with its slot, until this is dropped.
pub(crate) struct Pin<'v> {
    volume: &'v Volume,
    block: Arc<Block>,
}

impl<'v> Pin<'v> {
    pub(crate) fn new(volume: &'v Volume, number: BlockNumber) -> Self {
        let store = volume.store();
        let pinning = volume
            .index()
            .pin(number, volume.geometry().full(), &store.directory);
        if pinning.is_first {
            store.slots.take_in_hand();
        }
        Self {
            volume,
            block: pinning.block,
        }
    }

    pub(crate) fn number(&self) -> BlockNumber {
        self.block.number
    }

    /// The latch, shared: the slot's content and the masks do not change meanwhile.
    pub(crate) fn latch_shared(&self) -> RwLockReadGuard<'_, BlockState> {
        sync::read(&self.block.state)
    }

    /// The latch, alone.
    pub(crate) fn latch(&self) -> Latch<'_> {
        let state = sync::write(&self.block.state);
        Latch {
            was_unsettled: state.unsettled(),
            volume: self.volume,
            number: self.block.number,
            state,
        }
    }

    /// How many fetches of the block have ended; taken with the latch held, for
    /// [`Pin::wait_for_fetch`].
    pub(crate) fn fetches_ended(&self) -> u64 {
        *sync::lock(&self.block.fetches_ended)
    }

    /// Waits until a fetch has ended that was under way when `seen` was taken.
    pub(crate) fn wait_for_fetch(&self, seen: u64) {
        let mut ended = sync::lock(&self.block.fetches_ended);
        while *ended == seen {
            ended = sync::wait(&self.block.fetch_ended, ended);
        }
    }

    /// Lets the next one fetch, and wakes those who wait. The caller began the fetch.
    pub(crate) fn end_fetch(&self, ticket: TicketNumber) {
        let mut state = sync::write(&self.block.state);
        state.is_being_fetched = false;
        state.close_ticket(ticket);
        drop(state);
        *sync::lock(&self.block.fetches_ended) += 1;
        self.block.fetch_ended.notify_all();
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
