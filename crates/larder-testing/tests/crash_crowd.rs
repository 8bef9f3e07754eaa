//! Many clients at once over a cache whose flushes are durable in its directory, also where the origin gets them in order, and crashes in the middle of that.
//!
//! `LARDER_SOAK_SECONDS=n cargo test -p larder-testing --test crash_crowd soak -- --ignored --nocapture` goes on for longer.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "its runs of one thread are not wanted here")]
mod engine_crash;

use std::sync::{Mutex, PoisonError};

use engine_crash::{Kind, engine};
use larder::planted::{Bug, plant};
use larder_testing::When;
use larder_testing::crash::{CallKind, Crowd, MediumFault, Tally, Violation, soak_for_seconds};

const SECTORS: u64 = 96;
const CRASHES: u64 = 150;
/// Ten times what it takes.
const MOST_RUNS: u64 = 400;

/// Seeds of one kind and the other take turns.
const KINDS: [Kind; 2] = [Kind::Cache, Kind::Order];

/// Bugs that need threads, or show at once where there are some, each with the place of its kind.
const BUGS: [(Bug, u64); 3] = [
    (Bug::FrozenAfterSync, 0),
    (Bug::EmptyOverSealed, 0),
    (Bug::QueueEpochsMerged, 1),
];

fn crowd(seed: u64) -> Crowd {
    let kind = KINDS[(seed % 2) as usize];
    let seed = seed / 2;
    let mut engine = engine(kind.seed(seed));
    engine.origin.parallel = seed.is_multiple_of(2);
    engine.origin.multi_conn = !seed.is_multiple_of(3);
    engine.slots = [8, 14, 60][(seed % 5 % 3) as usize];
    Crowd {
        // In order, what an origin loses of one is sent again.
        trims: match kind {
            Kind::Order => engine.origin.zero,
            _ => seed % 6 != 4,
        },
        engine,
        sectors: SECTORS,
        clients: 3,
        requests: 120,
        faults: faults(kind, seed),
        crashes: CRASHES,
    }
}

fn faults(kind: Kind, seed: u64) -> Vec<MediumFault> {
    let mut faults = vec![
        MediumFault::origin(0, CallKind::Write).when(When::Always),
        MediumFault::origin(1, CallKind::Write).when(When::Chance(50)),
        MediumFault::origin(1, CallKind::Read).when(When::Chance(50)),
        MediumFault::file("slots", CallKind::Write, When::Chance(10)).errno(libc::ENOSPC),
    ];
    let sync = |name| MediumFault::file(name, CallKind::Sync, When::Nth(1));
    match seed % 6 {
        2 => {}
        4 => faults.extend([
            MediumFault::origin(0, CallKind::Sync),
            MediumFault::origin(1, CallKind::Sync).when(When::Chance(50)),
        ]),
        5 => faults.extend(["journal", "slots", "map"].map(sync)),
        _ => return Vec::new(),
    }
    if kind == Kind::Order {
        faults.extend(match seed % 6 {
            5 => ["queue-0.new", "queue-1.new"].map(sync),
            _ => [0, 1].map(|origin| {
                let lost = MediumFault::origin(origin, CallKind::Sync).errno(libc::ECONNRESET);
                lost.when(When::Chance(50))
            }),
        });
    }
    faults
}

fn run(seed: u64) -> Result<Tally, (Tally, Violation)> {
    let tally = |crashes| Tally {
        crashes,
        ..Tally::default()
    };
    match crowd(seed).run(seed) {
        Ok(_) => Ok(tally(CRASHES)),
        Err(violation) => Err((tally(0), violation)),
    }
}

/// Bugs are planted in the whole process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_crowd_loses_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for seed in 0..20 {
        if let Err((_, violation)) = run(seed) {
            panic!("seed {seed}: {violation}");
        }
    }
}

/// What shows only if something comes in between. Each takes a few runs; how many depends on the threads.
#[test]
fn bugs_that_need_threads_are_caught() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (bug, kind) in BUGS {
        plant(Some(bug));
        let mut seeds = (0..MOST_RUNS).map(|case| 2 * case + kind);
        let caught = seeds.find_map(|seed| run(seed).err());
        plant(None);
        let (_, violation) = caught.unwrap_or_else(|| panic!("{bug:?} is not caught"));
        println!("{bug:?}: {violation}");
    }
}

#[test]
#[ignore = "runs as long as LARDER_SOAK_SECONDS says; cargo xtask soak"]
fn soak() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    soak_for_seconds(run);
}
