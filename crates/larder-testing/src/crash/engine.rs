//! The engine itself as what is under test.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use larder::{
    Cache, CacheHome, CacheOnRead, Capabilities, Config, Connection, Error, FlushTo, HomeSizes,
    Mode, Writeback, ZeroOptions,
};

use super::faults::{CallKind, MediumFault};
use super::machine::Machine;
use super::store::{BadSector, Look, Store, Subject};
use super::value::SECTOR_BYTES;
use crate::clock::ManualClock;
use crate::fault::When;
use crate::log::MemoryLog;
use crate::random::Random;

/// How the engine is started.
#[derive(Clone, Debug)]
pub struct Engine {
    /// In which mode.
    pub mode: Mode,
    /// Where flushes are durable.
    pub flush_to: FlushTo,
    /// In which order the origins get what was flushed into the directory.
    pub writeback: Writeback,
    /// What has been dirty for so long is written back.
    pub dirty_age: Option<Duration>,
    /// What its origins can do.
    pub origin: Capabilities,
    /// Their sectors, in bytes.
    pub sector_bytes: u32,
    /// The cache's blocks, in bytes.
    pub block_bytes: u64,
    /// How many volumes there are.
    pub volumes: u32,
    /// With so few slots.
    pub slots: u32,
    /// With so short a journal.
    pub journal_bytes: u64,
    /// With so short a queue for each volume.
    pub queue_bytes: u64,
    /// Now and then it is ended properly and started again.
    pub restarts: bool,
}

/// The engine at work.
struct Running {
    engine: Engine,
    machine: Machine,
    /// What the operator calls the origins: another name, and nothing that is cached counts.
    cache_id: String,
    /// How many slots it has in this life.
    slots: u32,
    /// Where there is none: why.
    life: Result<Life, String>,
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
            cache_id: CACHE_ID.to_owned(),
            slots: self.slots,
            life: Err("it was never started".to_owned()),
        };
        running.start()?;
        Ok(running)
    }

    /// Whether a slot may be the only place where something flushed is.
    fn promises_in_slots(&self) -> bool {
        self.flush_to == FlushTo::Cache && self.writeback == Writeback::Unordered
    }

    /// The cache in the directory of that machine. With `background`, others see to what it does there.
    pub(super) fn open(
        &self,
        machine: &Machine,
        cache_id: &str,
        slots: u32,
        background: bool,
    ) -> Result<Arc<Cache>, Error> {
        let config = Config {
            mode: self.mode,
            flush_to: self.flush_to,
            writeback: self.writeback,
            dirty_age: self.dirty_age,
            block_bytes: self.block_bytes,
            // Its slots are counted below.
            max_size_bytes: Some(32 << 20),
            cache_on_read: CacheOnRead::Always,
            cache_id: Some(cache_id.to_owned()),
            background,
            ..Config::default()
        };
        let home = CacheHome {
            medium: Arc::new(machine.medium()),
            path: "/cache".to_owned(),
            block_is_given: true,
            uuid_bits: 77,
            lock_text: "a test".to_owned(),
            sizes: Some(HomeSizes {
                slots,
                journal_bytes: self.journal_bytes,
                queue_bytes: self.queue_bytes,
            }),
        };
        let clock = Arc::new(ManualClock::stepping(Duration::from_micros(50)));
        Cache::open(config, home, clock, Arc::new(MemoryLog::default()))
    }
}

/// A client of a volume.
pub(super) fn connect(
    cache: &Arc<Cache>,
    engine: &Engine,
    machine: &Machine,
    volume: u32,
) -> Result<Connection, Error> {
    let origin = machine.origin(volume as usize);
    let origin = Arc::new(
        origin
            .as_able_as(engine.origin)
            .with_sectors_of(engine.sector_bytes),
    );
    cache.volume(&format!("volume {volume}")).connect(origin)
}

/// The name that the origins have at first.
pub(super) const CACHE_ID: &str = "the origins";

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
    fn start(&mut self) -> Result<(), String> {
        let started = self.try_start().map_err(|error| error.to_string());
        self.life = Err(started.as_ref().err().cloned().unwrap_or_default());
        self.life = Ok(started?);
        Ok(())
    }

    fn try_start(&self) -> Result<Life, Error> {
        let Self {
            engine, machine, ..
        } = self;
        let cache = engine.open(machine, &self.cache_id, self.slots, false)?;
        let connections =
            (0..engine.volumes).map(|volume| connect(&cache, engine, machine, volume));
        let connections = connections.collect::<Result<_, _>>()?;
        Ok(Life { connections, cache })
    }

    fn take(&mut self) -> Result<Life, String> {
        std::mem::replace(&mut self.life, Err("it has ended".to_owned()))
    }

    /// Ends it properly, also if an origin refuses what is left for it.
    fn end(&mut self) -> io::Result<()> {
        let Ok(life) = self.take() else {
            return Ok(());
        };
        let left = life.connections.iter();
        let left = left.map(|connection| told(connection.disconnect()));
        let left = left.fold(Ok(()), Result::and);
        drop(life.connections);
        life.cache.stop();
        left.and(told(life.cache.close()))
    }

    /// The same while the origins take nothing: what is queued for them stays in the directory.
    fn end_refused(&mut self) {
        for volume in 0..self.engine.volumes {
            let writes = MediumFault::origin(volume as usize, CallKind::Write);
            self.machine.fail(writes.when(When::Always));
        }
        // It says what has not been sent, if there was something.
        let _ = self.end();
        self.machine.heal();
    }

    fn connection(&self, volume: u32) -> io::Result<&Connection> {
        Ok(&self.life()?.connections[volume as usize])
    }

    fn life(&self) -> io::Result<&Life> {
        self.life
            .as_ref()
            .map_err(|why| io::Error::other(why.clone()))
    }

    /// Ends it properly and starts it again, perhaps with more slots or fewer.
    fn restart(&mut self, random: &mut Random) {
        if self.engine.writeback == Writeback::Ordered && random.chance(40) {
            self.end_refused();
        } else if let Err(error) = self.end() {
            // Seen by the next request.
            self.life = Err(format!("its end: {error}"));
            return;
        }
        let slots = self.engine.slots;
        let fewest = slots.div_ceil(2);
        let slots = match self.engine.promises_in_slots() {
            // With fewer than hold what was promised it is refused.
            true => slots,
            false => random.pick(&[slots, slots, fewest, slots + 3]),
        };
        self.slots = slots;
        // Where nothing fails it cannot but work, and what does not is seen by the next request.
        let _ = self.start();
    }

    /// A life in which whatever is dirty is too old, until nothing is.
    fn write_back(&mut self) -> io::Result<()> {
        self.end()?;
        self.engine.dirty_age = Some(Duration::ZERO);
        self.start().map_err(io::Error::other)?;
        for _ in 0..MOST_PASSES {
            for volume in 0..self.engine.volumes {
                self.read(volume, 0, &mut [0; SECTOR_BYTES])?;
            }
            if self.life()?.cache.stats().dirty_bytes == 0 {
                return Ok(());
            }
        }
        Err(io::Error::other("what is dirty is not written back"))
    }
}

/// After so many requests everything that is too old has been written back.
const MOST_PASSES: u32 = 100;

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
            self.restart(random);
        } else if let Ok(life) = &self.life {
            // What has not been touched between two looks is summed, and then listed.
            let looks = match self.engine.promises_in_slots() {
                true => random.between(1, 3),
                false => 1,
            };
            for _ in 0..looks {
                life.cache.maintain_medium(Duration::ZERO);
            }
        }
    }

    fn kill(&mut self) -> Result<bool, String> {
        self.machine.kill();
        drop(self.take());
        self.start()?;
        Ok(true)
    }

    /// With `cache-flush=cache` that is nobody's flush, but the age of what is dirty, or in order the end; and after that the directory is one of
    /// `cache-flush=origin`, which refuses what is dirty.
    fn drain(&mut self) -> io::Result<()> {
        match self.engine.promises_in_slots() {
            false => {
                for volume in 0..self.engine.volumes {
                    self.flush(volume)?;
                }
            }
            true => self.write_back()?,
        }
        self.end()?;
        self.engine.flush_to = FlushTo::Origin;
        self.engine.writeback = Writeback::Unordered;
        self.cache_id = "none of that".to_owned();
        self.start().map_err(io::Error::other)?;
        match self.life()?.cache.stats().dirty_bytes {
            0 => Ok(()),
            some => Err(io::Error::other(format!("{some} bytes are still dirty"))),
        }
    }
}
