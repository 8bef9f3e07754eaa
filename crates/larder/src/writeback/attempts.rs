//! A batch's requests to the origin, and when it is no use to go on with them.
//!
//! An origin that is cut off answers nothing, and each request waits for it as long as an origin waits. A batch
//! may have thousands of requests: the first that waits in vain, while none at all is answered, is the last that is made. One that is
//! answered by nobody while others are is one bad place, and keeps only itself.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::attached::Attached;
use crate::origin::is_silence;

/// The requests of one batch.
pub(super) struct Attempts<'a> {
    writer: &'a Attached,
    /// How many were answered, well or not.
    answers: AtomicU64,
    is_silent: AtomicBool,
}

impl<'a> Attempts<'a> {
    /// None made yet.
    pub(super) fn new(writer: &'a Attached) -> Self {
        Self {
            writer,
            answers: AtomicU64::new(0),
            is_silent: AtomicBool::new(false),
        }
    }

    /// Whether the origin answers nothing.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.load(Ordering::SeqCst)
    }

    /// Makes a request, unless the origin answers nothing.
    pub(super) fn attempt(
        &self,
        request: impl FnOnce(&Attached) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.is_silent() {
            return Err(io::Error::other("not tried, since the origin is silent"));
        }
        let before = self.answers.load(Ordering::SeqCst);
        let answered = request(self.writer);
        if !answered.as_ref().is_err_and(is_silence) {
            self.answers.fetch_add(1, Ordering::SeqCst);
        } else if self.answers.load(Ordering::SeqCst) == before {
            self.is_silent.store(true, Ordering::SeqCst);
        }
        answered
    }
}
