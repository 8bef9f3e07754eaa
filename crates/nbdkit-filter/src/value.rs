//! A parameter's value, and the ways to read it: nbdkit's own parsers, so that users may type
//! what they may type elsewhere in nbdkit.

use std::ffi::{CStr, CString, OsStr, OsString, c_uint};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::api;
use crate::error::{Error, Result};

/// What follows `key=` on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a>(&'a CStr);

impl<'a> Value<'a> {
    /// Wraps a string.
    pub fn new(text: &'a CStr) -> Self {
        Self(text)
    }

    /// The value as C sees it.
    pub fn as_c_str(self) -> &'a CStr {
        self.0
    }

    /// The value as bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0.to_bytes()
    }

    /// The value as text, an error if it is not UTF-8.
    pub fn text(self) -> Result<&'a str> {
        self.0.to_str().map_err(|_| {
            Error::invalid(format!(
                "\"{}\" is not valid UTF-8",
                self.0.to_string_lossy()
            ))
        })
    }

    /// The value as a path, as it stands.
    pub fn path(self) -> &'a Path {
        Path::new(OsStr::from_bytes(self.as_bytes()))
    }

    /// A size in bytes: a number with an optional unit, as nbdkit parses it.
    pub fn size(self) -> Result<u64> {
        // SAFETY: the string is alive.
        let size = unsafe { (api::need()?.parse_size)(self.0.as_ptr()) };
        u64::try_from(size).map_err(|_| parsed())
    }

    /// A boolean, as nbdkit parses it: `true`, `on`, `1` and so on.
    pub fn boolean(self) -> Result<bool> {
        // SAFETY: the string is alive.
        match unsafe { (api::need()?.parse_bool)(self.0.as_ptr()) } {
            -1 => Err(parsed()),
            value => Ok(value != 0),
        }
    }

    /// An unsigned number, as nbdkit parses it; `what` names it in the error message.
    pub fn unsigned(self, what: &str) -> Result<u32> {
        let what = CString::new(what).unwrap_or_default();
        let mut number: c_uint = 0;
        // SAFETY: both strings and the number are alive.
        let result =
            unsafe { (api::need()?.parse_unsigned)(what.as_ptr(), self.0.as_ptr(), &mut number) };
        if result == -1 {
            return Err(parsed());
        }
        Ok(number)
    }

    /// The path made absolute from the directory nbdkit was started in. nbdkit changes to `/` when
    /// it goes into the background, so do this in `config`.
    pub fn absolute_path(self) -> Result<PathBuf> {
        // SAFETY: the string is alive; nbdkit returns a string from malloc or NULL.
        let path = unsafe { api::take_string((api::need()?.absolute_path)(self.0.as_ptr())) };
        path.map(to_path)
    }

    /// The path of something that exists, absolute and without symbolic links.
    pub fn real_path(self) -> Result<PathBuf> {
        // SAFETY: as in `absolute_path`.
        let path = unsafe { api::take_string((api::need()?.real_path)(self.0.as_ptr())) };
        path.map(to_path)
    }
}

/// A size in bytes: a number with an optional unit, as nbdkit parses it.
pub fn parse_size(text: &str) -> Result<u64> {
    Value(&owned(text)?).size()
}

/// A boolean, as nbdkit parses it: `true`, `on`, `1` and so on.
pub fn parse_bool(text: &str) -> Result<bool> {
    Value(&owned(text)?).boolean()
}

/// An unsigned number, as nbdkit parses it; `what` names it in the error message.
pub fn parse_unsigned(what: &str, text: &str) -> Result<u32> {
    Value(&owned(text)?).unsigned(what)
}

fn owned(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(format!("{text:?} holds a NUL")))
}

fn to_path(path: CString) -> PathBuf {
    PathBuf::from(OsString::from_vec(path.into_bytes()))
}

/// nbdkit's parsers have said what is wrong.
fn parsed() -> Error {
    Error::from_errno(libc::EINVAL)
}
