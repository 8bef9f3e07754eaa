//! What the doubles saw that the engine must never do. Recorded rather than panicked: a panic
//! inside a double would be the engine's to handle.

use std::sync::{Arc, Mutex, PoisonError};

/// A list of broken promises, shared by the doubles of one test.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Violations {
    /// Adds one.
    pub fn record(&self, violation: String) {
        self.lock().push(violation);
    }

    /// All so far, in order.
    pub fn seen(&self) -> Vec<String> {
        self.lock().clone()
    }

    /// Panics if there are any.
    pub fn assert_none(&self) {
        let seen = self.seen();
        assert!(seen.is_empty(), "the engine broke a contract: {seen:#?}");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
