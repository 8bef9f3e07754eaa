//! A medium in memory, and origins beside it, all of which a crash may leave as they were.
//!
//! # Fault model
//!
//! - A write that no *later begun and completed* sync of its file covers survives a crash by pieces of 512 bytes: each
//!   is, by itself, as it was, or as any of the writes since left it.
//! - Pieces of files that are named for it ([`Image::garbage_in`](super::Image::garbage_in)) may also come out as garbage.
//! - A file's length is one more such piece: bytes beyond it are gone, bytes within it that did not survive are zeros.
//! - Files are independent of each other, and so are names of files: without a sync of the medium a file that was made,
//!   renamed or removed is either. A sync of a file says nothing of its name.
//! - What a failed sync covered may be there or not, and no later sync changes that; what is written after it has its
//!   own chance. Reads go on to see it, or, as where the system has dropped pages it takes for written, do not. The file's length
//!   is not lost so.
//! - A failed write may have written nothing, half, or everything.
//! - Locks and faults do not survive.
//! - An origin is a file without a name whose flush is its sync.

use std::io;

use larder::{
    CacheFile, Capabilities, Extent, Fua, Medium, MediumFile, Origin, RequestLimits, ZeroOptions,
};

use super::faults::{CallKind, Called};
use super::log::Effect;
use super::machine::Machine;
use super::names::{FileNumber, NameChange};
use super::world::World;

/// What a device writes whole or not at all, in bytes.
pub const PIECE_BYTES: usize = 512;

/// The medium of a machine.
#[derive(Clone)]
pub struct SimMedium {
    machine: Machine,
}

/// An open file of it.
pub struct SimFile {
    machine: Machine,
    name: String,
    file: FileNumber,
    is_locked: bool,
}

impl SimMedium {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine }
    }

    fn found(&self, name: &str, kind: CallKind) -> io::Result<SimFile> {
        let called = by_name(name, kind);
        let file = self.machine.look(&called, |world| file_of(world, name))?;
        Ok(SimFile {
            machine: self.machine.clone(),
            name: name.to_owned(),
            file,
            is_locked: false,
        })
    }

    fn make(&self, name: &str) -> io::Result<()> {
        self.machine
            .change(&by_name(name, CallKind::Name), |world| {
                if world.names().current().contains_key(name) {
                    return Err(errno(libc::EEXIST));
                }
                let file = world.next_file();
                Ok(Effect::Name(NameChange::Create(name.to_owned(), file)))
            })
    }
}

/// A call that is about a name.
fn by_name(name: &str, kind: CallKind) -> Called<'_> {
    Called {
        name: Some(name),
        origin: None,
        kind,
        range: (0, 0),
    }
}

fn file_of(world: &World, name: &str) -> io::Result<FileNumber> {
    let found = world.names().current().get(name);
    found.copied().ok_or_else(|| errno(libc::ENOENT))
}

fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Medium for SimMedium {
    fn open(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(self.found(name, CallKind::Open)?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        self.make(name)?;
        self.open(name)
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn MediumFile>> {
        match self.make(name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut file = self.found(name, CallKind::Open)?;
        file.is_locked = self.machine.try_lock(file.file);
        if !file.is_locked {
            return Err(errno(libc::EWOULDBLOCK));
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.machine
            .change(&by_name(from, CallKind::Name), |world| {
                let file = file_of(world, from)?;
                let change = NameChange::Rename(from.to_owned(), to.to_owned(), file);
                Ok(Effect::Name(change))
            })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.machine
            .change(&by_name(name, CallKind::Name), |world| {
                let file = file_of(world, name)?;
                Ok(Effect::Name(NameChange::Remove(name.to_owned(), file)))
            })
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = by_name("", CallKind::Open);
        self.machine.look(&names, |world| {
            Ok(world.names().current().keys().cloned().collect())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let names = by_name("", CallKind::SyncNames);
        self.machine.change(&names, |_| Ok(Effect::SyncNames))
    }
}

impl SimFile {
    fn called(&self, kind: CallKind, offset: u64, length: u64) -> Called<'_> {
        Called {
            name: Some(&self.name),
            origin: None,
            kind,
            range: (offset, length),
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.is_locked {
            self.machine.unlock(self.file);
        }
    }
}

/// The read of a file or origin.
fn read(
    machine: &Machine,
    called: &Called<'_>,
    file: FileNumber,
    buffer: &mut [u8],
) -> io::Result<()> {
    let (offset, length) = called.range;
    machine.look(called, |world| {
        let bytes = world.file(file).current();
        if offset + length > bytes.length() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.get(offset, buffer);
        Ok(())
    })?;
    machine.note_read(file, offset, length);
    Ok(())
}

impl CacheFile for SimFile {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let called = self.called(CallKind::Read, offset, buffer.len() as u64);
        read(&self.machine, &called, self.file, buffer)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let called = self.called(CallKind::Write, offset, data.len() as u64);
        let write = Effect::Write(self.file, offset, data.into());
        self.machine.change(&called, |_| Ok(write))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let called = self.called(CallKind::Allocate, offset, length);
        let extend = Effect::Extend(self.file, offset + length);
        self.machine.change(&called, |_| Ok(extend))
    }

    fn sync(&self) -> io::Result<()> {
        let called = self.called(CallKind::Sync, 0, 0);
        self.machine
            .change(&called, |_| Ok(Effect::Sync(self.file)))
    }
}

impl MediumFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        let called = self.called(CallKind::Open, 0, 0);
        let length = |world: &World| Ok(world.file(self.file).current().length());
        self.machine.look(&called, length)
    }

    fn set_length(&self, length_bytes: u64) -> io::Result<()> {
        let called = self.called(CallKind::SetLength, 0, length_bytes);
        let set = Effect::SetLength(self.file, length_bytes);
        self.machine.change(&called, |_| Ok(set))
    }
}

/// A connection to an origin of a machine. One connection's flush covers all.
#[derive(Clone)]
pub struct SimOrigin {
    machine: Machine,
    number: usize,
    capabilities: Capabilities,
    limits: RequestLimits,
}

/// What an origin can do unless something else is said.
pub const CAPABILITIES: Capabilities = Capabilities {
    write: true,
    flush: true,
    tells_losses: false,
    fua: Fua::Emulated,
    trim: true,
    zero: true,
    fast_zero: false,
    extents: false,
    multi_conn: true,
    parallel: false,
};

impl SimOrigin {
    pub(super) fn new(machine: Machine, number: usize) -> Self {
        Self {
            machine,
            number,
            capabilities: CAPABILITIES,
            limits: RequestLimits::default(),
        }
    }

    /// The same, which says that it can do this.
    pub fn as_able_as(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// The same, which takes only whole sectors of so many bytes.
    pub fn with_sectors_of(mut self, bytes: u32) -> Self {
        self.limits.minimum = bytes;
        self
    }

    fn called(&self, kind: CallKind, offset: u64, length: u64) -> Called<'_> {
        Called {
            name: None,
            origin: Some(self.number),
            kind,
            range: (offset, length),
        }
    }
}

impl Origin for SimOrigin {
    fn size(&self) -> u64 {
        self.machine.origin_bytes(self.number).length()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn limits(&self) -> RequestLimits {
        self.limits
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let called = self.called(CallKind::Read, offset, buffer.len() as u64);
        read(&self.machine, &called, self.number, buffer)
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        let called = self.called(CallKind::Write, offset, data.len() as u64);
        let write = Effect::Write(self.number, offset, data.into());
        self.machine.change(&called, |_| Ok(write))?;
        if fua { self.flush() } else { Ok(()) }
    }

    fn flush(&self) -> io::Result<()> {
        let called = self.called(CallKind::Sync, 0, 0);
        let sync = Effect::Sync(self.number);
        self.machine.change(&called, |_| Ok(sync))
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        self.write(offset, &vec![0; length as usize], options.fua)
    }

    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()> {
        self.write(offset, &vec![0; length as usize], fua)
    }

    fn extents(&self, _: u64, length: u64, _: bool) -> io::Result<Vec<Extent>> {
        let (hole, zero) = (false, false);
        Ok(vec![Extent { length, hole, zero }])
    }
}

#[cfg(test)]
mod tests;
