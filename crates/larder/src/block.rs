//! A pinned block: its latch, what is known of each sector, and the fetches under way.
//!
//! Invariants, whenever the latch is free: dirty and writing are subsets of valid; valid and sealed are empty
//! without a slot; valid is disjoint from the volume's zero map; the volume's dirty set holds the
//! block exactly when dirty or writing is not empty.

use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::directory::SlotNumber;
use crate::planted::{Bug, is_planted};
use crate::sealed::Sealed;
use crate::sector::{BlockNumber, Mask};
use crate::sync::{self, Condvar};

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
    /// What the cache directory says of it.
    pub sealed: Sealed,
    /// The volume knows that the directory is to be told something of it.
    pub is_unrecorded: bool,
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

    /// Whether the block needs no slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.valid.is_empty() && (self.sealed.is_empty() || is_planted(Bug::SlotFreedSealed))
    }

    /// Whether the directory says something else than what is so.
    pub(crate) fn differs_from_record(&self) -> bool {
        self.unsettled() != self.sealed.sectors || !self.sealed.changed.is_empty()
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

/// Tells the fetches of a volume apart; one that began later has a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) struct FetchNumber(pub u64);

/// A block that somebody has pinned.
#[derive(Debug)]
pub(crate) struct Block {
    number: BlockNumber,
    state: RwLock<BlockState>,
    fetches: Mutex<Fetches>,
    fetch_ended: Condvar,
}

/// The fetches of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Fetches {
    ended: u64,
    /// The latest, if the origin answered nothing.
    silent: Option<FetchNumber>,
}

impl Block {
    pub(crate) fn new(number: BlockNumber, state: BlockState) -> Self {
        Self {
            number,
            state: RwLock::new(state),
            fetches: Mutex::default(),
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
            sealed: state.sealed,
            ..BlockState::default()
        }
    }

    /// The latch, shared. See [`crate::latch`], which is the way to what the slot holds.
    pub(crate) fn shared(&self) -> RwLockReadGuard<'_, BlockState> {
        sync::read(&self.state)
    }

    /// The latch, alone. See [`crate::latch::Latch`], which keeps the dirty set true.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, BlockState> {
        sync::write(&self.state)
    }

    /// How many fetches of the block have ended; taken with the latch held, for
    /// [`Block::wait_for_fetch`].
    pub(crate) fn fetches_ended(&self) -> u64 {
        sync::lock(&self.fetches).ended
    }

    /// Waits until a fetch has ended that was under way when `seen` was taken. Gives the latest, if the origin
    /// answered nothing.
    pub(crate) fn wait_for_fetch(&self, seen: u64) -> Option<FetchNumber> {
        let mut fetches = sync::lock(&self.fetches);
        while fetches.ended == seen {
            fetches = sync::wait(&self.fetch_ended, fetches);
        }
        fetches.silent
    }

    /// Lets the next one fetch, and wakes those who wait. The caller began the fetch, which is this one if the origin
    /// answered nothing.
    pub(crate) fn end_fetch(&self, ticket: TicketNumber, silent: Option<FetchNumber>) {
        let mut state = sync::write(&self.state);
        state.is_being_fetched = false;
        state.close_ticket(ticket);
        drop(state);
        let mut fetches = sync::lock(&self.fetches);
        fetches.ended += 1;
        fetches.silent = silent;
        drop(fetches);
        self.fetch_ended.notify_all();
    }
}
