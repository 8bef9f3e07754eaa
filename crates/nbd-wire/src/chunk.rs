//! Replies of the transmission phase: simple ones, and those in chunks.

use crate::{ChunkFlags, Cursor, ErrorCode, Malformed, RequestFormat, Sink};

/// Begins a simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Bytes of a simple reply's header.
pub const SIMPLE_REPLY_BYTES: usize = 16;

const STRUCTURED_MAGIC: u32 = 0x668e_33ef;
const EXTENDED_MAGIC: u32 = 0x6e8a_278c;

/// A simple reply's header. After a read that succeeded its data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimpleReply {
    /// 0, or what went wrong.
    pub error: ErrorCode,
    /// The request's.
    pub cookie: u64,
}

impl SimpleReply {
    /// The header.
    pub fn encode(&self) -> [u8; SIMPLE_REPLY_BYTES] {
        let mut bytes = [0; SIMPLE_REPLY_BYTES];
        bytes[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.error.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.cookie.to_be_bytes());
        bytes
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8; SIMPLE_REPLY_BYTES]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        if cursor.u32()? != SIMPLE_REPLY_MAGIC {
            return Err(Malformed("a reply does not begin with its magic"));
        }
        Ok(Self {
            error: ErrorCode(cursor.u32()?),
            cookie: cursor.u64()?,
        })
    }
}

/// What a chunk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkType(pub u16);

impl ChunkType {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// An offset and data.
    pub const OFFSET_DATA: Self = Self(1);
    /// An offset and a number of zeros.
    pub const OFFSET_HOLE: Self = Self(2);
    /// The status of a range, in 32-bit lengths.
    pub const BLOCK_STATUS: Self = Self(5);
    /// The status of a range, in 64-bit lengths.
    pub const BLOCK_STATUS_EXT: Self = Self(6);
    /// An error.
    pub const ERROR: Self = Self(1 << 15 | 1);
    /// An error at an offset.
    pub const ERROR_OFFSET: Self = Self(1 << 15 | 2);

    /// Whether it says that the request failed.
    pub fn is_error(self) -> bool {
        self.0 & 1 << 15 != 0
    }
}

/// A chunk's header; `length_bytes` of payload follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Whether it is the last.
    pub flags: ChunkFlags,
    /// What follows.
    pub kind: ChunkType,
    /// The request's.
    pub cookie: u64,
    /// The request's, where the format has it.
    pub offset: u64,
    /// Bytes that follow.
    pub length_bytes: u64,
}

impl ChunkHeader {
    /// Bytes of a header in the format that goes with the requests'.
    pub const fn bytes(format: RequestFormat) -> usize {
        match format {
            RequestFormat::Compact => 20,
            RequestFormat::Extended => 32,
        }
    }

    /// Whether a reply that begins so is in chunks of that format.
    pub fn is_magic(magic: u32, format: RequestFormat) -> bool {
        magic == Self::magic(format)
    }

    const fn magic(format: RequestFormat) -> u32 {
        match format {
            RequestFormat::Compact => STRUCTURED_MAGIC,
            RequestFormat::Extended => EXTENDED_MAGIC,
        }
    }

    /// Appends the header.
    pub fn encode(&self, into: &mut impl Sink, format: RequestFormat) {
        into.put(&Self::magic(format).to_be_bytes());
        into.put(&self.flags.bits().to_be_bytes());
        into.put(&self.kind.0.to_be_bytes());
        into.put(&self.cookie.to_be_bytes());
        match format {
            RequestFormat::Compact => {
                into.put(&(self.length_bytes as u32).to_be_bytes());
            }
            RequestFormat::Extended => {
                into.put(&self.offset.to_be_bytes());
                into.put(&self.length_bytes.to_be_bytes());
            }
        }
    }

    /// Reads a header. `bytes` are exactly as many as the format has.
    pub fn decode(bytes: &[u8], format: RequestFormat) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        if cursor.u32()? != Self::magic(format) {
            return Err(Malformed("a chunk does not begin with its magic"));
        }
        let flags = ChunkFlags::from_bits_retain(cursor.u16()?);
        let kind = ChunkType(cursor.u16()?);
        let cookie = cursor.u64()?;
        let (offset, length_bytes) = match format {
            RequestFormat::Compact => (0, cursor.u32()?.into()),
            RequestFormat::Extended => (cursor.u64()?, cursor.u64()?),
        };
        cursor.end()?;
        Ok(Self {
            flags,
            kind,
            cookie,
            offset,
            length_bytes,
        })
    }
}

/// A run of bytes with one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// How long, in bytes.
    pub length_bytes: u64,
    /// What it is; the meaning is the context's.
    pub status: u64,
}

/// A chunk's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk<'b> {
    /// Nothing: the request is done.
    None,
    /// Data at an offset.
    Data {
        /// Where, in bytes.
        offset: u64,
        /// What.
        data: &'b [u8],
    },
    /// Zeros at an offset.
    Hole {
        /// Where, in bytes.
        offset: u64,
        /// How many.
        length_bytes: u32,
    },
    /// The status of the range from where the request began.
    Status {
        /// Which context.
        context_id: u32,
        /// In order.
        descriptors: Vec<Descriptor>,
    },
    /// The request failed.
    Error {
        /// Why.
        error: ErrorCode,
        /// Why, for people.
        message: &'b str,
        /// Where, if that is known.
        offset: Option<u64>,
    },
    /// Something newer than this code.
    Unknown(ChunkType),
}

impl<'b> Chunk<'b> {
    /// Reads the payload of a chunk of that kind.
    pub fn decode(kind: ChunkType, payload: &'b [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let chunk = match kind {
            ChunkType::NONE => Self::None,
            ChunkType::OFFSET_DATA => Self::Data {
                offset: cursor.u64()?,
                data: cursor.rest(),
            },
            ChunkType::OFFSET_HOLE => Self::Hole {
                offset: cursor.u64()?,
                length_bytes: cursor.u32()?,
            },
            ChunkType::BLOCK_STATUS => Self::decode_status(&mut cursor)?,
            ChunkType::BLOCK_STATUS_EXT => Self::decode_extended_status(&mut cursor)?,
            kind if kind.is_error() => Self::decode_error(kind, &mut cursor)?,
            other => return Ok(Self::Unknown(other)),
        };
        cursor.end()?;
        Ok(chunk)
    }

    /// Appends the chunk with its header, as part of the reply to the request with that cookie and
    /// offset. A status is in the form that goes with the format; in the compact one its lengths
    /// are below 4 GiB. A message has at most 4096 bytes.
    pub fn encode(
        &self,
        into: &mut impl Sink,
        format: RequestFormat,
        flags: ChunkFlags,
        (cookie, request_offset): (u64, u64),
    ) {
        let header = |kind, length_bytes| ChunkHeader {
            flags,
            kind,
            cookie,
            offset: request_offset,
            length_bytes,
        };
        match self {
            Self::None => header(ChunkType::NONE, 0).encode(into, format),
            Self::Data { offset, data } => {
                let length_bytes = 8 + data.len() as u64;
                header(ChunkType::OFFSET_DATA, length_bytes).encode(into, format);
                into.put(&offset.to_be_bytes());
                into.put(data);
            }
            Self::Hole {
                offset,
                length_bytes,
            } => {
                header(ChunkType::OFFSET_HOLE, 12).encode(into, format);
                into.put(&offset.to_be_bytes());
                into.put(&length_bytes.to_be_bytes());
            }
            Self::Status {
                context_id,
                descriptors,
            } => encode_status(into, format, *context_id, descriptors, header),
            Self::Error {
                error,
                message,
                offset,
            } => {
                let kind = offset.map_or(ChunkType::ERROR, |_| ChunkType::ERROR_OFFSET);
                let length = 6 + message.len() + offset.map_or(0, |_| 8);
                header(kind, length as u64).encode(into, format);
                into.put(&error.0.to_be_bytes());
                into.put(&(message.len() as u16).to_be_bytes());
                into.put(message.as_bytes());
                if let Some(offset) = offset {
                    into.put(&offset.to_be_bytes());
                }
            }
            Self::Unknown(kind) => header(*kind, 0).encode(into, format),
        }
    }

    fn decode_status(cursor: &mut Cursor<'b>) -> Result<Self, Malformed> {
        let context_id = cursor.u32()?;
        let mut descriptors = Vec::new();
        while !cursor.is_empty() {
            descriptors.push(Descriptor {
                length_bytes: cursor.u32()?.into(),
                status: cursor.u32()?.into(),
            });
        }
        Self::status(context_id, descriptors)
    }

    fn decode_extended_status(cursor: &mut Cursor<'b>) -> Result<Self, Malformed> {
        let context_id = cursor.u32()?;
        let count = cursor.u32()?;
        let mut descriptors = Vec::new();
        while !cursor.is_empty() {
            descriptors.push(Descriptor {
                length_bytes: cursor.u64()?,
                status: cursor.u64()?,
            });
        }
        // A server may leave the number out.
        if count != 0 && count as usize != descriptors.len() {
            return Err(Malformed(
                "a block status has not as many extents as it says",
            ));
        }
        Self::status(context_id, descriptors)
    }

    fn status(context_id: u32, descriptors: Vec<Descriptor>) -> Result<Self, Malformed> {
        if descriptors.is_empty() || descriptors.iter().any(|run| run.length_bytes == 0) {
            return Err(Malformed(
                "a block status has no extent, or one of no bytes",
            ));
        }
        Ok(Self::Status {
            context_id,
            descriptors,
        })
    }

    fn decode_error(kind: ChunkType, cursor: &mut Cursor<'b>) -> Result<Self, Malformed> {
        let error = ErrorCode(cursor.u32()?);
        let message_bytes = cursor.u16()?;
        // A message is for people: what of it cannot be read does not matter.
        let message = cursor.bytes(message_bytes.into())?;
        let message = crate::cursor::text(message).unwrap_or("");
        let offset = match kind {
            ChunkType::ERROR_OFFSET => Some(cursor.u64()?),
            _ => None,
        };
        if kind != ChunkType::ERROR && kind != ChunkType::ERROR_OFFSET {
            cursor.rest();
        }
        Ok(Self::Error {
            error,
            message,
            offset,
        })
    }
}

fn encode_status(
    into: &mut impl Sink,
    format: RequestFormat,
    context_id: u32,
    descriptors: &[Descriptor],
    header: impl Fn(ChunkType, u64) -> ChunkHeader,
) {
    let count = descriptors.len();
    match format {
        RequestFormat::Compact => {
            header(ChunkType::BLOCK_STATUS, 4 + 8 * count as u64).encode(into, format);
            into.put(&context_id.to_be_bytes());
            for run in descriptors {
                into.put(&(run.length_bytes as u32).to_be_bytes());
                into.put(&(run.status as u32).to_be_bytes());
            }
        }
        RequestFormat::Extended => {
            header(ChunkType::BLOCK_STATUS_EXT, 8 + 16 * count as u64).encode(into, format);
            into.put(&context_id.to_be_bytes());
            into.put(&(count as u32).to_be_bytes());
            for run in descriptors {
                into.put(&run.length_bytes.to_be_bytes());
                into.put(&run.status.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_reply_is_read_as_it_was_written() {
        let reply = SimpleReply {
            error: ErrorCode::NO_SPACE,
            cookie: 5,
        };
        assert_eq!(SimpleReply::decode(&reply.encode()), Ok(reply));
        assert!(SimpleReply::decode(&[0; 16]).is_err());
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let header = ChunkHeader {
            flags: ChunkFlags::DONE,
            kind: ChunkType::OFFSET_DATA,
            cookie: 9,
            offset: 4096,
            length_bytes: 12,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes, RequestFormat::Extended);
        assert_eq!(bytes.len(), ChunkHeader::bytes(RequestFormat::Extended));
        let read = ChunkHeader::decode(&bytes, RequestFormat::Extended);
        assert_eq!(read, Ok(header));
        bytes.clear();
        header.encode(&mut bytes, RequestFormat::Compact);
        assert_eq!(bytes.len(), ChunkHeader::bytes(RequestFormat::Compact));
        let read = ChunkHeader::decode(&bytes, RequestFormat::Compact);
        assert_eq!(
            read,
            Ok(ChunkHeader {
                offset: 0,
                ..header
            })
        );
    }

    #[test]
    fn every_chunk_is_read_as_it_was_written_in_both_formats() {
        let run = |length_bytes, status| Descriptor {
            length_bytes,
            status,
        };
        let chunks = [
            Chunk::None,
            Chunk::Data {
                offset: 1,
                data: b"abc",
            },
            Chunk::Hole {
                offset: 2,
                length_bytes: 3,
            },
            Chunk::Status {
                context_id: 4,
                descriptors: vec![run(512, 3), run(1024, 0)],
            },
            Chunk::Error {
                error: ErrorCode::IO,
                message: "why",
                offset: None,
            },
            Chunk::Error {
                error: ErrorCode::IO,
                message: "",
                offset: Some(9),
            },
        ];
        for format in [RequestFormat::Compact, RequestFormat::Extended] {
            for chunk in &chunks {
                let mut bytes = Vec::new();
                chunk.encode(&mut bytes, format, ChunkFlags::DONE, (7, 8));
                let (header, payload) = bytes.split_at(ChunkHeader::bytes(format));
                let header = ChunkHeader::decode(header, format).unwrap();
                assert_eq!(header.length_bytes, payload.len() as u64);
                assert_eq!((header.cookie, header.flags), (7, ChunkFlags::DONE));
                assert_eq!(Chunk::decode(header.kind, payload).as_ref(), Ok(chunk));
            }
        }
    }

    #[test]
    fn payloads_are_read_whole_or_not_at_all() {
        let hole = [&7_u64.to_be_bytes()[..], &512_u32.to_be_bytes()].concat();
        let read = Chunk::decode(ChunkType::OFFSET_HOLE, &hole);
        let expected = Chunk::Hole {
            offset: 7,
            length_bytes: 512,
        };
        assert_eq!(read, Ok(expected));
        assert!(Chunk::decode(ChunkType::OFFSET_HOLE, &hole[1..]).is_err());
        assert!(Chunk::decode(ChunkType::NONE, &[1]).is_err());
        assert!(Chunk::decode(ChunkType::BLOCK_STATUS, &[0, 0, 0, 1]).is_err());
        let empty_run = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Chunk::decode(ChunkType::BLOCK_STATUS, &empty_run).is_err());
    }

    #[test]
    fn a_long_status_may_leave_out_how_many_extents_it_has() {
        let payload = |count: u8, extents: usize| {
            let extent = [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3];
            [&[0, 0, 0, 1, 0, 0, 0, count][..], &extent.repeat(extents)].concat()
        };
        let read = |payload: &[u8]| match Chunk::decode(ChunkType::BLOCK_STATUS_EXT, payload) {
            Ok(Chunk::Status { descriptors, .. }) => Some(descriptors.len()),
            _ => None,
        };
        assert_eq!(read(&payload(0, 2)), Some(2));
        assert_eq!(read(&payload(2, 2)), Some(2));
        for wrong in [payload(1, 2), payload(3, 2), payload(0, 0), payload(1, 0)] {
            assert_eq!(read(&wrong), None);
        }
        assert_eq!(read(&payload(0, 2)[..39]), None);
    }

    #[test]
    fn errors_are_read_with_and_without_an_offset() {
        let mut payload = vec![0, 0, 0, 5, 0, 2, b'n', b'o'];
        let read = Chunk::decode(ChunkType::ERROR, &payload);
        let expected = |offset| Chunk::Error {
            error: ErrorCode::IO,
            message: "no",
            offset,
        };
        assert_eq!(read, Ok(expected(None)));
        payload.extend_from_slice(&[0, 0, 0, 0, 0, 0, 2, 0]);
        let read = Chunk::decode(ChunkType::ERROR_OFFSET, &payload);
        assert_eq!(read, Ok(expected(Some(512))));
        assert!(Chunk::decode(ChunkType::ERROR, &payload).is_err());
        let newer = Chunk::decode(ChunkType(1 << 15 | 99), &payload);
        assert_eq!(newer, Ok(expected(None)));
    }
}
