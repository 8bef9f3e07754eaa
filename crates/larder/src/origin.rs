//! The origin: what is being cached, seen through one connection to it.
//!
//! The engine calls an origin from several threads at once only if [`Capabilities::parallel`] is
//! true. It never calls an operation that the capabilities deny, never goes past
//! [`Origin::size`], and keeps reads and writes within [`RequestLimits`].

use std::io;

/// How an origin makes one request durable (FUA, force unit access).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fua {
    /// Not at all: a flush is the only way, if there is one.
    #[default]
    None,
    /// By flushing after the request: cheaper done once for many requests.
    Emulated,
    /// Per request.
    Native,
}

/// What a connection to an origin can do. Asked once, when the connection is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Writes are accepted. Without it, nothing that changes the origin is ever called.
    pub write: bool,
    /// [`Origin::flush`] makes durable what was acknowledged.
    pub flush: bool,
    /// [`Origin::flush`] may be called also where it makes nothing durable: it tells of a lost connection.
    pub tells_losses: bool,
    /// What the `fua` argument of write, zero and trim may be.
    pub fua: Fua,
    /// [`Origin::trim`] exists.
    pub trim: bool,
    /// [`Origin::zero`] exists and costs less than writing zeros.
    pub zero: bool,
    /// The `fast` argument of [`Origin::zero`] may be true.
    pub fast_zero: bool,
    /// [`Origin::extents`] exists.
    pub extents: bool,
    /// A flush on one connection makes durable what any connection had acknowledged
    /// (NBD_FLAG_CAN_MULTI_CONN).
    pub multi_conn: bool,
    /// Calls may come from several threads at once, and from threads other than the one that
    /// serves the client's request.
    pub parallel: bool,
}

impl Capabilities {
    /// Whether [`Origin::flush`] may be called.
    pub fn takes_flush(&self) -> bool {
        self.flush || self.tells_losses
    }
}

/// Whether nothing of use was heard of a request in its time. What has an errno was said by somebody.
pub(crate) fn is_silence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none()
}

/// The sizes, in bytes, that an origin's reads and writes keep to (NBD's block size constraints).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Offsets and lengths are multiples of it, except at the end of the origin. A power of two.
    pub minimum: u32,
    /// What the origin likes best. A power of two.
    pub preferred: u32,
    /// No read or write is longer. A multiple of `minimum`.
    pub maximum: u32,
}

impl RequestLimits {
    /// The longest request when an origin names no maximum: 32 MiB, as the NBD protocol advises.
    pub const DEFAULT_MAXIMUM_BYTES: u32 = 32 << 20;
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            minimum: 1,
            preferred: 4096,
            maximum: Self::DEFAULT_MAXIMUM_BYTES,
        }
    }
}

/// A run of bytes with one status (NBD's base:allocation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Length in bytes, never 0.
    pub length: u64,
    /// Not allocated.
    pub hole: bool,
    /// Reads as zeros.
    pub zero: bool,
}

/// A version of an origin's content, in bytes that people can read if possible: messages show them. Each part has at most 4096 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginVersion {
    /// What stays while the origin is written to, and differs from that of another origin.
    pub stable: Vec<u8>,
    /// What differs after each change of the content.
    pub changing: Vec<u8>,
}

/// One connection to an origin. Errors are OS errors whose `raw_os_error` reaches the client;
/// one without counts as EIO. One without and of the kind [`io::ErrorKind::TimedOut`] says that no answer of use came in the
/// time that is waited for one.
///
/// `zero`, `trim` and `extents` are given at most [`MAX_RANGE_BYTES`] at once.
pub trait Origin: Send + Sync {
    /// Size in bytes, the same for the life of the connection.
    fn size(&self) -> u64;

    /// What this connection can do, the same for the life of the connection.
    fn capabilities(&self) -> Capabilities;

    /// What reads and writes keep to, the same for the life of the connection.
    fn limits(&self) -> RequestLimits;

    /// Fills `buffer` from `offset`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `data` at `offset`; with `fua` it is durable on return.
    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()>;

    /// Makes durable what this connection had acknowledged, as far as the origin can.
    ///
    /// If the way to the origin was lost and found again, what any connection had acknowledged since its last flush may be
    /// gone. Then the next flush of every connection that was open at the time, or its next request with `fua` where that
    /// is [`Fua::Emulated`], fails once with [`io::ErrorKind::ConnectionReset`]: the origin can be used again, and
    /// what is still wanted must be written again. Requests that were in flight are the origin's to repeat.
    fn flush(&self) -> io::Result<()>;

    /// Makes the range read as zeros; `may_trim` allows a hole. With `fast` it fails with ENOTSUP
    /// where it would cost as much as writing.
    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()>;

    /// Tells that the range's content is no longer wanted.
    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()>;

    /// What tells this content of the origin from others, as it is now; nothing where the origin cannot tell. Only asked for a
    /// cache that lives in a directory, when a connection begins and when the last one ends.
    fn version(&self) -> io::Result<Option<OriginVersion>> {
        Ok(None)
    }

    /// The status of the range from `offset` on: at least one extent, possibly covering less than
    /// `length` and never more. With `one`, the first suffices.
    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>>;
}

/// The longest range, in bytes, that one call of zero, trim or extents names: 2 GiB.
pub const MAX_RANGE_BYTES: u64 = 1 << 31;

/// How a range is to be zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroOptions {
    /// A hole will do.
    pub may_trim: bool,
    /// Durable on return.
    pub fua: bool,
    /// Fail with ENOTSUP rather than write zeros.
    pub fast: bool,
}
