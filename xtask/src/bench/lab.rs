//! What every measurement needs: the programs, the directories, and how much of everything.

use std::path::PathBuf;

use super::directory::{Directory, Place};
use super::programs::Programs;
use crate::failure::Failure;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// What is measured for a time is measured for this long.
    pub(super) seconds: u32,
    pub(super) image_bytes: u64,
    /// Cached bytes, little and much.
    pub(super) growth_bytes: (u64, u64),
    /// Requests under way.
    pub(super) depths: &'static [u32],
    /// Cache sizes as shares of the image, one in so many.
    pub(super) cache_parts: &'static [u64],
    /// How many requests the misses are counted of.
    pub(super) counted_requests: u64,
    /// What the file system of the conversions has of files.
    pub(super) files_bytes: u64,
}

const WHOLE: Scale = Scale {
    seconds: 3,
    image_bytes: GIB,
    growth_bytes: (GIB, 16 * GIB),
    depths: &[1, 2, 4, 8, 16, 32, 64],
    cache_parts: &[64, 32, 16, 8, 4, 2],
    counted_requests: 100_000,
    files_bytes: 400 * MIB,
};

/// The rows of a quick run are the same, with less of everything: a look, and no result.
const QUICK: Scale = Scale {
    seconds: 1,
    image_bytes: 256 * MIB,
    growth_bytes: (256 * MIB, 4 * GIB),
    depths: &[1, 4, 16, 64],
    cache_parts: &[32, 16, 4],
    counted_requests: 30_000,
    files_bytes: 100 * MIB,
};

/// Where the measurements are made.
pub(super) struct Lab {
    pub(super) programs: Programs,
    pub(super) scale: Scale,
    /// Where the traces are, if somebody said so.
    pub(super) traces: Option<PathBuf>,
    memory: Directory,
    disk: Directory,
}

impl Lab {
    pub(super) fn prepare(is_quick: bool, traces: Option<PathBuf>) -> Result<Self, Failure> {
        Ok(Self {
            programs: Programs::prepare()?,
            scale: if is_quick { QUICK } else { WHOLE },
            traces,
            memory: Directory::new(Place::Memory)?,
            disk: Directory::new(Place::Disk)?,
        })
    }

    pub(super) const fn directory(&self, place: Place) -> &Directory {
        match place {
            Place::Memory => &self.memory,
            Place::Disk => &self.disk,
        }
    }
}
