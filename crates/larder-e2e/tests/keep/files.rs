//! Files on a file system whose server is killed, each of which is synced before the next is begun.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use larder_e2e::Random;

struct SyncedFile {
    path: PathBuf,
    seed: u64,
    length: u64,
}

impl SyncedFile {
    fn content(&self) -> Vec<u8> {
        Random::new(self.seed).bytes(self.length)
    }

    fn write(&self) -> std::io::Result<()> {
        let mut file = File::create_new(&self.path)?;
        file.write_all(&self.content())?;
        file.sync_all()
    }

    fn is_whole(&self) -> bool {
        fs::read(&self.path).is_ok_and(|bytes| bytes == self.content())
    }
}

/// Those that were synced, in the order in which they were.
pub struct Files {
    root: PathBuf,
    synced: Vec<SyncedFile>,
}

impl Files {
    /// None yet, in the directory.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            synced: Vec::new(),
        }
    }

    pub fn count(&self) -> usize {
        self.synced.len()
    }

    /// Makes one after the other, until nothing can be written any more.
    pub fn write(&mut self, random: &mut Random) {
        loop {
            let (seed, length) = (random.next_u64(), random.between(1, 50_000));
            let path = self.root.join(format!("f{seed:x}"));
            let file = SyncedFile { path, seed, length };
            if file.write().is_err() {
                return;
            }
            self.synced.push(file);
        }
    }

    /// Asserts that all of them are there.
    pub fn check(&self) {
        for file in &self.synced {
            assert!(file.is_whole(), "{:?} is not what it was", file.path);
        }
    }

    /// Asserts that they are there up to some file, of which there is nothing or a beginning, and that there is nothing of those after it.
    /// The latter are forgotten.
    pub fn check_that_none_is_missing_between(&mut self) {
        let whole = self.synced.iter().take_while(|file| file.is_whole());
        let rest = self.synced.split_off(whole.count());
        for (place, file) in rest.iter().enumerate() {
            let Ok(bytes) = fs::read(&file.path) else {
                continue;
            };
            let names = (&file.path, rest.len(), bytes.len());
            assert!(place == 0, "{names:?} is there, and one before it is not");
            assert!(file.content().starts_with(&bytes), "{names:?} is torn");
        }
    }
}
