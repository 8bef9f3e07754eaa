//! A message that strangers can cause must not fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one of a kind in this time.
const PERIOD: Duration = Duration::from_secs(5);

/// Messages of one kind.
#[derive(Debug, Default)]
pub(crate) struct RateLimit {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    withheld: u64,
}

impl RateLimit {
    /// The message if it may be told now, with how many were not told before it.
    pub(crate) fn pass(&self, now: Instant, message: String) -> Option<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < PERIOD)
        {
            state.withheld += 1;
            return None;
        }
        state.last = Some(now);
        match std::mem::take(&mut state.withheld) {
            0 => Some(message),
            count => Some(format!("{message} (and {count} times before)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_withheld_is_counted() {
        let limit = RateLimit::default();
        let start = Instant::now();
        let told = |after| limit.pass(start + Duration::from_secs(after), "no".to_owned());
        assert_eq!(told(0).as_deref(), Some("no"));
        assert_eq!(told(1), None);
        assert_eq!(told(4), None);
        assert_eq!(told(5).as_deref(), Some("no (and 2 times before)"));
        assert_eq!(told(10).as_deref(), Some("no"));
    }
}
