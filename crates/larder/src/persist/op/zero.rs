//! Zeros by state.

use super::{VolumeId, put_id, take_id};
use crate::persist::bytes::{Malformed, Put, Reader};

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
pub(super) const MAY_TRIM: u64 = 1 << 63;

impl ZeroOp {
    pub(super) fn payload_bytes(&self) -> usize {
        24 + 16 * self.zeros.len()
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        put_id(bytes, self.id);
        bytes.put_u64(self.start);
        bytes.put_u64(self.end);
        for zeros in &self.zeros {
            bytes.put_u64(zeros.start);
            bytes.put_u64(zeros.end | if zeros.may_trim { MAY_TRIM } else { 0 });
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
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
