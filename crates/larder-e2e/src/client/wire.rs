//! Numbers of the NBD protocol, and reading them off a stream.

use std::io::{self, Read};
use std::ops::BitOr;

const COMPACT_REQUEST_MAGIC: u32 = 0x2560_9513;
const EXTENDED_REQUEST_MAGIC: u32 = 0x21e4_1c71;
pub(super) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;
const EXTENDED_REPLY_MAGIC: u32 = 0x6e8a_278c;

/// What client and server agree on: how long headers are, and how requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Simple replies only, and no block status.
    Simple,
    /// Structured replies.
    Structured,
    /// Extended headers.
    Extended,
}

impl Form {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Simple, Self::Structured, Self::Extended];

    pub(super) fn request_magic(self) -> u32 {
        match self {
            Self::Extended => EXTENDED_REQUEST_MAGIC,
            _ => COMPACT_REQUEST_MAGIC,
        }
    }

    /// What a chunk begins with; there are none in the simple form.
    pub(super) fn chunk_magic(self) -> Option<u32> {
        match self {
            Self::Simple => None,
            Self::Structured => Some(STRUCTURED_REPLY_MAGIC),
            Self::Extended => Some(EXTENDED_REPLY_MAGIC),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    Cache = 5,
    WriteZeroes = 6,
    BlockStatus = 7,
}

/// Flags of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// The answer means that it is durable.
    pub const FUA: Self = Self(1 << 0);
    /// Zeros must be allocated.
    pub const NO_HOLE: Self = Self(1 << 1);
    /// Zeroing must be refused where it is not faster than writing.
    pub const FAST_ZERO: Self = Self(1 << 4);
    /// A payload of the request's length follows: extended headers say so.
    pub(super) const PAYLOAD_LEN: Self = Self(1 << 5);

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    /// Whether all of `other` is in here.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

pub(super) fn read_bytes(mut from: impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn read_u16(mut from: impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    from.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

pub(super) fn read_u32(mut from: impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

pub(super) fn read_u64(mut from: impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

pub(super) fn protocol_error(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
