//! A medium in memory for the tests of the files: it can be copied as it is, fails at a chosen call, and tells what was written. What a crash
//! does to a medium is the simulator's business.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use crate::cache_file::CacheFile;
use crate::medium::{Medium, MediumFile};

pub(crate) type Image = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    locked: BTreeSet<usize>,
    /// Calls that change something.
    changes: u64,
    /// Names of the files that were changed, `.` for the directory.
    changed: BTreeSet<String>,
    /// Bytes that were written, by file.
    written: BTreeMap<String, u64>,
    /// From that change on all fail; or only it.
    fails: Option<(u64, Errno, bool)>,
}

/// A directory in memory. A clone is the same directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryMedium {
    state: Arc<Mutex<State>>,
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    name: String,
    file: usize,
    has_lock: bool,
}

impl MemoryMedium {
    /// With these files.
    pub(crate) fn of(image: &Image) -> Self {
        let medium = Self::default();
        {
            let mut state = medium.state.lock().unwrap();
            for (name, bytes) in image {
                let file = state.files.len();
                state.files.push(bytes.clone());
                state.names.insert(name.clone(), file);
            }
        }
        medium
    }

    /// All files as they are now.
    pub(crate) fn image(&self) -> Image {
        let state = self.state.lock().unwrap();
        let files = state.names.iter();
        files
            .map(|(name, file)| (name.clone(), state.files[*file].clone()))
            .collect()
    }

    /// How many calls have changed something, or tried to.
    pub(crate) fn changes(&self) -> u64 {
        self.state.lock().unwrap().changes
    }

    /// The files that were changed or synced since this was last asked, `.` for the directory.
    pub(crate) fn take_changed(&self) -> Vec<String> {
        let changed = std::mem::take(&mut self.state.lock().unwrap().changed);
        changed.into_iter().collect()
    }

    /// How many bytes were written to a file since this was last asked.
    pub(crate) fn take_written(&self, name: &str) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.written.remove(name).unwrap_or(0)
    }

    /// The change after so many fails, and all after it if they are `many`.
    pub(crate) fn fail_after(&self, changes: u64, errno: Errno, many: bool) {
        let mut state = self.state.lock().unwrap();
        state.changes = 0;
        state.fails = Some((changes, errno, many));
    }
}

impl State {
    fn change(&mut self, name: &str) -> io::Result<()> {
        let number = self.changes;
        self.changes += 1;
        match self.fails {
            Some((at, errno, many)) if number == at || (many && number > at) => Err(errno.into()),
            _ => {
                self.changed.insert(name.to_owned());
                Ok(())
            }
        }
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        let file = self.names.get(name).copied();
        file.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Medium for MemoryMedium {
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let file = self.state.lock().unwrap().open(name)?;
        Ok(Box::new(MemoryFile {
            state: Arc::clone(&self.state),
            name: name.to_owned(),
            file,
            has_lock: false,
        }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        {
            let mut state = self.state.lock().unwrap();
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.change(name)?;
            let file = state.files.len();
            state.files.push(Vec::new());
            state.names.insert(name.to_owned(), file);
        }
        self.open(name)
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        if self.open(name).is_err() {
            self.create(name)?;
        }
        let mut state = self.state.lock().unwrap();
        let file = state.open(name)?;
        if !state.locked.insert(file) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryFile {
            state: Arc::clone(&self.state),
            name: name.to_owned(),
            file,
            has_lock: true,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.change(".")?;
        let file = state.open(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.change(".")?;
        state.open(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let state = self.state.lock().unwrap();
        Ok(state.names.keys().cloned().collect())
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().unwrap().change(".")
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        if self.has_lock {
            self.state.lock().unwrap().locked.remove(&self.file);
        }
    }
}

impl CacheFile for MemoryFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        let start = offset as usize;
        let bytes = state.files[self.file].get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.change(&self.name)?;
        *state.written.entry(self.name.clone()).or_default() += data.len() as u64;
        let (start, file) = (offset as usize, &mut state.files[self.file]);
        file.resize(file.len().max(start + data.len()), 0);
        file[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    /// As on tmpfs: it makes no file longer.
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        self.state.lock().unwrap().change(&self.name)
    }

    fn sync(&self) -> io::Result<()> {
        self.state.lock().unwrap().change(&self.name)
    }
}

impl MediumFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().files[self.file].len() as u64)
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.change(&self.name)?;
        state.files[self.file].resize(length_bytes as usize, 0);
        Ok(())
    }
}
