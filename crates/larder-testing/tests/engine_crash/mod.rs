//! Runs of the engine over a simulated machine, and every moment of them as a crash.

use larder::Mode;
use larder_testing::When;
use larder_testing::crash::requests;
use larder_testing::crash::{
    CallKind, Engine, History, MediumFault, Recording, Shape, Sweep, Tally, Violation,
};

const VOLUMES: u32 = 2;
/// Eight blocks a volume.
const SECTORS: u64 = 64;

pub(crate) fn engine(seed: u64) -> Engine {
    Engine {
        mode: match seed % 4 {
            3 => Mode::Writethrough,
            _ => Mode::Writeback,
        },
        volumes: VOLUMES,
        // Sometimes fewer than there are blocks.
        slots: [5, 9, 40][(seed % 3) as usize],
        journal_bytes: 64 << 10,
        restarts: !has_faults(seed),
    }
}

fn has_faults(seed: u64) -> bool {
    seed % 5 == 4
}

/// An origin fails flushes only where what it loses then is somebody else's to write again: the cache's in writeback mode, and no trims.
fn shape(seed: u64) -> Shape {
    let flushes_fail = engine(seed).mode == Mode::Writeback && seed.is_multiple_of(2);
    let mut faults = vec![
        MediumFault::file("journal", CallKind::Sync, When::Nth(1)),
        MediumFault::file("journal", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Sync, When::Nth(1)),
        MediumFault::file("slots", CallKind::Write, When::Chance(30)).errno(28),
        MediumFault::file("sums", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Read, When::Nth(2)),
        MediumFault::origin(1, CallKind::Write),
    ];
    if flushes_fail {
        faults.push(MediumFault::origin(0, CallKind::Sync));
    }
    Shape {
        trims: !has_faults(seed) || !flushes_fail,
        requests: 150,
        longest: 12,
        faults: match has_faults(seed) {
            true => faults,
            false => Vec::new(),
        },
    }
}

/// A run from an empty medium on.
pub(crate) fn run(engine: &Engine, seed: u64) -> Result<(Recording, History), Violation> {
    requests::run(engine, (VOLUMES, SECTORS), &shape(seed), seed)
}

pub(crate) fn sweep(seed: u64, survivals: u64) -> Result<Tally, (Tally, Violation)> {
    let engine = engine(seed);
    let none = |violation| (Tally::default(), violation);
    let (recording, history) = run(&engine, seed).map_err(none)?;
    let sweep = Sweep {
        subject: &engine,
        recording: &recording,
        history: &history,
        is_origin_enough: true,
        survivals,
        started_percent: 5,
        seed,
    };
    sweep.run()
}
