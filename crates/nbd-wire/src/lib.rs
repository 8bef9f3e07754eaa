//! The messages of the NBD protocol, as a server and as a client need them, without sockets.
//!
//! Everything is decoded from byte slices that the caller has received and encoded into bytes that
//! the caller sends. Nothing here allocates more than what the caller has already received. The facts
//! are those of the protocol document, <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>.

mod chunk;
mod cursor;
mod error_code;
mod flags;
mod info;
mod meta;
mod option;
mod request;
mod sink;

pub use chunk::{
    Chunk, ChunkHeader, ChunkType, Descriptor, SIMPLE_REPLY_BYTES, SIMPLE_REPLY_MAGIC, SimpleReply,
};
pub use cursor::{Cursor, Malformed};
pub use error_code::ErrorCode;
pub use flags::{ChunkFlags, ClientFlags, CommandFlags, HandshakeFlags, TransmissionFlags};
pub use info::{Info, InfoType};
pub use meta::{BASE_ALLOCATION, MetaContext, MetaRequest, StatusFlags};
pub use option::{
    EXPORT_NAME_REPLY_BYTES, ExportRequest, OPTION_HEADER_BYTES, OPTION_REPLY_HEADER_BYTES,
    OptionCode, OptionHeader, OptionReplyHeader, ReplyType, encode_export_name_reply,
};
pub use request::{Command, Request, RequestFormat};
pub use sink::Sink;

/// What a server says first: "NBDMAGIC".
pub const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// What a server says second, and what begins each option: "IHAVEOPT".
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// The longest name or other string, in bytes.
pub const MAX_STRING_BYTES: usize = 4096;
/// The longest payload that every peer takes, in bytes.
pub const MAX_PAYLOAD_BYTES: u32 = 32 << 20;
/// The port of `nbd://` where none is named.
pub const DEFAULT_PORT: u16 = 10809;
