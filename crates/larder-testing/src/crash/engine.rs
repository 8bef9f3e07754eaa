//! The engine itself as what is under test.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use larder::{
    Cache, CacheHome, CacheOnRead, Config, Connection, Error, HomeSizes, Mode, ZeroOptions,
};

use super::machine::Machine;
use super::store::{BadSector, Look, Store, Subject};
use super::value::SECTOR_BYTES;
use crate::clock::ManualClock;
use crate::log::MemoryLog;
use crate::random::Random;

/// How the engine is started.
#[derive(Clone, Debug)]
pub struct Engine {
    /// In which mode.
    pub mode: Mode,
    /// Over so many volumes.
    pub volumes: u32,
    /// With so few slots, of 4 KiB.
    pub slots: u32,
    /// With so short a journal.
    pub journal_bytes: u64,
    /// Now and then it is ended properly and started again.
    pub restarts: bool,
}

/// The engine at work.
struct Running {
    engine: Engine,
    machine: Machine,
    /// What the operator calls the origins: another name, and nothing that is cached counts.
    cache_id: String,
    life: Option<Life>,
}

struct Life {
    // Before the cache, which they use.
    connections: Vec<Connection>,
    cache: Arc<Cache>,
}

impl Engine {
    fn run(&self, machine: &Machine) -> Result<Running, String> {
        let mut running = Running {
            engine: self.clone(),
            machine: machine.clone(),
            cache_id: "the origins".to_owned(),
            life: None,
        };
        running.start().map_err(|error| error.to_string())?;
        Ok(running)
    }
}

impl Subject for Engine {
    /// What is only looked at is a copy already.
    fn look(&self, machine: &Machine) -> Result<Box<dyn Look>, String> {
        Ok(Box::new(self.run(machine)?))
    }

    fn start(&self, machine: &Machine) -> Result<Box<dyn Store>, String> {
        Ok(Box::new(self.run(machine)?))
    }
}

impl Running {
    fn start(&mut self) -> Result<(), Error> {
        let config = Config {
            mode: self.engine.mode,
            block_bytes: 4096,
            // Its slots are counted below.
            max_size_bytes: Some(32 << 20),
            cache_on_read: CacheOnRead::Always,
            cache_id: Some(self.cache_id.clone()),
            ..Config::default()
        };
        let home = CacheHome {
            medium: Arc::new(self.machine.medium()),
            path: "/cache".to_owned(),
            block_is_given: true,
            uuid_bits: 77,
            lock_text: "a test".to_owned(),
            sizes: Some(HomeSizes {
                slots: self.engine.slots,
                journal_bytes: self.engine.journal_bytes,
            }),
        };
        let clock = Arc::new(ManualClock::stepping(Duration::from_micros(50)));
        let cache = Cache::open(config, home, clock, Arc::new(MemoryLog::default()))?;
        let connections = (0..self.engine.volumes).map(|number| {
            let origin = Arc::new(self.machine.origin(number as usize));
            cache.volume(&format!("volume {number}")).connect(origin)
        });
        let connections = connections.collect::<Result<_, _>>()?;
        self.life = Some(Life { connections, cache });
        Ok(())
    }

    /// Ends it properly.
    fn end(&mut self) -> io::Result<()> {
        let Some(life) = self.life.take() else {
            return Ok(());
        };
        for connection in &life.connections {
            told(connection.disconnect())?;
        }
        drop(life.connections);
        life.cache.stop();
        told(life.cache.close())
    }

    fn connection(&self, volume: u32) -> io::Result<&Connection> {
        let life = self
            .life
            .as_ref()
            .ok_or_else(|| io::Error::other("it has ended"))?;
        Ok(&life.connections[volume as usize])
    }
}

fn told<T>(result: Result<T, Error>) -> io::Result<T> {
    result.map_err(|error| io::Error::other(error.to_string()))
}

fn at(sectors: u64) -> u64 {
    sectors * SECTOR_BYTES as u64
}

impl Look for Running {
    fn read(&mut self, volume: u32, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        told(self.connection(volume)?.read(at(first), buffer))
    }

    /// What is dirty and bad is not read; what is clean and bad is read from the origin.
    fn bad(&mut self) -> Vec<BadSector> {
        Vec::new()
    }
}

impl Store for Running {
    fn write(&mut self, volume: u32, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        told(self.connection(volume)?.write(offset, data, fua))
    }

    fn zero(&mut self, volume: u32, first: u64, count: u64, fua: bool) -> io::Result<()> {
        let options = ZeroOptions {
            fua,
            ..ZeroOptions::default()
        };
        told(self.connection(volume)?.zero(at(first), at(count), options))
    }

    fn trim(&mut self, volume: u32, first: u64, count: u64) -> io::Result<()> {
        told(self.connection(volume)?.trim(at(first), at(count), false))
    }

    fn flush(&mut self, volume: u32) -> io::Result<()> {
        told(self.connection(volume)?.flush())
    }

    fn step(&mut self, random: &mut Random) {
        if self.engine.restarts && random.chance(6) {
            // Where nothing fails it cannot but work, and what does not is seen by the next request.
            if self.end().is_ok() {
                let _ = self.start();
            }
        } else if let Some(life) = &self.life {
            life.cache.maintain_medium(Duration::ZERO);
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        self.end()?;
        self.cache_id = "none of that".to_owned();
        told(self.start())
    }
}
