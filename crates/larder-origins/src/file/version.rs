//! What tells a file from others, and its content from what it was before.
//!
//! Asked of the file that is open, each time: nobody else's write may go unnoticed.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use larder::OriginVersion;

/// The file is its device and inode, whatever its path is by now; its content changes with its size and with the times of
/// its last changes.
pub(super) fn of(file: &File) -> io::Result<OriginVersion> {
    let found = file.metadata()?;
    let stable = [found.dev(), found.ino()];
    let modified = [found.mtime(), found.mtime_nsec()];
    let changed = [found.ctime(), found.ctime_nsec()];
    let changing = [modified, changed].map(|time| time.map(i64::to_le_bytes).concat());
    Ok(OriginVersion {
        stable: stable.map(u64::to_le_bytes).concat(),
        changing: [&changing.concat()[..], &found.size().to_le_bytes()].concat(),
    })
}
