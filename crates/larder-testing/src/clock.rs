//! A clock that a test moves.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use larder::Clock;

/// Time as a test says. The default stands still meanwhile.
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Mutex<Duration>,
    step: Duration,
}

impl ManualClock {
    /// Goes on by `step` with each look at it.
    pub fn stepping(step: Duration) -> Self {
        Self {
            now: Mutex::default(),
            step,
        }
    }

    /// Moves it.
    pub fn advance(&self, by: Duration) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now += self.step;
        *now
    }
}
