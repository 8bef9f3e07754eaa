//! The crash simulator over the engine with a cache directory: whatever a crash leaves, flushed data is there, and nothing comes back
//! that was overwritten.
//!
//! `LARDER_SEED=n cargo test -p larder-testing --test crash_engine replay` runs one seed again.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

mod engine_crash;

use engine_crash::sweep;
use larder_testing::crash::Tally;

/// What it must pass.
const CRASHES: u64 = 20_000;

#[test]
fn the_engine_passes() {
    let mut tally = Tally::default();
    let mut seed = 0;
    while tally.crashes < CRASHES {
        match sweep(seed, 1) {
            Ok(more) => tally = tally.and(more),
            Err((_, violation)) => panic!("seed {seed}: {violation}"),
        }
        seed += 1;
    }
    println!("{seed} runs: {tally:?}");
    assert!(tally.started > CRASHES / 40 && tally.second > tally.started);
}

#[test]
fn replay() {
    if let Ok(seed) = std::env::var("LARDER_SEED") {
        let seed = seed.parse().unwrap();
        if let Err((_, violation)) = sweep(seed, 1) {
            panic!("seed {seed}: {violation}");
        }
    }
}
