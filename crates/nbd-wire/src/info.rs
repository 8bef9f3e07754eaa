//! What a server tells of an export.

use crate::cursor::text;
use crate::{Cursor, Malformed, TransmissionFlags};

/// A kind of information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoType(pub u16);

impl InfoType {
    /// Size and flags; always told.
    pub const EXPORT: Self = Self(0);
    /// The name by which the server knows it.
    pub const NAME: Self = Self(1);
    /// What it is, for people.
    pub const DESCRIPTION: Self = Self(2);
    /// The block sizes.
    pub const BLOCK_SIZE: Self = Self(3);
}

/// One piece of information: the payload of an INFO reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info<'b> {
    /// Size in bytes, and what it can do.
    Export {
        /// Bytes.
        size_bytes: u64,
        /// What it can do.
        flags: TransmissionFlags,
    },
    /// The name by which the server knows it.
    Name(&'b str),
    /// What it is, for people.
    Description(&'b str),
    /// What requests keep to, in bytes.
    BlockSize {
        /// Offsets and lengths are multiples of it.
        minimum: u32,
        /// Requests of this size are best.
        preferred: u32,
        /// No payload is longer.
        maximum: u32,
    },
    /// Something newer than this code.
    Unknown(InfoType),
}

impl<'b> Info<'b> {
    /// Reads the payload of an INFO reply.
    pub fn decode(payload: &'b [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let info = match InfoType(cursor.u16()?) {
            InfoType::EXPORT => Self::Export {
                size_bytes: cursor.u64()?,
                flags: TransmissionFlags::from_bits_retain(cursor.u16()?),
            },
            InfoType::NAME => return Ok(Self::Name(text(cursor.rest())?)),
            InfoType::DESCRIPTION => return Ok(Self::Description(text(cursor.rest())?)),
            InfoType::BLOCK_SIZE => Self::BlockSize {
                minimum: cursor.u32()?,
                preferred: cursor.u32()?,
                maximum: cursor.u32()?,
            },
            other => return Ok(Self::Unknown(other)),
        };
        cursor.end()?;
        Ok(info)
    }

    /// The payload of an INFO reply.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let begin = |bytes: &mut Vec<u8>, kind: InfoType| {
            bytes.extend_from_slice(&kind.0.to_be_bytes());
        };
        match self {
            Self::Export { size_bytes, flags } => {
                begin(&mut bytes, InfoType::EXPORT);
                bytes.extend_from_slice(&size_bytes.to_be_bytes());
                bytes.extend_from_slice(&flags.bits().to_be_bytes());
            }
            Self::Name(name) => {
                begin(&mut bytes, InfoType::NAME);
                bytes.extend_from_slice(name.as_bytes());
            }
            Self::Description(text) => {
                begin(&mut bytes, InfoType::DESCRIPTION);
                bytes.extend_from_slice(text.as_bytes());
            }
            Self::BlockSize {
                minimum,
                preferred,
                maximum,
            } => {
                begin(&mut bytes, InfoType::BLOCK_SIZE);
                for size in [minimum, preferred, maximum] {
                    bytes.extend_from_slice(&size.to_be_bytes());
                }
            }
            Self::Unknown(kind) => begin(&mut bytes, *kind),
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_is_read_as_it_was_written() {
        for info in [
            Info::Export {
                size_bytes: 1 << 40,
                flags: TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_DF,
            },
            Info::Name("a"),
            Info::Description(""),
            Info::BlockSize {
                minimum: 1,
                preferred: 4096,
                maximum: u32::MAX,
            },
            Info::Unknown(InfoType(9)),
        ] {
            assert_eq!(Info::decode(&info.encode()), Ok(info));
        }
        assert!(Info::decode(&[0, 3, 0, 0]).is_err());
        assert!(Info::decode(&[]).is_err());
    }
}
