//! What is wrong with a trace, and where.

use std::fmt;
use std::io;

/// The longest text of a trace that a message shows, in characters.
const SHOWN_CHARS: usize = 80;

/// What is wrong with a trace, and where. One line.
#[derive(Debug)]
pub struct TraceError {
    message: String,
}

impl TraceError {
    /// A line that cannot be: its number from 1, its text, and what would be right.
    pub(crate) fn line(name: &str, number: u64, text: &[u8], advice: &str) -> Self {
        let text = shown(&String::from_utf8_lossy(text));
        Self::new(name, &format!("line {number}: '{text}': {advice}"))
    }

    /// Something wrong at byte `at` of a file that has no lines.
    pub(crate) fn at_byte(name: &str, at: u64, message: &str) -> Self {
        Self::new(name, &format!("event at byte {at}: {message}"))
    }

    /// The system failed, or gzip data is damaged.
    pub(crate) fn io(name: &str, error: &io::Error) -> Self {
        let message = error.to_string();
        let reason = message.split(" (os error").next().unwrap_or_default();
        Self::new(name, reason)
    }

    pub(crate) fn new(name: &str, message: &str) -> Self {
        Self {
            message: format!("{}: {message}", shown_name(name)),
        }
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TraceError {}

/// The beginning of a text, without control characters.
fn shown(text: &str) -> String {
    let text = text.trim_end();
    let mut shown = shown_name(&text.chars().take(SHOWN_CHARS).collect::<String>());
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

fn shown_name(name: &str) -> String {
    name.replace(|c: char| c.is_control(), "\u{fffd}")
}
