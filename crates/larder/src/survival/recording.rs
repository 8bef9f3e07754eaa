//! Recording dirty blocks, so that a flush is durable in the directory: what one op says of a block, and what becomes of the block's state when
//! it is said, durable, or not said after all.
//!
//! All of it is done with the commit token, so the last op that was appended is what the block's [`Sealed`] says.

use std::io;
use std::sync::Arc;

use super::view::{Kind, View};
use super::{Survival, occupant, verify};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::latch::{Latch, Latched};
use crate::persist::batch::Batch;
use crate::persist::entry::Content;
use crate::persist::op::slot::{each, sums_as_bytes};
use crate::persist::op::{Op, SlotOp};
use crate::planted::{Bug, is_planted};
use crate::sealed::Sealed;
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;

/// A batch inlines no more bytes than this; of what else is dirty the slots are synced.
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

    /// Says what was asked for of a block. Gives the slot that was spoken of, if there is anything to say.
    ///
    /// # Errors
    /// The slot cannot be read, or the volume is poisoned; then nothing is said of the block.
    pub(super) fn make(
        &mut self,
        volume: &Arc<Volume>,
        number: BlockNumber,
        asked: Asked,
        batch: &mut Batch,
    ) -> io::Result<Option<SlotNumber>> {
        volume.unrecorded.remove(number);
        let pin = volume.pin(number);
        let mut state = pin.latch();
        state.is_unrecorded = false;
        let kind = Kind::Asked(asked);
        let view = View::of(&state, volume, number, kind);
        self.make_latched(volume, number, &mut state, (kind, view), batch)
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
        let kind = Kind::Asked(Asked::SEAL);
        let view = View::of(&state, volume, number, kind);
        let only_adds = (state.sealed.sectors - view.said).is_empty();
        if !only_adds || !self.can_inline(view.fresh, volume.geometry().sector_bytes()) {
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
                .read_slot(start - geometry.base(number), &mut content)
                .is_err()
            {
                lost |= Mask::span(sector, sector + 1);
            }
        }
        verify::tell_lost(self.survival, volume, number, lost);
        state.sealed.changed -= lost;
        state.sealed.in_slot |= lost;
        state.sealed.bad |= lost;
    }

    fn make_latched(
        &mut self,
        volume: &Arc<Volume>,
        number: BlockNumber,
        state: &mut Latch<'_>,
        (kind, view): (Kind, View),
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
        let inlined = match kind {
            Kind::Asked(_) if self.can_inline(fresh, geometry.sector_bytes()) => fresh,
            _ => view.released,
        };
        let (sums, bytes) = self.read(volume, number, state, (fresh, inlined))?;
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
                sums: &sums,
                bytes: &bytes,
            }),
        };
        let frame = batch
            .push(&[op])
            .map_err(|_| io::Error::other("a block is too large for the journal"))?;
        self.inlined_bytes += bytes.len() as u64;
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
            frame,
            has_bytes: !inlined.is_empty(),
            is_appended: false,
        });
        Ok(Some(slot))
    }

    fn can_inline(&self, fresh: Mask, sector_bytes: u64) -> bool {
        let bytes = u64::from(fresh.count()) * sector_bytes;
        let ring = self.survival.home.journal().ring_bytes();
        bytes <= ring / 16 && self.inlined_bytes + bytes <= INLINED_BYTES.min(ring / 8)
    }

    /// The sums of sectors, and the bytes of some of them.
    fn read(
        &self,
        volume: &Volume,
        number: BlockNumber,
        state: &Latch<'_>,
        (fresh, inlined): (Mask, Mask),
    ) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut sums, mut bytes) = (Vec::new(), Vec::new());
        let Some(block_sums) = self.survival.block_sums(volume, number) else {
            return Ok((Vec::new(), Vec::new()));
        };
        let geometry = volume.geometry();
        let sector_bytes = geometry.sector_bytes() as usize;
        for run in fresh.runs() {
            let (start, end) = geometry.bytes_of(number, run, volume.size());
            let mut content = vec![0; (end - start) as usize];
            state.read_slot(start - geometry.base(number), &mut content)?;
            for (sector, content) in (run.0..).zip(content.chunks(sector_bytes)) {
                sums.push(block_sums.of(sector, content));
                if inlined.has(sector) {
                    bytes.extend_from_slice(content);
                    // The last one of a volume.
                    bytes.resize(bytes.len().next_multiple_of(sector_bytes), 0);
                }
            }
        }
        if volume.store().slots.is_in_doubt() {
            return Err(io::Error::other("the cache file has failed meanwhile"));
        }
        Ok((sums_as_bytes(sums), bytes))
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
        1 << (self.home.journal().ring_bytes() / 16).max(1).ilog2()
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
