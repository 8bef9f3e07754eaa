//! The real medium: a directory of a file system.
//!
//! It is held open, so that it stays the same one whatever happens to its path.
//!
//! Who only wants to know whether a file is locked takes a shared lock, which the system gives to any number of askers and not beside the
//! lock of a user, and lets go of it at once. A user that comes in just then is refused by the system, and so tries again for a moment:
//! askers break no start, and do not see each other.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Medium, MediumFile};
use crate::cache_file::CacheFile;
use crate::system_file::SystemFile;

/// How often a lock that is taken is tried again, and how long after each time: it may be somebody who only asks.
const LOCK_RETRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A directory.
#[derive(Debug)]
pub struct DirectoryMedium {
    directory: OwnedFd,
    /// Whoever looks at it may not even be allowed to write.
    is_read_only: bool,
}

/// A file of it.
#[derive(Debug)]
pub struct DirectoryFile {
    file: SystemFile,
}

impl DirectoryMedium {
    /// Opens a directory, which must be there. The path may lead over symbolic links: an operator's way of putting
    /// a cache on another disk. Names in the directory may not.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self {
            directory,
            is_read_only: false,
        })
    }

    /// As [`DirectoryMedium::open`], for whoever only looks: whatever would change something fails as on a file system
    /// that is read-only.
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        let is_read_only = true;
        Ok(Self {
            is_read_only,
            ..Self::open(path)?
        })
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.is_read_only {
            true => Err(Errno::ROFS.into()),
            false => Ok(()),
        }
    }

    /// As [`Medium::open`], for whoever needs the file itself.
    pub fn open_file(&self, name: &str) -> io::Result<DirectoryFile> {
        self.open_with(name, OFlags::empty())
    }

    fn open_with(&self, name: &str, more: OFlags) -> io::Result<DirectoryFile> {
        let name = checked(name)?;
        let access = match self.is_read_only {
            true => OFlags::RDONLY,
            false => OFlags::RDWR,
        };
        // Without waiting: a named pipe, or a file that another machine has a lease on, would stop us here.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | more;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.directory, name, flags, mode)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if kind != FileType::RegularFile {
            let message = format!("{name} is not an ordinary file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let file = SystemFile::new(File::from(fd))?;
        Ok(DirectoryFile { file })
    }
}

/// A name that means something in the directory itself and nowhere else.
fn checked(name: &str) -> io::Result<&str> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        let message = format!("{name:?} is no name of a file");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(name)
}

impl Medium for DirectoryMedium {
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(self.open_file(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.check_writable()?;
        let file = self.open_with(name, OFlags::CREATE | OFlags::EXCL)?;
        Ok(Box::new(file))
    }

    /// The lock is flock's: it belongs to the open file, so that a process which has forked still has it.
    fn lock(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.check_writable()?;
        let file = self.open_with(name, OFlags::CREATE)?;
        let mut retries = LOCK_RETRIES;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if retries > 0 => retries -= 1,
                locked => {
                    locked?;
                    return Ok(Box::new(file));
                }
            }
            thread::sleep(LOCK_PAUSE);
        }
    }

    fn is_locked(&self, name: &str) -> io::Result<bool> {
        let file = match self.open_with(name, OFlags::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        // Let go of as the file is closed.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Ok(true),
            locked => {
                locked?;
                Ok(false)
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        let (from, to) = (checked(from)?, checked(to)?);
        Ok(rustix::fs::renameat(
            &self.directory,
            from,
            &self.directory,
            to,
        )?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        let name = checked(name)?;
        Ok(rustix::fs::unlinkat(
            &self.directory,
            name,
            AtFlags::empty(),
        )?)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        match rustix::fs::fsync(&self.directory) {
            // A file system without it has names that are durable at once, or never.
            Err(Errno::INVAL) => Ok(()),
            other => Ok(other?),
        }
    }
}

impl DirectoryFile {
    /// Bytes allocated on disk, the file system's own metadata for the file included.
    pub fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.allocated_bytes()
    }

    /// The block size of the file's file system, in bytes.
    pub fn file_system_block_size(&self) -> io::Result<u64> {
        self.file.file_system_block_size()
    }
}

impl AsFd for DirectoryFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl CacheFile for DirectoryFile {
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

impl MediumFile for DirectoryFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.file.set_length(length_bytes)
    }

    fn give_back(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.give_back(offset, length)
    }

    fn write_out(&self, offset: u64, length: u64) {
        self.file.write_out(offset, length);
    }
}

#[cfg(test)]
mod tests;
