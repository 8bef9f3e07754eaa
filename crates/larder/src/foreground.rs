//! Clients' reads that wait for the origin: what is written back ahead of need gives way to them.

use std::sync::Mutex;
use std::time::Duration;

use crate::sync::{self, Condvar};

/// How many there are in a volume.
#[derive(Debug, Default)]
pub(crate) struct Foreground {
    reads: Mutex<usize>,
    none: Condvar,
}

/// A read of the origin; over when dropped.
pub(crate) struct Reading<'f>(&'f Foreground);

impl Foreground {
    /// A client waits for the origin.
    pub(crate) fn begin(&self) -> Reading<'_> {
        *sync::lock(&self.reads) += 1;
        Reading(self)
    }

    /// Waits until no client does, at most so long: writing back must go on.
    pub(crate) fn give_way(&self, longest: Duration) {
        let reads = sync::lock(&self.reads);
        drop(sync::wait_while(&self.none, reads, longest, |reads| {
            *reads > 0
        }));
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut reads = sync::lock(&self.0.reads);
        *reads -= 1;
        if *reads == 0 {
            self.0.none.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Longer than any test.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[test]
    fn whoever_gives_way_goes_on_when_nobody_reads() {
        let foreground = Foreground::default();
        foreground.give_way(FOR_EVER);
        let (one, other) = (foreground.begin(), foreground.begin());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                foreground.give_way(FOR_EVER);
                assert!(is_over.load(Ordering::SeqCst));
            });
            drop(one);
            is_over.store(true, Ordering::SeqCst);
            drop(other);
            waiting.join().unwrap();
        });
    }

    #[test]
    fn nobody_gives_way_for_ever() {
        let foreground = Foreground::default();
        let _reading = foreground.begin();
        foreground.give_way(Duration::from_millis(1));
    }
}
