//! What is under test, seen from above: a cache over origins that starts on a machine.

use std::io;

use super::machine::Machine;
use crate::random::Random;

/// A sector whose bytes are not what the medium says they are.
#[derive(Clone, Debug)]
pub struct BadSector {
    /// Whose.
    pub volume: u32,
    /// Which.
    pub sector: u64,
    /// Only the cache had it.
    pub is_dirty: bool,
    /// Where the bytes are and since when the medium says it is there, if a clean sector may be bad for having been
    /// written since.
    pub listed: Option<Listed>,
}

/// What the medium was told of a clean sector.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The file's name.
    pub name: String,
    /// Offset and length in bytes.
    pub range: (u64, u64),
    /// The position at which it was told.
    pub position: usize,
}

/// What can be asked of a store that only looks at what a crash has left: it changes nothing.
pub trait Look {
    /// Reads whole sectors of a volume.
    fn read(&mut self, volume: u32, first: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Every sector that is bad.
    fn bad(&mut self) -> Vec<BadSector>;
}

/// A store that serves. What it does follows from what it is asked alone.
pub trait Store: Look {
    /// Writes at an offset in bytes; with `fua` it is durable on return.
    fn write(&mut self, volume: u32, offset: u64, data: &[u8], fua: bool) -> io::Result<()>;

    /// Zeroes sectors.
    fn zero(&mut self, volume: u32, first: u64, count: u64, fua: bool) -> io::Result<()>;

    /// Trims sectors: they are zeros, or as they were.
    fn trim(&mut self, volume: u32, first: u64, count: u64) -> io::Result<()>;

    /// Makes durable what the volume had acknowledged.
    fn flush(&mut self, volume: u32) -> io::Result<()>;

    /// Does some work in the background.
    fn step(&mut self, random: &mut Random);

    /// Its process is killed and it is started again on what is there then, if it can be. The reason if it refuses to start.
    fn kill(&mut self) -> Result<bool, String> {
        Ok(false)
    }

    /// Writes everything back, flushes the origins and forgets what it has.
    fn drain(&mut self) -> io::Result<()>;
}

/// A way of starting a store. It may refuse what it finds, with a reason; a crash alone is none.
pub trait Subject {
    /// Looks at what is there.
    fn look(&self, machine: &Machine) -> Result<Box<dyn Look>, String>;

    /// Starts on what is there.
    fn start(&self, machine: &Machine) -> Result<Box<dyn Store>, String>;
}
