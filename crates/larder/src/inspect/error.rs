//! Why a cache directory cannot be looked at: a sentence about the directory. Whoever prints it puts the directory's path before it.

use std::fmt;
use std::io;

use crate::persist::open_error::OpenError;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InspectErrorKind {
    /// The directory is not that of a cache.
    NoCache,
    /// A start would refuse it: something is missing, damaged, another cache's or of a newer format.
    Refused,
    /// The system failed or refused.
    System,
}

/// Why a cache directory cannot be looked at.
#[derive(Debug)]
pub struct InspectError {
    kind: InspectErrorKind,
    message: String,
    source: Option<io::Error>,
}

impl InspectError {
    /// What kind it is.
    pub fn kind(&self) -> InspectErrorKind {
        self.kind
    }

    /// It is something else, for this reason.
    pub(super) fn no_cache(reason: &str) -> Self {
        Self {
            kind: InspectErrorKind::NoCache,
            message: format!("{reason}: give the directory that was given as cache-dir"),
            source: None,
        }
    }

    /// Somebody makes a cache there just now.
    pub(super) fn unfinished(user: &str) -> Self {
        Self {
            kind: InspectErrorKind::NoCache,
            message: format!("its cache is being made ({user}): look again in a moment"),
            source: None,
        }
    }
}

impl From<OpenError> for InspectError {
    fn from(error: OpenError) -> Self {
        match error {
            // Only read: nobody needs to be told that it must be writable.
            OpenError::Io { file, doing, error } => Self {
                kind: InspectErrorKind::System,
                message: match error.kind() {
                    io::ErrorKind::PermissionDenied => format!(
                        "{file} cannot be {doing}: {error}: it must be readable for this process"
                    ),
                    _ => format!("{file} cannot be {doing}: {error}"),
                },
                source: Some(error),
            },
            other => Self {
                kind: InspectErrorKind::Refused,
                message: other.to_string(),
                source: None,
            },
        }
    }
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InspectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
