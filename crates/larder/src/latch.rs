//! A block's latch, and under it the only way to what the block's slot holds.
//!
//! Whoever holds no latch may read a slot only as a guess, see [`Slots::begin_unlocked_read`].
//!
//! [`Slots::begin_unlocked_read`]: crate::slots::Slots::begin_unlocked_read

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};

use crate::block::{Block, BlockState};
use crate::directory::SlotNumber;
use crate::planted::{Bug, is_planted};
use crate::sector::{BlockNumber, Mask, Piece};
use crate::volume::Volume;

/// A block whose latch is held, in whichever way.
pub(crate) trait Latched: Deref<Target = BlockState> {
    /// Whose block it is.
    fn volume(&self) -> &Volume;

    /// Reads from the block's slot, `start` bytes in.
    ///
    /// # Errors
    /// The cache file does not give it, it is not what was recorded there, or it may be older than what was written there.
    fn read_slot(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_slot_in_doubt(start, buffer)?;
        match self.volume().store().slots.doubts().is_any() {
            true => Err(io::Error::other("the cache file has failed meanwhile")),
            false => Ok(()),
        }
    }

    /// The same for who finds out by itself whether it is what was written there.
    ///
    /// # Errors
    /// The cache file does not give it, or it is not what was recorded there.
    fn read_slot_in_doubt(&self, start: u64, buffer: &mut [u8]) -> io::Result<()> {
        let slot = slot_of(self)?;
        if !self.sealed.bad.is_empty() {
            let volume = self.volume();
            let touched = touched(volume, start, buffer.len());
            if !(self.sealed.bad & touched).is_empty() {
                let message = "it is not what was written into the cache directory";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        self.volume().store().slots.read(slot, start, buffer)
    }
}

/// The latch, shared: the slot's content and the masks do not change meanwhile.
pub(crate) struct SharedLatch<'p> {
    volume: &'p Volume,
    state: RwLockReadGuard<'p, BlockState>,
}

impl<'p> SharedLatch<'p> {
    /// Waits for those who hold it alone.
    pub(crate) fn of(volume: &'p Volume, block: &'p Block) -> Self {
        Self {
            volume,
            state: block.shared(),
        }
    }
}

impl Latched for SharedLatch<'_> {
    fn volume(&self) -> &Volume {
        self.volume
    }
}

impl Deref for SharedLatch<'_> {
    type Target = BlockState;
    fn deref(&self) -> &BlockState {
        &self.state
    }
}

/// The latch, alone. Keeps the volume's dirty set true when it is let go.
pub(crate) struct Latch<'p> {
    volume: &'p Volume,
    number: BlockNumber,
    was_unsettled: Mask,
    state: RwLockWriteGuard<'p, BlockState>,
}

impl<'p> Latch<'p> {
    /// Waits for all others.
    pub(crate) fn of(volume: &'p Volume, block: &'p Block) -> Self {
        let state = block.alone();
        Self {
            was_unsettled: state.unsettled(),
            volume,
            number: block.number(),
            state,
        }
    }

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

    /// Writes into the block's slot, `start` bytes in. What failed may be half done.
    ///
    /// # Errors
    /// As well if that would overwrite what only the slot has of a promise.
    pub(crate) fn write_slot(&mut self, start: u64, data: &[u8]) -> io::Result<()> {
        let slot = slot_of(self)?;
        if !self.state.sealed.is_empty() {
            self.note_write(start, data.len())?;
        }
        self.volume.store().slots.write(slot, start, data)
    }

    /// Takes what a client has written into the block's slot: the sectors that it touches, which it fills or which are valid, are dirty. `start` is
    /// in bytes of the block.
    ///
    /// # Errors
    /// As of [`Latch::write_slot`]. What the origin has is forgotten then; what only the slot has stays, and is old or new in each of its sectors.
    pub(crate) fn store(&mut self, start: u64, bytes: &[u8]) -> io::Result<()> {
        let slot = slot_of(self)?;
        let touched = touched(self.volume, start, bytes.len());
        let store = self.volume.store();
        self.state.changed(touched);
        if let Err(error) = self.write_slot(start, bytes) {
            let clean = touched & (self.state.valid - self.state.unsettled());
            self.state.drop_sectors(clean);
            let message = format!("write to the cache file: {error}");
            store.log.warning(&message);
            return Err(error);
        }
        self.state.valid |= touched;
        self.state.dirty |= touched;
        self.publish();
        self.volume.clear_zeros(self.number, touched);
        store.touched(slot);
        Ok(())
    }
}

impl Latch<'_> {
    /// The directory says something of the block: whether it may be written to, and that it was.
    fn note_write(&mut self, start: u64, length: usize) -> io::Result<()> {
        let geometry = self.volume.geometry();
        let piece = Piece {
            number: self.number,
            start,
            end: start + length as u64,
        };
        let touched = geometry.touched(&piece);
        let whole = geometry.whole(&piece, self.volume.size());
        let sealed = &mut self.state.sealed;
        let is_barred =
            !(sealed.barred() & touched).is_empty() || !(sealed.bad & (touched - whole)).is_empty();
        if is_barred && !is_planted(Bug::InSlotIsOverwritten) {
            let message = "the cache directory must be told first";
            return Err(io::Error::other(message));
        }
        sealed.written(touched, whole);
        Ok(())
    }

    /// Has the volume know that the directory is to be told of the block.
    fn note_unrecorded(&mut self) {
        let is_known = self.state.is_unrecorded || !self.state.differs_from_record();
        if !is_known && self.volume.flushes_to_cache() {
            self.state.is_unrecorded = true;
            self.volume.unrecorded.insert(self.number);
        }
    }
}

impl Latched for Latch<'_> {
    fn volume(&self) -> &Volume {
        self.volume
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
        self.note_unrecorded();
    }
}

/// The sectors that so many bytes touch, `start` bytes into a block.
fn touched(volume: &Volume, start: u64, length: usize) -> Mask {
    volume.geometry().touched(&Piece {
        number: BlockNumber(0),
        start,
        end: start + length as u64,
    })
}

/// The slot of a block that has one: nobody asks for the content of others.
fn slot_of(state: &BlockState) -> io::Result<SlotNumber> {
    debug_assert!(state.slot.is_some());
    state.slot.ok_or_else(|| io::ErrorKind::NotFound.into())
}
