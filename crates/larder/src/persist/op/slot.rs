//! What a slot holds.

use super::{OP_HEADER_BYTES, take_slot};
use crate::directory::SlotNumber;
use crate::persist::bytes::{Malformed, Put, Reader};
use crate::persist::entry::{Content, put_occupant, take_occupant};
use crate::persist::shape::Shape;
use crate::persist::sums::Sum;
use crate::sector::Mask;

/// The op without sums and bytes.
const FIXED_BYTES: usize = 88;

const SUM_BYTES: usize = 8;

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
        let start = (OP_HEADER_BYTES + FIXED_BYTES + self.sums.len()) as u64;
        let shift = self.sector_shift;
        each(self.inlined)
            .zip(0_u64..)
            .map(move |(sector, at)| (sector, start + (at << shift)))
    }

    /// The inlined sectors and their bytes.
    pub(crate) fn inlined(&self) -> impl Iterator<Item = (u32, &'b [u8])> {
        each(self.inlined).zip(self.bytes.chunks_exact(1 << self.sector_shift))
    }

    pub(super) fn payload_bytes(&self) -> usize {
        FIXED_BYTES + self.sums.len() + self.bytes.len()
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
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

    pub(super) fn take(reader: &mut Reader<'b>, shape: Shape) -> Result<Self, Malformed> {
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
