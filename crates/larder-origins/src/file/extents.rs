//! Where data and holes are, by SEEK_DATA and SEEK_HOLE.
//!
//! Seeking moves the file's offset, which several threads share here. That harms nobody: each call
//! names where it looks from and returns what it found, and all other I/O names its offset.

use std::fs::File;
use std::io;

use larder::Extent;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// An answer has about that many extents at most, however fragmented the file is; the next
/// question goes on from there.
const EXTENTS_AT_MOST: usize = 1024;

/// Bytes that are there, for all we know.
pub(super) fn data(length: u64) -> Extent {
    Extent {
        length,
        hole: false,
        zero: false,
    }
}

fn hole(length: u64) -> Extent {
    Extent {
        length,
        hole: true,
        zero: true,
    }
}

/// The extents of the range, which is within the file, from its beginning on.
pub(super) fn find(file: &File, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
    let end = offset + length;
    let at_most = if one { 1 } else { EXTENTS_AT_MOST };
    let mut extents = Vec::new();
    let mut at = offset;
    while at < end && extents.len() < at_most {
        let next_data = seek(file, SeekFrom::Data(at), end)?;
        if next_data > at {
            extents.push(hole(next_data - at));
            at = next_data;
            continue;
        }
        // Where it is data no longer, a hole was made meanwhile, and the next round finds it.
        let next_hole = seek(file, SeekFrom::Hole(at), end)?;
        if next_hole > at {
            extents.push(data(next_hole - at));
            at = next_hole;
        }
    }
    Ok(extents)
}

/// Where the next data or hole begins, at most `end`.
fn seek(file: &File, from: SeekFrom, end: u64) -> io::Result<u64> {
    match rustix::io::retry_on_intr(|| rustix::fs::seek(file, from)) {
        Ok(position) => Ok(position.min(end)),
        // Nothing of the kind up to the end of the file.
        Err(Errno::NXIO) => Ok(end),
        Err(errno) => Err(errno.into()),
    }
}
