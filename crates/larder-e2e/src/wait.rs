//! Waiting for conditions, and measuring on a machine that others use too.

use std::thread;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds. Panics, naming `what`, when it does not within 30 seconds.
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_within(DEADLINE, what, condition);
}

/// Waits until `condition` holds. Panics, naming `what`, when it does not within `patience`.
pub fn wait_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain until {what}"
        );
        thread::sleep(POLL);
    }
}

/// Asserts that the quickest of `attempts` runs of `measure` stays under `bound`.
///
/// Noise only ever adds time, so that one quick run proves what was to be proven. `measure` is
/// told the number of the attempt, to use fresh blocks each time.
pub fn best_of(
    attempts: u64,
    bound: Duration,
    what: &str,
    mut measure: impl FnMut(u64) -> Duration,
) {
    let mut measured = Vec::new();
    for attempt in 0..attempts {
        let time = measure(attempt);
        if time < bound {
            return;
        }
        measured.push(time);
    }
    panic!("{what} took {measured:?}, never less than {bound:?}");
}
