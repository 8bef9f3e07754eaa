//! What all handles of one file share.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use larder::{Capabilities, Fua, RequestLimits};
use rustix::fs::{AtFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

/// What kind of file it is, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file.
    File,
    /// A block device. Only whole `granularity_bytes` of it are zeroed or discarded.
    Device { granularity_bytes: u64 },
    /// An anonymous file in memory, whose zeros are always holes.
    Memory,
}

impl Kind {
    /// Whether a zero that would have to be written is refused before it changes anything.
    pub(super) fn zeroes_fast(self) -> bool {
        !matches!(self, Self::Device { .. })
    }
}

/// An operation that a file system or device may lack.
#[derive(Debug, Default)]
pub(super) struct Lack(AtomicBool);

impl Lack {
    /// It was tried and is not there.
    pub(super) fn remember(&self) {
        // A hint: who misses it tries once more and is refused again.
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A file that is open for the life of the source and of every handle.
#[derive(Debug)]
pub(super) struct Disk {
    /// Holds the lock. All I/O goes through the handles' own files.
    pub(super) file: File,
    /// Holds a device that is written to.
    pub(super) claim: Option<File>,
    pub(super) kind: Kind,
    /// Fixed when the file was opened.
    pub(super) size_bytes: u64,
    /// The origin's name in messages.
    pub(super) name: String,
    pub(super) write: bool,
    /// Making a hole (fallocate).
    pub(super) punch: Lack,
    /// Zeroing without a hole (fallocate).
    pub(super) zero_range: Lack,
    /// Discarding a part of a device.
    pub(super) discard: Lack,
    /// Writes that are durable on return.
    pub(super) durable_write: Lack,
    /// The file was found to be shorter than it was, and what is gone is no longer what it was.
    truncated: AtomicBool,
    extents: bool,
    preferred_bytes: u32,
}

impl Disk {
    /// The disk in `file`, which is open for writing if `write` is true.
    pub(super) fn new(file: File, kind: Kind, size_bytes: u64, name: String, write: bool) -> Self {
        // ENXIO says that there is no data; EINVAL that nobody can tell.
        let extents = matches!(
            rustix::fs::seek(&file, SeekFrom::Data(0)),
            Ok(_) | Err(Errno::NXIO)
        );
        let advised = file.metadata().map_or(0, |metadata| metadata.blksize());
        Self {
            file,
            claim: None,
            kind,
            size_bytes,
            name,
            write,
            punch: Lack::default(),
            zero_range: Lack::default(),
            discard: Lack::default(),
            durable_write: Lack::default(),
            truncated: AtomicBool::new(false),
            extents,
            preferred_bytes: preferred_bytes(advised),
        }
    }

    /// What a handle that is made now can do.
    pub(super) fn capabilities(&self) -> Capabilities {
        let zero = !(self.punch.known() && self.zero_range.known());
        let trim = match self.kind {
            Kind::Device { .. } => !self.discard.known(),
            Kind::File | Kind::Memory => !self.punch.known(),
        };
        Capabilities {
            write: self.write,
            flush: true,
            tells_losses: false,
            fua: Fua::Native,
            trim: self.write && trim,
            zero: self.write && zero,
            fast_zero: self.write && zero && self.kind.zeroes_fast(),
            extents: self.extents,
            // fdatasync writes back the whole file, whoever wrote.
            multi_conn: true,
            parallel: true,
        }
    }

    /// Buffered I/O needs no alignment, whatever the device's sectors are.
    pub(super) fn limits(&self) -> RequestLimits {
        RequestLimits {
            minimum: 1,
            preferred: self.preferred_bytes,
            maximum: RequestLimits::DEFAULT_MAXIMUM_BYTES,
        }
    }

    /// Whether the file that `file` is one of the handles of is as long as it was, and always was. To be
    /// asked before each change, which could make it longer again.
    pub(super) fn check_length(&self, file: &File) -> io::Result<()> {
        self.check_found()?;
        if self.kind == Kind::File && length_bytes(file)? < self.size_bytes {
            return Err(self.truncated());
        }
        Ok(())
    }

    /// Whether it was found to be shorter.
    pub(super) fn check_found(&self) -> io::Result<()> {
        match self.truncated.load(Ordering::Relaxed) {
            true => Err(self.truncated()),
            false => Ok(()),
        }
    }

    /// The error of a request that meets the end of the file before the end of the disk, and of every one
    /// after it.
    pub(super) fn truncated(&self) -> io::Error {
        self.truncated.store(true, Ordering::Relaxed);
        io::Error::other(format!(
            "{} ends before the {} bytes that it had when it was opened: it was made shorter",
            self.name, self.size_bytes
        ))
    }
}

/// How long a file is, and nothing else: asked for its times as well, an NFS client writes back first what it holds of the file.
pub(super) fn length_bytes(file: &File) -> io::Result<u64> {
    match rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::SIZE) {
        Ok(found) => Ok(found.stx_size),
        // An old kernel, or a container that does not allow it.
        Err(Errno::NOSYS | Errno::PERM) => Ok(file.metadata()?.len()),
        Err(errno) => Err(errno.into()),
    }
}

/// The same file again, as an open file description of its own.
///
/// Through /proc, which leads to the file that is open and not to the path, where another file may
/// be by now.
pub(super) fn reopen(file: &impl AsFd, write: bool) -> io::Result<File> {
    let opened = File::options()
        .read(true)
        .write(write)
        .open(proc_path(file));
    opened.map_err(|error| match error.kind() {
        // The file is there, for it is open.
        io::ErrorKind::NotFound => io::Error::other("/proc is not mounted"),
        _ => error,
    })
}

/// Where /proc has the file that is open.
pub(super) fn proc_path(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

/// The preferred request: what the file system advises, as a power of two from 4 KiB to the maximum.
fn preferred_bytes(advised: u64) -> u32 {
    let advised = u32::try_from(advised).unwrap_or(u32::MAX);
    advised
        .clamp(4096, RequestLimits::DEFAULT_MAXIMUM_BYTES)
        .next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_size_is_a_power_of_two_within_limits() {
        for (advised, preferred) in [
            (0, 4096),
            (512, 4096),
            (4096, 4096),
            (100_000, 131_072),
            (1 << 20, 1 << 20),
            (u64::MAX, RequestLimits::DEFAULT_MAXIMUM_BYTES),
        ] {
            assert_eq!(preferred_bytes(advised), preferred);
        }
    }
}
