//! Who is measured.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// A bare server that copies between memory and its socket, and does nothing else.
    Ceiling,
    /// `larder serve`.
    Serve,
    /// nbdkit without a cache. Where the disk is slow, this is the origin asked directly.
    Bare,
    /// nbdkit with its own cache filter.
    Stock,
    /// nbdkit with Larder's filter.
    Filter,
}

impl fmt::Display for Contender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Ceiling => "ceiling",
            Self::Serve => "larder serve",
            Self::Bare => "bare nbdkit",
            Self::Stock => "C filter",
            Self::Filter => "Larder's filter",
        })
    }
}
