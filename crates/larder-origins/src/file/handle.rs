//! One client's own handle of a file: reads, writes and flushes.
//!
//! Linux tells a failed writeback once to each open file description, by its next fdatasync. So
//! each handle has its own: an error that one client was told is not thereby hidden from another.
//! What a durable change was told instead, the next flush tells again: see `owed.rs`.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use larder::{Capabilities, Extent, Origin, OriginVersion, RequestLimits, ZeroOptions};
use rustix::io::{Errno, ReadWriteFlags};

use super::disk::{self, Disk, Kind};
use super::owed::Owed;
use super::{extents, version};

/// A handle. Every read and write names its offset, so that threads share it freely.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) file: File,
    pub(super) disk: Arc<Disk>,
    capabilities: Capabilities,
    owed: Owed,
}

impl Handle {
    /// A new handle of the disk.
    pub(super) fn new(disk: Arc<Disk>) -> io::Result<Self> {
        Ok(Self {
            file: disk::reopen(&disk.file, disk.write)?,
            capabilities: disk.capabilities(),
            owed: Owed::default(),
            disk,
        })
    }

    /// Where a part of it is zeroed or discarded. Of a device by who holds it: from anybody else the kernel
    /// refuses that while a page of the part is dirty.
    pub(super) fn commanded(&self) -> &File {
        self.disk.claim.as_ref().unwrap_or(&self.file)
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
                Err(errno) => return self.owed.note(Err(errno.into())),
            }
        }
        if data.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(data, offset)?;
        self.sync_change()
    }

    /// Makes a change durable that is made.
    fn sync_change(&self) -> io::Result<()> {
        self.owed.note(self.sync())
    }

    fn sync(&self) -> io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&self.file))?;
        Ok(())
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
        self.disk.check_found()?;
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.disk.truncated(),
                _ => error,
            })
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        self.disk.check_length(&self.file)?;
        if fua {
            self.write_durably(offset, data)
        } else {
            self.file.write_all_at(data, offset)
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.owed.settle(self.sync())?;
        self.disk.check_length(&self.file)
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        self.disk.check_length(&self.file)?;
        self.zero_range(offset, length, options)?;
        if options.fua {
            self.sync_change()?;
        }
        Ok(())
    }

    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()> {
        self.disk.check_length(&self.file)?;
        self.trim_range(offset, length)?;
        if fua {
            self.sync_change()?;
        }
        Ok(())
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
        self.disk.check_found()?;
        if !self.capabilities.extents {
            return Ok(vec![extents::data(length)]);
        }
        let extents = extents::find(&self.file, offset, length, one)?;
        // Looked at last: the end of a file that was truncated meanwhile looked like a hole.
        let size_bytes = disk::length_bytes(&self.file)?;
        if size_bytes < offset + length {
            return Err(self.disk.truncated());
        }
        Ok(extents)
    }

    fn version(&self) -> io::Result<Option<OriginVersion>> {
        match self.disk.kind {
            Kind::File => version::of(&self.file).map(Some),
            // A device's number tells nothing of what is in it, and memory begins empty each time.
            Kind::Device { .. } | Kind::Memory => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle(kind: Kind) -> Handle {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = File::from(fd);
        file.write_all_at(&[9; 10_000], 0).unwrap();
        let disk = Disk::new(file, kind, 10_000, "test".into(), true);
        Handle::new(Arc::new(disk)).unwrap()
    }

    fn content(handle: &Handle) -> Vec<u8> {
        let mut bytes = vec![0xAA; 10_000];
        handle.read(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_kernel_without_durable_writes_gets_a_write_and_a_flush() {
        let handle = handle(Kind::File);
        handle.disk.durable_write.remember();
        handle.write(5000, b"durable", true).unwrap();
        assert_eq!(&content(&handle)[4999..5008], b"\x09durable\x09");
    }

    #[test]
    fn a_file_system_that_lacks_everything_gets_zeros_and_keeps_what_is_trimmed() {
        let handle = handle(Kind::File);
        handle.disk.punch.remember();
        handle.disk.zero_range.remember();
        let fast = ZeroOptions {
            may_trim: true,
            fua: false,
            fast: true,
        };
        let refused = handle.zero(100, 9000, fast).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::NOTSUP.raw_os_error()));
        handle.trim(100, 9000, true).unwrap();
        assert_eq!(content(&handle), [9; 10_000]);
        let slow = ZeroOptions {
            fast: false,
            ..fast
        };
        handle.zero(100, 9000, slow).unwrap();
        let expected = [vec![9; 100], vec![0; 9000], vec![9; 900]].concat();
        assert_eq!(content(&handle), expected);
        let next = Handle::new(Arc::clone(&handle.disk))
            .unwrap()
            .capabilities();
        assert!(!next.zero && !next.fast_zero && !next.trim && next.write);
        assert!(handle.capabilities().zero);
    }

    #[test]
    fn units_of_a_device_are_zeroed_and_the_rest_is_written() {
        // memfd does not zero without a hole, and stands for a device that does not.
        let handle = handle(Kind::Device {
            granularity_bytes: 4096,
        });
        let mut options = ZeroOptions::default();
        for (offset, length) in [(1, 9999), (4095, 4098), (10, 20), (4096, 4096)] {
            for may_trim in [false, true] {
                handle.write(0, &[9; 10_000], false).unwrap();
                options.may_trim = may_trim;
                handle.zero(offset, length, options).unwrap();
                let (offset, length) = (offset as usize, length as usize);
                let mut expected = vec![9; 10_000];
                expected[offset..offset + length].fill(0);
                assert_eq!(content(&handle), expected);
            }
        }
    }

    #[test]
    fn what_a_device_refuses_changes_nothing() {
        let handle = handle(Kind::Device {
            granularity_bytes: 4096,
        });
        let fast = ZeroOptions {
            may_trim: true,
            fua: false,
            fast: true,
        };
        for (offset, length) in [(1, 4096), (0, 8192)] {
            let refused = handle.zero(offset, length, fast).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(Errno::NOTSUP.raw_os_error()));
            assert_eq!(content(&handle), [9; 10_000]);
        }
        // No such command: a trim is advice.
        handle.trim(0, 8192, false).unwrap();
        assert_eq!(content(&handle), [9; 10_000]);
    }
}
