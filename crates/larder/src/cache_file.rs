//! The cache file: where slots live. A trait, so that tests can fill the disk or lose a sector.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::system_file::SystemFile;

/// A file addressed by byte offsets. Calls come from several threads at once, on disjoint ranges
/// whenever one of them writes.
pub trait CacheFile: Send + Sync {
    /// Fills `buffer` from `offset`. What was never written reads as zeros or anything else.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes `data` at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes room on disk for the range, so that writes into it do not run out of space unless somebody else takes
    /// what is left. Fails with ENOSPC (or EDQUOT, EFBIG) where there is none. What the range held may be lost.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes durable what was written before the call, and the file's length. A failure is final for what it
    /// covers: the system may tell each once, so a later call that succeeds says nothing of it.
    fn sync(&self) -> io::Result<()>;
}

/// An unlinked file in a directory: seen under /proc/PID/fd and gone with the process.
#[derive(Debug)]
pub struct TemporaryFile {
    file: SystemFile,
}

impl TemporaryFile {
    /// Makes the file in `directory`.
    pub fn create_in(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
            Ok(fd) => File::from(fd),
            // File systems without O_TMPFILE (and kernels that take it for a directory open).
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                Self::create_and_unlink(directory)?
            }
            Err(error) => return Err(error.into()),
        };
        let file = SystemFile::new(file)?;
        Ok(Self { file })
    }

    fn create_and_unlink(directory: &Path) -> io::Result<File> {
        for attempt in 0..1000 {
            let path = directory.join(format!(".larder-{}-{attempt}", std::process::id()));
            let opened = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            match opened {
                Ok(file) => {
                    std::fs::remove_file(&path)?;
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The block size of the file's file system, in bytes.
    pub fn file_system_block_size(&self) -> io::Result<u64> {
        self.file.file_system_block_size()
    }

    /// Bytes allocated on disk, the file system's own metadata for the file included.
    pub fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.allocated_bytes()
    }
}

impl AsFd for TemporaryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl CacheFile for TemporaryFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, buffer)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.allocate(offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Writes zeros over a range of a cache file.
pub(crate) fn write_zeros(
    file: &(impl CacheFile + ?Sized),
    offset: u64,
    length: u64,
) -> io::Result<()> {
    const CHUNK: u64 = 1 << 20;
    let zeros = vec![0; CHUNK.min(length) as usize];
    let mut done = 0;
    while done < length {
        let part = CHUNK.min(length - done);
        file.write(offset + done, &zeros[..part as usize])?;
        done += part;
    }
    Ok(())
}
