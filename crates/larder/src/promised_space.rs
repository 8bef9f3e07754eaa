//! Space on a file system that lives in memory, promised instead of taken.
//!
//! tmpfs gives a file its pages one by one, under the file's one lock: 17 µs for the 16 pages of a block of
//! which a write of 4 KiB needs one. It has no delayed allocation either: a write that succeeds has its page. So a
//! slot there is only promised its space, as long as the file system has more left than is promised already, and gets
//! each page with the write that needs it. Should somebody else take what was promised, that write fails before it is
//! acknowledged, and goes past the cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;

use rustix::io::Errno;

use crate::sync;

/// `f_type` of tmpfs: `TMPFS_MAGIC` in the kernel's `linux/magic.h`.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// The most that is promised before the file system is asked again, in bytes.
const MOST_CREDIT: u64 = 4 << 20;

#[derive(Debug, Default)]
struct State {
    /// All that was promised, in bytes.
    promised: u64,
    /// How much more may be promised before the file system is asked.
    credit: u64,
}

/// What a file was promised.
#[derive(Debug, Default)]
pub(crate) struct PromisedSpace {
    state: Mutex<State>,
}

impl PromisedSpace {
    /// For a file on tmpfs with a limit of its own; nothing for any other, which must take its space.
    pub(crate) fn of(file: &File) -> io::Result<Option<Self>> {
        let system = rustix::fs::fstatfs(file)?;
        // Without a limit it does not say what is left.
        let is_promising = system.f_type as u64 == TMPFS_MAGIC && system.f_blocks > 0;
        Ok(is_promising.then(Self::default))
    }

    /// Promises so many bytes of the file their space. Fails with ENOSPC where there is less than that left beside
    /// what was promised before.
    pub(crate) fn promise(&self, file: &File, length: u64) -> io::Result<()> {
        let mut state = sync::lock(&self.state);
        if state.credit < length {
            let spare = spare(file, state.promised)?;
            if spare < length {
                state.credit = 0;
                return Err(Errno::NOSPC.into());
            }
            // The nearer the end, the more often it is asked.
            state.credit = (spare / 8).min(MOST_CREDIT).max(length);
        }
        state.credit -= length;
        state.promised += length;
        Ok(())
    }
}

/// What the file system has left beside what is promised to the file and not taken yet, in bytes.
fn spare(file: &File, promised: u64) -> io::Result<u64> {
    // The file first: what it takes in between is counted twice, and not forgotten.
    let taken = file.metadata()?.blocks() * 512;
    let system = rustix::fs::fstatvfs(file)?;
    let left = system.f_bavail * system.f_frsize;
    Ok(left.saturating_sub(promised.saturating_sub(taken)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file_in(directory: &str) -> File {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::TMPFILE;
        rustix::fs::open(directory, flags, rustix::fs::Mode::RUSR)
            .unwrap()
            .into()
    }

    #[test]
    fn what_is_promised_is_not_taken_and_counts_as_taken() {
        let file = file_in("/dev/shm");
        let space = PromisedSpace::of(&file).unwrap().unwrap();
        let before = spare(&file, 0).unwrap();
        space.promise(&file, 1 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 0);
        file.write_all_at(&[1; 4096], 8192).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), 8);
        // Others use it too: only what is certain.
        assert!(spare(&file, before * 2).unwrap() < before);
    }

    #[test]
    fn more_than_there_is_cannot_be_promised() {
        let file = file_in("/dev/shm");
        let space = PromisedSpace::of(&file).unwrap().unwrap();
        let most = {
            let system = rustix::fs::fstatvfs(&file).unwrap();
            system.f_blocks * system.f_frsize
        };
        let error = space.promise(&file, most * 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let mut promised = 0;
        while space.promise(&file, most / 64).is_ok() {
            promised += most / 64;
            assert!(promised <= most, "{promised} promised of {most}");
        }
        // Small ones may still fit, but not for ever.
        while space.promise(&file, 65_536).is_ok() {
            promised += 65_536;
            assert!(promised <= most, "{promised} promised of {most}");
        }
        assert!(space.promise(&file, 65_536).is_err());
    }
}
