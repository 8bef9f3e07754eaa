//! The thread that fetches ahead of one client's reads.
//!
//! It begins when there is something to fetch, and ends when there has been nothing for a while: most clients read in
//! order for a part of their time only. Thread and memory are charged to the budget of all clients, beside what the client's
//! requests take: where there is none left, nothing is fetched ahead, and the client reads as it would without.
//!
//! When the client leaves it is not waited for, since it may be in a request to an origin that is stuck: it ends
//! after that request, and has its charge until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::Duration;

use larder::Connection;

use crate::protocol::{Charge, Common};

/// A thread that has had nothing to fetch for so long ends.
const IDLE: Duration = if cfg!(test) {
    Duration::from_millis(10)
} else {
    Duration::from_secs(5)
};

/// Whether a client has the thread.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    has_thread: Arc<AtomicBool>,
}

impl Ahead {
    /// Starts the thread if there is something to fetch ahead of the connection's reads, and it is not there.
    pub(crate) fn start_if_due(&self, connection: &Arc<Connection>, common: &Common) {
        if !connection.is_ahead_due() || self.has_thread.load(Ordering::Acquire) {
            return;
        }
        let mut charge = Charge::new(&common.threads);
        if !charge.grow_to(1) || self.has_thread.swap(true, Ordering::Relaxed) {
            return;
        }
        let is_there = IsThere {
            has_thread: Arc::clone(&self.has_thread),
            charge,
        };
        let connection = Arc::clone(connection);
        let bytes = Arc::clone(&common.bytes);
        // Without a thread, nothing is fetched ahead.
        let _ = Builder::new()
            .name("larder-ahead".to_owned())
            .spawn(move || {
                let _is_there = is_there;
                let charge = |wanted| {
                    let mut charge = Charge::new(&bytes);
                    charge.grow_to(wanted).then_some(charge)
                };
                while connection.fetch_ahead(IDLE, charge) {}
            });
    }
}

/// Says that the thread is there, and that it is not once it has ended or could not be started.
struct IsThere {
    has_thread: Arc<AtomicBool>,
    charge: Charge,
}

impl Drop for IsThere {
    fn drop(&mut self) {
        // First, so that the next one finds it.
        self.charge.shrink_to(0);
        self.has_thread.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
