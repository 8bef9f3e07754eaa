//! What tells a file from others, and its content from what it was before.
//!
//! Asked of the file that is open, each time: nobody else's write may go unnoticed.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::UNIX_EPOCH;

use larder::OriginVersion;

/// The file is its inode and the moment at which that was made, whatever its path is by now; its content changes with its size
/// and with the times of its last changes.
///
/// The number of the device (st_dev) is no part of it where there is something better: btrfs and NFS are given the next free
/// number at each mount (`get_anon_bdev` of fs/super.c), and volumes of LVM in the order in which they are found, so that the same
/// file would be another one after a restart of the machine. No program can set the time of birth (stx_btime of statx(2)),
/// to the nanosecond, so that a file of another file system which has the same inode was not made at the same moment.
pub(super) fn of(file: &File) -> io::Result<OriginVersion> {
    let found = file.metadata()?;
    let stable = match birth(&found) {
        Some(birth) => format!("inode {}, made at {birth}", found.ino()),
        // An old NFS or FUSE. What is kept may be dropped without need, and no other file is taken for it.
        None => format!("device {}, inode {}", found.dev(), found.ino()),
    };
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

/// When the file was made, where its file system tells.
fn birth(found: &Metadata) -> Option<String> {
    let since = found.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let seconds = i64::try_from(since.as_secs()).ok()?;
    (!since.is_zero()).then(|| moment(seconds, since.subsec_nanos().into()))
}

/// Seconds since 1970, to the nanosecond.
fn moment(seconds: i64, nanoseconds: i64) -> String {
    format!("{seconds}.{nanoseconds:09}")
}
