//! `larder drain` over what `cache-writeback=ordered` has queued, in the crash simulator: whatever a kill of the engine has left is drained, and every moment
//! of that is a crash.
//!
//! Whenever it is, the origin alone holds all of some flush, and beside that only what was written before the next one; origin and directory together hold
//! what they held before; and what is drained to its end is on the origin, all of it.
//!
//! `LARDER_SEED=n LARDER_SEEDS=count cargo test -p larder-testing --test drain_ordered replay` runs some seeds again, or others.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use larder::drain::{Drain, DrainError, WriteBack};
use larder::planted::{Bug, plant};
use larder::{
    Cache, CacheHome, CacheOnRead, Capabilities, Config, Connection, Error, FlushTo, HomeSizes,
    Writeback, ZeroOptions,
};
use larder_testing::clock::ManualClock;
use larder_testing::crash::history::origin_bytes;
use larder_testing::crash::value::{SECTOR_BYTES, fill};
use larder_testing::crash::walk::Walk;
use larder_testing::crash::{CallKind, Image, Machine, MediumFault, Recording};
use larder_testing::log::MemoryLog;
use larder_testing::random::mix;
use larder_testing::{Random, When};

const SECTORS: u64 = 40;
const ID: &str = "the origin";

/// What must be passed.
const CRASHES: u64 = 3_000;
/// What a mistake may take to be caught.
const CRASHES_TO_CATCH: u64 = 20_000;
/// How many crashes are looked at with the engine, and how many are drained again, in percent.
const LOOK_PERCENT: u64 = 20;
const AGAIN_PERCENT: u64 = 10;

/// A bug is planted in the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A life of the engine.
struct Life {
    connection: Connection,
    _cache: Arc<Cache>,
}

fn start(machine: &Machine, queue_bytes: u64) -> Result<Life, Error> {
    let config = Config {
        flush_to: FlushTo::Cache,
        writeback: Writeback::Ordered,
        block_bytes: 4096,
        max_size_bytes: Some(32 << 20),
        cache_on_read: CacheOnRead::Always,
        cache_id: Some(ID.to_owned()),
        ..Config::default()
    };
    let home = CacheHome {
        medium: Arc::new(machine.medium()),
        path: "/cache".to_owned(),
        block_is_given: true,
        uuid_bits: 77,
        lock_text: "a test".to_owned(),
        sizes: Some(HomeSizes {
            slots: 8,
            journal_bytes: 64 << 10,
            queue_bytes,
        }),
    };
    let clock = Arc::new(ManualClock::default());
    let cache = Cache::open(config, home, clock, Arc::new(MemoryLog::default()))?;
    let connection = cache.volume("disk").connect(Arc::new(origin(machine)))?;
    Ok(Life {
        connection,
        _cache: cache,
    })
}

fn origin(machine: &Machine) -> impl larder::Origin + use<> {
    machine.origin(0).as_able_as(Capabilities {
        write: true,
        flush: true,
        zero: true,
        ..Capabilities::default()
    })
}

/// Of each sector, what it may hold if the origin has got a flush, and not all of the next.
type Sectors = Vec<BTreeSet<Vec<u8>>>;

/// What a life of the engine has left.
struct Left {
    image: Image,
    /// For each flush.
    allowed: Vec<Sectors>,
}

/// What was written.
struct Model {
    now: Vec<Vec<u8>>,
    allowed: Vec<Sectors>,
}

impl Model {
    fn new(bytes: &[u8]) -> Self {
        let sectors = bytes.chunks_exact(SECTOR_BYTES);
        let mut model = Self {
            now: sectors.map(<[u8]>::to_vec).collect(),
            allowed: Vec::new(),
        };
        model.flush();
        model
    }

    fn put(&mut self, sector: u64, bytes: &[u8]) {
        self.now[sector as usize] = bytes.to_vec();
        if let Some(last) = self.allowed.last_mut() {
            last[sector as usize].insert(bytes.to_vec());
        }
    }

    fn flush(&mut self) {
        let sectors = self.now.iter();
        let sectors = sectors.map(|bytes| BTreeSet::from([bytes.clone()]));
        self.allowed.push(sectors.collect());
    }
}

/// The engine at work, until it is killed or the power fails.
fn work(seed: u64) -> Left {
    let mut random = Random::new(mix(seed, 5));
    let image = Image::with_origins(vec![origin_bytes(0, SECTORS)]).garbage_in("slots");
    let mut model = Model::new(&of_origin(&image));
    let machine = Machine::new(image, seed);
    let life = start(&machine, random.pick(&[64 << 10, 512 << 10, 1 << 20])).unwrap();
    for version in 1..=random.between(10, 60) {
        let first = random.below(SECTORS);
        let count = random.between(1, 12).min(SECTORS - first);
        let offset = first * SECTOR_BYTES as u64;
        let length = count as usize * SECTOR_BYTES;
        match random.below(10) {
            0..6 => {
                let mut bytes = vec![0; length];
                for (sector, bytes) in (first..).zip(bytes.chunks_exact_mut(SECTOR_BYTES)) {
                    fill(0, sector, version, bytes);
                    model.put(sector, bytes);
                }
                life.connection.write(offset, &bytes, false).unwrap();
            }
            6 => {
                for sector in first..first + count {
                    model.put(sector, &[0; SECTOR_BYTES]);
                }
                let options = ZeroOptions::default();
                let zeroed = life.connection.zero(offset, length as u64, options);
                zeroed.unwrap();
            }
            _ => {
                life.connection.flush().unwrap();
                model.flush();
            }
        }
    }
    let recording = machine.recording();
    machine.kill();
    drop(life);
    Left {
        image: crash(&recording, usize::MAX, &mut Random::new(seed)),
        allowed: model.allowed,
    }
}

fn crash(recording: &Recording, position: usize, random: &mut Random) -> Image {
    let mut walk = Walk::new(recording);
    walk.advance_to(position.min(recording.position()));
    walk.crash(random)
}

fn of_origin(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0; SECTORS as usize * SECTOR_BYTES];
    image.files[0].get(0, &mut bytes);
    bytes
}

/// What the engine serves there.
fn served(image: &Image, seed: u64) -> Result<Vec<u8>, String> {
    let machine = Machine::new(image.clone(), seed);
    let life = start(&machine, 64 << 10).map_err(|error| error.to_string())?;
    let mut bytes = vec![0; SECTORS as usize * SECTOR_BYTES];
    let read = life.connection.read(0, &mut bytes);
    read.map_err(|error| error.to_string())?;
    machine.kill();
    Ok(bytes)
}

/// Whether everything is on the origin.
fn drain(machine: &Machine) -> Result<bool, DrainError> {
    let mut drain = Drain::open(Arc::new(machine.medium()), "pid 9")?;
    let asked = WriteBack {
        cache_id: Some(ID.to_owned()),
        force: false,
    };
    let mut is_done = true;
    for holding in drain.holdings() {
        let done = drain.write_back(holding.number, &origin(machine), &asked, &mut |_| {})?;
        is_done &= done.left.is_empty();
    }
    drain.close()?;
    Ok(is_done)
}

/// What may fail while it is drained: every second seed has something.
fn fault(seed: u64) -> Option<MediumFault> {
    let nth = When::Nth(1 + seed / 14 % 4);
    let faults = [
        MediumFault::file("queue-0", CallKind::Sync, nth),
        MediumFault::file("queue-0", CallKind::Write, nth),
        MediumFault::file("journal", CallKind::Sync, When::Nth(1)),
        MediumFault::file("superblock", CallKind::Sync, When::Nth(3)),
        MediumFault::origin(0, CallKind::Write).when(nth),
        MediumFault::origin(0, CallKind::Sync).when(nth),
        MediumFault::file("volumes", CallKind::Write, When::Nth(1)).errno(28),
    ];
    let chosen = (seed / 2) as usize % faults.len();
    (seed % 2 == 1).then(|| faults[chosen].clone())
}

/// What was gone through.
#[derive(Debug, Default)]
struct Seen {
    crashes: u64,
    /// That the origin was found at.
    flushes: u64,
}

/// One directory and every moment of its being drained, with a mistake in that. What was gone through, or what was wrong.
fn sweep(seed: u64, bug: Option<Bug>) -> Result<Seen, String> {
    let left = work(seed);
    check_order(&left.image, &left.allowed).map_err(|what| format!("at first: {what}"))?;
    let expected = served(&left.image, seed)?;
    let machine = Machine::new(left.image.clone(), seed);
    fault(seed)
        .into_iter()
        .for_each(|fault| machine.fail(fault));
    plant(bug);
    let is_done = drain(&machine).is_ok_and(|is_done| is_done);
    plant(None);
    let recording = machine.recording();
    if is_done {
        let end = crash(&recording, usize::MAX, &mut Random::new(seed));
        check_drained(&end, &expected).map_err(|what| format!("drained: {what}"))?;
    } else if seed.is_multiple_of(2) {
        return Err("not everything was drained".to_owned());
    }
    check_all(&recording, &left.allowed, &expected, seed)
}

fn check_all(
    recording: &Recording,
    allowed: &[Sectors],
    expected: &[u8],
    seed: u64,
) -> Result<Seen, String> {
    let mut crashes = 0;
    let mut flushes = BTreeSet::new();
    for position in 0..=recording.position() {
        if !recording.is_point(position) {
            continue;
        }
        crashes += 1;
        let mut random = Random::new(mix(seed, position as u64));
        let image = crash(recording, position, &mut random);
        let at = |what: String| format!("position {position}: {what}");
        flushes.insert(check_order(&image, allowed).map_err(at)?);
        if random.chance(LOOK_PERCENT) && served(&image, seed).map_err(at)? != expected {
            return Err(at("origin and directory hold something else".to_owned()));
        }
        if random.chance(AGAIN_PERCENT) {
            drain_again(&image, allowed, expected, &mut random).map_err(at)?;
        }
    }
    Ok(Seen {
        crashes,
        flushes: flushes.len() as u64,
    })
}

/// All of a flush, and of the next one only what was written before it. Which.
fn check_order(image: &Image, allowed: &[Sectors]) -> Result<usize, String> {
    let bytes = of_origin(image);
    let is_of = |flush: &&Sectors| {
        let mut sectors = flush.iter().zip(bytes.chunks_exact(SECTOR_BYTES));
        sectors.all(|(allowed, found)| allowed.contains(found))
    };
    let flush = allowed.iter().position(|flush| is_of(&flush));
    flush.ok_or_else(|| "the origin is of no flush".to_owned())
}

/// The origin has everything by itself, and the directory says so.
fn check_drained(image: &Image, expected: &[u8]) -> Result<(), String> {
    if of_origin(image) != expected {
        return Err("something is not on the origin".to_owned());
    }
    let machine = Machine::new(image.clone(), 0);
    let drain = Drain::open(Arc::new(machine.medium()), "pid 10");
    let holdings = drain.map_err(|error| error.to_string())?.holdings();
    match holdings.iter().all(|holding| holding.is_empty()) {
        true => Ok(()),
        false => Err(format!("still held: {holdings:?}")),
    }
}

/// It can be run again, and a crash of that too can be.
fn drain_again(
    image: &Image,
    allowed: &[Sectors],
    expected: &[u8],
    random: &mut Random,
) -> Result<(), String> {
    let mut image = image.clone();
    if random.chance(50) {
        let machine = Machine::new(image, random.next_u64());
        drain(&machine).map_err(|error| error.to_string())?;
        let recording = machine.recording();
        let position = random.below(recording.position() as u64 + 1) as usize;
        image = crash(&recording, position, random);
        check_order(&image, allowed)?;
    }
    let machine = Machine::new(image, random.next_u64());
    match drain(&machine) {
        Ok(true) => {
            let end = crash(&machine.recording(), usize::MAX, random);
            check_drained(&end, expected)
        }
        Ok(false) => Err("not everything was drained the second time".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_origin_alone_is_of_a_flush_at_any_moment_of_a_drain() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut all, mut seed) = (Seen::default(), 0);
    while all.crashes < CRASHES {
        match sweep(seed, None) {
            Ok(seen) => {
                all.crashes += seen.crashes;
                all.flushes += seen.flushes;
            }
            Err(what) => panic!("seed {seed}: {what}"),
        }
        seed += 1;
    }
    println!("{seed} drains: {all:?}");
    assert!(all.flushes > 2 * seed, "{all:?}");
}

#[test]
fn replay() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(first) = number("LARDER_SEED") {
        for seed in first..first + number("LARDER_SEEDS").unwrap_or(1) {
            if let Err(what) = sweep(seed, None) {
                panic!("seed {seed}: {what}");
            }
        }
    }
}

/// What was wrong first.
fn caught(bug: Bug) -> Option<String> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut crashes = 0;
    // Without faults: the bug is the only reason.
    for seed in (0..).step_by(2) {
        match sweep(seed, Some(bug)) {
            Ok(seen) => crashes += seen.crashes,
            Err(what) => {
                println!("{bug:?}: {crashes} crashes, seed {seed}: {what}");
                return Some(what);
            }
        }
        if crashes > CRASHES_TO_CATCH {
            break;
        }
    }
    None
}

#[test]
fn a_drain_out_of_order_is_caught() {
    for bug in [
        Bug::UndirtyBeforeFlush,
        Bug::QueueEpochsMerged,
        Bug::QueueFreedEarly,
        Bug::QueueHeadNotSynced,
        Bug::QueueHeadLate,
    ] {
        assert!(caught(bug).is_some(), "{bug:?}");
    }
}
