//! Putting files in place, whole or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Copies a file to a place where others look for it at any time.
pub(super) fn put(source: &Path, place: &Path) -> Result<(), Failure> {
    let unfinished = prepare(source, place)?;
    fs::rename(&unfinished, place).map_err(|e| Failure::at(place, &e))
}

/// Copies a file to a name beside its place, from where it only has to be renamed.
pub(super) fn prepare(source: &Path, place: &Path) -> Result<PathBuf, Failure> {
    let unfinished = with_suffix(place, ".unfinished");
    let copy = || {
        fs::copy(source, &unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o644))?;
        File::open(&unfinished)?.sync_all()
    };
    match copy() {
        Ok(()) => Ok(unfinished),
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            let (source, place) = (source.display(), place.display());
            Err(Failure::new(format!(
                "copying {source} to {place}: {error}"
            )))
        }
    }
}

/// Removes a file; false when it was not there.
pub(super) fn remove(path: &Path) -> Result<bool, Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::at(path, &error)),
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
