//! How many requests one server gets at a time.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// So many at a time, and no more.
pub(super) struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One request's own. Whoever drops it lets the next one begin.
pub(super) struct Permit {
    of: Arc<Permits>,
}

impl Permits {
    pub(super) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new(count),
            freed: Condvar::new(),
        })
    }

    /// A permit, once there is one. `None` if there was none for so long.
    pub(super) fn take(self: &Arc<Self>, patience: Duration) -> Option<Permit> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut free, _) = self
            .freed
            .wait_timeout_while(free, patience, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Permit {
            of: Arc::clone(self),
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.of.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.of.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_a_dropped_one_is_given_again() {
        let permits = Permits::new(2);
        let first = permits.take(Duration::ZERO).unwrap();
        let second = permits.take(Duration::ZERO).unwrap();
        assert!(permits.take(Duration::from_millis(1)).is_none());
        let waiting = {
            let permits = Arc::clone(&permits);
            std::thread::spawn(move || permits.take(Duration::from_secs(60)).is_some())
        };
        drop(first);
        assert!(waiting.join().unwrap());
        drop(second);
        assert!(permits.take(Duration::ZERO).is_some());
    }
}
