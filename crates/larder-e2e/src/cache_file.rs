//! The cache file as the operating system sees it: unlinked, and still under `/proc/PID/fd`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const SAMPLE_EVERY: Duration = Duration::from_millis(20);
const BYTES_PER_DISK_BLOCK: u64 = 512;

/// An open, unlinked file of a server.
#[derive(Clone, Debug)]
pub struct CacheFile {
    descriptor: PathBuf,
    /// The path it had, as `/proc` still tells it.
    pub former_path: PathBuf,
}

impl CacheFile {
    /// All unlinked regular files under `directory` that process `pid` has open.
    #[must_use]
    pub fn of_process(pid: u32, directory: &Path) -> Vec<Self> {
        let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
        let entries =
            fs::read_dir(&descriptors).unwrap_or_else(|e| panic!("{}: {e}", descriptors.display()));
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter_map(|descriptor| {
                let target = fs::read_link(&descriptor).ok()?;
                let former_path = target.to_str()?.strip_suffix(" (deleted)")?.into();
                Some(Self {
                    descriptor,
                    former_path,
                })
            })
            .filter(|file| is_below(&file.former_path, directory))
            .collect()
    }

    /// What it occupies on the disk, in bytes.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        fs::metadata(&self.descriptor)
            .unwrap_or_else(|e| panic!("{}: {e}", self.descriptor.display()))
            .blocks()
            * BYTES_PER_DISK_BLOCK
    }

    /// Cuts the file behind the server's back.
    pub fn cut_to(&self, length: u64) {
        fs::File::options()
            .write(true)
            .open(&self.descriptor)
            .and_then(|file| file.set_len(length))
            .unwrap_or_else(|e| panic!("{}: {e}", self.descriptor.display()));
    }
}

/// Whether a path is in a directory; seen from here it begins with more, when the server has
/// another root directory.
fn is_below(path: &Path, directory: &Path) -> bool {
    let directory = format!("{}/", directory.display());
    path.to_string_lossy().contains(&directory)
}

/// Looks every 20 milliseconds at how much several cache files occupy together.
#[derive(Debug)]
pub struct UsageSampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl UsageSampler {
    /// Begins to look.
    #[must_use]
    pub fn start(files: Vec<CacheFile>) -> Self {
        assert!(!files.is_empty(), "the server has no cache file open");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                samples.push(files.iter().map(CacheFile::allocated_bytes).sum());
                thread::sleep(SAMPLE_EVERY);
            }
            samples
        });
        Self { stop, thread }
    }

    /// Ends looking, and returns what was seen, in bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("sampling the cache file")
    }
}
