//! Who may call the next layer now: the rules that keep safe code inside nbdkit's thread model,
//! and keep everybody out once the connection is finalized.
//!
//! Invariants:
//! - After [`Access::close`] has returned no call is in flight and none will start.
//! - In a parallel model a call costs two atomic operations and may come from any thread.
//! - In any other model a call is let in only while a callback of this very connection runs
//!   (nbdkit then holds the locks that the model asks for), one at a time, from whichever thread;
//!   a callback does not end before the calls it let in have.
//!
//! Lock order: `Serial::callbacks` and `Parallel::emptied` are leaves; only the former is held over
//! a call, which is its purpose.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::capabilities::ThreadModel;
use crate::error::{Error, Result};

const CLOSED: u64 = 1 << 63;

/// The door of one connection's next layer.
#[derive(Debug)]
pub(crate) enum Access {
    Parallel(Parallel),
    Serial(Serial),
}

/// Bit 63 says closed, the rest counts the calls in flight.
#[derive(Debug, Default)]
pub(crate) struct Parallel {
    state: AtomicU64,
    emptied: Mutex<()>,
    wake: Condvar,
}

/// The lock is held over each call, and counts the callbacks of the connection that are running.
/// `closed` changes under the lock; a glance at it needs none.
#[derive(Debug, Default)]
pub(crate) struct Serial {
    closed: AtomicBool,
    callbacks: Mutex<u32>,
}

/// One call in flight.
#[derive(Debug)]
pub(crate) enum Pass<'a> {
    Parallel(&'a Parallel),
    Serial(#[allow(dead_code, reason = "held for its lock")] MutexGuard<'a, u32>),
}

/// A callback of the connection that is running.
#[derive(Debug)]
pub(crate) struct Window<'a>(&'a Access);

impl Access {
    pub(crate) fn new(model: ThreadModel) -> Self {
        match model {
            ThreadModel::Parallel => Self::Parallel(Parallel::default()),
            _ => Self::Serial(Serial::default()),
        }
    }

    /// Lets one call in, or says why not.
    pub(crate) fn enter(&self) -> Result<Pass<'_>> {
        match self {
            Self::Parallel(parallel) => {
                if parallel.state.fetch_add(1, Ordering::AcqRel) & CLOSED != 0 {
                    parallel.leave();
                    return Err(shut());
                }
                Ok(Pass::Parallel(parallel))
            }
            Self::Serial(serial) => {
                let callbacks = lock(&serial.callbacks);
                if serial.closed.load(Ordering::Relaxed) {
                    Err(shut())
                } else if *callbacks == 0 {
                    Err(Error::new(
                        libc::EBUSY,
                        "the thread model is not parallel: the next layer can be called only \
                         while a request of the same connection is served",
                    ))
                } else {
                    Ok(Pass::Serial(callbacks))
                }
            }
        }
    }

    /// Tells that a callback of this connection runs until the result is dropped.
    pub(crate) fn window(&self) -> Window<'_> {
        if let Self::Serial(serial) = self {
            *lock(&serial.callbacks) += 1;
        }
        Window(self)
    }

    /// Shuts the door and waits until everybody has left. Idempotent.
    pub(crate) fn close(&self) {
        match self {
            Self::Parallel(parallel) => parallel.close(),
            Self::Serial(serial) => {
                let _no_call = lock(&serial.callbacks);
                serial.closed.store(true, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Parallel(parallel) => parallel.state.load(Ordering::Acquire) & CLOSED != 0,
            Self::Serial(serial) => serial.closed.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn is_parallel(&self) -> bool {
        matches!(self, Self::Parallel(_))
    }
}

impl Parallel {
    fn leave(&self) {
        // The last one out of a closed door wakes whoever closes it.
        if self.state.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            drop(lock(&self.emptied));
            self.wake.notify_all();
        }
    }

    fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
        let mut guard = lock(&self.emptied);
        while self.state.load(Ordering::Acquire) != CLOSED {
            guard = self
                .wake
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Self::Parallel(parallel) = self {
            parallel.leave();
        }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        if let Access::Serial(serial) = self.0 {
            *lock(&serial.callbacks) -= 1;
        }
    }
}

fn shut() -> Error {
    Error::new(libc::ESHUTDOWN, "the connection has been finalized")
}

/// A panic elsewhere cannot leave these locks' content half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
