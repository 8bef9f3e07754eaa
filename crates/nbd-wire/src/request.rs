//! Requests of the transmission phase.

use crate::{CommandFlags, Cursor, Malformed, Sink};

const COMPACT_MAGIC: u32 = 0x2560_9513;
const EXTENDED_MAGIC: u32 = 0x21e4_1c71;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command(pub u16);

impl Command {
    /// Data.
    pub const READ: Self = Self(0);
    /// Data, which follows.
    pub const WRITE: Self = Self(1);
    /// The end. Not answered.
    pub const DISCONNECT: Self = Self(2);
    /// Durability of what was answered.
    pub const FLUSH: Self = Self(3);
    /// The range is not wanted any more.
    pub const TRIM: Self = Self(4);
    /// The range will be wanted soon.
    pub const CACHE: Self = Self(5);
    /// Zeros.
    pub const WRITE_ZEROES: Self = Self(6);
    /// The status of a range.
    pub const BLOCK_STATUS: Self = Self(7);
}

/// How long requests and replies are, as agreed in the handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestFormat {
    /// Lengths of 32 bits.
    #[default]
    Compact,
    /// Lengths of 64 bits, with replies to match.
    Extended,
}

impl RequestFormat {
    /// Bytes of a request's header.
    pub const fn header_bytes(self) -> usize {
        match self {
            Self::Compact => 28,
            Self::Extended => 32,
        }
    }
}

/// A request's header. Where it is a write, or has [`CommandFlags::PAYLOAD_LEN`], `length_bytes` of
/// payload follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How.
    pub flags: CommandFlags,
    /// What.
    pub command: Command,
    /// Whatever the client likes; the reply has it too.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub length_bytes: u64,
}

impl Request {
    /// Reads a header. `bytes` are exactly as many as the format has.
    pub fn decode(bytes: &[u8], format: RequestFormat) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let magic = match format {
            RequestFormat::Compact => COMPACT_MAGIC,
            RequestFormat::Extended => EXTENDED_MAGIC,
        };
        if cursor.u32()? != magic {
            return Err(Malformed("a request does not begin with its magic"));
        }
        let request = Self {
            flags: CommandFlags::from_bits_retain(cursor.u16()?),
            command: Command(cursor.u16()?),
            cookie: cursor.u64()?,
            offset: cursor.u64()?,
            length_bytes: match format {
                RequestFormat::Compact => cursor.u32()?.into(),
                RequestFormat::Extended => cursor.u64()?,
            },
        };
        cursor.end()?;
        Ok(request)
    }

    /// Appends the header. In the compact format the length is below 4 GiB.
    pub fn encode(&self, into: &mut impl Sink, format: RequestFormat) {
        let magic = match format {
            RequestFormat::Compact => COMPACT_MAGIC,
            RequestFormat::Extended => EXTENDED_MAGIC,
        };
        into.put(&magic.to_be_bytes());
        into.put(&self.flags.bits().to_be_bytes());
        into.put(&self.command.0.to_be_bytes());
        into.put(&self.cookie.to_be_bytes());
        into.put(&self.offset.to_be_bytes());
        match format {
            RequestFormat::Compact => {
                debug_assert!(u32::try_from(self.length_bytes).is_ok());
                into.put(&(self.length_bytes as u32).to_be_bytes());
            }
            RequestFormat::Extended => into.put(&self.length_bytes.to_be_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = Request {
            flags: CommandFlags::FUA | CommandFlags::from_bits_retain(1 << 15),
            command: Command::WRITE,
            cookie: 0x0123_4567_89ab_cdef,
            offset: 1 << 50,
            length_bytes: 77,
        };
        for format in [RequestFormat::Compact, RequestFormat::Extended] {
            let mut bytes = Vec::new();
            request.encode(&mut bytes, format);
            assert_eq!(bytes.len(), format.header_bytes());
            assert_eq!(Request::decode(&bytes, format), Ok(request));
            bytes[0] ^= 1;
            assert!(Request::decode(&bytes, format).is_err());
        }
    }

    #[test]
    fn one_format_is_not_the_other() {
        let mut bytes = Vec::new();
        let request = Request {
            flags: CommandFlags::empty(),
            command: Command::READ,
            cookie: 1,
            offset: 2,
            length_bytes: 3,
        };
        request.encode(&mut bytes, RequestFormat::Extended);
        assert!(Request::decode(&bytes[..28], RequestFormat::Compact).is_err());
    }
}
