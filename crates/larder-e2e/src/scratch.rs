//! A directory of a test's own, removed when the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new empty directory. Its path is short, since Unix socket addresses are.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
}

impl Scratch {
    /// Makes a directory under the system's temporary directory.
    #[must_use]
    pub fn new() -> Self {
        Self::under(Path::new("/tmp"))
    }

    /// Makes a directory under `parent`, for tests that need a certain file system.
    #[must_use]
    pub fn under(parent: &Path) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = parent.join(format!("larder-e2e-{}-{number}", process::id()));
        fs::create_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        Self { directory }
    }

    /// The path of `name` in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes the directory `name` in the directory.
    #[must_use]
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
