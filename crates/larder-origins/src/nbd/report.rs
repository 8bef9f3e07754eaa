//! What an operator is told of outages: their beginning and their end, once each, in that order,
//! and not too often.
//!
//! The log is called with the report's own lock held, which nothing else waits for that a message
//! could need.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::sync::lock;

/// Outages that follow one another faster than this are told of once.
const INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Report {
    address: String,
    log: Arc<dyn larder::Log>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when, and whether that was told.
    outage: Option<(Instant, bool)>,
    last_told: Option<Instant>,
    untold: u64,
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Report {
    pub(super) fn new(address: String, log: Arc<dyn larder::Log>) -> Self {
        Self {
            address,
            log,
            state: Mutex::default(),
        }
    }

    /// The connection is lost if `lose` says so, and whether changes that were acknowledged and not
    /// flushed are with it. Whoever finds it lost and tells that it is [back](Self::back) tells so
    /// after this.
    pub(super) fn lost(&self, reason: &str, lose: impl FnOnce() -> Option<bool>) -> bool {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let Some(is_loss) = lose() else {
            return false;
        };
        let is_recent = state.last_told.is_some_and(|last| now - last < INTERVAL);
        let told = is_loss || !is_recent;
        state.outage = Some((now, told));
        if !told {
            state.untold += 1;
            return true;
        }
        state.last_told = Some(now);
        let loss = if is_loss {
            ", with writes that were not flushed"
        } else {
            ""
        };
        let more = match std::mem::take(&mut state.untold) {
            0 => String::new(),
            count => format!(" ({count} more times since the last message)"),
        };
        self.log.warning(&format!(
            "{}: the connection is lost{loss}: {reason}; connecting again{more}",
            self.address
        ));
        true
    }

    /// There is a connection again.
    pub(super) fn back(&self) {
        let mut state = lock(&self.state);
        if let Some((since, true)) = state.outage.take() {
            self.log.warning(&format!(
                "{}: connected again after {:.1} s",
                self.address,
                since.elapsed().as_secs_f64()
            ));
        }
    }

    /// The origin cannot be used as it is.
    pub(super) fn changed(&self, reason: &str) {
        self.log.error(&format!("{}: {reason}", self.address));
    }

    /// A request was refused, with the server's own words.
    pub(super) fn refused(&self, command: &str, words: &str) {
        if self.log.verbose() {
            self.log
                .debug(&format!("{}: {command}: {words}", self.address));
        }
    }

    /// Something that hurts nobody.
    pub(super) fn note(&self, message: &str) {
        if self.log.verbose() {
            self.log.debug(&format!("{}: {message}", self.address));
        }
    }

    /// How the origin is called.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}
