//! What a frame says: each op is the whole state of a slot, of a range's zeros or of a volume, so that the last one counts.
//!
//! An op that this version does not know belongs to a newer one, and is refused: whatever it says must not be lost.

use super::bytes::{Malformed, Put, Reader};
use super::entry::{Content, put_occupant, take_occupant};
use super::shape::Shape;
use super::sums::{Incarnation, Occupant, Sum};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::sector::Mask;

/// What stands before an op's payload: its kind, its flags, the payload's length.
const OP_HEADER_BYTES: usize = 8;

/// A slot's op without sums and bytes.
const SLOT_FIXED_BYTES: usize = 88;

const SUM_BYTES: usize = 8;

/// The longest name, cache id or version, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 4096;

mod kind {
    pub(super) const SLOT: u16 = 1;
    pub(super) const EMPTY: u16 = 2;
    pub(super) const ZERO: u16 = 3;
    pub(super) const VOLUME: u16 = 4;
    pub(super) const VOLUME_GONE: u16 = 5;
    pub(super) const EPOCH: u16 = 6;
    pub(super) const ON_ORIGIN: u16 = 7;
    pub(super) const VOUCH: u16 = 8;
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
    /// A flush of the volume ends here: what the frames say up to here is that epoch or an older one.
    Epoch(VolumeId, u64),
    /// The origin has that epoch, and all before it, durably.
    OnOrigin(VolumeId, u64),
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

/// What a slot holds: all of it, but of what has not changed since the last such op the masks only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SlotOp<'b> {
    pub slot: SlotNumber,
    pub content: Content,
    /// The size of the volume's sectors, as a logarithm to base 2.
    pub sector_shift: u8,
    /// Valid sectors that have a sum here, since the bytes are new.
    pub fresh: Mask,
    /// Fresh sectors whose bytes are here, since they are not in the slot yet.
    pub inlined: Mask,
    /// One for each fresh sector, in order; see [`sums_as_bytes`].
    pub sums: &'b [u8],
    /// A whole sector for each inlined one, in order. What lies beyond the end of the volume is zero.
    pub bytes: &'b [u8],
}

/// Sums as an op has them.
pub(crate) fn sums_as_bytes(sums: impl IntoIterator<Item = Sum>) -> Vec<u8> {
    sums.into_iter()
        .flat_map(|sum| sum.0.to_le_bytes())
        .collect()
}

/// The sectors of a set, in order.
pub(crate) fn each(mask: Mask) -> impl Iterator<Item = u32> {
    mask.runs().flat_map(|(first, end)| first..end)
}

impl<'b> SlotOp<'b> {
    /// The fresh sectors and their sums.
    pub(crate) fn sums(&self) -> impl Iterator<Item = (u32, Sum)> {
        let (sums, _) = self.sums.as_chunks();
        each(self.fresh).zip(sums.iter().map(|sum| Sum(u64::from_le_bytes(*sum))))
    }

    /// The inlined sectors, and where in the op, its header included, the bytes of each begin.
    pub(crate) fn inlined_at(&self) -> impl Iterator<Item = (u32, u64)> {
        let start = (OP_HEADER_BYTES + SLOT_FIXED_BYTES + self.sums.len()) as u64;
        let shift = self.sector_shift;
        each(self.inlined)
            .zip(0_u64..)
            .map(move |(sector, at)| (sector, start + (at << shift)))
    }

    /// The inlined sectors and their bytes.
    pub(crate) fn inlined(&self) -> impl Iterator<Item = (u32, &'b [u8])> {
        each(self.inlined).zip(self.bytes.chunks_exact(1 << self.sector_shift))
    }

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.put_u32(self.slot.0);
        bytes.put_u8(self.sector_shift);
        bytes.put_u8(self.content.heat);
        bytes.put_u16(0);
        put_occupant(bytes, self.content.occupant);
        for mask in [
            self.content.valid,
            self.content.dirty,
            self.fresh,
            self.inlined,
        ] {
            bytes.put_u128(mask.0);
        }
        bytes.extend_from_slice(self.sums);
        bytes.extend_from_slice(self.bytes);
    }

    fn take(reader: &mut Reader<'b>, shape: Shape) -> Result<Self, Malformed> {
        let slot = take_slot(reader)?;
        let (sector_shift, heat) = (reader.u8()?, reader.u8()?);
        reader.zeros(2)?;
        let content = Content {
            occupant: take_occupant(reader)?,
            valid: Mask(reader.u128()?),
            dirty: Mask(reader.u128()?),
            heat,
        };
        content.check(shape)?;
        let (fresh, inlined) = (Mask(reader.u128()?), Mask(reader.u128()?));
        let sectors = shape
            .sectors(sector_shift)
            .ok_or(Malformed("a sector has an impossible size"))?;
        let is_nested = (inlined - fresh).is_empty()
            && (fresh - content.valid).is_empty()
            && (content.valid - sectors).is_empty();
        if !is_nested {
            return Err(Malformed("a slot's op has sectors that it cannot have"));
        }
        let sums = reader.bytes(fresh.count() as usize * SUM_BYTES)?;
        let bytes = reader.bytes((inlined.count() as usize) << sector_shift)?;
        Ok(Self {
            slot,
            content,
            sector_shift,
            fresh,
            inlined,
            sums,
            bytes,
        })
    }
}

/// What of a range of a volume is zero by state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZeroOp {
    pub id: VolumeId,
    /// First byte that it speaks of.
    pub start: u64,
    /// The byte after the last.
    pub end: u64,
    /// In order, apart, and within. The rest of the range is not zero by state.
    pub zeros: Vec<RecordedZeros>,
}

/// A range of zeros that the origin may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordedZeros {
    pub start: u64,
    pub end: u64,
    /// A hole will do.
    pub may_trim: bool,
}

/// In the end of a recorded range: a hole will do. No volume is that large.
const MAY_TRIM: u64 = 1 << 63;

impl ZeroOp {
    fn put(&self, bytes: &mut Vec<u8>) {
        put_id(bytes, self.id);
        bytes.put_u64(self.start);
        bytes.put_u64(self.end);
        for zeros in &self.zeros {
            bytes.put_u64(zeros.start);
            bytes.put_u64(zeros.end | if zeros.may_trim { MAY_TRIM } else { 0 });
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let id = take_id(reader)?;
        let (start, end) = (reader.u64()?, reader.u64()?);
        let mut zeros = Vec::with_capacity(reader.left() / 16);
        let mut at = start;
        while reader.left() > 0 {
            let (first, word) = (reader.u64()?, reader.u64()?);
            let range = RecordedZeros {
                start: first,
                end: word & !MAY_TRIM,
                may_trim: word & MAY_TRIM != 0,
            };
            if range.start < at || range.start >= range.end || range.end > end {
                return Err(Malformed("ranges of zeros are not in order"));
            }
            at = range.end;
            zeros.push(range);
        }
        match start < end && end < MAY_TRIM {
            true => Ok(Self {
                id,
                start,
                end,
                zeros,
            }),
            false => Err(Malformed("zeros are said of no range")),
        }
    }
}

/// What is known of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeRecord {
    pub id: VolumeId,
    pub size_bytes: u64,
    pub sector_shift: u8,
    /// The origin has been written to since its version was asked: only the stable part still tells anything.
    pub changed_since_version: bool,
    pub name: String,
    /// What the operator calls the origin; may be empty.
    pub cache_id: String,
    pub version: Option<RecordedVersion>,
}

/// An origin's version, in bytes that only its own kind of origin understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedVersion {
    /// What stays while the origin is written to.
    pub stable: Vec<u8>,
    pub changing: Vec<u8>,
}

const CHANGED_SINCE_VERSION: u8 = 1;
const HAS_VERSION: u8 = 2;

impl VolumeRecord {
    fn put(&self, bytes: &mut Vec<u8>) {
        let mut flags = 0;
        if self.changed_since_version {
            flags |= CHANGED_SINCE_VERSION;
        }
        if self.version.is_some() {
            flags |= HAS_VERSION;
        }
        put_id(bytes, self.id);
        bytes.put_u64(self.size_bytes);
        bytes.put_u8(self.sector_shift);
        bytes.put_u8(flags);
        bytes.put_u16(0);
        let version = self.version.as_ref();
        let texts: [&[u8]; 4] = [
            self.name.as_bytes(),
            self.cache_id.as_bytes(),
            version.map_or(&[], |version| &version.stable),
            version.map_or(&[], |version| &version.changing),
        ];
        for text in texts {
            bytes.put_u32(text.len() as u32);
        }
        texts.iter().for_each(|text| bytes.extend_from_slice(text));
    }

    fn take(reader: &mut Reader<'_>, shape: Shape) -> Result<Self, Malformed> {
        let id = take_id(reader)?;
        let size_bytes = reader.u64()?;
        let (sector_shift, flags) = (reader.u8()?, reader.u8()?);
        reader.zeros(2)?;
        let mut lengths = [0; 4];
        for length in &mut lengths {
            *length = reader.u32()? as usize;
        }
        if lengths.iter().any(|length| *length > MAX_TEXT_BYTES) {
            return Err(Malformed("a volume's name or version is too long"));
        }
        let (name, cache_id) = (
            take_text(reader, lengths[0])?,
            take_text(reader, lengths[1])?,
        );
        let version = RecordedVersion {
            stable: reader.bytes(lengths[2])?.to_vec(),
            changing: reader.bytes(lengths[3])?.to_vec(),
        };
        let has_version = flags & HAS_VERSION != 0;
        if flags & !(CHANGED_SINCE_VERSION | HAS_VERSION) != 0
            || (!has_version && lengths[2] + lengths[3] > 0)
        {
            return Err(Malformed("a volume has flags that mean nothing"));
        }
        if shape.sectors(sector_shift).is_none() || size_bytes >= MAY_TRIM {
            return Err(Malformed("a volume has an impossible size"));
        }
        Ok(Self {
            id,
            size_bytes,
            sector_shift,
            changed_since_version: flags & CHANGED_SINCE_VERSION != 0,
            name,
            cache_id,
            version: has_version.then_some(version),
        })
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
            Self::Epoch(..) => kind::EPOCH,
            Self::OnOrigin(..) => kind::ON_ORIGIN,
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
            Self::Epoch(id, epoch) | Self::OnOrigin(id, epoch) => {
                put_id(bytes, *id);
                bytes.put_u64(*epoch);
            }
            Self::Vouch => {}
        }
        let length = (bytes.len() - length_at - 4) as u32;
        bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }

    /// How many bytes [`Op::put`] appends.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let payload = match self {
            Self::Slot(op) => SLOT_FIXED_BYTES + op.sums.len() + op.bytes.len(),
            Self::Empty(_) => 4,
            Self::Zero(op) => 24 + 16 * op.zeros.len(),
            Self::Volume(record) => {
                let version = record.version.as_ref();
                let texts = version.map_or(0, |it| it.stable.len() + it.changing.len());
                36 + record.name.len() + record.cache_id.len() + texts
            }
            Self::VolumeGone(_) => 8,
            Self::Epoch(..) | Self::OnOrigin(..) => 16,
            Self::Vouch => 0,
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
            kind::EPOCH => Self::Epoch(take_id(&mut payload)?, payload.u64()?),
            kind::ON_ORIGIN => Self::OnOrigin(take_id(&mut payload)?, payload.u64()?),
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

fn take_text(reader: &mut Reader<'_>, length: usize) -> Result<String, Malformed> {
    let text = str::from_utf8(reader.bytes(length)?);
    text.map(str::to_owned)
        .map_err(|_| Malformed("a volume's name is no text"))
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
