//! Where a call into a double may be stopped, and who decides for how long.

use std::sync::{Arc, PoisonError, RwLock};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
    /// Zero.
    Zero,
    /// Trim.
    Trim,
    /// Block status.
    Extents,
    /// Making room in the cache file.
    Allocate,
    /// Making what was written to the cache file durable.
    Sync,
}

impl Kind {
    /// Whether it changes bytes.
    pub fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Zero | Self::Trim)
    }
}

/// Which double was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The origin.
    Origin,
    /// The cache file.
    CacheFile,
}

/// Where in the call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nothing has happened yet.
    Before,
    /// It has happened, and the caller does not know yet.
    After,
    /// The origin counts it as acknowledged, and the caller does not know yet.
    Acknowledged,
}

/// A place where a call may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stop {
    /// Which double.
    pub side: Side,
    /// The origin connection's number; 0 for the cache file.
    pub connection: u64,
    /// What the call does.
    pub kind: Kind,
    /// In bytes.
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    /// Before or after the effect.
    pub phase: Phase,
}

impl Stop {
    /// Whether the call is the origin's.
    pub fn is_origin(&self, kind: Kind, phase: Phase) -> bool {
        self.side == Side::Origin && self.kind == kind && self.phase == phase
    }

    /// Whether the call's range meets the other.
    pub fn meets(&self, offset: u64, length: u64) -> bool {
        self.offset < offset + length && offset < self.offset + self.length
    }
}

/// Stops calls: returns when the call may go on.
pub trait Pace: Send + Sync {
    /// Called by every call at every stop.
    fn stop(&self, stop: &Stop);
}

/// The pace that the doubles of one test share; nothing is stopped until somebody sets one.
#[derive(Clone, Default)]
pub struct SharedPace {
    pace: Arc<RwLock<Option<Arc<dyn Pace>>>>,
}

impl SharedPace {
    /// From here on, `pace` stops calls.
    pub fn set(&self, pace: Arc<dyn Pace>) {
        *self.pace.write().unwrap_or_else(PoisonError::into_inner) = Some(pace);
    }

    /// Stops the call where somebody wants it.
    pub fn stop(&self, stop: &Stop) {
        let pace = self
            .pace
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(pace) = pace {
            pace.stop(stop);
        }
    }
}
