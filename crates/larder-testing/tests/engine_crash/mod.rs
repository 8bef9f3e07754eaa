//! Runs of the engine over a simulated machine, and every moment of them as a crash.
//!
//! Even seeds are about `cache-flush=origin`, odd ones about `cache-flush=cache`.

use std::time::Duration;

use larder::{Capabilities, FlushTo, Fua, Mode};
use larder_testing::When;
use larder_testing::crash::requests;
use larder_testing::crash::{
    CAPABILITIES, CallKind, Engine, History, MediumFault, Mix, Recording, Shape, Sweep, Tally,
    Violation,
};

const VOLUMES: u32 = 2;
/// Eight blocks a volume.
const SECTORS: u64 = 64;

pub(crate) fn engine(seed: u64) -> Engine {
    match flush_to(seed) {
        FlushTo::Origin => of_origin(seed / 2),
        FlushTo::Cache => of_cache(seed / 2),
    }
}

fn flush_to(seed: u64) -> FlushTo {
    match seed % 2 {
        0 => FlushTo::Origin,
        _ => FlushTo::Cache,
    }
}

fn of_origin(case: u64) -> Engine {
    Engine {
        mode: match case % 4 {
            3 => Mode::Writethrough,
            _ => Mode::Writeback,
        },
        flush_to: FlushTo::Origin,
        dirty_age: None,
        origin: CAPABILITIES,
        sector_bytes: 512,
        block_bytes: 4096,
        volumes: VOLUMES,
        // Sometimes fewer than there are blocks.
        slots: [5, 9, 40][(case % 3) as usize],
        journal_bytes: 64 << 10,
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
        volumes: VOLUMES,
        slots: [5, 9, 40][(case % 3) as usize],
        journal_bytes: [64 << 10, 64 << 10, 128 << 10, 256 << 10][(case / 2 % 4) as usize],
        restarts: !has_faults(case),
    }
}

fn has_faults(case: u64) -> bool {
    case % 5 == 4
}

fn shape(seed: u64) -> Shape {
    match flush_to(seed) {
        FlushTo::Origin => shape_of_origin(seed / 2),
        FlushTo::Cache => shape_of_cache(seed / 2),
    }
}

/// An origin fails flushes only where what it loses then is somebody else's to write again: the cache's in writeback mode, and no trims.
fn shape_of_origin(case: u64) -> Shape {
    let flushes_fail = of_origin(case).mode == Mode::Writeback && case.is_multiple_of(2);
    let mut faults = faults();
    if flushes_fail {
        faults.push(MediumFault::origin(0, CallKind::Sync));
    }
    Shape {
        mix: Mix::Anywhere,
        trims: !has_faults(case) || !flushes_fail,
        durable_zeros: false,
        requests: 150,
        longest: 12,
        faults: match has_faults(case) {
            true => faults,
            false => Vec::new(),
        },
    }
}

/// Here zeros go to the origin at once as trims do, and one that fails a flush may lose them.
fn shape_of_cache(case: u64) -> Shape {
    let flushes_fail = has_faults(case) && case.is_multiple_of(2);
    let mut faults = faults();
    faults.push(MediumFault::file("map", CallKind::Write, When::Nth(1)));
    faults.push(MediumFault::file("map", CallKind::Sync, When::Nth(1)));
    faults.push(MediumFault::file("sums", CallKind::Sync, When::Nth(1)));
    let superblock = |kind| MediumFault::file("superblock.new", kind, When::Nth(1));
    faults.extend([superblock(CallKind::Sync), superblock(CallKind::Write)]);
    faults.push(MediumFault::file(
        "superblock",
        CallKind::Sync,
        When::Nth(2),
    ));
    faults.push(MediumFault::origin(0, CallKind::Write).when(When::Always));
    faults.push(MediumFault::origin(1, CallKind::Write).when(When::Chance(50)));
    faults.push(MediumFault::origin(1, CallKind::Read).when(When::Chance(50)));
    if flushes_fail {
        faults.push(MediumFault::origin(0, CallKind::Sync));
        faults.push(MediumFault::origin(1, CallKind::Sync).when(When::Always));
    }
    Shape {
        mix: Mix::Flushes,
        trims: !flushes_fail,
        durable_zeros: flushes_fail,
        requests: 150,
        longest: 12,
        faults: match has_faults(case) {
            true => faults,
            false => Vec::new(),
        },
    }
}

fn faults() -> Vec<MediumFault> {
    vec![
        MediumFault::file("journal", CallKind::Sync, When::Nth(1)),
        MediumFault::file("journal", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Sync, When::Nth(1)),
        MediumFault::file("slots", CallKind::Write, When::Chance(30)).errno(28),
        MediumFault::file("sums", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Read, When::Nth(2)),
        MediumFault::origin(1, CallKind::Write),
    ]
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
        is_origin_enough: engine.flush_to == FlushTo::Origin,
        mix: shape(seed).mix,
        survivals,
        started_percent: 5,
        seed,
    };
    sweep.run()
}
