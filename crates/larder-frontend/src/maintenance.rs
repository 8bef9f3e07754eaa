//! The thread that reclaims and writes back by age while requests are served.
//!
//! Threads do not survive a fork: a front end that forks starts it afterwards.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use larder::{Cache, Log};

/// How long one wait for work lasts at most. Work and the end cut it short.
const WAIT: Duration = Duration::from_secs(1);

/// The thread, while there is one. For a cache with `Config::background`.
#[derive(Debug, Default)]
pub struct Maintenance {
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Maintenance {
    /// Starts the thread.
    pub fn start(&self, cache: &Arc<Cache>) -> io::Result<()> {
        let cache = Arc::clone(cache);
        let thread = thread::Builder::new()
            .name("larder-maintain".to_owned())
            .spawn(move || while cache.maintain(WAIT) {})?;
        *self.slot() = Some(thread);
        Ok(())
    }

    /// Ends the thread, if it was started, and waits for it.
    pub fn stop(&self, cache: &Cache, log: &dyn Log) {
        cache.stop();
        let thread = self.slot().take();
        if let Some(Err(_)) = thread.map(JoinHandle::join) {
            // Its message went to standard error; requests have done its work since.
            log.error("background work ended early");
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
