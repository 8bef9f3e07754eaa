//! Which nbdkit is running.
//!
//! nbdkit loads a filter only if the filter's `_version` is nbdkit's own version string, so a
//! wrong answer here is a refusal to start, never a wrong layout. No function tells the version.
//! Two ways remain:
//!
//! 1. Its text in the main program's read-only memory. nbdkit compares with it, so it is there.
//!    Costs microseconds and works under valgrind, for a deleted binary and where nothing may be
//!    executed. Used only if exactly one whole string looks like a version of nbdkit.
//! 2. Asking: the main program is run with `--dump-config`, whose line `version=` is exactly that
//!    string (server/main.c, `dump_config`).

mod ask;
mod memory;

use std::ffi::{CStr, CString};

/// A version of nbdkit, such as 1.32.5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    text: CString,
    major: u32,
    minor: u32,
}

/// How well a version is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// Its layout has been checked.
    Known,
    /// Newer than anything checked.
    Newer,
    /// Nothing fits it.
    Refused,
}

impl Version {
    /// The nbdkit this code runs in.
    pub(crate) fn running() -> Option<Self> {
        memory::find().or_else(ask::ask)
    }

    /// Reads `MAJOR.MINOR.RELEASE`, with anything printable after it.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        const LONGEST: usize = 64;
        if text.len() > LONGEST || !text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return None;
        }
        let mut parts = std::str::from_utf8(text).ok()?.splitn(3, '.');
        let major = number(parts.next()?)?;
        let minor = number(parts.next()?)?;
        if !parts
            .next()?
            .starts_with(|first: char| first.is_ascii_digit())
        {
            return None;
        }
        Some(Self {
            text: CString::new(text).ok()?,
            major,
            minor,
        })
    }

    /// The string that nbdkit compares with its own.
    pub(crate) fn text(&self) -> &CStr {
        &self.text
    }

    pub(crate) fn support(&self) -> Support {
        match (self.major, self.minor) {
            (1, 0..30) => Support::Refused,
            // A development series in the middle of which the layout changed.
            (1, 35) => Support::Refused,
            (1, 30..=42) => Support::Known,
            (0, _) => Support::Refused,
            _ => Support::Newer,
        }
    }

    /// `dump_plugin` came into the structure with 1.36.
    pub(crate) fn has_dump_plugin(&self) -> bool {
        (self.major, self.minor) >= (1, 36)
    }
}

fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn versions_are_read_whole() {
        let parsed = version("1.32.5");
        assert_eq!((parsed.major, parsed.minor), (1, 32));
        assert_eq!(parsed.text(), c"1.32.5");
        assert_eq!(version("1.40.4-rhel 9").text(), c"1.40.4-rhel 9");
        for wrong in [
            "", "1.32", "1.32.", "1..5", "v1.32.5", "1.3a.5", "1.32.5\n", "1.32.x",
        ] {
            assert_eq!(Version::parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn each_version_gets_its_layout() {
        use Support::{Known, Newer, Refused};
        for (text, support, dump_plugin) in [
            ("1.16.2", Refused, false),
            ("1.28.9", Refused, false),
            ("1.30.0", Known, false),
            ("1.32.5", Known, false),
            ("1.34.4", Known, false),
            ("1.35.3", Refused, false),
            ("1.36.0", Known, true),
            ("1.42.3", Known, true),
            ("1.43.1", Newer, true),
            ("1.44.0", Newer, true),
            ("2.0.1", Newer, true),
        ] {
            assert_eq!(version(text).support(), support, "{text}");
            assert_eq!(version(text).has_dump_plugin(), dump_plugin, "{text}");
        }
    }
}
