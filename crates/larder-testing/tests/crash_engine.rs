//! The crash simulator over the engine with a cache directory: whatever a crash leaves, flushed data is there, and nothing comes back
//! that was overwritten.
//!
//! `LARDER_SEED=n cargo test -p larder-testing --test crash_engine replay` runs one seed again.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use larder::Mode;
use larder_testing::crash::history::origin_bytes;
use larder_testing::crash::{
    CallKind, Engine, History, Image, Machine, MediumFault, Recording, Requests, Shape, Subject,
    Sweep, Tally, Target, Violation,
};
use larder_testing::random::mix;
use larder_testing::{Random, When};

/// What it must pass.
const CRASHES: u64 = 20_000;

const VOLUMES: u32 = 2;
/// Eight blocks a volume.
const SECTORS: u64 = 64;

fn engine(seed: u64) -> Engine {
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

fn shape(seed: u64) -> Shape {
    let faults = [
        MediumFault::file("journal", CallKind::Sync, When::Nth(1)),
        MediumFault::file("journal", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Sync, When::Nth(1)),
        MediumFault::file("slots", CallKind::Write, When::Chance(30)).errno(28),
        MediumFault::file("sums", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Read, When::Nth(2)),
        origin_fault(0, CallKind::Sync),
        origin_fault(1, CallKind::Write),
    ];
    Shape {
        requests: 150,
        longest: 12,
        faults: match has_faults(seed) {
            true => faults.into(),
            false => Vec::new(),
        },
    }
}

fn origin_fault(number: usize, kind: CallKind) -> MediumFault {
    MediumFault {
        target: Target::Origin(number),
        ..MediumFault::file("", kind, When::Nth(1))
    }
}

/// A run from an empty medium on.
fn run(engine: &Engine, seed: u64) -> Result<(Recording, History), Violation> {
    let origins = (0..VOLUMES).map(|volume| origin_bytes(volume, SECTORS));
    let image = Image::with_origins(origins.collect()).garbage_in("slots");
    let machine = Machine::new(image, seed);
    let mut history = History::new(VOLUMES, SECTORS);
    let mut store = engine.start(&machine).unwrap();
    let mut requests = Requests {
        machine: &machine,
        history: &mut history,
        shape: &shape(seed),
        random: Random::new(mix(seed, 2)),
    };
    requests.run(&mut *store)?;
    let recording = machine.recording();
    Ok((recording, history))
}

fn sweep(seed: u64, survivals: u64) -> Result<Tally, (Tally, Violation)> {
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
