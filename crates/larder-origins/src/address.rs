//! What a user calls an origin: `memory:1G`, a path, an NBD or HTTP address.
//!
//! [`Address::parse`] looks at the scheme, the word before the first `:`, and hands the rest to the
//! parser of that kind. A word before `:` is a scheme only if `//` follows or if it is `memory`;
//! everything else is a path, which need not be UTF-8. A path with `://` in it begins with `/` or `.`:
//! without that it is an address with something before it, which may hold a password. What is shown
//! holds no credentials and fits on one line.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::{HttpAddress, NbdAddress, OpenError};

/// Every form of an origin, for errors that have to say what would be right.
pub(crate) const FORMS: &str = "an origin is memory:SIZE, nbd://HOST[:PORT][/EXPORT], nbds://..., \
     nbd+unix:///[EXPORT]?socket=PATH, nbds+unix://..., http://..., https://..., or the path of a \
     file or block device";

/// What a size may be, for errors.
const SIZE_FORM: &str = "digits and at most one letter of b s k m g t p e, up to 2^63-1 bytes, \
     as in memory:1G";

/// Where an origin is. Shown without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `memory:SIZE`: sparse memory of so many bytes.
    Memory(u64),
    /// A file or a block device.
    File(PathBuf),
    /// An NBD export.
    Nbd(NbdAddress),
    /// An object of a web server.
    Http(HttpAddress),
}

impl Address {
    /// The address that a user typed. An error is one line that says what would be right.
    pub fn parse(text: &OsStr) -> Result<Self, OpenError> {
        let Some((scheme, rest)) = split_scheme(text.as_bytes()) else {
            return path(text);
        };
        match scheme.as_str() {
            "memory" => memory(rest),
            "nbd" | "nbds" | "nbd+unix" | "nbds+unix" => {
                NbdAddress::parse(url(text)?).map(Self::Nbd)
            }
            "http" | "https" => HttpAddress::parse(url(text)?).map(Self::Http),
            // The rest may hold a password, so only the scheme is shown.
            _ => Err(OpenError::new(format!(
                "{scheme}:// is no origin that is known here; {FORMS}"
            ))),
        }
    }
}

impl Address {
    /// Whether a certificate may be checked on the way to it. A web server's plain address may redirect to one
    /// with TLS.
    pub fn may_use_tls(&self) -> bool {
        match self {
            Self::Memory(_) | Self::File(_) => false,
            Self::Nbd(address) => address.tls.is_some(),
            Self::Http(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(bytes) => write!(f, "memory:{bytes}"),
            Self::File(path) => f.write_str(&shown(path.as_os_str())),
            Self::Nbd(address) => write!(f, "{address}"),
            Self::Http(address) => write!(f, "{address}"),
        }
    }
}

/// The scheme in lower case and what follows its `:`, or None for a path. RFC 3986 says which
/// characters a scheme has.
fn split_scheme(text: &[u8]) -> Option<(String, &[u8])> {
    let (scheme, rest) = match text.iter().position(|&byte| byte == b':') {
        Some(colon) => (&text[..colon], &text[colon + 1..]),
        // Somebody who types the bare word wants memory, and has to say how much.
        None if text.eq_ignore_ascii_case(b"memory") => (text, &text[text.len()..]),
        None => return None,
    };
    let (first, others) = scheme.split_first()?;
    let spelled_right = first.is_ascii_alphabetic()
        && others
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    if !spelled_right {
        return None;
    }
    let scheme = String::from_utf8_lossy(scheme).to_ascii_lowercase();
    (scheme == "memory" || rest.starts_with(b"//")).then_some((scheme, rest))
}

/// A URL is ASCII; what it holds may be secret and is not shown.
fn url(text: &OsStr) -> Result<&str, OpenError> {
    text.to_str()
        .ok_or_else(|| OpenError::new("a URL has only ASCII letters; others are written as %XX"))
}

fn path(text: &OsStr) -> Result<Address, OpenError> {
    if text.is_empty() {
        return Err(OpenError::new(format!("an empty origin; {FORMS}")));
    }
    let bytes = text.as_bytes();
    let is_address = bytes.windows(3).any(|three| three == b"://");
    if is_address && !matches!(bytes.first(), Some(b'/' | b'.')) {
        return Err(OpenError::new(
            "an origin that looks like an address begins with something else: an address has no \
             blank or quote before it, in NAME=ORIGIN there is no / or : in NAME, and a path with \
             :// in it begins with / or .",
        ));
    }
    Ok(Address::File(PathBuf::from(text)))
}

fn memory(size: &[u8]) -> Result<Address, OpenError> {
    if size.is_empty() {
        return Err(OpenError::new(format!(
            "memory has no size: it is memory:SIZE, where SIZE is {SIZE_FORM} (a file of that name \
             is ./memory)"
        )));
    }
    size_bytes(size).map(Address::Memory).ok_or_else(|| {
        let size = shown(OsStr::from_bytes(size));
        OpenError::new(format!(
            "memory:{size}: {size} is not a size, which is {SIZE_FORM}"
        ))
    })
}

/// A size as nbdkit reads it: digits, then at most one letter. `b` is bytes, `s` sectors of 512,
/// the others are powers of 1024. None if it is none or above 2^63-1.
fn size_bytes(text: &[u8]) -> Option<u64> {
    let (digits, unit) = match text.split_last()? {
        (last, _) if last.is_ascii_digit() => (text, 1),
        (b'b' | b'B', digits) => (digits, 1),
        (b's' | b'S', digits) => (digits, 512),
        (letter, digits) => {
            let power = b"kmgtpe"
                .iter()
                .position(|p| p.eq_ignore_ascii_case(letter))?;
            (digits, 1024_u64.pow(u32::try_from(power).ok()? + 1))
        }
    };
    // An integer's parser would take a sign as well.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let bytes = count.checked_mul(unit)?;
    (bytes <= i64::MAX as u64).then_some(bytes)
}

/// A path as errors show it: on one line, whatever it contains.
pub(crate) fn shown_path(path: &Path) -> String {
    shown(path.as_os_str())
}

/// A path that leads to no file, as errors show it. It may be an address that was mistyped: what could be
/// its user and password is hidden.
pub(crate) fn shown_doubtful(path: &Path) -> String {
    let line = shown_path(path);
    match line.rsplit_once('@') {
        Some((before, after)) if before.contains(':') => format!("...@{after}"),
        _ => line,
    }
}

fn shown(text: &OsStr) -> String {
    let mut line = String::new();
    for character in text.to_string_lossy().chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, String> {
        Address::parse(OsStr::new(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn sizes_are_read_as_nbdkit_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17b", 17),
            ("3s", 1536),
            ("3S", 1536),
            ("1k", 1 << 10),
            ("1K", 1 << 10),
            ("2m", 2 << 20),
            ("1G", 1 << 30),
            ("1t", 1 << 40),
            ("1P", 1 << 50),
            ("7e", 7 << 60),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            let address = parse(&format!("memory:{text}"));
            assert_eq!(address, Ok(Address::Memory(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_would_be_right() {
        for text in [
            "1X",
            "1.5G",
            "-1",
            "+1",
            " 1",
            "1 ",
            "G",
            "1GB",
            "1kk",
            "8e",
            "9223372036854775808",
            "99999999999999999999999",
            "//1G",
        ] {
            let error = parse(&format!("memory:{text}")).unwrap_err();
            assert!(error.contains(text) && error.contains(SIZE_FORM), "{error}");
        }
    }

    #[test]
    fn memory_without_a_size_is_told_how_to_say_it() {
        for text in ["memory", "memory:", "MEMORY"] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains("memory:SIZE") && error.contains("./memory"),
                "{error}"
            );
        }
        assert_eq!(parse("MEMORY:1k"), Ok(Address::Memory(1024)));
        assert_eq!(parse("./memory"), Ok(Address::File("./memory".into())));
        assert_eq!(parse("memory2"), Ok(Address::File("memory2".into())));
    }

    #[test]
    fn an_unknown_scheme_is_refused_without_its_password() {
        let error = parse("gopher://user:secret@host/disk?token=secret").unwrap_err();
        assert!(
            error.contains("gopher://") && error.contains(FORMS),
            "{error}"
        );
        assert!(
            !error.contains("secret") && !error.contains('\n'),
            "{error}"
        );
        assert!(parse("").unwrap_err().contains(FORMS));
    }

    #[test]
    fn what_has_no_scheme_is_a_path() {
        for text in [
            "disk.img",
            "/dev/sda",
            "a:b",
            "./a://b",
            "/a://b",
            "../9p://x",
            "a:/b",
            "a//b",
        ] {
            assert_eq!(parse(text), Ok(Address::File(text.into())), "{text}");
        }
        let bytes = OsStr::from_bytes(b"\xff\xfe: disk");
        assert_eq!(Address::parse(bytes).unwrap(), Address::File(bytes.into()));
    }

    #[test]
    fn an_address_with_something_before_it_is_no_path() {
        for text in [
            "a/b=https://me:s3cret@host/d",
            "my:disk=nbds://me:s3cret@host/d",
            " https://me:s3cret@host/d",
            "\"https://me:s3cret@host/d\"",
            "9p://me:s3cret@host/d",
            "://me:s3cret@host/d",
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains("looks like an address") && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_may_be_a_password_is_hidden_where_no_file_is() {
        for (path, shown) in [
            ("https:/me:s3@cret@host/d", "...@host/d"),
            ("me:s3cret@host/d", "...@host/d"),
            ("disk@home", "disk@home"),
            ("/a:b", "/a:b"),
            ("a@b:c", "a@b:c"),
        ] {
            assert_eq!(shown_doubtful(Path::new(path)), shown);
        }
    }

    #[test]
    fn an_address_is_shown_on_one_line() {
        assert_eq!(Address::Memory(1 << 20).to_string(), "memory:1048576");
        assert_eq!(
            Address::File("a\nb\x1b[1m".into()).to_string(),
            "a\\nb\\u{1b}[1m"
        );
        let bytes = OsStr::from_bytes(b"disk\xff");
        assert_eq!(Address::File(bytes.into()).to_string(), "disk\u{fffd}");
    }
}
