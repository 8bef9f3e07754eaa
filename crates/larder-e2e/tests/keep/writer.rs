//! A client that writes to a region of a disk of its own while its server is killed, and knows what it may find there afterwards:
//! what was there at the last flush that was answered, or what was written since, sector by sector.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use larder_e2e::{Client, Flags, MIB, Random, Request};

use super::unit::{UNIT, Value, payload};

/// Larger than what the smallest cache holds.
pub const REGION: u64 = 20 * MIB;
const UNITS: u64 = REGION / UNIT;

/// What happens in one life.
#[derive(Default)]
pub struct Moments {
    /// Somebody is connected.
    pub is_begun: AtomicBool,
    /// Everybody is to leave.
    pub is_over: AtomicBool,
}

/// One client on a region of its own, and what it may find there.
pub struct Writer {
    pub start: u64,
    random: Random,
    writes: u64,
    /// The values that each unit may have after a kill, the last that was written at the end.
    may_be: Vec<Vec<Value>>,
    /// Those that may have more than one.
    unsure: Vec<Range<u64>>,
}

impl Writer {
    /// On the region of that number.
    pub fn new(number: u64, seed: u64) -> Self {
        Self {
            start: number * REGION,
            random: Random::new(seed),
            writes: 0,
            may_be: vec![vec![Value::Zero]; UNITS as usize],
            unsure: Vec::new(),
        }
    }

    fn units(&mut self, units: Range<u64>) -> &mut [Vec<Value>] {
        &mut self.may_be[units.start as usize..units.end as usize]
    }

    /// The units have one value from now on: the last one.
    fn settle(&mut self, units: Range<u64>) {
        for may_be in self.units(units) {
            let last = may_be.pop().unwrap();
            *may_be = vec![last];
        }
    }

    /// Units that lie together more often than not.
    fn some_units(&mut self) -> Range<u64> {
        let count = self.random.between(1, 256);
        let window = [UNITS / 64, UNITS][usize::from(self.random.one_in(3))];
        let first = self.random.below(window - count);
        first..first + count
    }

    /// Works until the server is gone, or until it is time to leave.
    pub fn work(&mut self, socket: &Path, flushes: &AtomicU64, moments: &Moments) {
        let Ok(mut client) = Client::try_connect_to(socket, "") else {
            return;
        };
        moments.is_begun.store(true, Ordering::SeqCst);
        while !moments.is_over.load(Ordering::SeqCst) {
            for _ in 0..self.random.between(1, 6) {
                if self.step(&mut client).is_err() {
                    return;
                }
            }
            if client.flush().is_err() {
                return;
            }
            for units in std::mem::take(&mut self.unsure) {
                self.settle(units);
            }
            flushes.fetch_add(1, Ordering::SeqCst);
        }
        client.disconnect_and_wait();
    }

    fn step(&mut self, client: &mut Client) -> std::io::Result<()> {
        let units = self.some_units();
        let offset = self.start + units.start * UNIT;
        let length = (units.end - units.start) * UNIT;
        match self.random.below(10) {
            0..3 => {
                let bytes = client.read(offset, length)?;
                for (unit, bytes) in units.clone().zip(bytes.chunks(UNIT as usize)) {
                    let last = *self.may_be[unit as usize].last().unwrap();
                    assert_eq!(
                        Value::of(bytes, unit),
                        last,
                        "unit {unit}, read while all is well"
                    );
                }
                Ok(())
            }
            3 => {
                self.expect(&units, Value::Zero);
                client.zero(offset, length)
            }
            kind => {
                self.writes += 1;
                let number = self.writes;
                self.expect(&units, Value::Written(number));
                let bytes: Vec<u8> = units
                    .clone()
                    .flat_map(|unit| payload(unit, number))
                    .collect();
                let is_durable = kind == 4;
                let flags = if is_durable { Flags::FUA } else { Flags::NONE };
                client.call(&Request::write(offset, &bytes, flags))?;
                if is_durable {
                    self.settle(units);
                }
                Ok(())
            }
        }
    }

    fn expect(&mut self, units: &Range<u64>, value: Value) {
        self.unsure.push(units.clone());
        for may_be in self.units(units.clone()) {
            may_be.push(value);
        }
    }

    /// The bytes of the region are what it may hold: which values they are.
    fn values(&self, what: &str, bytes: &[u8]) -> Vec<Value> {
        let units = bytes.chunks(UNIT as usize).enumerate();
        let values = units.map(|(unit, bytes)| {
            let value = Value::of(bytes, unit as u64);
            let may_be = &self.may_be[unit];
            assert!(
                may_be.contains(&value),
                "{what}: unit {unit} of the region at {}: {value:?} is none of {may_be:?}",
                self.start
            );
            value
        });
        values.collect()
    }

    /// The bytes of the region are what it may hold.
    pub fn check(&self, what: &str, bytes: &[u8]) {
        self.values(what, bytes);
    }

    /// The bytes of the region are of some time or other, each unit of its own.
    pub fn check_form(&self, bytes: &[u8]) {
        for (unit, bytes) in bytes.chunks(UNIT as usize).enumerate() {
            if let Value::Written(number) = Value::of(bytes, unit as u64) {
                assert!(number <= self.writes, "unit {unit}: nobody wrote {number}");
            }
        }
    }

    /// The region is what it may hold, seen by a client: it stays so.
    pub fn check_served(&mut self, client: &mut Client) {
        let pieces = (0..REGION / MIB).map(|piece| {
            let offset = self.start + piece * MIB;
            client.read(offset, MIB).expect("a read after the start")
        });
        let bytes: Vec<u8> = pieces.flatten().collect();
        for (unit, value) in self.values("served", &bytes).into_iter().enumerate() {
            self.may_be[unit] = vec![value];
        }
        self.unsure.clear();
    }
}
