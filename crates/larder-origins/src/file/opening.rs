//! From a path to an open file, and every reason why not.
//!
//! The path is looked up once, without opening anything (`O_PATH`): a FIFO that nobody writes to
//! does not stop us, a tape is not rewound, and what was checked is what is opened afterwards.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use larder::Log;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::device;
use super::disk::{self, Disk, Kind};
use super::lock::{self, Locked};
use crate::OpenError;
use crate::address::{FORMS, shown_doubtful, shown_path};
use crate::reason::reason;

/// Opens and locks the file or block device at `path`.
pub(super) fn open(path: &Path, write: bool, log: &dyn Log) -> Result<Disk, OpenError> {
    let name = shown_path(path);
    let found = look_up(path, &shown_doubtful(path))?;
    let stat = rustix::fs::fstat(&found).map_err(|errno| cannot_open(&name, errno.into()))?;
    let file_type = FileType::from_raw_mode(stat.st_mode);
    if !matches!(file_type, FileType::RegularFile | FileType::BlockDevice) {
        return Err(OpenError::new(format!(
            "{name} is {}, which cannot be served; {FORMS}",
            description(file_type)
        )));
    }
    let file = open_found(&found, write, &name)?;
    let is_device = file_type == FileType::BlockDevice;
    if lock::lock(&file, is_device, write, &name)? == Locked::Unsupported {
        log.warning(&lock::warning(&name, write));
    }
    let claim = (is_device && write)
        .then(|| claim(&file, &name))
        .transpose()?;
    let kind = if is_device {
        Kind::Device {
            granularity_bytes: device::granularity_bytes(&file)
                .map_err(|error| cannot_open(&name, error))?,
        }
    } else {
        Kind::File
    };
    // A device's inode has no size; its end is where seeking leads for both.
    let size_bytes = rustix::fs::seek(&file, SeekFrom::End(0))
        .map_err(|errno| cannot_open(&name, errno.into()))?;
    let mut disk = Disk::new(file, kind, size_bytes, name, write);
    disk.claim = claim;
    Ok(disk)
}

fn look_up(path: &Path, name: &str) -> Result<OwnedFd, OpenError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
        match errno {
            Errno::NOENT => OpenError::new(format!("{name}: no such file; {FORMS}")),
            _ => cannot_open(name, errno.into()),
        }
    })
}

fn open_found(found: &OwnedFd, write: bool, name: &str) -> Result<File, OpenError> {
    disk::reopen(found, write).map_err(|error| {
        if write && disk::reopen(found, false).is_ok() {
            OpenError::new(format!(
                "{name} cannot be written to ({}); with --read-only it can be served",
                reason(&error)
            ))
        } else {
            cannot_open(name, error)
        }
    })
}

/// Somebody who mounted a device keeps what was read from it: writing to it beside them destroys it.
fn claim(file: &File, name: &str) -> Result<File, OpenError> {
    if device::is_read_only(file).map_err(|error| cannot_open(name, error))? {
        return Err(OpenError::new(format!(
            "{name} is a read-only device; with --read-only it can be served"
        )));
    }
    device::claim(file).map_err(|errno| match errno {
        Errno::BUSY => OpenError::new(format!(
            "{name} is in use by this machine: it or a part of it is mounted, swap, served as another \
             export, or belongs to another device; release it, or serve it with --read-only"
        )),
        _ => cannot_open(name, errno.into()),
    })
}

fn description(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        _ => "no file or block device",
    }
}

fn cannot_open(name: &str, error: io::Error) -> OpenError {
    OpenError::new(format!("{name} cannot be opened: {}", reason(&error)))
}
