//! Who else may use the file meanwhile: one server that writes, or any number that read.
//!
//! Two caches over one file would each keep what the other has overwritten. The lock is flock(2),
//! which binds only those who ask: qemu, nbdkit and cp read on. It belongs to the source's open
//! file description and goes when the last handle has gone, or with the process.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::OpenError;
use crate::reason::reason;

/// How long somebody else's lock of a device is waited for. udev takes one for a moment when it looks
/// at a device that has just appeared or was just closed by a writer.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait between two tries.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// What became of locking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locked {
    Yes,
    /// The file system has no locks: nobody is kept away, and nobody is seen.
    Unsupported,
}

/// Locks a file, or a device if `is_device` is true: for us alone if `write` is true.
pub(super) fn lock(
    file: &File,
    is_device: bool,
    write: bool,
    name: &str,
) -> Result<Locked, OpenError> {
    let operation = if write {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    let deadline = Instant::now() + if is_device { PATIENCE } else { Duration::ZERO };
    loop {
        match outcome(rustix::fs::flock(file, operation)) {
            Ok(locked) => return Ok(locked),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(refused(write, name)),
            Err(errno) => {
                let reason = reason(&io::Error::from(errno));
                return Err(OpenError::new(format!("{name} cannot be locked: {reason}")));
            }
        }
    }
}

/// What an operator is to know of a file that cannot be locked.
pub(super) fn warning(name: &str, write: bool) -> String {
    let others = match write {
        true => "another server that writes to it, or reads it,",
        false => "another server that writes to it",
    };
    format!("{name} is on a file system without locks (flock): {others} is not noticed")
}

/// The error is one of somebody who has it locked, or of something else.
fn outcome(result: Result<(), Errno>) -> Result<Locked, Errno> {
    match result {
        Ok(()) => Ok(Locked::Yes),
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
            Ok(Locked::Unsupported)
        }
        Err(errno) => Err(errno),
    }
}

fn refused(write: bool, name: &str) -> OpenError {
    OpenError::new(if write {
        format!(
            "{name} is in use by another export or program (it is locked); end that one, or serve \
             it with --read-only everywhere"
        )
    } else {
        format!(
            "{name} is being written to by another export or program (it is locked); end that one \
             first"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_of_somebody_else() {
        assert_eq!(outcome(Ok(())), Ok(Locked::Yes));
        for errno in [Errno::NOLCK, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS] {
            assert_eq!(outcome(Err(errno)), Ok(Locked::Unsupported));
        }
        for errno in [Errno::WOULDBLOCK, Errno::INTR, Errno::IO] {
            assert_eq!(outcome(Err(errno)), Err(errno));
        }
        let told = warning("/mnt/disk", true);
        assert!(told.starts_with("/mnt/disk is on a file system without locks"));
    }
}
