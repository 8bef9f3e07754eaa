//! The same seed gives the same run: what the engine asks of its cache file and its origins follows from the requests, from
//! the answers and from its clock, and from nothing else. Not from how long anything really takes, nor from the order of
//! a hashed map, which is another each time.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

use larder::{
    Cache, CacheOnRead, Config, Connection, Error, Mode, StatsSnapshot, Volume, ZeroOptions,
};
use larder_testing::pace::{Pace, SharedPace, Side, Stop};
use larder_testing::random::{Random, content, mix};
use larder_testing::rig::Client;
use larder_testing::{
    CacheFileDouble, Fault, Kind, ManualClock, MemoryLog, OriginDouble, OriginSettings, Phase,
    Violations, When,
};

const SEEDS: u64 = 20;
const REQUESTS: u64 = 500;
/// Not whole sectors, and several times what the cache holds.
const VOLUME_BYTES: u64 = (2 << 20) + 777;

/// What was asked and answered, in order.
type Record = Arc<Mutex<Vec<String>>>;

/// How long the origins take.
#[derive(Clone, Copy)]
struct Takes {
    /// What the times by the engine's clock follow.
    seed: u64,
    /// Whether they really take time, flushes more than the rest.
    really: bool,
}

/// Records the calls of one double, which take their time if it is an origin's.
struct Recorder {
    whose: &'static str,
    record: Record,
    clock: Arc<ManualClock>,
    times: Mutex<Random>,
    really: bool,
    thread: ThreadId,
}

impl Pace for Recorder {
    fn stop(&self, stop: &Stop) {
        let is_alone = std::thread::current().id() == self.thread;
        let told = format!(
            "{} {stop:?}{}",
            self.whose,
            ["!", ""][usize::from(is_alone)]
        );
        self.record.lock().unwrap().push(told);
        if stop.side == Side::CacheFile || stop.phase != Phase::Before {
            return;
        }
        // Now a flush is worth the longest pass, and now a short one.
        let (least, most) = match stop.kind {
            Kind::Flush => (18, 23),
            _ => (12, 20),
        };
        let magnitude = self.times.lock().unwrap().between(least, most);
        self.clock.advance(Duration::from_nanos(1 << magnitude));
        if self.really && stop.kind == Kind::Flush {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Read,
    /// In order, as a reader of a stream.
    ReadOn,
    TryRead,
    Write,
    WriteDurably,
    TryWrite,
    Zero,
    Trim,
    Extents,
    Cache,
    Flush,
    Pause,
    LoseConnection,
    Reconnect,
}

impl What {
    /// How often each is done: in a mixture of all, and where nearly all the cache is to be dirty.
    const WEIGHTS: [(Self, u64, u64); 14] = [
        (Self::Read, 13, 2),
        (Self::ReadOn, 12, 2),
        (Self::TryRead, 5, 2),
        (Self::Write, 30, 80),
        (Self::WriteDurably, 4, 1),
        (Self::TryWrite, 6, 20),
        (Self::Zero, 6, 2),
        (Self::Trim, 4, 0),
        (Self::Extents, 3, 1),
        (Self::Cache, 3, 0),
        (Self::Flush, 3, 1),
        (Self::Pause, 3, 1),
        (Self::LoseConnection, 1, 0),
        (Self::Reconnect, 2, 0),
    ];

    fn any(random: &mut Random, mostly_writes: bool) -> Self {
        let weight = |(_, mixture, mostly): &(_, u64, u64)| match mostly_writes {
            true => *mostly,
            false => *mixture,
        };
        let mut left = random.below(Self::WEIGHTS.iter().map(weight).sum());
        let chosen = Self::WEIGHTS.iter().find(|one| {
            let is_within = left < weight(one);
            left = left.saturating_sub(weight(one));
            is_within
        });
        chosen.unwrap().0
    }
}

/// A cache of two volumes, one client each, and all requests made by one thread.
struct World {
    random: Random,
    record: Record,
    clock: Arc<ManualClock>,
    violations: Violations,
    file: CacheFileDouble,
    origins: Vec<OriginDouble>,
    cache: Arc<Cache>,
    volumes: Vec<Arc<Volume>>,
    clients: Vec<Client>,
    mostly_writes: bool,
    /// Where each client's next sequential read begins.
    next: [u64; 2],
}

impl World {
    fn new(seed: u64, takes: Takes) -> Self {
        let random = Random::new(seed);
        let record = Record::default();
        let clock = Arc::new(ManualClock::default());
        let violations = Violations::default();
        let pace = |whose, part| {
            let recorder = Recorder {
                whose,
                record: Arc::clone(&record),
                clock: Arc::clone(&clock),
                times: Mutex::new(Random::new(takes.seed).fork(part)),
                really: takes.really,
                thread: std::thread::current().id(),
            };
            let pace = SharedPace::default();
            pace.set(Arc::new(recorder));
            pace
        };
        let origins = ["origin 0", "origin 1"].into_iter().zip(0..);
        let origins = origins.map(|(whose, number)| {
            let settings = settings(seed.wrapping_add(number));
            OriginDouble::new(settings, violations.clone(), pace(whose, number))
        });
        let origins: Vec<OriginDouble> = origins.collect();
        let file = CacheFileDouble::new(violations.clone(), pace("file", 2));
        let (time, log) = (Arc::clone(&clock) as _, Arc::new(MemoryLog::default()));
        let cache = Cache::new(config(seed), file.file(), time, log).unwrap();
        let volumes: Vec<_> = ["one", "two"].map(|name| cache.volume(name)).into();
        let both = volumes.iter().zip(&origins);
        Self {
            clients: both.map(|(volume, origin)| join(volume, origin)).collect(),
            mostly_writes: random.fork(5).chance(50),
            random: random.fork(3),
            record,
            clock,
            violations,
            file,
            origins,
            cache,
            volumes,
            next: [0; 2],
        }
    }

    fn tell(&self, what: String) {
        self.record.lock().unwrap().push(what);
    }

    fn span(&mut self) -> (u64, usize) {
        let longest = self.random.pick(&[512, 4096, 65536]);
        let length = self.random.between(1, longest);
        let offset = self.random.below(VOLUME_BYTES - length);
        match self.random.chance(30) {
            true => (offset, length as usize),
            false => (offset / 4096 * 4096, length.next_multiple_of(4096) as usize),
        }
    }

    fn request(&mut self) {
        let which = self.random.below(2) as usize;
        let what = What::any(&mut self.random, self.mostly_writes);
        let (mut offset, mut length) = self.span();
        if what == What::ReadOn {
            (offset, length) = (self.next[which], 8192);
            self.next[which] = (offset + 8192) % (VOLUME_BYTES / 8192 * 8192);
        }
        length = length.min((VOLUME_BYTES - offset) as usize);
        let answer = match what {
            What::Pause => {
                self.clock.advance(Duration::from_secs(3));
                String::new()
            }
            What::Reconnect => self.reconnect(which),
            What::LoseConnection => {
                let luck = self.random.fork(1);
                self.origins[which].lose_connection(Some(luck));
                String::new()
            }
            _ => {
                let seed = self.random.next_u64();
                let serve = |one: &Connection| serve(one, what, (offset, length), seed);
                let served = self.clients[which].serve(serve);
                served.unwrap_or_else(|error| format!("{error}"))
            }
        };
        self.tell(format!("{which} {what:?} {offset} {length}: {answer}"));
    }

    fn reconnect(&mut self, which: usize) -> String {
        let left = self.clients[which].leave();
        self.clients[which] = join(&self.volumes[which], &self.origins[which]);
        format!("{left:?}")
    }

    fn run(mut self) -> (Vec<String>, StatsSnapshot) {
        for _ in 0..REQUESTS {
            self.request();
        }
        for which in 0..2 {
            self.origins[which].heal();
            let left = self.reconnect(which);
            let image = self.origins[which].disk().current(0, VOLUME_BYTES as usize);
            self.tell(format!("{left}, with {:x} on the origin", digest(&image)));
        }
        self.violations.assert_none();
        let stats = self.cache.stats();
        self.tell(format!("{stats:?}"));
        // With how they ended and their flags, of which the order above does not tell.
        let files = [self.file.calls().all()].into_iter();
        for calls in files.chain(self.origins.iter().map(|origin| origin.calls().all())) {
            calls.iter().for_each(|call| self.tell(format!("{call:?}")));
        }
        (self.record.lock().unwrap().clone(), stats)
    }
}

fn config(seed: u64) -> Config {
    let mut random = Random::new(seed).fork(4);
    Config {
        mode: [
            Mode::Writeback,
            Mode::Writeback,
            Mode::Writethrough,
            Mode::Unsafe,
        ][seed as usize % 4],
        block_bytes: 4096,
        max_size_bytes: Some(1 << 20),
        low_threshold_percent: random.pick(&[40, 80]),
        cache_on_read: match random.chance(70) {
            true => CacheOnRead::Always,
            false => CacheOnRead::Never,
        },
        readahead_bytes: random.pick(&[0, 64 << 10]),
        dirty_age: random.pick(&[None, Some(Duration::from_secs(10))]),
        background: false,
        ..Config::default()
    }
}

/// An origin that takes calls from one thread only, so that the engine starts none.
fn settings(seed: u64) -> OriginSettings {
    let mut settings = OriginSettings::new(VOLUME_BYTES);
    settings.capabilities.parallel = false;
    settings.seed = seed;
    settings
}

fn join(volume: &Arc<Volume>, origin: &OriginDouble) -> Client {
    origin.heal();
    for kind in [Kind::Read, Kind::Write, Kind::Flush] {
        origin.fault(Fault::new(kind, When::Chance(2)));
    }
    let origin = origin.connect();
    let connection = volume.connect(Arc::clone(&origin) as _).unwrap();
    Client { connection, origin }
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| mix(sum, u64::from(*byte)))
}

/// Makes a request, and tells what came of it.
fn serve(
    one: &Connection,
    what: What,
    (offset, length): (u64, usize),
    seed: u64,
) -> Result<String, Error> {
    let mut buffer = vec![0; length];
    let data = content(seed, offset, length);
    let bytes = length as u64;
    let may_trim = seed.is_multiple_of(2);
    let options = ZeroOptions {
        may_trim,
        ..ZeroOptions::default()
    };
    Ok(match what {
        What::Read | What::ReadOn => {
            one.read(offset, &mut buffer)?;
            format!("{:x}", digest(&buffer))
        }
        What::TryRead => match one.try_read(offset, &mut buffer)? {
            true => format!("{:x}", digest(&buffer)),
            false => "not at once".to_owned(),
        },
        What::Write => format!("{:?}", one.write(offset, &data, false)?),
        What::WriteDurably => format!("{:?}", one.write(offset, &data, true)?),
        What::TryWrite => format!("{:?}", one.try_write(offset, &data, false)?),
        What::Zero => format!("{:?}", one.zero(offset, bytes, options)?),
        What::Trim => format!("{:?}", one.trim(offset, bytes, false)?),
        What::Extents => format!("{:?}", one.extents(offset, bytes, false)?),
        What::Cache => format!("{:?}", one.cache(offset, bytes)?),
        What::Flush => format!("{:?}", one.flush()?),
        What::Pause | What::LoseConnection | What::Reconnect => String::new(),
    })
}

/// What was asked and answered in the run of that seed, and the figures.
fn run(seed: u64, takes: Takes) -> (Vec<String>, StatsSnapshot) {
    World::new(seed, takes).run()
}

fn assert_same(seed: u64, first: &[String], second: &[String]) {
    let differs = first.iter().zip(second).position(|(a, b)| a != b);
    if let Some(place) = differs {
        let before = first[..place].len().saturating_sub(8);
        let (a, b) = (&first[before..=place], &second[place]);
        panic!("seed {seed} does not repeat: {a:#?}\nand the second time {b:#?}");
    }
    assert_eq!(first.len(), second.len(), "seed {seed} ends early");
}

#[test]
fn the_same_seed_gives_the_same_calls_however_long_they_really_take() {
    let mut all = StatsSnapshot::default();
    for seed in 0..SEEDS {
        let (first, stats) = run(
            seed,
            Takes {
                seed,
                really: false,
            },
        );
        let (second, _) = run(seed, Takes { seed, really: true });
        assert_same(seed, &first, &second);
        assert!(
            !first.iter().any(|told| told.ends_with('!')),
            "a thread was started"
        );
        all.reclaimed += stats.reclaimed;
        all.reclaim_writebacks += stats.reclaim_writebacks;
        all.readahead_bytes += stats.readahead_bytes;
        all.writeback_errors += stats.writeback_errors;
        all.hits += stats.hits;
    }
    let figures = [
        all.reclaimed,
        all.reclaim_writebacks,
        all.readahead_bytes,
        all.writeback_errors,
        all.hits,
    ];
    assert!(!figures.contains(&0), "these runs show little: {all:?}");
}

/// Else the test above would show nothing of it.
#[test]
fn how_long_they_take_by_the_clock_makes_a_difference() {
    let differs = |seed: &u64| {
        let other = !seed;
        let of = |takes| {
            let (told, _) = run(*seed, takes);
            let is_call = |told: &String| told.starts_with("file ") || told.starts_with("origin ");
            told.into_iter().filter(is_call).collect::<Vec<_>>()
        };
        let takes = |seed| Takes {
            seed,
            really: false,
        };
        of(takes(*seed)) != of(takes(other))
    };
    let different = (0..SEEDS).filter(differs).count();
    assert!(different > 1, "in {different} of {SEEDS} runs");
}
