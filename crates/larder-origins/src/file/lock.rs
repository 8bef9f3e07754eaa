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
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// Locks a file, or a device if `is_device` is true: for us alone if `write` is true.
pub(super) fn lock(file: &File, is_device: bool, write: bool, name: &str) -> Result<(), OpenError> {
    let operation = if write {
        FlockOperation::NonBlockingLockExclusive
    } else {
        FlockOperation::NonBlockingLockShared
    };
    let deadline = Instant::now() + if is_device { PATIENCE } else { Duration::ZERO };
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(refused(write, name)),
            // A file system without locks: as good as no lock was ever taken.
            Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => return Ok(()),
            Err(errno) => {
                let reason = reason(&io::Error::from(errno));
                return Err(OpenError::new(format!("{name} cannot be locked: {reason}")));
            }
        }
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
