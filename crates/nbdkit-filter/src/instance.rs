//! The one instance of a filter in this process, through its two phases.
//!
//! Invariant: [`Instance::freeze`] moves it from the mutable place to the shared one, once. From
//! then on it never moves and is never dropped.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::capabilities::ThreadModel;
use crate::error::{Error, Result};

/// Where [`register!`](crate::register) keeps the filter.
#[derive(Debug)]
pub struct Instance<F> {
    configuring: Mutex<Option<F>>,
    serving: OnceLock<F>,
    model: AtomicI32,
}

impl<F> Instance<F> {
    /// A place with nothing in it.
    pub const fn new() -> Self {
        Self {
            configuring: Mutex::new(None),
            serving: OnceLock::new(),
            model: AtomicI32::new(0),
        }
    }

    pub(crate) fn load(&self, filter: F) {
        *self
            .configuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(filter);
    }

    /// Runs something that changes the filter.
    pub(crate) fn configure<T>(&self, run: impl FnOnce(&mut F) -> Result<T>) -> Result<T> {
        let mut filter = self
            .configuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        run(filter
            .as_mut()
            .ok_or_else(|| Error::new(libc::EIO, "the filter could not be loaded"))?)
    }

    /// Ends the configuration. Without a known model the strictest holds.
    pub(crate) fn freeze(&self, model: ThreadModel) -> Result<()> {
        let filter = self
            .configuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.model.store(model.to_raw(), Ordering::Release);
        self.serving
            .set(filter.ok_or_else(absent)?)
            .map_err(|_| absent())
    }

    /// The filter as callbacks see it while serving.
    pub(crate) fn serving(&self) -> Result<&F> {
        self.serving.get().ok_or_else(absent)
    }

    /// Runs something that only looks at the filter, in either phase; nothing if there is none.
    pub(crate) fn look(&self, run: impl FnOnce(&F)) {
        if let Some(filter) = self.serving.get() {
            return run(filter);
        }
        let filter = self
            .configuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = filter.as_ref() {
            run(filter);
        }
    }

    pub(crate) fn model(&self) -> ThreadModel {
        ThreadModel::from_raw(self.model.load(Ordering::Acquire))
            .unwrap_or(ThreadModel::SerializeConnections)
    }
}

impl<F> Default for Instance<F> {
    fn default() -> Self {
        Self::new()
    }
}

fn absent() -> Error {
    Error::new(
        libc::EIO,
        "the filter is not in the phase for this callback",
    )
}
