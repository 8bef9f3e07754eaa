//! The place of nbdkit's own cache filter.
//!
//! Its original has a second name while the place is ours: that name is there exactly as long as
//! there is something to put back. Where dpkg owns the original, a diversion tells dpkg of the second
//! name too, so that an upgrade of nbdkit replaces the original there and leaves ours alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::directories::Directories;
use super::files::{prepare, with_suffix};
use crate::failure::Failure;
use crate::run::{run, succeeds};

pub(super) struct CachePlace {
    place: PathBuf,
    original: PathBuf,
}

impl CachePlace {
    pub(super) fn of(directories: &Directories) -> Self {
        let place = directories.filters.join("nbdkit-cache-filter.so");
        Self {
            original: with_suffix(&place, ".before-larder"),
            place,
        }
    }

    /// Puts the filter there, and the original aside. Returns the place.
    pub(super) fn take(self, filter: &Path) -> Result<PathBuf, Failure> {
        if !self.place.exists() {
            let place = self.place.display();
            return Err(Failure::new(format!(
                "{place} is not there: install without --as where nbdkit has no cache filter"
            )));
        }
        let ours = prepare(filter, &self.place)?;
        match fs::hard_link(&self.place, &self.original) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::at(&self.original, &error)),
        }
        if self.is_dpkgs() {
            self.divert("--add")?;
        }
        fs::rename(&ours, &self.place).map_err(|e| Failure::at(&self.place, &e))?;
        Ok(self.place)
    }

    /// Puts the original back; false when it is already there.
    pub(super) fn give_back(&self) -> Result<bool, Failure> {
        let moved = match fs::rename(&self.original, &self.place) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Failure::at(&self.place, &error)),
        };
        let diverted = self.is_diverted();
        if diverted {
            self.divert("--remove")?;
        }
        // Renaming a file to another name of itself leaves both names.
        super::files::remove(&self.original)?;
        Ok(moved || diverted)
    }

    fn is_dpkgs(&self) -> bool {
        succeeds(Command::new("dpkg-query").arg("--search").arg(&self.place))
    }

    fn is_diverted(&self) -> bool {
        let list = Command::new("dpkg-divert")
            .arg("--truename")
            .arg(&self.place)
            .output();
        list.is_ok_and(|output| {
            let truename = String::from_utf8_lossy(&output.stdout).into_owned();
            Path::new(truename.trim_end()) == self.original
        })
    }

    /// The files are moved by us, each in one step; dpkg only has to know.
    fn divert(&self, action: &str) -> Result<(), Failure> {
        run(Command::new("dpkg-divert")
            .args(["--quiet", "--local", "--no-rename", "--divert"])
            .arg(&self.original)
            .arg(action)
            .arg(&self.place))
    }
}
