//! What can go wrong: a kind, the context, and the source. One place maps it to errno.

use std::fmt;
use std::io;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The origin refused a request.
    Origin,
    /// The cache file refused, and the origin could not stand in for it.
    CacheFile,
    /// The request needs something that the mode or the origin does not have.
    NotSupported,
    /// A change through a read-only connection.
    ReadOnly,
    /// A range past the end of the volume.
    OutOfRange,
    /// The configuration breaks a rule.
    Config,
    /// A panic in the engine; the volume answers nothing any more.
    Poisoned,
}

/// An error with its context and source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<io::Error>,
}

impl Error {
    /// An error without an OS error behind it.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            source: None,
        }
    }

    /// An error that an OS error caused.
    pub fn with_source(kind: ErrorKind, context: impl Into<String>, source: io::Error) -> Self {
        Self {
            kind,
            context: context.into(),
            source: Some(source),
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno that a client gets: the source's where there is one, never 0.
    pub fn errno(&self) -> i32 {
        let source = self.source.as_ref().and_then(io::Error::raw_os_error);
        let own = match self.kind {
            ErrorKind::Origin | ErrorKind::CacheFile | ErrorKind::Poisoned => rustix::io::Errno::IO,
            ErrorKind::NotSupported => rustix::io::Errno::NOTSUP,
            ErrorKind::ReadOnly => rustix::io::Errno::ROFS,
            ErrorKind::OutOfRange | ErrorKind::Config => rustix::io::Errno::INVAL,
        };
        match source {
            // A full cache disk is never the client's error.
            Some(errno) if self.kind == ErrorKind::Origin && errno > 0 => errno,
            _ => own.raw_os_error(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
