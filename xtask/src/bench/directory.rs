//! Where everything that a run makes is kept: one directory in memory, one on the disk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::run::output;

/// The number of the process that uses it follows.
const PREFIX: &str = "larder-bench-";
const MIB: u64 = 1 << 20;
/// What the target holds before anything is written to it.
const NOTHING_YET: u8 = 0xee;

/// Which directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `/dev/shm`: no disk is measured.
    Memory,
    /// `/var/tmp`, where cache files are unless a user says otherwise.
    Disk,
}

impl Place {
    pub(super) const fn parent(self) -> &'static str {
        match self {
            Self::Memory => "/dev/shm",
            Self::Disk => "/var/tmp",
        }
    }
}

/// A directory of this run, removed when dropped.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new(place: Place) -> Result<Self, Failure> {
        let parent = Path::new(place.parent());
        remove_left_over(parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| Failure::at(&path, &e))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// An image of random bytes; made when it is first asked for.
    pub(super) fn image(&self, bytes: u64) -> Result<PathBuf, Failure> {
        let path = self.0.join("image");
        if !path.exists() {
            let random = |mebibyte: &mut [u8]| File::open("/dev/urandom")?.read_exact(mebibyte);
            fill(&path, bytes, random).map_err(|e| Failure::at(&path, &e))?;
        }
        Ok(path)
    }

    /// A file to be written to, made anew.
    pub(super) fn target(&self, bytes: u64) -> Result<PathBuf, Failure> {
        let path = self.0.join("target");
        let same = |mebibyte: &mut [u8]| {
            mebibyte.fill(NOTHING_YET);
            Ok(())
        };
        fill(&path, bytes, same).map_err(|e| Failure::at(&path, &e))?;
        Ok(path)
    }

    /// Waits until what has been written to its file system is on the disk, so that it is not written back while others are measured.
    pub(super) fn settle(&self) -> Result<(), Failure> {
        output(Command::new("sync").arg("--file-system").arg(&self.0)).map(drop)
    }

    /// Makes a directory in it, empty.
    pub(super) fn make(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(|e| Failure::at(&path, &e))?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A run that was killed leaves its directory, and memory is dear.
fn remove_left_over(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(process) = name.strip_prefix(PREFIX)
            && process.parse::<u32>().is_ok()
            && !Path::new("/proc").join(process).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Writes a file as far as the disk, so that nothing of it is written back while others are measured.
fn fill(
    path: &Path,
    bytes: u64,
    next: impl Fn(&mut [u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = File::create(path)?;
    let mut mebibyte = vec![0; MIB as usize];
    for _ in 0..bytes / MIB {
        next(&mut mebibyte)?;
        file.write_all(&mebibyte)?;
    }
    file.sync_all()
}
