//! A cache directory whose slots are read through a mapping, as a cache file without a name is.

use std::io;

use larder::medium::DirectoryMedium;
use larder::{Medium, MediumFile};

use crate::mapped_file::MappedFile;

/// The file with the cached blocks, as FORMAT.md has it. All others are read at the start, and written.
const SLOTS: &str = "slots";

/// A directory.
#[derive(Debug)]
pub(crate) struct MappedMedium {
    directory: DirectoryMedium,
    limit_bytes: u64,
}

impl MappedMedium {
    /// The directory of a cache of at most `limit_bytes`.
    pub(crate) fn new(directory: DirectoryMedium, limit_bytes: u64) -> Self {
        Self {
            directory,
            limit_bytes,
        }
    }
}

impl Medium for MappedMedium {
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        if name != SLOTS {
            return self.directory.open(name);
        }
        let file = self.directory.open_file(name)?;
        Ok(Box::new(MappedFile::new(file, self.limit_bytes)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        let made = self.directory.create(name)?;
        match name {
            SLOTS => self.open(name),
            _ => Ok(made),
        }
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.directory.lock(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.directory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.directory.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.directory.names()
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::Scratch;

    /// Whether this process has the file mapped.
    fn is_mapped(path: &std::path::Path) -> bool {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.contains(&path.display().to_string())
    }

    #[test]
    fn the_slots_are_mapped_and_nothing_else_is() {
        let scratch = Scratch::new();
        let directory = DirectoryMedium::open(&scratch.path("")).unwrap();
        let medium = MappedMedium::new(directory, 1 << 20);
        for (name, mapped) in [("slots", true), ("journal", false)] {
            let path = scratch.path(name);
            let made = medium.create(name).unwrap();
            made.set_length(8192).unwrap();
            made.write(4096, b"bytes").unwrap();
            assert_eq!((made.length().unwrap(), is_mapped(&path)), (8192, mapped));
            drop(made);
            assert!(!is_mapped(&path));
            let opened = medium.open(name).unwrap();
            let mut bytes = [0; 5];
            opened.read(4096, &mut bytes).unwrap();
            assert_eq!((&bytes, is_mapped(&path)), (b"bytes", mapped));
            let again = medium.create(name).map(drop).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(medium.names().unwrap(), ["journal", "slots"]);
    }

    #[test]
    fn the_rest_is_the_directorys() {
        let scratch = Scratch::new();
        let directory = DirectoryMedium::open(&scratch.path("")).unwrap();
        let medium = MappedMedium::new(directory, 1 << 20);
        let missing = medium.open("slots").map(drop).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let _lock = medium.lock("lock").unwrap();
        let locked = medium.lock("lock").map(drop).unwrap_err();
        assert_eq!(locked.kind(), io::ErrorKind::WouldBlock);
        medium.create("new").unwrap();
        medium.rename("new", "old").unwrap();
        medium.sync().unwrap();
        medium.remove("lock").unwrap();
        assert_eq!(medium.names().unwrap(), ["old"]);
    }
}
