//! What the engine has to say, put into nbdkit's log.
//!
//! nbdkit has two levels: errors, which are always seen, and debug messages, which are seen with
//! `-v`. A warning goes out as an error whose text begins with `warning:`, since it is nothing
//! worth if nobody sees it. What happens to each block is told with `-v -D cache.verbose=1`, as
//! by the filter this one replaces.

use larder::Log;
use larder_frontend::report::one_line;
use nbdkit_filter::{Error, log};

use crate::debug_verbose;

/// nbdkit's log.
#[derive(Debug)]
pub(crate) struct NbdkitLog;

impl Log for NbdkitLog {
    fn error(&self, message: &str) {
        log::error(&format!("cache: {}", one_line(message)));
    }

    fn warning(&self, message: &str) {
        warning(message);
    }

    fn debug(&self, message: &str) {
        if self.verbose() {
            log::debug(&format!("cache: {}", one_line(message)));
        }
    }

    fn verbose(&self) -> bool {
        debug_verbose()
    }
}

/// Tells what a user should hear and what stops nothing.
pub(crate) fn warning(message: &str) {
    log::error(&format!("warning: cache: {}", one_line(message)));
}

/// An error of the engine's: the errno goes to the client and the message to the log.
pub(crate) fn failed(error: larder::Error) -> Error {
    let message = one_line(&error.to_string());
    Error::new(error.errno(), format!("cache: {message}"))
}
