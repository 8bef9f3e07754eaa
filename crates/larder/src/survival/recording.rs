//! Recording dirty blocks, so that a flush is durable in the directory: what one op says of a block, and what becomes of the block's state when
//! it is said, durable, or not said after all.
//!
//! All of it is done with the commit token, so the last op that was appended is what the block's [`Sealed`] says.

use std::io;
use std::sync::Arc;

use super::carried::Carried;
use super::redo::Redo;
use super::view::{Kind, View};
use super::{Survival, occupant, verify};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::latch::{Latch, Latched};
use crate::persist::batch::Batch;
use crate::persist::entry::Content;
use crate::persist::op::slot::each;
use crate::persist::op::{Op, SlotOp};
use crate::planted::{Bug, is_planted};
use crate::sealed::Sealed;
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;

/// A batch inlines no more bytes than this by choice, and no op more than this at all; of what else is dirty the slots are synced.
const INLINED_BYTES: u64 = 1 << 20;

/// A block among all of a cache.
pub(crate) type BlockKey = (VolumeNumber, BlockNumber);

/// What is to be said of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// What is so.
    pub seal: bool,
    /// These sectors are to be overwritten in the slot: their bytes go into the journal.
    pub release: Mask,
    /// These sectors are on the origin for good, unless they are dirty.
    pub settled: Mask,
}

impl Asked {
    /// What is so is to be said.
    pub(super) const SEAL: Self = Self {
        seal: true,
        release: Mask::EMPTY,
        settled: Mask::EMPTY,
    };

    pub(super) fn join(&mut self, other: Self) {
        self.seal |= other.seal;
        self.release |= other.release;
        self.settled |= other.settled;
    }
}

/// A block of which an op was made.
struct Made {
    volume: Arc<Volume>,
    number: BlockNumber,
    slot: SlotNumber,
    /// Before the op.
    before: Sealed,
    said: Mask,
    released: Mask,
    redos: Vec<Arc<Redo>>,
    /// The frame of the batch that has the op, and whether bytes are in it.
    frame: usize,
    has_bytes: bool,
    /// The frame may be in the journal, or there is none.
    is_appended: bool,
}

/// The blocks of a batch.
pub(super) struct Recording<'s> {
    survival: &'s Survival,
    made: Vec<Made>,
    inlined_bytes: u64,
}

impl<'s> Recording<'s> {
    pub(super) fn new(survival: &'s Survival) -> Self {
        Self {
            survival,
            made: Vec::new(),
            inlined_bytes: 0,
        }
    }

    /// The next batch begins.
    pub(super) fn begin(&mut self) {
        self.inlined_bytes = 0;
    }

    /// Says what was asked for of a block, and that it is overwritten. Gives the slot that was spoken of, if there is anything to say.
    ///
    /// # Errors
    /// The slot cannot be read, or the volume is poisoned; then nothing is said of the block.
    pub(super) fn make(
        &mut self,
        volume: &Arc<Volume>,
        number: BlockNumber,
        (asked, redos): (Asked, &[Arc<Redo>]),
        batch: &mut Batch,
    ) -> io::Result<Option<SlotNumber>> {
        if asked.seal {
            volume.unrecorded.remove(number);
        }
        let pin = volume.pin(number);
        let mut state = pin.latch();
        state.is_unrecorded &= !asked.seal;
        let kind = Kind::Asked(asked, redos);
        let view = View::of(&state, volume, number, kind);
        let made = self.make_latched(volume, number, &mut state, (kind, view), batch)?;
        if is_planted(Bug::RedoNotAwaited) {
            redos.iter().for_each(|redo| redo.carry_out(&mut state));
        }
        Ok(made)
    }

    /// Says of a block what a flush would say, if that only adds to what is called dirty, and with all bytes. None if not, or if there is nothing to
    /// say. [`Recording::durable`] is left out of it: it would change nothing but what may be listed of the slot.
    pub(super) fn make_ahead(
        &mut self,
        volume: &Arc<Volume>,
        number: BlockNumber,
        batch: &mut Batch,
    ) -> io::Result<Option<SlotNumber>> {
        let pin = volume.pin(number);
        let mut state = pin.latch();
        let kind = Kind::Asked(Asked::SEAL, &[]);
        let view = View::of(&state, volume, number, kind);
        let only_adds = (state.sealed.sectors - view.said).is_empty();
        if !only_adds || !self.can_inline(view.fresh, Mask::EMPTY, volume.geometry().sector_bytes())
        {
            return Ok(None);
        }
        volume.unrecorded.remove(number);
        state.is_unrecorded = false;
        self.make_latched(volume, number, &mut state, (kind, view), batch)
    }

    /// Has the slot stand for all that is recorded of a block, once it is synced.
    pub(super) fn freeze(
        &mut self,
        volume: &Arc<Volume>,
        number: BlockNumber,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let pin = volume.pin(number);
        let mut state = pin.latch();
        let Some(slot) = state.slot.filter(|_| !state.sealed.is_empty()) else {
            return Ok(());
        };
        let before = state.sealed;
        let mut say = |recording: &mut Self, state: &mut Latch<'_>| {
            let view = View::of(state, volume, number, Kind::Freeze);
            recording.make_latched(volume, number, state, (Kind::Freeze, view), batch)
        };
        let is_said = match say(self, &mut state) {
            Ok(is_said) => is_said,
            Err(_) => {
                self.lose_unreadable(volume, number, &mut state);
                say(self, &mut state)?
            }
        };
        state.sealed.in_slot = state.sealed.sectors;
        if is_said.is_none() {
            self.made.push(Made {
                volume: Arc::clone(volume),
                number,
                slot,
                before,
                said: before.sectors,
                released: Mask::EMPTY,
                redos: Vec::new(),
                frame: usize::MAX,
                has_bytes: false,
                is_appended: true,
            });
        }
        Ok(())
    }

    /// What was written to the slot and cannot be read there is lost, and what it was when it was recorded with it: it would keep the journal
    /// from ever being free again.
    fn lose_unreadable(&self, volume: &Volume, number: BlockNumber, state: &mut Latch<'_>) {
        let geometry = volume.geometry();
        let mut lost = Mask::EMPTY;
        for sector in each(state.sealed.changed) {
            let (start, end) = geometry.bytes_of(number, (sector, sector + 1), volume.size());
            let mut content = vec![0; (end - start) as usize];
            if state
                .read_slot_in_doubt(start - geometry.base(number), &mut content)
                .is_err()
            {
                lost |= Mask::span(sector, sector + 1);
            }
        }
        verify::tell_lost(self.survival, volume, number, lost);
        state.sealed.lost(lost);
    }

    fn make_latched(
        &mut self,
        volume: &Arc<Volume>,
        number: BlockNumber,
        state: &mut Latch<'_>,
        (kind, view): (Kind<'_>, View),
        batch: &mut Batch,
    ) -> io::Result<Option<SlotNumber>> {
        // After a panic nothing new is promised. What was is not in doubt: its bytes were written whole, or noted as changed.
        if volume.is_poisoned() && !matches!(kind, Kind::Freeze) {
            return Err(io::Error::other("the volume answers nothing any more"));
        }
        let (Some(slot), Some(occupant)) = (state.slot, occupant(volume, number)) else {
            return Ok(None);
        };
        let before = state.sealed;
        let is_same = view.said == before.sectors;
        if is_same && (view.fresh | view.released).is_empty() {
            return Ok(None);
        }
        let geometry = volume.geometry();
        let fresh = view.fresh | view.released;
        let needed = view.released | view.redone;
        let inlined = match kind {
            Kind::Asked(..) if self.can_inline(fresh, needed, geometry.sector_bytes()) => fresh,
            _ => needed,
        };
        let carried = Carried::of(
            self.survival,
            state,
            (volume, number),
            (fresh, inlined),
            kind.redos(),
        )?;
        let op = match view.said.is_empty() {
            true => Op::Empty(slot),
            false => Op::Slot(SlotOp {
                slot,
                content: Content {
                    occupant,
                    valid: match is_planted(Bug::SealListsClean) {
                        true => view.said | state.valid,
                        false => view.said,
                    },
                    dirty: view.said,
                    heat: 0,
                },
                sector_shift: geometry.sector_bytes().trailing_zeros() as u8,
                fresh,
                inlined,
                sums: &carried.sums,
                bytes: &carried.bytes,
            }),
        };
        let frame = batch
            .push(&[op])
            .map_err(|_| io::Error::other("a block is too large for the journal"))?;
        self.inlined_bytes += u64::from((inlined - needed).count()) * geometry.sector_bytes();
        let mut now = before;
        now.sectors |= view.said;
        now.in_slot |= fresh - inlined;
        now.changed -= fresh;
        self.survival.set_sealed(volume, slot, state, now);
        self.made.push(Made {
            volume: Arc::clone(volume),
            number,
            slot,
            before,
            said: view.said,
            released: view.released,
            redos: kind.redos().to_vec(),
            frame,
            has_bytes: !inlined.is_empty(),
            is_appended: false,
        });
        Ok(Some(slot))
    }

    /// Whether all of these can go with their bytes, where `needed` do anyway.
    fn can_inline(&self, fresh: Mask, needed: Mask, sector_bytes: u64) -> bool {
        let bytes = |sectors: Mask| u64::from(sectors.count()) * sector_bytes;
        let ring = self.survival.home.journal().ring_bytes();
        let all = self.inlined_bytes + bytes(fresh - needed);
        bytes(fresh) <= INLINED_BYTES.min(ring / 16) && all <= INLINED_BYTES.min(ring / 8)
    }

    /// That frame of the batch may be in the journal.
    pub(super) fn appended(&mut self, frame: usize) {
        let of_frame = |made: &&mut Made| made.frame == frame;
        for made in self.made.iter_mut().filter(of_frame) {
            made.is_appended = true;
            if made.has_bytes {
                let key = (made.volume.number(), made.number);
                self.survival.journaled.insert(key);
            }
        }
    }

    /// All that was appended is durable.
    pub(super) fn durable(&mut self) {
        for made in self.made.extract_if(.., |made| made.is_appended) {
            let pin = made.volume.pin(made.number);
            let mut state = pin.latch();
            let mut now = state.sealed;
            now.cut_to(made.said);
            now.in_slot -= made.released;
            self.survival.marks.unlisted(made.slot);
            self.survival
                .set_sealed(&made.volume, made.slot, &mut state, now);
            for redo in &made.redos {
                redo.carry_out(&mut state);
            }
            if made.said.is_empty() {
                let key = (made.volume.number(), made.number);
                self.survival.journaled.remove(key);
            }
        }
    }

    /// Nothing of what was made was appended, nor will be.
    pub(super) fn take_back(&mut self) {
        for made in self.made.drain(..) {
            let pin = made.volume.pin(made.number);
            let mut state = pin.latch();
            let (before, since) = (made.before, state.sealed);
            let now = Sealed {
                sectors: before.sectors,
                in_slot: before.in_slot - (before.bad - since.bad),
                changed: (before.changed | since.changed) & before.sectors,
                bad: since.bad,
            };
            self.survival
                .set_sealed(&made.volume, made.slot, &mut state, now);
        }
    }
}

impl Survival {
    /// So many bytes of promises can be made ready for being overwritten at a time: a power of two. More would be frozen again before they are all
    /// ready.
    pub(crate) fn released_bytes(&self) -> u64 {
        let ring = self.home.journal().ring_bytes();
        1 << (ring / 16).clamp(1, INLINED_BYTES).ilog2()
    }

    /// What the directory says of a block, or may say, is another thing now.
    fn set_sealed(&self, volume: &Volume, slot: SlotNumber, state: &mut Latch<'_>, now: Sealed) {
        let was = std::mem::replace(&mut state.sealed, now);
        match (was.is_empty(), now.is_empty()) {
            (true, false) => {
                self.marks.sealed(slot);
                volume.kept.block_sealed();
            }
            (false, true) => {
                self.marks.unsealed(slot);
                volume.kept.block_unsealed();
            }
            _ => {}
        }
    }
}
