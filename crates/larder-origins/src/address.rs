//! What a user calls an origin: `memory:1G`, a path, an NBD or HTTP address.

use std::fmt;
use std::path::PathBuf;

use crate::NbdAddress;

/// Where an origin is. Shown without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `memory:SIZE`: sparse memory of so many bytes.
    Memory(u64),
    /// A file or a block device.
    File(PathBuf),
    /// An NBD export.
    Nbd(NbdAddress),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "memory:{bytes}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Nbd(address) => write!(f, "{address}"),
        }
    }
}
