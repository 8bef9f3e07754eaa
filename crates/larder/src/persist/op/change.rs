//! Changes of a volume: what a queue holds, in the order in which the origin is to get them.

use super::OP_HEADER_BYTES;
use crate::persist::bytes::{Malformed, Put, Reader};
use crate::persist::frame::HEAD_BYTES;

/// The start of the range, before the data.
const DATA_HEAD_BYTES: usize = 8;

/// Start, end, how, padding.
const WIPE_BYTES: usize = 24;

/// Where no range ends behind: no volume is that large.
const LARGEST_END: u64 = 1 << 63;

/// How far into its frame the data of a change lies, if it is the frame's only op.
pub(crate) const DATA_AT: u64 = (HEAD_BYTES + OP_HEADER_BYTES + DATA_HEAD_BYTES) as u64;

/// The most data that one change has, in bytes.
pub(crate) const MAX_DATA_BYTES: u64 = 1 << 20;

/// What becomes of a range that gets no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiping {
    /// It is zero.
    Zero,
    /// It is zero, and a hole will do.
    Hole,
}

/// What a range of the volume is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'d> {
    /// These bytes: from 1 to [`MAX_DATA_BYTES`].
    Data { start: u64, bytes: &'d [u8] },
    /// No data. `end` is the byte after the last.
    Wipe { start: u64, end: u64, how: Wiping },
}

impl<'d> Change<'d> {
    /// Whether it is one that can be said.
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        let (start, length) = match self {
            Self::Data { start, bytes } => (*start, bytes.len() as u64),
            Self::Wipe { start, end, .. } => (*start, end.saturating_sub(*start)),
        };
        if length == 0 || start > LARGEST_END || length > LARGEST_END - start {
            return Err(Malformed("a change is of no range"));
        }
        match self {
            Self::Data { .. } if length > MAX_DATA_BYTES => {
                Err(Malformed("a change has more data than one can have"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn payload_bytes(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => DATA_HEAD_BYTES + bytes.len(),
            Self::Wipe { .. } => WIPE_BYTES,
        }
    }

    pub(super) fn put(&self, into: &mut Vec<u8>) {
        match self {
            Self::Data { start, bytes } => {
                into.put_u64(*start);
                into.extend_from_slice(bytes);
            }
            Self::Wipe { start, end, how } => {
                into.put_u64(*start);
                into.put_u64(*end);
                into.put_u64(match how {
                    Wiping::Zero => 0,
                    Wiping::Hole => 1,
                });
            }
        }
    }

    pub(super) fn take_data(reader: &mut Reader<'d>) -> Result<Self, Malformed> {
        let change = Self::Data {
            start: reader.u64()?,
            bytes: reader.bytes(reader.left())?,
        };
        change.check()?;
        Ok(change)
    }

    pub(super) fn take_wipe(reader: &mut Reader<'d>) -> Result<Self, Malformed> {
        let (start, end) = (reader.u64()?, reader.u64()?);
        let how = match reader.u8()? {
            0 => Wiping::Zero,
            1 => Wiping::Hole,
            _ => {
                return Err(Malformed(
                    "a range is wiped in a way that this version does not know",
                ));
            }
        };
        reader.zeros(7)?;
        let change = Self::Wipe { start, end, how };
        change.check()?;
        Ok(change)
    }
}
