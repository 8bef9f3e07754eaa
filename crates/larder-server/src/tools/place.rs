//! The directory that was named.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

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
    /// Only to be read. `command` is the one that needs it.
    pub(super) fn open(directory: &Option<PathBuf>, command: &str) -> Result<Self, Wrong> {
        let example = format!("larder {command} /var/cache/larder");
        Self::open_with(directory, &example, DirectoryMedium::open_read_only)
    }

    /// To be written, too. `example` is what may be typed.
    pub(super) fn open_to_write(directory: &Option<PathBuf>, example: &str) -> Result<Self, Wrong> {
        Self::open_with(directory, example, DirectoryMedium::open)
    }

    fn open_with(
        directory: &Option<PathBuf>,
        example: &str,
        open: impl FnOnce(&Path) -> io::Result<DirectoryMedium>,
    ) -> Result<Self, Wrong> {
        let Some(directory) = directory else {
            return Err(misused(format!(
                "no directory given: {example}, for example"
            )));
        };
        let path = one_line(&directory.display().to_string());
        match open(directory) {
            Ok(medium) => Ok(Self { path, medium }),
            Err(error) => Err(Wrong::refusal(at(&path, &unopened(directory, &error)))),
        }
    }

    /// An error about the directory.
    pub(super) fn refused(&self, error: &dyn Error) -> Wrong {
        Wrong::refusal(self.told(error))
    }

    /// What is told of it: one line.
    pub(super) fn told(&self, error: &dyn Error) -> String {
        let mut message = error.to_string();
        if let Some(source) = error.source().and_then(|source| source.downcast_ref()) {
            message = message.replace(&io::Error::to_string(source), &reason(source));
        }
        at(&self.path, &message)
    }
}

pub(super) fn at(path: &str, message: &str) -> String {
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
