//! One request of a trace.

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Says that the content is no longer wanted.
    Trim,
}

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Volumes are numbered from 0 in the order in which they first come.
    pub volume: u32,
    /// What it does.
    pub kind: Kind,
    /// The first byte.
    pub offset: u64,
    /// How many bytes, at least 1. The end is at most 2^63.
    pub length: u64,
}

/// The longest read or write, in bytes: no protocol or system has longer ones, and a damaged trace
/// must not keep anybody busy for ever.
pub const MAX_TRANSFER_BYTES: u64 = 1 << 32;

impl Request {
    /// The request, or what would be right.
    pub(crate) fn checked(self) -> Result<Self, &'static str> {
        let end = self.offset.checked_add(self.length);
        if end.is_none_or(|end| end > 1 << 63) {
            return Err("offset and length together must not be more than 2^63");
        }
        if self.kind != Kind::Trim && self.length > MAX_TRANSFER_BYTES {
            return Err("the length must not be more than 4 GiB");
        }
        Ok(self)
    }

    /// The first block, and the one after the last, of all that the request touches.
    pub fn blocks(&self, block_bytes: u64) -> (u64, u64) {
        let end = (self.offset + self.length).div_ceil(block_bytes);
        (self.offset / block_bytes, end)
    }

    /// The same of all blocks that are wholly in the request; none if the second is not larger.
    pub fn whole_blocks(&self, block_bytes: u64) -> (u64, u64) {
        let end = (self.offset + self.length) / block_bytes;
        (self.offset.div_ceil(block_bytes), end)
    }
}
