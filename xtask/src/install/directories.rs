//! Where nbdkit looks for filters, and man for pages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::options::Options;
use crate::run::{output, succeeds};

pub(super) struct Directories {
    pub(super) filters: PathBuf,
    pub(super) man1: PathBuf,
}

impl Directories {
    /// As the options say, or else nbdkit.
    pub(super) fn find(options: &Options) -> Result<Self, Failure> {
        let of = |option: &str| match options.value(option) {
            Some(directory) => Ok(PathBuf::from(directory)),
            None => ask_nbdkit(option),
        };
        let directories = Self {
            filters: of("filterdir")?,
            man1: of("mandir")?.join("man1"),
        };
        for directory in [&directories.filters, &directories.man1] {
            if !directory.is_dir() {
                let path = directory.display();
                return Err(Failure::new(format!("{path} is not a directory")));
            }
        }
        Ok(directories)
    }

    pub(super) fn are_writable(&self) -> bool {
        let writable = |directory: &Path| succeeds(Command::new("test").arg("-w").arg(directory));
        writable(&self.filters) && writable(&self.man1)
    }
}

fn ask_nbdkit(key: &str) -> Result<PathBuf, Failure> {
    let config = output(Command::new("nbdkit").arg("--dump-config"))?;
    config
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(PathBuf::from)
        .ok_or_else(|| Failure::new(format!("`nbdkit --dump-config` does not tell {key}")))
}
