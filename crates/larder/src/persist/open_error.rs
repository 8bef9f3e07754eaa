//! Why a cache directory cannot be opened, written or closed: a sentence about the directory that says what was found, and what would be
//! right. Whoever prints it puts the directory's path before it.

use std::borrow::Cow;
use std::fmt;
use std::io;

use super::header::Role;
use super::queue_log;
use super::refusal::{Finding, Refusal};

/// What stands for the file's name where it is about the directory itself.
pub(crate) const THE_DIRECTORY: &str = "the directory";

/// What is said of a file whose sync failed.
pub(super) const SYNCED: &str = "synced";

/// What went wrong with a cache directory.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// A file is not as it must be. Nothing was written.
    Refusal(Refusal),
    /// Somebody else has it open.
    InUse {
        /// What the lock file says: one line, or nothing.
        by: String,
    },
    /// It holds something else than a cache.
    Foreign { name: String },
    /// The system refused something.
    Io {
        /// A file's name, or [`THE_DIRECTORY`].
        file: String,
        /// As in "cannot be written".
        doing: &'static str,
        error: io::Error,
    },
    /// The cache has blocks of another size than was asked for, both in bytes.
    BlockSize { found: u64, wanted: u64 },
    /// No cache directory can have blocks of that size, in bytes.
    ImpossibleBlock {
        wanted: u64,
        smallest: u64,
        largest: u64,
    },
    /// The limit on the directory's size is below what it needs, both in bytes.
    TooSmall { wanted: u64, needed: u64 },
    /// Its journal failed before, so what is in memory may be more than a start could ever find.
    JournalFailed(String),
    /// The file of slots is somebody's already.
    SlotsTaken,
}

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenErrorKind {
    /// Something that was asked for must be asked for differently.
    Asked,
    /// What is in the directory must be looked at first.
    Found,
    /// The system failed or refused.
    System,
}

impl OpenError {
    /// For `map_err`: the system refused to do that with a file.
    pub(super) fn io(file: &str, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            file: file.to_owned(),
            doing,
            error,
        }
    }

    /// A file is not as it must be.
    pub(super) fn of_file(file: impl Into<Cow<'static, str>>, finding: impl Into<Finding>) -> Self {
        Self::Refusal(Refusal {
            file: file.into(),
            finding: finding.into(),
        })
    }

    /// Whether a volume's queue is missing or damaged: that volume can be given up, and the directory is of use again. One of a newer format is neither.
    pub(crate) fn is_of_queue(&self) -> bool {
        let is_of_queue = |refusal: &Refusal| queue_log::volume_of(&refusal.file).is_some();
        matches!(self, Self::Refusal(refusal) if is_of_queue(refusal) && !matches!(refusal.finding, Finding::Newer(_)))
    }

    /// Whether the system has failed at the slots.
    pub(crate) fn is_of_slots(&self) -> bool {
        matches!(self, Self::Io { file, .. } if file == Role::Slots.file_name())
    }

    /// What kind of error it is.
    pub(crate) fn kind(&self) -> OpenErrorKind {
        match self {
            Self::InUse { .. } | Self::Io { .. } | Self::JournalFailed(_) | Self::SlotsTaken => {
                OpenErrorKind::System
            }
            Self::Foreign { .. }
            | Self::BlockSize { .. }
            | Self::ImpossibleBlock { .. }
            | Self::TooSmall { .. } => OpenErrorKind::Asked,
            Self::Refusal(_) => OpenErrorKind::Found,
        }
    }
}

impl From<Refusal> for OpenError {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refusal(refusal) => refusal.fmt(f),
            Self::InUse { by } if by.is_empty() => f.write_str(
                "it is in use: only one process at a time can have a cache directory open",
            ),
            Self::InUse { by } => write!(
                f,
                "it is in use ({by}): only one process at a time can have a cache directory open"
            ),
            Self::Foreign { name } => write!(
                f,
                "it holds {name:?}, which is no file of a Larder cache: give an empty directory or that of a cache"
            ),
            Self::Io { file, doing, error } => {
                write!(f, "{file} cannot be {doing}: {error}{}", advice(error))
            }
            Self::BlockSize { found, wanted } => write!(
                f,
                "its cache has blocks of {found} bytes, and {wanted} were asked for: ask for {found} or for none, or give an empty directory"
            ),
            Self::ImpossibleBlock {
                wanted,
                smallest,
                largest,
            } => write!(
                f,
                "it cannot have blocks of {wanted} bytes: with a cache directory they have a power of two from {smallest} to {largest}"
            ),
            Self::TooSmall { wanted, needed } => write!(
                f,
                "a limit of {wanted} bytes is too small for it: it needs at least {needed}"
            ),
            Self::JournalFailed(why) => write!(
                f,
                "its journal failed ({why}), so it is left as after a crash: the next start recovers what had been written"
            ),
            Self::SlotsTaken => f.write_str("its slots are in use by this process already"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// What would be right, where the error itself does not say it.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": make room on its file system, or give a smaller limit"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ": a cache directory must be on a file system that can be written to"
        }
        io::ErrorKind::PermissionDenied => {
            ": the directory and its files must be readable and writable for this process"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn of_system(errno: Errno) -> String {
        OpenError::io("journal", "written")(errno.into()).to_string()
    }

    #[test]
    fn an_error_says_what_would_be_right() {
        assert_eq!(
            of_system(Errno::NOSPC),
            "journal cannot be written: No space left on device (os error 28): make room on its file system, or give a smaller limit"
        );
        assert!(of_system(Errno::ROFS).ends_with("that can be written to"));
        assert!(of_system(Errno::ACCESS).ends_with("for this process"));
        assert_eq!(
            of_system(Errno::IO),
            "journal cannot be written: Input/output error (os error 5)"
        );
        let by = String::from("pid 7 started 12:00");
        let in_use = OpenError::InUse { by };
        assert!(
            in_use
                .to_string()
                .starts_with("it is in use (pid 7 started 12:00): only")
        );
        assert_eq!(in_use.kind(), OpenErrorKind::System);
        let missing = OpenError::of_file("map", Finding::Missing);
        assert_eq!(
            missing.to_string(),
            "map is missing: put it back, the cache is of no use without it"
        );
        assert_eq!(missing.kind(), OpenErrorKind::Found);
        let other = OpenError::BlockSize {
            found: 4096,
            wanted: 65536,
        };
        assert!(other.to_string().contains("ask for 4096 or for none"));
    }
}
