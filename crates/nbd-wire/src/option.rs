//! Options, by which client and server come to terms.

use crate::cursor::text;
use crate::{Cursor, InfoType, MAX_STRING_BYTES, Malformed, OPTION_MAGIC, Sink, TransmissionFlags};

/// Begins each reply to an option.
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

/// Bytes of an option's header.
pub const OPTION_HEADER_BYTES: usize = 16;
/// Bytes of an option reply's header.
pub const OPTION_REPLY_HEADER_BYTES: usize = 20;
/// Bytes of the reply to EXPORT_NAME without its zeros.
pub const EXPORT_NAME_REPLY_BYTES: usize = 10;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionCode(pub u32);

impl OptionCode {
    /// An export, with no way to refuse it but to hang up.
    pub const EXPORT_NAME: Self = Self(1);
    /// The end.
    pub const ABORT: Self = Self(2);
    /// The exports' names.
    pub const LIST: Self = Self(3);
    /// Encryption.
    pub const STARTTLS: Self = Self(5);
    /// What an export is like.
    pub const INFO: Self = Self(6);
    /// An export.
    pub const GO: Self = Self(7);
    /// Structured replies.
    pub const STRUCTURED_REPLY: Self = Self(8);
    /// The metadata contexts that there are.
    pub const LIST_META_CONTEXT: Self = Self(9);
    /// The metadata contexts that block status is to answer.
    pub const SET_META_CONTEXT: Self = Self(10);
    /// Headers with 64-bit lengths.
    pub const EXTENDED_HEADERS: Self = Self(11);
}

/// How an option is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyType(pub u32);

impl ReplyType {
    /// Done.
    pub const ACK: Self = Self(1);
    /// An export's name.
    pub const SERVER: Self = Self(2);
    /// What an export is like.
    pub const INFO: Self = Self(3);
    /// A metadata context.
    pub const META_CONTEXT: Self = Self(4);
    /// The server does not know the option.
    pub const ERR_UNSUP: Self = Self(Self::ERROR | 1);
    /// The server does not want it.
    pub const ERR_POLICY: Self = Self(Self::ERROR | 2);
    /// It makes no sense, or not now.
    pub const ERR_INVALID: Self = Self(Self::ERROR | 3);
    /// This server cannot.
    pub const ERR_PLATFORM: Self = Self(Self::ERROR | 4);
    /// Not without encryption.
    pub const ERR_TLS_REQD: Self = Self(Self::ERROR | 5);
    /// No such export.
    pub const ERR_UNKNOWN: Self = Self(Self::ERROR | 6);
    /// The server is ending.
    pub const ERR_SHUTDOWN: Self = Self(Self::ERROR | 7);
    /// Not without asking for the block sizes.
    pub const ERR_BLOCK_SIZE_REQD: Self = Self(Self::ERROR | 8);
    /// The option is too large.
    pub const ERR_TOO_BIG: Self = Self(Self::ERROR | 9);
    /// Not with extended headers, or not without.
    pub const ERR_EXT_HEADER_REQD: Self = Self(Self::ERROR | 10);

    const ERROR: u32 = 1 << 31;

    /// Whether it is a refusal.
    pub fn is_error(self) -> bool {
        self.0 & Self::ERROR != 0
    }
}

/// What begins an option; `length_bytes` of payload follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHeader {
    /// What is asked for.
    pub code: OptionCode,
    /// Bytes that follow.
    pub length_bytes: u32,
}

impl OptionHeader {
    /// Reads a header.
    pub fn decode(bytes: &[u8; OPTION_HEADER_BYTES]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        if cursor.u64()? != OPTION_MAGIC {
            return Err(Malformed("an option does not begin with its magic"));
        }
        Ok(Self {
            code: OptionCode(cursor.u32()?),
            length_bytes: cursor.u32()?,
        })
    }

    /// An option with its payload.
    pub fn encode(code: OptionCode, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(OPTION_HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        bytes.extend_from_slice(&code.0.to_be_bytes());
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }
}

/// What begins the reply to an option; `length_bytes` of payload follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionReplyHeader {
    /// What was asked for.
    pub code: OptionCode,
    /// How it is answered.
    pub reply: ReplyType,
    /// Bytes that follow.
    pub length_bytes: u32,
}

impl OptionReplyHeader {
    /// Reads a header.
    pub fn decode(bytes: &[u8; OPTION_REPLY_HEADER_BYTES]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        if cursor.u64()? != REPLY_MAGIC {
            return Err(Malformed("an option's reply does not begin with its magic"));
        }
        Ok(Self {
            code: OptionCode(cursor.u32()?),
            reply: ReplyType(cursor.u32()?),
            length_bytes: cursor.u32()?,
        })
    }

    /// Appends a reply with its payload.
    pub fn encode(into: &mut impl Sink, code: OptionCode, reply: ReplyType, payload: &[u8]) {
        into.put(&REPLY_MAGIC.to_be_bytes());
        into.put(&code.0.to_be_bytes());
        into.put(&reply.0.to_be_bytes());
        into.put(&(payload.len() as u32).to_be_bytes());
        into.put(payload);
    }
}

/// The payload of INFO and GO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest<'b> {
    /// The export.
    pub name: &'b str,
    /// What the client wants to know of it.
    pub infos: Vec<InfoType>,
}

impl<'b> ExportRequest<'b> {
    /// Reads the payload.
    pub fn decode(payload: &'b [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let name = cursor.string()?;
        let count = cursor.u16()?;
        let mut infos = Vec::new();
        for _ in 0..count {
            infos.push(InfoType(cursor.u16()?));
        }
        cursor.end()?;
        Ok(Self { name, infos })
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        debug_assert!(self.name.len() <= MAX_STRING_BYTES);
        let mut bytes = Vec::with_capacity(6 + self.name.len() + 2 * self.infos.len());
        bytes.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.extend_from_slice(&(self.infos.len() as u16).to_be_bytes());
        for info in &self.infos {
            bytes.extend_from_slice(&info.0.to_be_bytes());
        }
        bytes
    }

    /// The payload of EXPORT_NAME: the name and nothing else.
    pub fn decode_bare_name(payload: &'b [u8]) -> Result<&'b str, Malformed> {
        text(payload)
    }
}

/// The reply to EXPORT_NAME, which has no header. 124 zeros follow unless both sides agreed that
/// they do not.
pub fn encode_export_name_reply(
    size_bytes: u64,
    flags: TransmissionFlags,
) -> [u8; EXPORT_NAME_REPLY_BYTES] {
    let mut bytes = [0; EXPORT_NAME_REPLY_BYTES];
    bytes[..8].copy_from_slice(&size_bytes.to_be_bytes());
    bytes[8..].copy_from_slice(&flags.bits().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_read_as_it_was_written() {
        let bytes = OptionHeader::encode(OptionCode::GO, b"abc");
        let header = OptionHeader::decode(bytes.first_chunk().unwrap()).unwrap();
        assert_eq!((header.code, header.length_bytes), (OptionCode::GO, 3));
        assert_eq!(&bytes[OPTION_HEADER_BYTES..], b"abc");
        assert!(OptionHeader::decode(&[0; OPTION_HEADER_BYTES]).is_err());
    }

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        OptionReplyHeader::encode(&mut bytes, OptionCode::LIST, ReplyType::ERR_POLICY, b"no");
        let header = OptionReplyHeader::decode(bytes.first_chunk().unwrap()).unwrap();
        assert_eq!(header.reply, ReplyType::ERR_POLICY);
        assert!(header.reply.is_error() && !ReplyType::ACK.is_error());
        assert_eq!(header.length_bytes, 2);
    }

    #[test]
    fn an_export_request_is_read_as_it_was_written() {
        let request = ExportRequest {
            name: "disk",
            infos: vec![InfoType::BLOCK_SIZE, InfoType(77)],
        };
        let bytes = request.encode();
        assert_eq!(ExportRequest::decode(&bytes), Ok(request));
        for cut in 0..bytes.len() {
            assert!(ExportRequest::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        assert!(ExportRequest::decode(&[bytes, vec![0]].concat()).is_err());
    }
}
