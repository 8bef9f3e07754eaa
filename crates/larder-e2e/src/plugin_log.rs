//! What reached the plugin: the file that nbdkit's log filter writes.

use std::fs;
use std::path::{Path, PathBuf};

/// One request to the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginCall {
    /// `Read`, `Write`, `Zero`, `Trim`, `Extents`, `Cache` or `Flush`.
    pub action: String,
    /// Which of the plugin's connections it came on.
    pub connection: u64,
    /// Where, in bytes; 0 for a flush.
    pub offset: u64,
    /// How much, in bytes; 0 for a flush.
    pub count: u64,
    /// Whether it was to be durable before it was answered.
    pub fua: bool,
}

/// The log filter's file, read each time it is asked.
#[derive(Debug)]
pub struct PluginLog {
    path: PathBuf,
}

impl PluginLog {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// All requests so far, in the order in which they began.
    #[must_use]
    pub fn calls(&self) -> Vec<PluginCall> {
        self.lines().iter().filter_map(|l| parse_call(l)).collect()
    }

    /// The requests so far of one kind.
    #[must_use]
    pub fn calls_of(&self, action: &str) -> Vec<PluginCall> {
        let mut calls = self.calls();
        calls.retain(|call| call.action == action);
        calls
    }

    /// The largest number of requests of one kind that were under way at the same time.
    #[must_use]
    pub fn most_at_once(&self, action: &str) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for line in self.lines() {
            match action_word(&line) {
                Some(word) if word == action => now += 1,
                Some(word) if word.strip_prefix("...") == Some(action) => now -= 1,
                _ => {}
            }
            most = most.max(now);
        }
        most
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.path)
            .unwrap_or_else(|e| panic!("{}: {e}", self.path.display()));
        text.lines().map(str::to_owned).collect()
    }
}

/// `2026-01-31 23:59:59.000000 connection=1 Read id=1 ...`: the fourth word.
fn action_word(line: &str) -> Option<&str> {
    line.split(' ').nth(3)
}

fn parse_call(line: &str) -> Option<PluginCall> {
    let action = action_word(line)?;
    let known = ["Read", "Write", "Zero", "Trim", "Extents", "Cache", "Flush"];
    if !known.contains(&action) {
        return None;
    }
    let field = |name: &str| {
        line.split(' ')
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .map(parse_number)
    };
    Some(PluginCall {
        action: action.to_owned(),
        connection: field("connection")?,
        offset: field("offset").unwrap_or(0),
        count: field("count").unwrap_or(0),
        fua: field("fua") == Some(1),
    })
}

fn parse_number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|e| panic!("{text:?} in the log filter's file: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_read_from_its_line() {
        let line =
            "2026-11-20 10:56:13.2 connection=1 Write id=6 offset=0x10 count=0x200 fua=1 ...";
        let expected = PluginCall {
            action: "Write".to_owned(),
            connection: 1,
            offset: 16,
            count: 512,
            fua: true,
        };
        assert_eq!(parse_call(line), Some(expected));
    }

    #[test]
    fn other_lines_are_no_calls() {
        for line in [
            "2026-11-20 10:56:13.2 Ready thread_model=3",
            "2026-11-20 10:56:13.2 connection=1 ...Write id=6 return=0",
            "2026-11-20 10:56:13.2 connection=1 Connect export=\"\" tls=0 size=0x1000000",
        ] {
            assert_eq!(parse_call(line), None, "{line}");
        }
    }
}
