//! A log that a test can read.

use std::sync::{Mutex, PoisonError};

use larder::Log;

/// How bad a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Data is at stake, or a request failed.
    Error,
    /// Hurts nobody yet.
    Warning,
    /// What happens to each block.
    Debug,
}

/// All messages, in order.
#[derive(Debug, Default)]
pub struct MemoryLog {
    messages: Mutex<Vec<(Level, String)>>,
}

impl MemoryLog {
    /// The messages of that level.
    pub fn messages(&self, level: Level) -> Vec<String> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = messages.iter().filter(|(one, _)| *one == level);
        chosen.map(|(_, message)| message.clone()).collect()
    }

    fn add(&self, level: Level, message: &str) {
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((level, message.to_owned()));
    }
}

impl Log for MemoryLog {
    fn error(&self, message: &str) {
        self.add(Level::Error, message);
    }

    fn warning(&self, message: &str) {
        self.add(Level::Warning, message);
    }

    fn debug(&self, message: &str) {
        self.add(Level::Debug, message);
    }
}
