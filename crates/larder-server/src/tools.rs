//! What can be done with a cache directory without serving it. Only `drain` writes to one; the others may be used while a server or a filter has it
//! open.
//!
//! | file | decides |
//! |---|---|
//! | `options` | what may be typed |
//! | `inspect` | what a directory holds, for people and as JSON |
//! | `scrub` | whether that is as it was written |
//! | `drain` | what becomes of what only the directory has: to the origin, into a file, or away |
//! | `bar` | how far a tool has come, on a terminal |
//! | `json` | the keys of the JSON, which stay as they are |
//! | `place` | the directory that was named |

mod bar;
mod drain;
mod inspect;
mod json;
mod options;
mod place;
mod scrub;

use std::io::{self, Write};

use crate::cli::Wrong;

pub(crate) use drain::drain;
pub(crate) use inspect::inspect;
pub(crate) use options::{DrainOptions, InspectOptions, ScrubOptions};
pub(crate) use scrub::scrub;

/// Prints a report. Whoever does not want to read all of it may go.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// What was typed cannot be.
fn misused(error: impl std::fmt::Display) -> Wrong {
    Wrong::usage(error.to_string())
}
