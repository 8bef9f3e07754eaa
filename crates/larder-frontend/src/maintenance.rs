//! The threads that reclaim and write back by age, and that look after a cache directory, while requests are served.
//!
//! Threads do not survive a fork: a front end that forks starts them afterwards.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use larder::{Cache, Log};

/// How long one wait for work lasts at most. Work and the end cut it short.
const WAIT: Duration = Duration::from_secs(1);

/// The threads, while there are any. For a cache with `Config::background`.
#[derive(Debug, Default)]
pub struct Maintenance {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Maintenance {
    /// Starts the threads. What a cache directory needs has one of its own: the other may be stuck in a request to an
    /// origin that is dead, and a flush must not wait for that.
    pub fn start(&self, cache: &Arc<Cache>) -> io::Result<()> {
        self.spawn("larder-maintain", cache, |cache| cache.maintain(WAIT))?;
        if cache.found().is_some() {
            self.spawn("larder-medium", cache, |cache| cache.maintain_medium(WAIT))?;
        }
        Ok(())
    }

    /// Runs `work` in a thread for as long as it says so.
    fn spawn(
        &self,
        name: &str,
        cache: &Arc<Cache>,
        work: impl Fn(&Cache) -> bool + Send + 'static,
    ) -> io::Result<()> {
        let cache = Arc::clone(cache);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || while work(&cache) {})?;
        self.threads().push(thread);
        Ok(())
    }

    /// Ends the threads, if they were started, and waits for them.
    pub fn stop(&self, cache: &Cache, log: &dyn Log) {
        cache.stop();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            if thread.join().is_err() {
                // Its message went to standard error; requests have done its work since.
                log.error("background work ended early");
            }
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
