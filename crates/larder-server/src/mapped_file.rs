//! The file with the cache's slots, read through a mapping where that is cheaper than a system call.
//!
//! A hit is a copy of a few KiB, and asking the system for it costs several times what the copy does:
//! the pages are looked up one by one in the file's tree. A mapping has them in the processor's own tables. What is
//! feared of mappings is dealt with:
//! - A page that cannot be had (a bad sector, a file that was cut) is a signal: [`bus_error`] makes of it a copy that
//!   does not count, and the system is asked instead, which gives the error.
//! - A full disk is never met: only what was written is read, and nothing is written through the mapping.
//! - Page tables are memory too, 1/512 of what is mapped: no more is mapped than a quarter of the memory that the server may
//!   use, and nothing where its address space is limited.
//! - Not every file system shows in a mapping what a system call wrote: only those known to do are mapped.
//! - A page that must come from a disk comes alone, where a system call would bring a request's pages at
//!   once: only requests of a page are read so, except where the file lives in memory.

mod bus_error;
mod mapping;
mod memory_limit;

use std::io;
use std::os::fd::AsFd;

use larder::{CacheFile, MediumFile};
use mapping::Mapping;
use rustix::fs::FsWord;

/// The longest read through the mapping of a file on a disk, in bytes.
const SHORT_BYTES: usize = 4 << 10;
/// What statfs(2) says of a tmpfs.
const TMPFS: FsWord = 0x0102_1994;
/// What it says of the file systems on disks whose mappings and system calls share the page cache: ext2 to ext4, XFS,
/// Btrfs, F2FS.
const WITH_PAGE_CACHE: [FsWord; 4] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010];

/// A file and its mapping, if it could be mapped.
pub(crate) struct MappedFile<F> {
    file: F,
    mapping: Option<Mapping>,
    longest_bytes: usize,
}

impl<F: CacheFile + AsFd> MappedFile<F> {
    /// Maps what a cache of at most `limit_bytes` is going to use.
    pub(crate) fn new(file: F, limit_bytes: u64) -> Self {
        let kind = rustix::fs::fstatfs(&file).map_or(0, |found| found.f_type);
        let longest_bytes = match kind {
            TMPFS => usize::MAX,
            _ if WITH_PAGE_CACHE.contains(&kind) => SHORT_BYTES,
            _ => 0,
        };
        let length = limit_bytes.min(memory_limit::bytes() / 4);
        let may_be_mapped = longest_bytes > 0 && !memory_limit::is_address_space_limited();
        Self {
            mapping: may_be_mapped.then(|| Mapping::new(&file, length)).flatten(),
            longest_bytes,
            file,
        }
    }
}

impl<F: CacheFile + AsFd> CacheFile for MappedFile<F> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let Some(mapping) = &self.mapping
            && buffer.len() <= self.longest_bytes
            && mapping.copy(offset, buffer)
        {
            return Ok(());
        }
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

impl<F: MediumFile + AsFd> MediumFile for MappedFile<F> {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.file.set_length(length_bytes)
    }

    fn give_back(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.give_back(offset, length)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::path::Path;

    use larder::cache_file::TemporaryFile;

    use super::*;

    const LENGTH: u64 = 1 << 20;

    fn file_in(directory: &Path) -> TemporaryFile {
        let file = TemporaryFile::create_in(directory).unwrap();
        file.allocate(0, LENGTH).unwrap();
        file
    }

    /// The same file by a path, as an operator could reach it.
    fn reopened(file: &MappedFile<TemporaryFile>) -> File {
        let descriptor = file.file.as_fd().as_raw_fd();
        File::options()
            .write(true)
            .open(format!("/proc/self/fd/{descriptor}"))
            .unwrap()
    }

    #[test]
    fn what_is_written_is_read_through_the_mapping() {
        for directory in ["/dev/shm", "/var/tmp"] {
            let mapped = MappedFile::new(file_in(Path::new(directory)), LENGTH);
            let (mut whole, mut middle) = ([0; 4096], [0; 100]);
            mapped.write(8192, &[7; 4096]).unwrap();
            assert!(mapped.mapping.as_ref().unwrap().copy(8192, &mut whole));
            assert_eq!(whole, [7; 4096]);
            mapped.write(8200, &[9; 50]).unwrap();
            mapped.read(8150, &mut middle).unwrap();
            assert_eq!(middle[..50], [&[0; 42][..], &[7; 8]].concat());
            assert_eq!(middle[50..], [9; 50]);
        }
    }

    #[test]
    fn beyond_the_mapping_the_system_is_asked() {
        let mapped = MappedFile::new(file_in(Path::new("/dev/shm")), LENGTH / 2);
        let mut buffer = [0; 4096];
        mapped.write(LENGTH / 2 - 2048, &[7; 4096]).unwrap();
        assert!(
            !mapped
                .mapping
                .as_ref()
                .unwrap()
                .copy(LENGTH / 2 - 2048, &mut buffer)
        );
        mapped.read(LENGTH / 2 - 2048, &mut buffer).unwrap();
        assert_eq!(buffer, [7; 4096]);
        assert!(mapped.read(u64::MAX - 10, &mut buffer).is_err());
    }

    #[test]
    fn a_file_that_was_cut_is_an_error_and_no_signal() {
        for directory in ["/dev/shm", "/var/tmp"] {
            let mapped = MappedFile::new(file_in(Path::new(directory)), LENGTH);
            mapped.write(0, &[7; 4096]).unwrap();
            reopened(&mapped).set_len(4096).unwrap();
            let mut buffer = [1; 4096];
            let error = mapped.read(LENGTH / 2, &mut buffer).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            // From now on the system is asked for everything.
            assert!(!mapped.mapping.as_ref().unwrap().copy(0, &mut buffer));
            mapped.read(0, &mut buffer).unwrap();
            assert_eq!(buffer, [7; 4096]);
        }
    }

    #[test]
    fn readers_at_once_all_get_the_error() {
        let mapped = MappedFile::new(file_in(Path::new("/dev/shm")), LENGTH);
        mapped.write(0, &[7; LENGTH as usize]).unwrap();
        let file = reopened(&mapped);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut buffer = vec![0; 64 << 10];
                        loop {
                            match mapped.read(LENGTH / 2, &mut buffer) {
                                Ok(()) => assert!(buffer.iter().all(|byte| *byte == 7)),
                                Err(error) => return error.kind(),
                            }
                        }
                    })
                })
                .collect();
            file.set_len(LENGTH / 4).unwrap();
            for reader in readers {
                assert_eq!(reader.join().unwrap(), io::ErrorKind::UnexpectedEof);
            }
        });
    }
}
