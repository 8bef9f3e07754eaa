//! Why a cache directory cannot be drained: a sentence about the directory, or about a volume of it. Whoever prints it puts the
//! directory's path before it.

use std::fmt;
use std::io;

use crate::inspect::{InspectError, InspectErrorKind};
use crate::persist::journal::CommitError;
use crate::persist::open_error::OpenError;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainErrorKind {
    /// The directory is not that of a cache.
    NoCache,
    /// Somebody has it open.
    InUse,
    /// A start would refuse it: something is missing, damaged, another cache's or of a newer format.
    Refused,
    /// So would a start, because of a volume's queue: without that volume it would not.
    Queue,
    /// What was asked for cannot be.
    Asked,
    /// The origin is not the one that was cached, as far as can be told.
    OtherOrigin,
    /// The operator gave the cache a name for the origin, and none by which to tell that this is it.
    UnnamedOrigin,
    /// The origin cannot take what there is for it.
    Origin,
    /// The system failed or refused.
    System,
}

/// Why a cache directory cannot be drained.
#[derive(Debug)]
pub struct DrainError {
    kind: DrainErrorKind,
    message: String,
    source: Option<io::Error>,
}

impl DrainError {
    /// What kind it is.
    pub fn kind(&self) -> DrainErrorKind {
        self.kind
    }

    pub(super) fn new(kind: DrainErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            source: None,
        }
    }

    pub(super) fn asked(message: String) -> Self {
        Self::new(DrainErrorKind::Asked, message)
    }

    /// With an error of the system that its message ends with.
    pub(super) fn with_source(kind: DrainErrorKind, context: &str, error: io::Error) -> Self {
        Self {
            kind,
            message: format!("{context}: {error}"),
            source: Some(error),
        }
    }
}

impl From<InspectError> for DrainError {
    fn from(error: InspectError) -> Self {
        let kind = match error.kind() {
            InspectErrorKind::NoCache => DrainErrorKind::NoCache,
            InspectErrorKind::Refused => DrainErrorKind::Refused,
            InspectErrorKind::System => DrainErrorKind::System,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<OpenError> for DrainError {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        if error.is_of_queue() {
            return Self::new(DrainErrorKind::Queue, message);
        }
        match error {
            OpenError::InUse { .. } => Self::new(DrainErrorKind::InUse, message),
            OpenError::Io { error, .. } => Self {
                kind: DrainErrorKind::System,
                message,
                source: Some(error),
            },
            OpenError::JournalFailed(_) | OpenError::SlotsTaken => {
                Self::new(DrainErrorKind::System, message)
            }
            OpenError::Refusal(_)
            | OpenError::Foreign { .. }
            | OpenError::BlockSize { .. }
            | OpenError::ImpossibleBlock { .. }
            | OpenError::TooSmall { .. } => Self::new(DrainErrorKind::Refused, message),
        }
    }
}

impl From<CommitError> for DrainError {
    fn from(error: CommitError) -> Self {
        Self::new(DrainErrorKind::System, error.to_string())
    }
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
