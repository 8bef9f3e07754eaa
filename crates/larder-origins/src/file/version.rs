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
    let stable = format!("device {}, inode {}", found.dev(), found.ino());
    let changing = format!(
        "{} bytes, modified at {}, changed at {}",
        found.size(),
        moment(found.mtime(), found.mtime_nsec()),
        moment(found.ctime(), found.ctime_nsec())
    );
    Ok(OriginVersion {
        stable: stable.into_bytes(),
        changing: changing.into_bytes(),
    })
}

/// Seconds since 1970, to the nanosecond.
fn moment(seconds: i64, nanoseconds: i64) -> String {
    format!("{seconds}.{nanoseconds:09}")
}
