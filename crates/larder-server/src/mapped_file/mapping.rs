//! A range of a file in the address space, to copy from.

#![expect(unsafe_code, reason = "a mapping is an address")]

use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{Ordering, fence};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::bus_error::{self, Watched};

/// The first bytes of a file, mapped to be read.
pub(super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
    watched: Watched,
}

// SAFETY: the address stays valid until the mapping is dropped, whoever uses it, and is only read from.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// None where the system, or a limit of the process, does not allow it: that costs speed only.
    /// The file may still be shorter.
    pub(super) fn new(file: impl AsFd, length_bytes: u64) -> Option<Self> {
        let length = usize::try_from(length_bytes)
            .ok()
            .filter(|length| *length > 0)?;
        // SAFETY: the system chooses an address that nothing else uses.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED | MapFlags::NORESERVE,
                file,
                0,
            )
        };
        let start = NonNull::new(start.ok()?)?;
        // Neighbours in the file are no neighbours on the disk that is cached; neither commands that are run nor core
        // files need the cache. All of it is advice.
        for advice in [Advice::Random, Advice::LinuxDontFork, Advice::LinuxDontDump] {
            // SAFETY: the range was mapped above, and none of the advice changes what is read from it.
            let _ = unsafe { rustix::mm::madvise(start.as_ptr(), length, advice) };
        }
        match bus_error::watch(start.as_ptr() as usize, length) {
            Some(watched) => Some(Self {
                start: start.cast(),
                length,
                watched,
            }),
            None => {
                // SAFETY: the range was mapped above, and nobody else knows of it.
                let _ = unsafe { rustix::mm::munmap(start.as_ptr(), length) };
                None
            }
        }
    }

    /// Copies from the file. False if the range is not mapped, or could not be read: then
    /// `buffer` holds anything, and the system will say what is wrong.
    ///
    /// Where somebody writes to the range at the same time, `buffer` holds a mixture, as from a system call.
    pub(super) fn copy(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let Ok(offset) = usize::try_from(offset) else {
            return false;
        };
        let is_within = offset
            .checked_add(buffer.len())
            .is_some_and(|end| end <= self.length);
        if !is_within || self.watched.is_broken() {
            return false;
        }
        // SAFETY: the source is within the mapping, which lives as long as self, and only the system writes to it;
        // the target is a buffer of ours. Pages that cannot be had are dealt with by whoever watches the range.
        unsafe {
            let source = self.start.as_ptr().add(offset);
            ptr::copy_nonoverlapping(source, buffer.as_mut_ptr(), buffer.len());
        }
        // What was copied is older than the look whether it counts, here and at the slot's owner.
        fence(Ordering::SeqCst);
        !self.watched.is_broken()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.watched.end();
        // SAFETY: the range was mapped for this value alone, which is going.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
