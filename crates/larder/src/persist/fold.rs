//! The fold: what many frames say together. Recovery folds what a crash left of the journal, and the checkpoint the oldest part of a
//! journal in use; both write the result into the tables.
//!
//! Every op is the whole state of its slot, so of each slot the last op counts. A fold says nothing of slots without an op, and may be repeated over tables
//! that have it in part. Frames may be folded in parts: the tables after the parts are the tables after the whole.
//!
//! Two phases: the bytes that frames carry are written only when the last state of every slot is known, and of a sector only if that state is
//! dirty and the frame that last gave it a sum gave it bytes. Bytes of an earlier occupant must not land in a slot that was used again.

use std::collections::BTreeMap;

use super::bytes::Malformed;
use super::entry::{Content, Entry};
use super::frame::Frame;
use super::op::{Op, SlotOp, each};
use super::refusal::Finding;
use super::shape::Shape;
use super::sums::Sum;
use super::volumes::VolumeTable;
use crate::directory::SlotNumber;
use crate::sector::Mask;

/// As many as a mask has bits.
const MAX_SECTORS: usize = 128;

/// What frames said of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoldedSlot {
    entry: Entry,
    sector_shift: u8,
    /// Sectors that have a sum in `sums`.
    fresh: Mask,
    /// In the order of their sectors.
    sums: Vec<Sum>,
    /// Sectors whose last sum came with bytes, and where in the ring those are.
    inlined: Vec<(u32, u64)>,
}

impl FoldedSlot {
    fn empty(seq: u64) -> Self {
        Self {
            entry: Entry { seq, content: None },
            sector_shift: 0,
            fresh: Mask::EMPTY,
            sums: Vec::new(),
            inlined: Vec::new(),
        }
    }

    /// What the map is to say.
    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    /// The sums to be written: of valid sectors only.
    pub(crate) fn sums(&self) -> impl Iterator<Item = (u32, Sum)> {
        each(self.fresh).zip(self.sums.iter().copied())
    }

    /// The dirty sectors whose bytes are to be written into the slot, and where in the ring they are. Each is a whole
    /// sector of [`FoldedSlot::sector_bytes`].
    pub(crate) fn inlined(&self) -> impl Iterator<Item = (u32, u64)> {
        let dirty = self
            .entry
            .content
            .map_or(Mask::EMPTY, |content| content.dirty);
        let inlined = self.inlined.iter().copied();
        inlined.filter(move |(sector, _)| dirty.has(*sector))
    }

    pub(crate) fn sector_bytes(&self) -> u64 {
        1 << self.sector_shift
    }

    /// Follows an op whose frame has that number, and which begins at that place in the ring.
    fn apply(&mut self, seq: u64, at: u64, op: &SlotOp<'_>) {
        let occupant = |content: Content| content.occupant;
        let is_same = self.entry.content.map(occupant) == Some(op.content.occupant)
            && self.sector_shift == op.sector_shift;
        let kept = match is_same {
            true => op.content.valid - op.fresh,
            false => Mask::EMPTY,
        };
        let mut by_sector = [Sum(0); MAX_SECTORS];
        for (sector, sum) in self.sums().chain(op.sums()) {
            by_sector[sector as usize] = sum;
        }
        self.fresh = self.fresh & kept | op.fresh;
        let sums = each(self.fresh).map(|sector| by_sector[sector as usize]);
        self.sums = sums.collect();
        self.inlined.retain(|(sector, _)| kept.has(*sector));
        let inlined = op
            .inlined_at()
            .map(|(sector, within)| (sector, at + within));
        self.inlined.extend(inlined);
        self.inlined.sort_unstable();
        self.sector_shift = op.sector_shift;
        self.entry = Entry {
            seq,
            content: Some(op.content),
        };
    }
}

/// What frames say together.
#[derive(Debug)]
pub(crate) struct Fold {
    shape: Shape,
    /// Slots at and above this number cannot be.
    slots_limit: u32,
    slots: BTreeMap<SlotNumber, FoldedSlot>,
    volumes: VolumeTable,
}

impl Fold {
    /// Over the volume table that counted before the first frame.
    pub(crate) fn new(shape: Shape, slots_limit: u32, volumes: VolumeTable) -> Self {
        Self {
            shape,
            slots_limit,
            slots: BTreeMap::new(),
            volumes,
        }
    }

    /// Follows a frame that lies at that place in the ring.
    ///
    /// # Errors
    /// The frame holds what this version does not know, or what cannot be. The fold must not be used then.
    pub(crate) fn follow(&mut self, frame: &Frame<'_>, offset: u64) -> Result<(), Finding> {
        let seq = frame.head.seq;
        let of_frame = |what| Finding::Frame { seq, what };
        for op in frame.ops(self.shape) {
            let (within, op) = op.map_err(of_frame)?;
            self.apply(seq, offset + within, &op).map_err(of_frame)?;
        }
        Ok(())
    }

    fn apply(&mut self, seq: u64, at: u64, op: &Op<'_>) -> Result<(), Malformed> {
        self.volumes.apply(op)?;
        match op {
            Op::Slot(op) => {
                self.check(op.slot)?;
                let folded = self.slots.entry(op.slot);
                folded
                    .or_insert_with(|| FoldedSlot::empty(seq))
                    .apply(seq, at, op);
            }
            Op::Empty(slot) => {
                self.check(*slot)?;
                self.slots.insert(*slot, FoldedSlot::empty(seq));
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self, slot: SlotNumber) -> Result<(), Malformed> {
        match slot.0 < self.slots_limit {
            true => Ok(()),
            false => Err(Malformed(
                "it is of a slot that the directory does not have",
            )),
        }
    }

    /// The slots that frames spoke of, by number.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SlotNumber, &FoldedSlot)> {
        self.slots.iter().map(|(slot, folded)| (*slot, folded))
    }

    /// What frames said of that slot.
    pub(crate) fn get(&self, slot: SlotNumber) -> Option<&FoldedSlot> {
        self.slots.get(&slot)
    }

    /// The volumes as they are after the last frame.
    pub(crate) fn volumes(&self) -> &VolumeTable {
        &self.volumes
    }

    /// Forgets the sums, which take most of the memory: they have been written. Frames that follow add theirs.
    pub(crate) fn forget_sums(&mut self) {
        for folded in self.slots.values_mut() {
            folded.fresh = Mask::EMPTY;
            folded.sums = Vec::new();
        }
    }

    /// How many slots the tables must have entries for: all up to the last that frames spoke of, and `before` at least.
    pub(crate) fn slots_numbered(&self, before: u32) -> u32 {
        let last = self.slots.last_key_value();
        last.map_or(before, |(slot, _)| before.max(slot.0 + 1))
    }

    /// The volume table, when the rest has been written.
    pub(crate) fn into_volumes(self) -> VolumeTable {
        self.volumes
    }
}

#[cfg(test)]
mod tests;
