//! The flag words.

use bitflags::bitflags;

bitflags! {
    /// What a server says of its handshake.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct HandshakeFlags: u16 {
        /// Unknown options are answered and not fatal.
        const FIXED_NEWSTYLE = 1;
        /// The 124 zeros after an export's flags can be left out.
        const NO_ZEROES = 2;
    }

    /// What a client says of its handshake.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ClientFlags: u32 {
        /// It knows that unknown options are answered.
        const FIXED_NEWSTYLE = 1;
        /// It wants no 124 zeros.
        const NO_ZEROES = 2;
    }

    /// What an export can do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TransmissionFlags: u16 {
        /// Always set.
        const HAS_FLAGS = 1;
        /// Nothing may be written.
        const READ_ONLY = 1 << 1;
        /// Flush.
        const SEND_FLUSH = 1 << 2;
        /// Force unit access.
        const SEND_FUA = 1 << 3;
        /// A spinning disk.
        const ROTATIONAL = 1 << 4;
        /// Trim.
        const SEND_TRIM = 1 << 5;
        /// Write zeroes.
        const SEND_WRITE_ZEROES = 1 << 6;
        /// Reads that must not be answered in pieces.
        const SEND_DF = 1 << 7;
        /// A flush on one connection covers all.
        const CAN_MULTI_CONN = 1 << 8;
        /// Resize, an experimental extension.
        const SEND_RESIZE = 1 << 9;
        /// Fetching ahead.
        const SEND_CACHE = 1 << 10;
        /// Zeroing that fails where it would be slow.
        const SEND_FAST_ZERO = 1 << 11;
        /// Block status of chosen contexts.
        const BLOCK_STATUS_PAYLOAD = 1 << 12;
    }

    /// How a request is to be done.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CommandFlags: u16 {
        /// Durable before it is answered.
        const FUA = 1;
        /// Zeroes without a hole.
        const NO_HOLE = 1 << 1;
        /// One piece or an error.
        const DF = 1 << 2;
        /// One extent a context.
        const REQ_ONE = 1 << 3;
        /// Not supported rather than slow.
        const FAST_ZERO = 1 << 4;
        /// The length is that of a payload that follows (extended headers).
        const PAYLOAD_LEN = 1 << 5;
    }

    /// What is special about a chunk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ChunkFlags: u16 {
        /// It is the reply's last.
        const DONE = 1;
    }
}
