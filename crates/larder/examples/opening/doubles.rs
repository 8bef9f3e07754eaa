//! An origin of zeros, and a directory whose file of slots keeps nothing.

use std::io;
use std::path::Path;

use larder::medium::DirectoryMedium;
use larder::{
    CacheFile, Capabilities, Extent, Fua, Log, Medium, MediumFile, Origin, RequestLimits,
    ZeroOptions,
};

/// The file of a cache directory that has the data.
const SLOTS: &str = "slots";

/// A directory of a file system but for the slots.
pub(crate) struct WithoutSlots(DirectoryMedium);

impl WithoutSlots {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        DirectoryMedium::open(path).map(Self)
    }
}

fn without_slots(name: &str, file: Box<dyn MediumFile>) -> Box<dyn MediumFile> {
    match name {
        SLOTS => Box::new(Void(file)),
        _ => file,
    }
}

impl Medium for WithoutSlots {
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        Ok(without_slots(name, self.0.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        Ok(without_slots(name, self.0.create(name)?))
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.0.lock(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// A file of the length that it is given and without disk space: all of it but its first bytes is zeros, whatever is written.
struct Void(Box<dyn MediumFile>);

/// What the directory itself has at the file's start.
const HEADER_BYTES: u64 = 4096;

impl CacheFile for Void {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset < HEADER_BYTES {
            return self.0.read(offset, buffer);
        }
        buffer.fill(0);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match offset < HEADER_BYTES {
            true => self.0.write(offset, data),
            false => Ok(()),
        }
    }

    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

impl MediumFile for Void {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        self.0.set_length(length_bytes)
    }
}

/// So many bytes of zeros, whatever is written.
pub(crate) struct Zeros(pub u64);

impl Origin for Zeros {
    fn size(&self) -> u64 {
        self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            parallel: true,
            write: true,
            flush: true,
            fua: Fua::Native,
            ..Capabilities::default()
        }
    }

    fn limits(&self) -> RequestLimits {
        RequestLimits::default()
    }

    fn read(&self, _: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8], _: bool) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn zero(&self, _: u64, _: u64, _: ZeroOptions) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn trim(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn extents(&self, _: u64, _: u64, _: bool) -> io::Result<Vec<Extent>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Shows what goes wrong.
pub(crate) struct Complaints;

impl Log for Complaints {
    fn error(&self, message: &str) {
        eprintln!("{message}");
    }

    fn warning(&self, message: &str) {
        eprintln!("{message}");
    }

    fn debug(&self, _: &str) {}
}
