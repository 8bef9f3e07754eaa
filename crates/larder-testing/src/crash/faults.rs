//! Which calls of a machine fail.
//!
//! - A failed read fills nothing.
//! - A failed write has written nothing, its first half, or all of it, by seed.
//! - A failed change of a length or a name has changed nothing.
//! - A failed sync: see [`super::medium`].

use crate::fault::When;
use crate::random::Random;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Reads a file.
    Read,
    /// Writes a file.
    Write,
    /// Makes room in a file.
    Allocate,
    /// Cuts or extends a file.
    SetLength,
    /// Makes a file durable, or an origin.
    Sync,
    /// Opens a file, or tells names.
    Open,
    /// Makes, renames or removes a file.
    Name,
    /// Makes names durable.
    SyncNames,
}

impl CallKind {
    fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::Open)
    }
}

/// Whose calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Those of the medium and its files.
    Medium,
    /// Those of the file that was opened by that name.
    File(String),
    /// Those of the origin of that number.
    Origin(usize),
}

/// A rule about calls that fail.
#[derive(Clone, Debug)]
pub struct MediumFault {
    /// Whose calls.
    pub target: Target,
    /// Which kind of call.
    pub kind: CallKind,
    /// Which of them; a connection is meant for none.
    pub when: When,
    /// How.
    pub errno: i32,
}

impl MediumFault {
    /// Calls of that kind to a file fail with EIO.
    pub fn file(name: &str, kind: CallKind, when: When) -> Self {
        Self {
            target: Target::File(name.to_owned()),
            kind,
            when,
            errno: libc::EIO,
        }
    }

    /// The first call of that kind to an origin, by its number.
    pub fn origin(number: usize, kind: CallKind) -> Self {
        Self {
            target: Target::Origin(number),
            ..Self::file("", kind, When::Nth(1))
        }
    }

    /// Other calls of that kind.
    pub fn when(mut self, when: When) -> Self {
        self.when = when;
        self
    }

    /// The same with another errno.
    pub fn errno(mut self, errno: i32) -> Self {
        self.errno = errno;
        self
    }
}

/// A call, as far as faults are about it.
pub struct Called<'a> {
    /// The name that the file was opened by; none for an origin.
    pub name: Option<&'a str>,
    /// The origin's number.
    pub origin: Option<usize>,
    /// What it does.
    pub kind: CallKind,
    /// Offset and length in bytes.
    pub range: (u64, u64),
}

impl Called<'_> {
    fn is_of(&self, target: &Target) -> bool {
        match target {
            Target::Medium => self.origin.is_none(),
            Target::File(name) => self.name == Some(name),
            Target::Origin(number) => self.origin == Some(*number),
        }
    }
}

/// The faults of one machine.
#[derive(Debug, Default)]
pub struct MediumFaults {
    faults: Vec<(MediumFault, u64)>,
    is_read_only: bool,
}

impl MediumFaults {
    /// Sets one.
    pub fn set(&mut self, fault: MediumFault) {
        self.faults.push((fault, 0));
    }

    /// From here on nothing of the medium can be changed: EROFS, as where a file system has met an error.
    pub fn set_read_only(&mut self) {
        self.is_read_only = true;
    }

    /// Takes all away.
    pub fn heal(&mut self) {
        *self = Self::default();
    }

    /// The errno that the call fails with.
    pub fn judge(&mut self, called: &Called<'_>, random: &mut Random) -> Option<i32> {
        if self.is_read_only && called.origin.is_none() && called.kind.changes() {
            return Some(libc::EROFS);
        }
        let mut errno = None;
        for (fault, seen) in &mut self.faults {
            if fault.kind != called.kind || !called.is_of(&fault.target) {
                continue;
            }
            *seen += 1;
            let (offset, length) = called.range;
            let fails = match fault.when {
                When::Always => true,
                When::Nth(n) => *seen == n,
                When::Chance(percent) => random.chance(percent),
                When::Meets(from, long) => {
                    offset < from.saturating_add(long) && from < offset + length
                }
                When::Connection(_) => false,
            };
            errno = errno.or(fails.then_some(fault.errno));
        }
        errno
    }
}
