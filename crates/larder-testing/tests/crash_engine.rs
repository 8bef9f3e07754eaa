//! The crash simulator over the engine with a cache directory, whether flushes are durable on the origin or in the directory, and where the origin gets those in order:
//! whatever a crash leaves, flushed data is there, nothing comes back that was overwritten, and in order the origin alone is an older disk.
//!
//! `LARDER_SEED=n cargo test -p larder-testing --test crash_engine replay` runs one seed again.
//! `LARDER_SOAK_SECONDS=n cargo test -p larder-testing --test crash_engine soak -- --ignored --nocapture` runs new ones.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

mod engine_crash;

use engine_crash::{Kind, engine, run, sweep, sweep_of};
use larder_testing::crash::{Rule, Tally, soak_for_seconds};

/// What it must pass.
const CRASHES: u64 = 100_000;
/// Each takes every so-manieth seed.
const THREADS: u64 = 2;

#[test]
fn the_engine_passes() {
    let run = |first: u64| {
        let mut tally = Tally::default();
        for seed in (first..).step_by(THREADS as usize) {
            match sweep(seed, 1) {
                Ok(more) => tally = tally.and(more),
                Err((_, violation)) => panic!("seed {seed}: {violation}"),
            }
            if tally.crashes >= CRASHES / THREADS {
                break;
            }
        }
        tally
    };
    let tally = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|first| scope.spawn(move || run(first)))
            .collect();
        let tallies = threads.into_iter().map(|thread| thread.join().unwrap());
        tallies.fold(Tally::default(), Tally::and)
    });
    println!("{tally:?}");
    assert!(tally.started > CRASHES / 40 && tally.second > tally.started);
}

/// What the engine asks of its medium and its origins follows from the requests and the answers alone.
#[test]
fn a_seed_makes_the_same_run_each_time() {
    let hash = |seed: u64| run(&engine(seed), seed).unwrap().0.hash;
    for seed in 0..10 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(Kind::Order.seed(0)), hash(Kind::Order.seed(1)));
}

/// The rule about origins alone is one that a cache breaks which writes back in any order.
#[test]
fn an_origin_that_gets_its_data_in_any_order_is_no_older_disk() {
    for case in 0..3 {
        let (seed, unordered) = (Kind::Order.seed(case), Kind::Cache.seed(case));
        let caught = sweep_of(&engine(unordered), seed, 1).unwrap_err();
        assert_eq!(caught.1.rule, Rule::OriginOlder, "{}", caught.1);
    }
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

#[test]
#[ignore = "runs as long as LARDER_SOAK_SECONDS says; cargo xtask soak"]
fn soak() {
    soak_for_seconds(|seed| sweep(seed, 1));
}
