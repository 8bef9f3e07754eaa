//! What the server says, and where: messages on standard error around a live line that may be there,
//! and what is served on standard output.
//!
//! Nothing here fails: a terminal or a log that has gone away must not stop a server.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use larder::Log;
use larder_frontend::report::one_line;

/// Standard output and standard error.
#[derive(Debug)]
pub(crate) struct Console {
    /// Whether somebody wants to hear what happens to each block.
    is_verbose: bool,
    /// The line that is being drawn, while there is one.
    bar: Mutex<Option<ProgressBar>>,
}

impl Console {
    pub(crate) fn new(is_verbose: bool) -> Self {
        Self {
            is_verbose,
            bar: Mutex::default(),
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws `bar` at the end of standard error from now on, and messages above it; or nothing any more.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        let mut current = self.bar();
        if let Some(old) = current.take() {
            old.finish_and_clear();
        }
        *current = bar;
    }

    /// Moves the bar that is drawn to a position.
    pub(crate) fn move_bar(&self, position: u64) {
        if let Some(bar) = &*self.bar() {
            bar.set_position(position);
        }
    }

    /// A line for a person, on standard error.
    pub(crate) fn say(&self, message: &str) {
        let line = format!("larder: {}\n", one_line(message));
        self.around_bar(|| {
            let _ = io::stderr().write_all(line.as_bytes());
        });
    }

    /// A line for a person or a program, on standard output, out of this process on return.
    pub(crate) fn print(&self, message: &str) {
        let line = format!("larder: {}\n", one_line(message));
        self.around_bar(|| {
            let mut out = io::stdout().lock();
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        });
    }

    fn around_bar(&self, write: impl FnOnce()) {
        match &*self.bar() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Log for Console {
    fn error(&self, message: &str) {
        self.say(message);
    }

    fn warning(&self, message: &str) {
        self.say(&format!("warning: {message}"));
    }

    fn debug(&self, message: &str) {
        if self.is_verbose {
            self.say(message);
        }
    }

    fn verbose(&self) -> bool {
        self.is_verbose
    }
}
