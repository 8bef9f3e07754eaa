//! Regular files and block devices, by the kernel's page cache and positional I/O.
//!
//! | file | what |
//! |---|---|
//! | `disk.rs` | what all handles share: size, kind, and what the file system turned out to lack |
//! | `opening.rs` | from a path to an open file, and every reason why not |
//! | `device.rs` | what only block devices have: their own commands, and others who use them |
//! | `lock.rs` | who else may use it meanwhile |
//! | `handle.rs` | one client's own handle: reads, writes and flushes |
//! | `owed.rs` | a failure that the next flush of a handle has to tell |
//! | `zeroing.rs` | zeros and trims: the cheapest way that there is |
//! | `extents.rs` | where data and holes are |
//! | `version.rs` | which file it is, and whether its content has changed |
//!
//! The size is that of the moment of opening. A file that grows later stays as long as it was for
//! us. One that was truncated fails from the moment at which that is found: at each change, at each
//! flush and where a read meets the end. A write would make it longer again, and what is gone would
//! read as zeros.

mod device;
mod disk;
mod extents;
mod handle;
mod lock;
mod opening;
mod owed;
mod version;
mod zeroing;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use larder::Origin;

use crate::{OpenError, Options, Source};
use disk::{Disk, Kind};
use handle::Handle;

/// A file, a block device, or memory.
#[derive(Debug)]
pub(crate) struct FileSource {
    disk: Arc<Disk>,
}

impl FileSource {
    /// The anonymous file of a memory origin.
    pub(crate) fn memory(file: File, size_bytes: u64, name: String, write: bool) -> Self {
        let disk = Disk::new(file, Kind::Memory, size_bytes, name, write);
        Self {
            disk: Arc::new(disk),
        }
    }
}

impl Source for FileSource {
    fn connect(&self) -> io::Result<Arc<dyn Origin>> {
        Ok(Arc::new(Handle::new(Arc::clone(&self.disk))?))
    }
}

/// Opens the file or block device at `path`, for writing unless `options` say otherwise.
pub(crate) fn open(path: &Path, options: &Options) -> Result<Box<dyn Source>, OpenError> {
    let disk = opening::open(path, !options.read_only, &*options.log)?;
    Ok(Box::new(FileSource {
        disk: Arc::new(disk),
    }))
}
