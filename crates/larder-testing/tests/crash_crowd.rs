//! Many clients at once over a cache whose flushes are durable in its directory, and crashes in the middle of that.
//!
//! `LARDER_SOAK_SECONDS=n cargo test -p larder-testing --test crash_crowd soak -- --ignored --nocapture` goes on for longer.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "not everything is about clients at once")]
mod engine_crash;

use engine_crash::engine;
use larder_testing::When;
use larder_testing::crash::{CallKind, Crowd, MediumFault, Tally, Violation, soak_for_seconds};

const SECTORS: u64 = 96;
const CRASHES: u64 = 150;

fn crowd(seed: u64) -> Crowd {
    let faults = match seed % 3 {
        2 => vec![
            MediumFault::origin(0, CallKind::Write).when(When::Always),
            MediumFault::origin(1, CallKind::Write).when(When::Chance(50)),
            MediumFault::origin(1, CallKind::Read).when(When::Chance(50)),
            MediumFault::file("slots", CallKind::Write, When::Chance(10)).errno(28),
        ],
        _ => Vec::new(),
    };
    let mut engine = engine(2 * seed + 1);
    engine.slots = [8, 14, 60][(seed % 5 % 3) as usize];
    Crowd {
        engine,
        sectors: SECTORS,
        clients: 3,
        requests: 120,
        faults,
        crashes: CRASHES,
    }
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

#[test]
fn a_crowd_loses_nothing() {
    for seed in 0..10 {
        if let Err((_, violation)) = run(seed) {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[test]
#[ignore = "runs as long as LARDER_SOAK_SECONDS says; cargo xtask soak"]
fn soak() {
    soak_for_seconds(run);
}
