//! One client's own handle of a file: reads, writes and flushes.
//!
//! Linux tells a failed writeback once to each open file description, by its next fdatasync. So
//! each handle has its own: an error that one client was told is not thereby hidden from another.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use larder::{Capabilities, Extent, Origin, RequestLimits, ZeroOptions};
use rustix::io::{Errno, ReadWriteFlags};

use super::disk::{self, Disk};
use super::extents;

/// A handle. Every read and write names its offset, so that threads share it freely.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) file: File,
    pub(super) disk: Arc<Disk>,
    capabilities: Capabilities,
}

impl Handle {
    /// A new handle of the disk.
    pub(super) fn new(disk: Arc<Disk>) -> io::Result<Self> {
        Ok(Self {
            file: disk::reopen(&disk.file, disk.write)?,
            capabilities: disk.capabilities(),
            disk,
        })
    }

    /// Writes and syncs in one call each, which syncs only what was written; where the kernel does
    /// not know that, the whole file is synced.
    fn write_durably(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() && !self.disk.durable_write.known() {
            let slices = [IoSlice::new(data)];
            match rustix::io::pwritev2(&self.file, &slices, offset, ReadWriteFlags::DSYNC) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    data = &data[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.disk.durable_write.remember(),
                Err(errno) => return Err(errno.into()),
            }
        }
        if data.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(data, offset)?;
        self.flush()
    }
}

impl Origin for Handle {
    fn size(&self) -> u64 {
        self.disk.size_bytes
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn limits(&self) -> RequestLimits {
        self.disk.limits()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.disk.truncated(),
                _ => error,
            })
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        if fua {
            self.write_durably(offset, data)
        } else {
            self.file.write_all_at(data, offset)
        }
    }

    fn flush(&self) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&self.file))?;
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        self.zero_range(offset, length, options)?;
        if options.fua {
            self.flush()?;
        }
        Ok(())
    }

    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()> {
        self.trim_range(offset, length)?;
        if fua {
            self.flush()?;
        }
        Ok(())
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
        if !self.capabilities.extents {
            return Ok(vec![extents::data(length)]);
        }
        let extents = extents::find(&self.file, offset, length, one)?;
        // Looked at last: the end of a file that was truncated meanwhile looked like a hole.
        let size_bytes = self.file.metadata()?.len();
        if size_bytes < offset + length {
            return Err(self.disk.truncated());
        }
        Ok(extents)
    }
}
