//! What a layer can do, as types: no number that nbdkit would refuse can be made from them.

use crate::error::{Error, Result};
use crate::raw;

/// How a layer makes one request durable (FUA, force unit access).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fua {
    /// Not at all; the flag must not be passed.
    #[default]
    None,
    /// By a flush after the request: cheaper done once for many requests.
    Emulate,
    /// Per request.
    Native,
}

/// How a layer zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zero {
    /// Not at all: the request is not offered.
    #[default]
    None,
    /// By writing zeros. Returned by a filter it means that nbdkit calls `pwrite` and never `zero`.
    Emulate,
    /// By a request of its own.
    Native,
}

/// How a layer answers a request to fetch without returning data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Not at all: the request is not offered.
    #[default]
    None,
    /// By reading. Returned by a filter it means that nbdkit calls `pread` and never `cache`.
    Emulate,
    /// By a request of its own.
    Native,
}

/// What the next layer can do on one connection. Asked once, before `prepare`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Writes are accepted. If not, `trim`, `zero`, `fast_zero` and `fua` are off as well.
    pub write: bool,
    /// `flush` may be called.
    pub flush: bool,
    /// The medium rotates.
    pub rotational: bool,
    /// `trim` may be called.
    pub trim: bool,
    /// `zero` may be called unless this is [`Zero::None`].
    pub zero: Zero,
    /// [`ZeroOptions::fast`] may be set.
    pub fast_zero: bool,
    /// `extents` may be called.
    pub extents: bool,
    /// The `fua` argument of requests may be true unless this is [`Fua::None`].
    pub fua: Fua,
    /// A flush on one connection covers what any connection had acknowledged.
    pub multi_conn: bool,
    /// `cache` may be called unless this is [`Cache::None`].
    pub cache: Cache,
}

/// How a range is to be zeroed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroOptions {
    /// A hole will do.
    pub may_trim: bool,
    /// Durable on return.
    pub fua: bool,
    /// Fail with ENOTSUP rather than be as slow as writing.
    pub fast: bool,
}

impl ZeroOptions {
    pub(crate) fn from_raw(flags: u32) -> Self {
        Self {
            may_trim: flags & raw::FLAG_MAY_TRIM != 0,
            fua: flags & raw::FLAG_FUA != 0,
            fast: flags & raw::FLAG_FAST_ZERO != 0,
        }
    }

    pub(crate) fn to_raw(self) -> u32 {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        flag(self.may_trim, raw::FLAG_MAY_TRIM)
            | flag(self.fua, raw::FLAG_FUA)
            | flag(self.fast, raw::FLAG_FAST_ZERO)
    }
}

/// Block size constraints, in bytes (NBD protocol, "Block size constraints").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// Offsets and lengths are multiples of it. A power of two, at most 64 KiB.
    pub minimum: u32,
    /// What the layer likes best. A power of two, at least `minimum`.
    pub preferred: u32,
    /// No read or write is longer. `u32::MAX` for no limit, else a multiple of `minimum` and at
    /// least `preferred`.
    pub maximum: u32,
}

impl BlockSize {
    const LARGEST_MINIMUM_BYTES: u32 = 65536;

    /// Says what is wrong with it, if anything.
    pub fn check(self) -> Result<()> {
        let Self {
            minimum,
            preferred,
            maximum,
        } = self;
        let fault = if !minimum.is_power_of_two() || minimum > Self::LARGEST_MINIMUM_BYTES {
            "the minimum must be a power of two and at most 64K"
        } else if !preferred.is_power_of_two() || preferred < minimum {
            "the preferred size must be a power of two and at least the minimum"
        } else if maximum < preferred {
            "the maximum must be at least the preferred size"
        } else if maximum != u32::MAX && maximum % minimum != 0 {
            "the maximum must be a multiple of the minimum"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!(
            "block size {minimum}/{preferred}/{maximum}: {fault}"
        )))
    }
}

/// How far nbdkit runs callbacks in parallel, from the most serialised to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadModel {
    /// One connection at a time.
    SerializeConnections,
    /// One request at a time over all connections.
    SerializeAllRequests,
    /// One request at a time on each connection.
    SerializeRequests,
    /// Any number of requests on any number of connections.
    Parallel,
}

impl ThreadModel {
    pub(crate) fn from_raw(model: i32) -> Option<Self> {
        Some(match model {
            0 => Self::SerializeConnections,
            1 => Self::SerializeAllRequests,
            2 => Self::SerializeRequests,
            3 => Self::Parallel,
            _ => return None,
        })
    }

    pub(crate) fn to_raw(self) -> i32 {
        self as i32
    }
}

/// Turns an enumeration into nbdkit's numbers 0, 1, 2 and back.
macro_rules! three_values {
    ($type:ident) => {
        impl $type {
            pub(crate) fn from_raw(value: i32) -> Self {
                match value {
                    1 => Self::Emulate,
                    2 => Self::Native,
                    _ => Self::None,
                }
            }

            pub(crate) fn to_raw(self) -> i32 {
                self as i32
            }
        }
    };
}

three_values!(Fua);
three_values!(Zero);
three_values!(Cache);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_header() {
        for number in 0..3 {
            assert_eq!(Fua::from_raw(number).to_raw(), number);
            assert_eq!(Zero::from_raw(number).to_raw(), number);
            assert_eq!(Cache::from_raw(number).to_raw(), number);
        }
        for number in 0..4 {
            assert_eq!(
                ThreadModel::from_raw(number).map(ThreadModel::to_raw),
                Some(number)
            );
        }
        assert_eq!(ThreadModel::from_raw(4), None);
        assert!(ThreadModel::SerializeConnections < ThreadModel::Parallel);
    }

    #[test]
    fn zero_options_round_trip() {
        for flags in [0, 1, 2, 8, 11] {
            assert_eq!(ZeroOptions::from_raw(flags).to_raw(), flags);
        }
    }

    #[test]
    fn block_sizes_are_checked() {
        let check = |minimum, preferred, maximum| {
            BlockSize {
                minimum,
                preferred,
                maximum,
            }
            .check()
            .is_ok()
        };
        assert!(check(1, 65536, u32::MAX));
        assert!(check(512, 4096, 1 << 20));
        assert!(!check(0, 4096, u32::MAX));
        assert!(!check(3, 4096, u32::MAX));
        assert!(!check(131_072, 131_072, u32::MAX));
        assert!(!check(4096, 512, u32::MAX));
        assert!(!check(512, 4096, 4097));
        assert!(!check(512, 4096, 1024));
    }
}
