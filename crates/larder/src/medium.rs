//! The medium: the directory in which a cache survives. A trait, so that tests can lose what was not synced.
//!
//! Nothing here is durable until it is synced: a file's bytes and length by the sync of that file, its name by
//! the sync of the medium. What is in a directory was put there by whoever may write in it, so a name is never followed
//! elsewhere, and what is no ordinary file is refused.

mod directory;

use std::io;

pub use directory::{DirectoryFile, DirectoryMedium};

use crate::cache_file::CacheFile;

/// A file of a medium.
pub trait MediumFile: CacheFile {
    /// In bytes.
    fn length(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it with zeros.
    fn set_length(&self, length_bytes: u64) -> io::Result<()>;

    /// Gives the disk space of a range back, where that can be done; the file stays as long as it is. What the range held may be lost.
    fn give_back(&self, offset: u64, length: u64) -> io::Result<()> {
        let _ = (offset, length);
        Ok(())
    }

    /// Begins to bring to the disk what was written to a range and will not be read soon, without waiting for the disk: a sync that follows has less to do.
    /// Nothing is durable by it; what goes wrong, the sync tells.
    fn write_out(&self, offset: u64, length: u64) {
        let _ = (offset, length);
    }
}

/// Files by name, in one place. A name has no slash in it.
pub trait Medium: Send + Sync {
    /// Opens a file. Fails with [`io::ErrorKind::NotFound`] where there is none.
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>>;

    /// Makes an empty file. Fails with [`io::ErrorKind::AlreadyExists`] where there is one.
    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>>;

    /// Opens a file, or makes it, and locks it for as long as it is open. Fails with [`io::ErrorKind::WouldBlock`]
    /// while somebody else has it locked.
    fn lock(&self, name: &str) -> io::Result<Box<dyn MediumFile>>;

    /// Whether somebody has the file locked. False where there is none, and none is made. It is true of one moment only: nobody is kept
    /// from locking the file right after it. What is here takes the lock for that moment, which is good enough within one process; a medium that
    /// processes share must not let an asker break somebody's start.
    fn is_locked(&self, name: &str) -> io::Result<bool> {
        match self.open(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => drop(opened?),
        }
        match self.lock(name) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Gives a file another name; a file that had that name is gone. After a crash that no sync of the medium
    /// precedes, it is either.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a name away, and the file with it once nobody has it open.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// All names, in order. A name that is not UTF-8 comes with U+FFFD for what cannot be told.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes all names durable as they were before the call. A failure is final for what it covers.
    fn sync(&self) -> io::Result<()>;
}
