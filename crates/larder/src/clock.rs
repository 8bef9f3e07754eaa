//! Time comes from outside, so that tests own it: what the engine does follows from its calls, their answers and this.
//!
//! Only how long one thread waits for another is bounded by the machine's time (`sync.rs`): a clock that stands still would
//! never end such a wait.

use std::time::{Duration, Instant};

/// A monotonic clock.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// How long ago that was.
    fn since(&self, moment: Duration) -> Duration {
        self.now().saturating_sub(moment)
    }
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}
