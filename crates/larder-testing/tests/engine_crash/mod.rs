//! Runs of the engine over a simulated machine, and every moment of them as a crash.
//!
//! Of three seeds one is about `cache-flush=origin`, one about `cache-flush=cache`, and one about that with `cache-writeback=ordered`.

mod faults;

use std::time::Duration;

use faults::{faults_of_cache, faults_of_order, faults_of_origin, later_faults_of_order};
use larder::{Capabilities, FlushTo, Fua, Mode, Writeback};
use larder_testing::crash::requests;
use larder_testing::crash::{
    CAPABILITIES, Engine, History, MediumFault, Mix, Origins, Recording, Shape, Sweep, Tally,
    Violation,
};

const VOLUMES: u32 = 2;
/// Eight blocks a volume.
const SECTORS: u64 = 64;

/// What a seed is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Flushes that end on the origin.
    Origin,
    /// Flushes that end in the directory.
    Cache,
    /// Those of which the origin gets one after the other.
    Order,
}

/// So many kinds there are: seeds of one kind are so far apart.
pub(crate) const KINDS: u64 = 3;

impl Kind {
    fn of(seed: u64) -> Self {
        match seed % KINDS {
            0 => Self::Origin,
            1 => Self::Cache,
            _ => Self::Order,
        }
    }

    /// The seed of its case with that number.
    pub(crate) const fn seed(self, case: u64) -> u64 {
        KINDS * case + self as u64
    }
}

pub(crate) fn engine(seed: u64) -> Engine {
    let case = seed / KINDS;
    match Kind::of(seed) {
        Kind::Origin => of_origin(case),
        Kind::Cache => of_cache(case),
        Kind::Order => of_order(case),
    }
}

fn of_origin(case: u64) -> Engine {
    Engine {
        mode: match case % 4 {
            3 => Mode::Writethrough,
            _ => Mode::Writeback,
        },
        flush_to: FlushTo::Origin,
        writeback: Writeback::Unordered,
        dirty_age: None,
        origin: CAPABILITIES,
        sector_bytes: 512,
        block_bytes: 4096,
        volumes: VOLUMES,
        // Sometimes fewer than there are blocks.
        slots: [5, 9, 40][(case % 3) as usize],
        journal_bytes: 64 << 10,
        queue_bytes: 64 << 10,
        restarts: !has_faults(case),
    }
}

fn of_cache(case: u64) -> Engine {
    Engine {
        mode: Mode::Writeback,
        flush_to: FlushTo::Cache,
        dirty_age: [None, Some(300), Some(1500), Some(5000)][(case / 3 % 4) as usize]
            .map(Duration::from_micros),
        origin: Capabilities {
            fua: [Fua::Emulated, Fua::None][(case / 7 % 2) as usize],
            multi_conn: case % 11 != 10,
            ..CAPABILITIES
        },
        sector_bytes: if case % 17 == 16 { 2048 } else { 512 },
        block_bytes: if case % 9 == 8 { 16 << 10 } else { 4096 },
        journal_bytes: [64 << 10, 64 << 10, 128 << 10, 256 << 10][(case / 2 % 4) as usize],
        ..of_origin(case)
    }
}

/// Queues from those that go round after a few requests to those that hold most of a run.
fn of_order(case: u64) -> Engine {
    let other = of_cache(case);
    Engine {
        writeback: Writeback::Ordered,
        origin: Capabilities {
            zero: zeroes(case),
            ..other.origin
        },
        queue_bytes: [64 << 10, 128 << 10, 256 << 10, 512 << 10][(case / 2 % 4) as usize],
        // With few of them more is read from the queue.
        slots: [3, 5, 40][(case % 3) as usize],
        restarts: !has_outages(case),
        ..other
    }
}

/// Whether an origin takes zeros. Where it does not, trims are not queued as zeros, and what is trimmed may change more than once.
fn zeroes(case: u64) -> bool {
    case % 7 != 6
}

fn has_faults(case: u64) -> bool {
    case % 5 == 4
}

/// The same where the origin gets one flush after the other.
fn has_outages(case: u64) -> bool {
    case % 5 > 2
}

fn shape(seed: u64) -> Shape {
    let case = seed / KINDS;
    match Kind::of(seed) {
        Kind::Origin => shape_of_origin(case),
        Kind::Cache => shape_of_cache(case),
        Kind::Order => shape_of_order(case),
    }
}

fn only_if(fails: bool, faults: Vec<MediumFault>) -> Vec<MediumFault> {
    if fails { faults } else { Vec::new() }
}

/// An origin fails flushes only where what it loses then is somebody else's to write again: the cache's in writeback mode, and no trims.
fn shape_of_origin(case: u64) -> Shape {
    let flushes_fail = of_origin(case).mode == Mode::Writeback && case.is_multiple_of(2);
    Shape {
        mix: Mix::Anywhere,
        trims: !has_faults(case) || !flushes_fail,
        requests: 150,
        longest: 12,
        faults: only_if(has_faults(case), faults_of_origin(flushes_fail)),
        ..Shape::default()
    }
}

/// Here zeros go to the origin at once as trims do, and one that fails a flush may lose them.
fn shape_of_cache(case: u64) -> Shape {
    let flushes_fail = has_faults(case) && case.is_multiple_of(2);
    Shape {
        mix: Mix::Flushes,
        trims: !flushes_fail,
        durable_zeros: flushes_fail,
        faults: only_if(has_faults(case), faults_of_cache(flushes_fail)),
        ..shape_of_origin(case)
    }
}

/// Whatever an origin loses is sent again.
fn shape_of_order(case: u64) -> Shape {
    Shape {
        mix: match has_outages(case) {
            true => Mix::Outages,
            false => Mix::Flushes,
        },
        trims: zeroes(case),
        queued: true,
        faults: only_if(has_outages(case), faults_of_order()),
        ..shape_of_origin(case)
    }
}

/// What is asked after a crash.
fn later(seed: u64) -> Shape {
    let is_queued = Kind::of(seed) == Kind::Order;
    Shape {
        mix: shape(seed).mix,
        longest: 4,
        trims: !is_queued || zeroes(seed / KINDS),
        queued: is_queued,
        faults: only_if(
            is_queued && has_outages(seed / KINDS),
            later_faults_of_order(),
        ),
        ..Shape::default()
    }
}

/// A run from an empty medium on.
pub(crate) fn run(engine: &Engine, seed: u64) -> Result<(Recording, History), Violation> {
    requests::run(engine, (VOLUMES, SECTORS), &shape(seed), seed)
}

pub(crate) fn sweep(seed: u64, survivals: u64) -> Result<Tally, (Tally, Violation)> {
    sweep_of(&engine(seed), seed, survivals)
}

/// With another engine than that seed's.
pub(crate) fn sweep_of(
    engine: &Engine,
    seed: u64,
    survivals: u64,
) -> Result<Tally, (Tally, Violation)> {
    let none = |violation| (Tally::default(), violation);
    let (recording, history) = run(engine, seed).map_err(none)?;
    let sweep = Sweep {
        subject: engine,
        recording: &recording,
        history: &history,
        origins: match Kind::of(seed) {
            Kind::Origin => Origins::Flushed,
            Kind::Cache => Origins::Anything,
            Kind::Order => Origins::Older,
        },
        later: later(seed),
        survivals,
        started_percent: 5,
        seed,
    };
    sweep.run()
}
