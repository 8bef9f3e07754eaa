//! The directory that was named, opened only to be read.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use larder::inspect::InspectError;
use larder::medium::DirectoryMedium;
use larder_frontend::report::{one_line, reason};

use super::misused;
use crate::cli::Wrong;

/// A cache directory, and what it is called in messages.
pub(super) struct Place {
    pub(super) path: String,
    pub(super) medium: DirectoryMedium,
}

impl Place {
    /// `command` is the one that needs it.
    pub(super) fn open(directory: &Option<PathBuf>, command: &str) -> Result<Self, Wrong> {
        let Some(directory) = directory else {
            return Err(misused(format!(
                "no directory given: larder {command} /var/cache/larder, for example"
            )));
        };
        let path = one_line(&directory.display().to_string());
        match DirectoryMedium::open_read_only(directory) {
            Ok(medium) => Ok(Self { path, medium }),
            Err(error) => Err(Wrong::refusal(at(&path, &unopened(directory, &error)))),
        }
    }

    /// An error about the directory.
    pub(super) fn refused(&self, error: &InspectError) -> Wrong {
        let mut message = error.to_string();
        if let Some(source) = error.source().and_then(|source| source.downcast_ref()) {
            message = message.replace(&io::Error::to_string(source), &reason(source));
        }
        Wrong::refusal(at(&self.path, &message))
    }
}

fn at(path: &str, message: &str) -> String {
    format!("cache directory '{path}': {message}")
}

fn unopened(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "give the directory that was given as cache-dir"
        }
        _ => "it must be readable for this process",
    };
    let what = match error.kind() {
        io::ErrorKind::NotADirectory if path.exists() => "it is no directory".to_owned(),
        _ => reason(error),
    };
    format!("{what}: {advice}")
}
