//! A failure that the next flush of a handle has to tell.
//!
//! A change that syncs what it wrote may be told of the failure of earlier writes, and by that the
//! kernel counts its open file description as told. But who made the change takes it for the
//! failure of that change alone.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// The last such failure of one handle: an errno, 0 if there is none.
#[derive(Debug, Default)]
pub(super) struct Owed(AtomicI32);

impl Owed {
    /// Passes on the outcome of a change's own sync. A failure is remembered.
    pub(super) fn note(&self, synced: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &synced
            && let Some(errno) = error.raw_os_error()
        {
            self.0.store(errno, Ordering::SeqCst);
        }
        synced
    }

    /// Makes the outcome of a flush tell what is owed, once. To be called after the flush.
    pub(super) fn settle(&self, flushed: io::Result<()>) -> io::Result<()> {
        let errno = self.0.swap(0, Ordering::SeqCst);
        flushed?;
        match errno {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(errno: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(errno))
    }

    fn errno(result: io::Result<()>) -> Option<i32> {
        result.unwrap_err().raw_os_error()
    }

    #[test]
    fn a_failure_is_told_by_the_next_flush_and_by_no_other() {
        let owed = Owed::default();
        owed.note(Ok(())).unwrap();
        owed.settle(Ok(())).unwrap();
        assert_eq!(errno(owed.note(failure(28))), Some(28));
        owed.note(Ok(())).unwrap();
        assert_eq!(errno(owed.settle(Ok(()))), Some(28));
        owed.settle(Ok(())).unwrap();
    }

    #[test]
    fn a_flush_that_fails_by_itself_tells_all() {
        let owed = Owed::default();
        owed.note(failure(28)).unwrap_err();
        assert_eq!(errno(owed.settle(failure(5))), Some(5));
        owed.settle(Ok(())).unwrap();
    }
}
