//! Why a cache directory is not used: a sentence that says what was found, and what to do. Whoever refuses has changed nothing.

use std::borrow::Cow;
use std::fmt;

use super::bytes::{Malformed, Put, Reader};
use super::header::Role;
use super::sums::Uuid;
use crate::directory::{SlotNumber, VolumeNumber};

/// A version of the format. Within a major version every program reads what every other wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub major: u16,
    pub minor: u16,
}

impl Version {
    /// The one that is described in `FORMAT.md`.
    pub(crate) const CURRENT: Self = Self { major: 1, minor: 0 };

    pub(super) fn put(self, bytes: &mut Vec<u8>) {
        bytes.put_u16(self.major);
        bytes.put_u16(self.minor);
    }

    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            major: reader.u16()?,
            minor: reader.u16()?,
        })
    }

    /// Whether this program can read it.
    pub(super) fn check(self) -> Result<(), Finding> {
        match self.major {
            1 => Ok(()),
            0 => Err(Malformed("its version is 0").into()),
            _ => Err(Finding::Newer(self)),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What was found in a file instead of what belongs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// There is no such file, and there was one.
    Missing,
    /// Nothing that this program writes.
    NotOurs,
    /// It was ours, and its checksum says that it is not as it was written.
    Damaged,
    /// It is whole, and makes no sense.
    Malformed(Malformed),
    Newer(Version),
    /// Bits of features without which it cannot be understood.
    UnknownFeatures(u32),
    /// The file of another name.
    OtherRole(Role),
    /// The queue of that volume, under the name of another's.
    OtherQueue(VolumeNumber),
    /// A queue that holds something, where one is to be made anew.
    Queued,
    /// The queue of the volume of that name, which has one.
    QueueMissing(String),
    /// A queue that holds something, of a volume that there is not.
    NobodysQueue,
    OtherCache {
        found: Uuid,
        expected: Uuid,
    },
    /// In bytes.
    BlockSize {
        found: u64,
        expected: u64,
    },
    /// In bytes.
    Short {
        found: u64,
        expected: u64,
    },
    /// Neither copy of a slot's entry is whole.
    Entry(SlotNumber),
    /// A frame is missing that was durable.
    FrameLost {
        missing: u64,
        later: u64,
    },
    /// A frame is whole, and holds what this version does not know or cannot be.
    Frame {
        seq: u64,
        what: Malformed,
    },
}

impl From<Malformed> for Finding {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                f.write_str("is missing: put it back, the cache is of no use without it")
            }
            Self::NotOurs => f.write_str("is no file of a Larder cache"),
            Self::Damaged => f.write_str("is damaged: its checksum does not fit"),
            Self::Malformed(what) => write!(f, "cannot be understood: {what}"),
            Self::Newer(version) => write!(
                f,
                "is of format {version}, and this program knows formats up to {}: use a newer one",
                Version::CURRENT
            ),
            Self::UnknownFeatures(bits) => write!(
                f,
                "needs features {bits:#x} that this program does not know: use a newer one"
            ),
            Self::OtherRole(role) => write!(
                f,
                "is the file '{}' under another name: put it back",
                role.file_name()
            ),
            Self::OtherQueue(volume) => write!(
                f,
                "is the file 'queue-{}' under another name: put it back",
                volume.0
            ),
            Self::Queued => f.write_str(
                "holds changes that the origin does not have, and cannot be made anew before it has them",
            ),
            Self::QueueMissing(volume) => write!(
                f,
                "the queue of volume '{volume}' is missing, and with it perhaps what was flushed and has not reached the origin"
            ),
            Self::NobodysQueue => f.write_str(
                "holds what was flushed and has not reached the origin, of a volume that the directory does not know",
            ),
            Self::OtherCache { found, expected } => write!(
                f,
                "belongs to the cache {found}, and this directory is the cache {expected}"
            ),
            Self::BlockSize { found, expected } => {
                write!(f, "has blocks of {found} bytes, and not of {expected}")
            }
            Self::Short { found, expected } => {
                write!(f, "was cut: it has {found} bytes instead of {expected}")
            }
            Self::Entry(slot) => write!(
                f,
                "entry {} is damaged in both copies; it may be of data that only the cache has",
                slot.0
            ),
            Self::FrameLost { missing, later } => write!(
                f,
                "frame {missing} is damaged, and frame {later} says that it had been written: data that only the cache has may be lost"
            ),
            Self::Frame { seq, what } => write!(f, "frame {seq} cannot be understood: {what}"),
        }
    }
}

/// A file of a cache directory and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The file's name in its directory.
    pub file: Cow<'static, str>,
    pub finding: Finding,
}

impl Refusal {
    pub(crate) fn of(role: Role, finding: impl Into<Finding>) -> Self {
        Self {
            file: role.file_name().into(),
            finding: finding.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.finding {
            Finding::QueueMissing(_) => self.finding.fmt(f),
            Finding::Entry(_) | Finding::FrameLost { .. } | Finding::Frame { .. } => {
                write!(f, "{}: {}", self.file, self.finding)
            }
            _ => write!(f, "{} {}", self.file, self.finding),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_sentence() {
        let of = |finding: Finding| Refusal::of(Role::Map, finding).to_string();
        assert_eq!(
            of(Finding::Newer(Version { major: 2, minor: 3 })),
            "map is of format 2.3, and this program knows formats up to 1.0: use a newer one"
        );
        assert_eq!(
            of(Finding::OtherRole(Role::MapCopy)),
            "map is the file 'map.copy' under another name: put it back"
        );
        assert_eq!(
            of(Finding::Entry(SlotNumber(7))),
            "map: entry 7 is damaged in both copies; it may be of data that only the cache has"
        );
        assert_eq!(
            of(Finding::BlockSize {
                found: 65536,
                expected: 4096
            }),
            "map has blocks of 65536 bytes, and not of 4096"
        );
    }
}
