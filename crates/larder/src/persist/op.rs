//! What a frame says. In the journal each op is the whole state of a slot, of a range's zeros or of a volume, so that the last one counts; in
//! the queue of a volume each is a change, or a boundary between changes.
//!
//! An op that this version does not know belongs to a newer one, and is refused: whatever it says must not be lost.

mod change;
pub(crate) mod slot;
pub(crate) mod volume;
mod zero;

pub(crate) use change::{Change, DATA_AT, MAX_DATA_BYTES, Wiping};
pub(crate) use slot::{SlotOp, each};
pub(crate) use volume::VolumeRecord;
pub(crate) use zero::{RecordedZeros, ZeroOp};

use super::bytes::{Malformed, Put, Reader};
use super::shape::Shape;
use super::sums::{Incarnation, Occupant};
use crate::directory::{SlotNumber, VolumeNumber};

/// What stands before an op's payload: its kind, its flags, the payload's length.
const OP_HEADER_BYTES: usize = 8;

mod kind {
    pub(super) const SLOT: u16 = 1;
    pub(super) const EMPTY: u16 = 2;
    pub(super) const ZERO: u16 = 3;
    pub(super) const VOLUME: u16 = 4;
    pub(super) const VOLUME_GONE: u16 = 5;
    pub(super) const EPOCH: u16 = 6;
    // 7 was never published, and is not used.
    pub(super) const VOUCH: u16 = 8;
    pub(super) const DATA: u16 = 9;
    pub(super) const WIPE: u16 = 10;
}

/// One of a frame's statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op<'b> {
    Slot(SlotOp<'b>),
    /// The slot holds nothing.
    Empty(SlotNumber),
    Zero(ZeroOp),
    Volume(VolumeRecord),
    /// The volume is forgotten, and all that slots hold of it.
    VolumeGone(VolumeId),
    /// What the queue's volume is given.
    Change(Change<'b>),
    /// A boundary of the queue: the origin gets what is before it before it gets anything behind it.
    Epoch,
    /// Nothing: that the frame is durable vouches for those before it.
    Vouch,
}

/// A volume among all that a cache ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VolumeId {
    pub volume: VolumeNumber,
    pub incarnation: Incarnation,
}

impl Occupant {
    pub(crate) fn volume_id(&self) -> VolumeId {
        VolumeId {
            volume: self.volume,
            incarnation: self.incarnation,
        }
    }
}

impl<'b> Op<'b> {
    fn kind(&self) -> u16 {
        match self {
            Self::Slot(_) => kind::SLOT,
            Self::Empty(_) => kind::EMPTY,
            Self::Zero(_) => kind::ZERO,
            Self::Volume(_) => kind::VOLUME,
            Self::VolumeGone(_) => kind::VOLUME_GONE,
            Self::Change(Change::Data { .. }) => kind::DATA,
            Self::Change(Change::Wipe { .. }) => kind::WIPE,
            Self::Epoch => kind::EPOCH,
            Self::Vouch => kind::VOUCH,
        }
    }

    /// Appends the op, padded to 8 bytes. Where it begins is a multiple of 8.
    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.put_u16(self.kind());
        bytes.put_u16(0);
        let length_at = bytes.len();
        bytes.put_u32(0);
        match self {
            Self::Slot(op) => op.put(bytes),
            Self::Empty(slot) => bytes.put_u32(slot.0),
            Self::Zero(op) => op.put(bytes),
            Self::Volume(record) => record.put(bytes),
            Self::VolumeGone(id) => put_id(bytes, *id),
            Self::Change(change) => change.put(bytes),
            Self::Epoch | Self::Vouch => {}
        }
        let length = (bytes.len() - length_at - 4) as u32;
        bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }

    /// How many bytes [`Op::put`] appends.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let payload = match self {
            Self::Slot(op) => op.payload_bytes(),
            Self::Empty(_) => 4,
            Self::Zero(op) => op.payload_bytes(),
            Self::Volume(record) => record.payload_bytes(),
            Self::VolumeGone(_) => 8,
            Self::Change(change) => change.payload_bytes(),
            Self::Epoch | Self::Vouch => 0,
        };
        OP_HEADER_BYTES + payload.next_multiple_of(8)
    }

    fn take(reader: &mut Reader<'b>, shape: Shape) -> Result<Self, Malformed> {
        let (kind, flags) = (reader.u16()?, reader.u16()?);
        let length = reader.u32()? as usize;
        let mut payload = Reader::new(reader.bytes(length)?);
        reader.zeros(length.next_multiple_of(8) - length)?;
        if flags != 0 {
            return Err(Malformed("an op has flags that this version does not know"));
        }
        let op = match kind {
            kind::SLOT => Self::Slot(SlotOp::take(&mut payload, shape)?),
            kind::EMPTY => Self::Empty(take_slot(&mut payload)?),
            kind::ZERO => Self::Zero(ZeroOp::take(&mut payload)?),
            kind::VOLUME => Self::Volume(VolumeRecord::take(&mut payload, shape)?),
            kind::VOLUME_GONE => Self::VolumeGone(take_id(&mut payload)?),
            kind::DATA => Self::Change(Change::take_data(&mut payload)?),
            kind::WIPE => Self::Change(Change::take_wipe(&mut payload)?),
            kind::EPOCH => Self::Epoch,
            kind::VOUCH => Self::Vouch,
            _ => return Err(Malformed("it has an op that this version does not know")),
        };
        payload.end()?;
        Ok(op)
    }
}

/// Ops one after the other, each with the place at which it begins.
#[derive(Clone, Debug)]
pub(crate) struct Ops<'b> {
    reader: Reader<'b>,
    total: usize,
    shape: Shape,
}

impl<'b> Ops<'b> {
    pub(super) fn new(bytes: &'b [u8], shape: Shape) -> Self {
        Self {
            reader: Reader::new(bytes),
            total: bytes.len(),
            shape,
        }
    }
}

impl<'b> Iterator for Ops<'b> {
    type Item = Result<(u64, Op<'b>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.left() == 0 {
            return None;
        }
        let at = (self.total - self.reader.left()) as u64;
        let op = Op::take(&mut self.reader, self.shape);
        if op.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(op.map(|op| (at, op)))
    }
}

fn take_slot(reader: &mut Reader<'_>) -> Result<SlotNumber, Malformed> {
    match reader.u32()? {
        u32::MAX => Err(Malformed("a slot has a number that none has")),
        number => Ok(SlotNumber(number)),
    }
}

fn put_id(bytes: &mut Vec<u8>, id: VolumeId) {
    bytes.put_u32(id.volume.0);
    bytes.put_u32(id.incarnation.0);
}

fn take_id(reader: &mut Reader<'_>) -> Result<VolumeId, Malformed> {
    Ok(VolumeId {
        volume: VolumeNumber(reader.u32()?),
        incarnation: Incarnation(reader.u32()?),
    })
}

#[cfg(test)]
mod tests;
