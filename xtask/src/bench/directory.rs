//! Where everything that a run makes is kept: a directory in memory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const IMAGE_MIB: usize = 256;
pub(super) const IMAGE_BYTES: u64 = (IMAGE_MIB as u64) << 20;

const PARENT: &str = "/dev/shm";
/// The number of the process that uses it follows.
const PREFIX: &str = "larder-bench-";

/// A directory in memory, with an image of random bytes in it; removed when dropped.
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn new() -> Result<Self, Failure> {
        remove_left_over();
        let path = Path::new(PARENT).join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| Failure::at(&path, &e))?;
        let directory = Self(path);
        let image = directory.image();
        fill(&image).map_err(|e| Failure::at(&image, &e))?;
        Ok(directory)
    }

    pub(super) fn image(&self) -> PathBuf {
        self.0.join("image")
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes a directory in it.
    pub(super) fn make(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.0.join(name);
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
fn remove_left_over() {
    for entry in fs::read_dir(PARENT).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(process) = name.strip_prefix(PREFIX)
            && process.parse::<u32>().is_ok()
            && !Path::new("/proc").join(process).exists()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn fill(image: &Path) -> std::io::Result<()> {
    let mut random = File::open("/dev/urandom")?;
    let mut file = File::create(image)?;
    let mut mebibyte = vec![0; 1 << 20];
    for _ in 0..IMAGE_MIB {
        random.read_exact(&mut mebibyte)?;
        file.write_all(&mebibyte)?;
    }
    Ok(())
}
