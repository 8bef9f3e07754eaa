//! A write-back cache so simple that it is right: one lock around everything. The harness must
//! pass it, and must catch it when it is told to make a mistake.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use larder::{Error, ErrorKind, Extent, Mode, Origin, StatsSnapshot, ZeroOptions};
use larder_testing::subject::{Client, Subject};

/// Something that a cache may get wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    FlushStopsAtTheOrigin,
    FlushForgetsAUnit,
    FailedFlushIsForgotten,
    FuaIsIgnored,
    DisconnectForgets,
    ExtentsForgetTheCache,
    FetchCommitsBlindly,
    PartialWriteClearsTheRest,
    FailedFuaLosesNeighbours,
    AsksPastTheEnd,
}

const UNIT: u64 = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Clean,
    Dirty,
    /// Sent to the origin by that client, not flushed.
    Written(u64),
}

#[derive(Default)]
struct Units {
    cached: BTreeMap<u64, (Vec<u8>, Condition)>,
    clients: u64,
    last_client: u64,
}

struct Shared {
    units: Mutex<Units>,
    mode: Mode,
    mistake: Mistake,
}

pub(crate) struct Shim(Arc<Shared>);

impl Shim {
    pub(crate) fn new(mode: Mode, mistake: Mistake) -> Self {
        Self(Arc::new(Shared {
            units: Mutex::default(),
            mode,
            mistake,
        }))
    }
}

impl Subject for Shim {
    fn connect(&self, origin: Arc<dyn Origin>) -> Result<Box<dyn Client>, Error> {
        let mut units = self.0.units.lock().unwrap();
        units.clients += 1;
        units.last_client += 1;
        Ok(Box::new(ShimClient {
            number: units.last_client,
            has_left: AtomicBool::new(false),
            shared: Arc::clone(&self.0),
            origin,
        }))
    }

    fn maintain(&self, _timeout: Duration) -> bool {
        false
    }

    fn stop(&self) {}

    fn stats(&self) -> StatsSnapshot {
        StatsSnapshot::default()
    }

    fn leftovers(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }
}

struct ShimClient {
    shared: Arc<Shared>,
    origin: Arc<dyn Origin>,
    number: u64,
    has_left: AtomicBool,
}

fn failed(error: std::io::Error) -> Error {
    Error::with_source(ErrorKind::Origin, "origin", error)
}

impl ShimClient {
    fn lock(&self) -> MutexGuard<'_, Units> {
        self.shared.units.lock().unwrap()
    }

    fn wrong(&self, mistake: Mistake) -> bool {
        self.shared.mistake == mistake
    }

    fn extent_of(&self, unit: u64) -> (u64, usize) {
        let from = unit * UNIT;
        let past = u64::from(self.wrong(Mistake::AsksPastTheEnd));
        (from, UNIT.min(self.origin.size() + past - from) as usize)
    }

    /// The unit's content, fetched if need be.
    fn load<'a>(
        &'a self,
        mut units: MutexGuard<'a, Units>,
        unit: u64,
    ) -> Result<(MutexGuard<'a, Units>, Vec<u8>), Error> {
        if let Some((bytes, _)) = units.cached.get(&unit) {
            let bytes = bytes.clone();
            return Ok((units, bytes));
        }
        let (from, length) = self.extent_of(unit);
        let mut bytes = vec![0; length];
        if self.wrong(Mistake::FetchCommitsBlindly) {
            drop(units);
            self.origin.read(from, &mut bytes).map_err(failed)?;
            units = self.lock();
        } else {
            self.origin.read(from, &mut bytes).map_err(failed)?;
        }
        units.cached.insert(unit, (bytes.clone(), Condition::Clean));
        Ok((units, bytes))
    }

    /// Changes a range in the cache, and on the origin where `through` says so.
    fn change(
        &self,
        offset: u64,
        length: u64,
        through: bool,
        byte: impl Fn(u64) -> u8,
    ) -> Result<(), Error> {
        let mut units = self.lock();
        for unit in offset / UNIT..(offset + length).div_ceil(UNIT) {
            let (from, long) = self.extent_of(unit);
            let (held, mut bytes) = self.load(units, unit)?;
            units = held;
            if self.wrong(Mistake::PartialWriteClearsTheRest) {
                bytes = vec![0; long];
            }
            for at in from.max(offset)..(from + long as u64).min(offset + length) {
                bytes[(at - from) as usize] = byte(at);
            }
            if through {
                if self.shared.mode == Mode::Writethrough
                    || self.wrong(Mistake::FailedFuaLosesNeighbours)
                {
                    units.cached.remove(&unit);
                }
                self.origin.write(from, &bytes, false).map_err(failed)?;
            }
            let condition = if through {
                Condition::Written(self.number)
            } else {
                Condition::Dirty
            };
            units.cached.insert(unit, (bytes, condition));
        }
        if through && self.shared.mode == Mode::Writeback {
            self.flush_origin(&mut units)?;
        }
        Ok(())
    }

    fn write_or_zero(
        &self,
        offset: u64,
        length: u64,
        fua: bool,
        byte: impl Fn(u64) -> u8,
    ) -> Result<(), Error> {
        let fua = fua && !self.wrong(Mistake::FuaIsIgnored);
        match self.shared.mode {
            Mode::Unsafe => self.change(offset, length, false, byte),
            Mode::Writeback => self.change(offset, length, fua, byte),
            Mode::Writethrough => {
                self.change(offset, length, true, byte)?;
                if fua { self.flush() } else { Ok(()) }
            }
        }
    }

    fn write_back(&self, units: &mut Units) -> Result<(), Error> {
        let mut forget = self.wrong(Mistake::FlushForgetsAUnit);
        for (&unit, (bytes, condition)) in &mut units.cached {
            // What another client sent, only that client could flush.
            let strange = matches!(*condition, Condition::Written(number) if number != self.number);
            let dirty = *condition == Condition::Dirty || strange;
            if dirty && !std::mem::take(&mut forget) {
                self.origin
                    .write(unit * UNIT, bytes, false)
                    .map_err(failed)?;
                *condition = Condition::Written(self.number);
            }
        }
        Ok(())
    }

    fn flush_origin(&self, units: &mut Units) -> Result<(), Error> {
        if !self.origin.capabilities().flush || self.wrong(Mistake::FlushStopsAtTheOrigin) {
            return Ok(());
        }
        let flushed = self.origin.flush().map_err(failed);
        let forgotten = self.wrong(Mistake::FailedFlushIsForgotten);
        for (_, condition) in units.cached.values_mut() {
            if *condition == Condition::Written(self.number) {
                *condition = if flushed.is_ok() || forgotten {
                    Condition::Clean
                } else {
                    Condition::Dirty
                };
            }
        }
        flushed
    }
}

impl Client for ShimClient {
    fn multi_conn(&self) -> bool {
        true
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let mut units = self.lock();
        let end = offset + buffer.len() as u64;
        for unit in offset / UNIT..end.div_ceil(UNIT) {
            let (from, long) = self.extent_of(unit);
            let (held, bytes) = self.load(units, unit)?;
            units = held;
            for at in from.max(offset)..(from + long as u64).min(end) {
                buffer[(at - offset) as usize] = bytes[(at - from) as usize];
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> Result<(), Error> {
        let length = data.len() as u64;
        self.write_or_zero(offset, length, fua, |at| data[(at - offset) as usize])
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> Result<(), Error> {
        self.write_or_zero(offset, length, options.fua, |_| 0)
    }

    fn trim(&self, _offset: u64, _length: u64, _fua: bool) -> Result<(), Error> {
        // What was there may stay: nobody asked for zeros.
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        let mut units = self.lock();
        if self.shared.mode == Mode::Unsafe {
            return Ok(());
        }
        self.write_back(&mut units)?;
        self.flush_origin(&mut units)
    }

    fn cache(&self, _offset: u64, _length: u64) -> Result<(), Error> {
        Ok(())
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> Result<Vec<Extent>, Error> {
        let units = self.lock();
        let (from, long) = self.extent_of(offset / UNIT);
        let length = length.min(from + long as u64 - offset);
        let data = Extent {
            length,
            hole: false,
            zero: false,
        };
        let cached = units.cached.get(&(offset / UNIT));
        match cached.filter(|_| !self.wrong(Mistake::ExtentsForgetTheCache)) {
            Some((bytes, _)) => Ok(vec![Extent {
                zero: bytes.iter().all(|&byte| byte == 0),
                ..data
            }]),
            None if self.origin.capabilities().extents => {
                let minimum = u64::from(self.origin.limits().minimum);
                let start = offset / minimum * minimum;
                let found = self.origin.extents(start, from + long as u64 - start, true);
                let first = found.map_err(failed)?[0];
                let skipped = offset - start;
                if first.length <= skipped || !one {
                    return Ok(vec![data]);
                }
                Ok(vec![Extent {
                    length: length.min(first.length - skipped),
                    ..first
                }])
            }
            None => Ok(vec![data]),
        }
    }

    fn disconnect(&self) -> Result<(), Error> {
        if self.has_left.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let mut units = self.lock();
        units.clients -= 1;
        if self.shared.mode == Mode::Writeback && !self.wrong(Mistake::DisconnectForgets) {
            self.write_back(&mut units)?;
            self.flush_origin(&mut units)?;
        }
        Ok(())
    }
}
