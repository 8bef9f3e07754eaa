//! A file of the system under the engine's calls, with a name or without.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::Errno;

use crate::cache_file::{CacheFile, write_zeros};
use crate::promised_space::PromisedSpace;

/// An open file.
#[derive(Debug)]
pub(crate) struct SystemFile {
    file: File,
    /// Where space is promised and not taken.
    promised: Option<PromisedSpace>,
}

impl SystemFile {
    /// Takes a file that can be read and written.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        // Readahead would fill the page cache with neighbours that are not neighbours on the
        // origin. Advice only: a file system may refuse it.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
        let promised = PromisedSpace::of(&file)?;
        Ok(Self { file, promised })
    }

    /// The block size of the file's file system, in bytes.
    pub(crate) fn file_system_block_size(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstatvfs(&self.file)?.f_bsize)
    }

    /// Bytes allocated on disk, the file system's own metadata for the file included.
    pub(crate) fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    /// In bytes.
    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Gives the disk space of a range back, if the file system can.
    pub(crate) fn give_back(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, length) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Begins to write to the disk what the page cache has of a range and the disk has not. Linux does so when it is told that the range is not needed
    /// (mm/fadvise.c), without waiting for the disk and without taking a failure away from the next sync; what is being written may stay in the page cache.
    pub(crate) fn write_out(&self, offset: u64, length: u64) {
        if let Some(length) = NonZeroU64::new(length) {
            // Advice only, as above.
            let _ = rustix::fs::fadvise(&self.file, offset, Some(length), Advice::DontNeed);
        }
    }

    /// Cuts the file, or extends it with zeros.
    pub(crate) fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.file.set_len(length_bytes)
    }
}

impl AsFd for SystemFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl CacheFile for SystemFile {
    /// Every hit ends here, so the system is called without the C library between, whose point of cancellation
    /// costs as much as the rest of the call's user side.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&self.file, &mut buffer[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        if let Some(promised) = &self.promised {
            return promised.promise(&self.file, length);
        }
        loop {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, length) {
                // Interrupted by a signal, as tmpfs allows.
                Err(Errno::INTR) => {}
                // Where it does not exist, only writing makes room.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return write_zeros(self, offset, length),
                other => return Ok(other?),
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }
}
