//! Servers with a cache directory, killed at any moment and started again: everything up to the last flush that was answered is
//! there; what was written after it is there or not, sector by sector; and what was seen once after a kill stays.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use keep::{Front, Kept};
use larder_e2e::{
    Client, Flags, Larder, MIB, Nbdkit, Random, Request, Scratch, Server, read_at,
    soak_for_seconds, sparse_file, wait_until,
};

const ROUNDS: u64 = 20;
const CLIENTS: u64 = 2;
const UNIT: u64 = 512;
/// Larger than what the smallest cache holds.
const REGION: u64 = 20 * MIB;
const UNITS: u64 = REGION / UNIT;
const ID: &str = "cache-id=golden";

/// What one unit was made to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Zero,
    /// By the write of this number.
    Written(u64),
}

impl Value {
    /// What a unit of a region holds. Panics if it is torn, or another unit's.
    fn of(bytes: &[u8], unit: u64) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Zero;
        }
        let number = u64::from_be_bytes(bytes[8..16].try_into().unwrap());
        assert!(
            bytes == payload(unit, number),
            "unit {unit}: torn, or not its own: {:02x?}...",
            &bytes[..32]
        );
        Self::Written(number)
    }
}

/// A unit that knows its place and the write that it comes from.
fn payload(unit: u64, number: u64) -> Vec<u8> {
    let word = [(unit + 1).to_be_bytes(), number.to_be_bytes()].concat();
    word.repeat(UNIT as usize / 16)
}

/// What happens in one life.
#[derive(Default)]
struct Moments {
    /// Somebody is connected.
    is_begun: AtomicBool,
    /// Everybody is to leave.
    is_over: AtomicBool,
}

/// How a life ends.
#[derive(Clone, Copy)]
enum End {
    Kill,
    /// After its clients have left.
    Stop,
    /// Under the load of clients that do not leave, for which nbdkit would wait.
    StopUnderLoad,
}

/// One client on a region of its own, and what it may find there.
struct Writer {
    start: u64,
    random: Random,
    writes: u64,
    /// The values that each unit may have after a kill, the last that was written at the end.
    may_be: Vec<Vec<Value>>,
    /// Those that may have more than one.
    unsure: Vec<Range<u64>>,
}

impl Writer {
    fn new(number: u64, seed: u64) -> Self {
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
    fn work(&mut self, socket: &Path, flushes: &AtomicU64, moments: &Moments) {
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

    /// The bytes of the region are what it may hold.
    fn check(&self, what: &str, bytes: &[u8]) -> Vec<Value> {
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

    /// The same, seen by a client: it stays so.
    fn check_served(&mut self, client: &mut Client) {
        let pieces = (0..REGION / MIB).map(|piece| {
            let offset = self.start + piece * MIB;
            client.read(offset, MIB).expect("a read after the start")
        });
        let bytes: Vec<u8> = pieces.flatten().collect();
        for (unit, value) in self.check("served", &bytes).into_iter().enumerate() {
            self.may_be[unit] = vec![value];
        }
        self.unsure.clear();
    }
}

/// A disk whose server is killed again and again.
struct Victim {
    kept: Kept,
    front: Front,
    random: Random,
    writers: Vec<Writer>,
    flushes: AtomicU64,
    /// Between the server and the disk, where nobody can tell whether the disk has changed.
    origin: Option<Server>,
}

impl Victim {
    fn new(front: Front, has_origin: bool, seed: u64) -> Self {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        sparse_file(&image, CLIENTS * REGION);
        let mut random = Random::new(seed);
        let writers = (0..CLIENTS).map(|number| Writer::new(number, random.next_u64()));
        Self {
            writers: writers.collect(),
            origin: has_origin.then(|| Nbdkit::bare(&scratch).file(&image).start()),
            kept: Kept {
                directory: scratch.path("cache"),
                image,
                content: Vec::new(),
                scratch,
            },
            front,
            random,
            flushes: AtomicU64::new(0),
        }
    }

    fn start(&self, parameters: &[&str]) -> Server {
        match &self.origin {
            Some(origin) => Larder::serve(&self.kept.scratch)
                .origin(origin.uri())
                .parameter(&self.kept.parameter())
                .parameters(parameters)
                .start(),
            None => self.kept.start(self.front, parameters),
        }
    }

    /// One life: what is there is right; then work until the end, which is a kill more often than not.
    fn live(&mut self, parameters: &[&str]) {
        let server = self.start(parameters);
        let mut client = Client::connect(server.socket());
        for writer in &mut self.writers {
            writer.check_served(&mut client);
        }
        client.disconnect_and_wait();
        let end = match (self.random.below(6), self.front) {
            (0 | 1, _) => End::Stop,
            (2, Front::Server) => End::StopUnderLoad,
            _ => End::Kill,
        };
        self.work_until_the_end(server, end);
        for writer in &self.writers {
            let bytes = read_at(&self.kept.image, writer.start, REGION);
            writer.check("the file", &bytes);
        }
    }

    fn work_until_the_end(&mut self, server: Server, end: End) {
        let goal = self.flushes.load(Ordering::SeqCst) + self.random.below(6);
        // Any moment will do.
        let moment = Duration::from_micros(self.random.below(30_000));
        let (socket, moments) = (server.socket().to_owned(), Moments::default());
        let (writers, flushes) = (&mut self.writers, &self.flushes);
        thread::scope(|scope| {
            let working: Vec<_> = writers
                .iter_mut()
                .map(|writer| scope.spawn(|| writer.work(&socket, flushes, &moments)))
                .collect();
            wait_until("some flushes have been answered", || {
                moments.is_begun.load(Ordering::SeqCst) && flushes.load(Ordering::SeqCst) >= goal
            });
            thread::sleep(moment);
            match end {
                End::Kill => server.kill(),
                End::StopUnderLoad => drop(server.stop()),
                End::Stop => {
                    moments.is_over.store(true, Ordering::SeqCst);
                    working
                        .into_iter()
                        .for_each(|client| client.join().unwrap());
                    server.stop();
                }
            }
        });
    }
}

fn kill_again_and_again(front: Front, has_origin: bool, seed: u64, rounds: u64) {
    println!("LARDER_SEED={seed}");
    let mut victim = Victim::new(front, has_origin, seed);
    for _ in 0..rounds {
        let block = ["4K", "64K", "1M"][victim.random.below(3) as usize];
        let mode = ["writeback", "writethrough"][usize::from(victim.random.one_in(4))];
        // The first life decides; later ones take the directory's.
        let is_first = !victim.kept.directory.exists();
        let block = format!("cache-min-block-size={block}");
        let mode = format!("cache={mode}");
        let parameters = [ID, "cache-max-size=32M", "cache-dirty-age=1", &mode, &block];
        let count = if is_first { 5 } else { 4 };
        victim.live(&parameters[..count]);
    }
    assert!(victim.flushes.load(Ordering::SeqCst) > rounds);
}

#[test]
fn a_killed_filter_loses_nothing_that_was_flushed_and_keeps_nothing_that_was_not() {
    kill_again_and_again(Front::Filter, false, Random::seed_or(1), ROUNDS);
}

#[test]
fn a_killed_server_loses_nothing_that_was_flushed_and_keeps_nothing_that_was_not() {
    kill_again_and_again(Front::Server, false, Random::seed_or(1), ROUNDS);
}

#[test]
fn a_killed_server_over_an_nbd_origin_loses_nothing_and_keeps_nothing_that_is_old() {
    kill_again_and_again(Front::Server, true, Random::seed_or(1), ROUNDS);
}

#[test]
#[ignore = "as long as LARDER_SOAK_SECONDS says: cargo xtask soak"]
fn soak() {
    soak_for_seconds(|seed, random| {
        let (front, has_origin) = [
            (Front::Filter, false),
            (Front::Server, false),
            (Front::Server, true),
        ][random.below(3) as usize];
        kill_again_and_again(front, has_origin, seed, ROUNDS);
    });
}
