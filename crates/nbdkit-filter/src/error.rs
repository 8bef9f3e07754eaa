//! What a callback fails with: an errno for the client and, where nobody has told it yet, a
//! message for the log.
//!
//! Invariant: the errno is positive. nbdkit aborts on a failure whose errno is 0, so 0 and
//! negative numbers become EIO when an error is made.

use std::fmt;
use std::io;

/// A failure, as nbdkit wants to hear of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    errno: i32,
    message: Option<Box<str>>,
}

/// What most of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure with its reason. The message goes to nbdkit's log when the callback returns it.
    pub fn new(errno: i32, message: impl Into<String>) -> Self {
        Self {
            errno: positive(errno),
            message: Some(message.into().into_boxed_str()),
        }
    }

    /// A failure in what the user asked for: EINVAL and the sentence that helps.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(libc::EINVAL, message)
    }

    /// A failure that has already been logged: what the next layer reports comes as this.
    pub fn from_errno(errno: i32) -> Self {
        Self {
            errno: positive(errno),
            message: None,
        }
    }

    /// The errno for the client, always positive.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What is still to be logged.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

fn positive(errno: i32) -> i32 {
    if errno > 0 { errno } else { libc::EIO }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => f.write_str(message),
            None => io::Error::from_raw_os_error(self.errno).fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// Without an OS error number inside it counts as EIO.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::new(error.raw_os_error().unwrap_or(libc::EIO), error.to_string())
    }
}

/// Keeps the errno, which is what travels to a client; the message is lost.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::from_raw_os_error(error.errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_is_never_zero_or_negative() {
        assert_eq!(Error::from_errno(0).errno(), libc::EIO);
        assert_eq!(Error::new(-5, "x").errno(), libc::EIO);
        assert_eq!(Error::new(libc::ENOSPC, "x").errno(), libc::ENOSPC);
    }

    #[test]
    fn io_errors_keep_their_number() {
        let error = Error::from(io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(error.errno(), libc::ENOENT);
        assert!(error.message().is_some());
        assert_eq!(io::Error::from(error).raw_os_error(), Some(libc::ENOENT));
        assert_eq!(Error::from(io::Error::other("x")).errno(), libc::EIO);
    }
}
