//! What crashes of the engine leave where flushes end in the directory, drained: the origins alone have then what the engine would have found, and
//! what is still cached is the same; meanwhile they are older disks, where the engine sent flush by flush.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "only its runs are needed")]
mod engine_crash;

use std::sync::Arc;

use engine_crash::Kind;
use larder::drain::{Drain, DrainErrorKind, WriteBack};
use larder::{FlushTo, Writeback};
use larder_testing::Random;
use larder_testing::crash::judge::Judge;
use larder_testing::crash::value::SECTOR_BYTES;
use larder_testing::crash::walk::Walk;
use larder_testing::crash::{Engine, History, Image, Machine, Recording, Subject};
use larder_testing::random::mix;

/// Crashes of each run, and runs.
const CRASHES: usize = 40;
const RUNS: u64 = 30;
/// Moments of each drain.
const MOMENTS: usize = 4;

/// All volumes, one after the other, as an engine that is started there serves them.
fn served(engine: &Engine, history: &History, image: &Image) -> Vec<u8> {
    let machine = Machine::new(image.clone(), 1);
    let mut look = engine.look(&machine).unwrap();
    let mut served = Vec::new();
    for volume in 0..history.volumes() {
        let mut bytes = vec![0; history.sectors as usize * SECTOR_BYTES];
        look.read(volume, 0, &mut bytes).unwrap();
        served.append(&mut bytes);
    }
    served
}

fn of_origins(image: &Image) -> Vec<u8> {
    let mut contents = Vec::new();
    for origin in &image.files[..image.origins] {
        let mut bytes = vec![0; origin.length() as usize];
        origin.get(0, &mut bytes);
        contents.append(&mut bytes);
    }
    contents
}

/// Drains everything. How many bytes were written, and what happened; None where there was no cache yet.
fn drained(image: &Image, random: &mut Random) -> Option<(u64, Recording)> {
    let machine = Machine::new(image.clone(), random.next_u64());
    let mut drain = match Drain::open(Arc::new(machine.medium()), "pid 9") {
        Err(error) if error.kind() == DrainErrorKind::NoCache => return None,
        drain => drain.unwrap(),
    };
    let asked = WriteBack {
        cache_id: Some("the origins".to_owned()),
        force: false,
    };
    let mut written = 0;
    for holding in drain.holdings() {
        let origin = machine.origin(holding.number as usize);
        let done = drain.write_back(holding.number, &origin, &asked, &mut |_| {});
        let done = done.unwrap();
        assert_eq!(done.left, []);
        written += done.written_bytes;
    }
    drain.close().unwrap();
    Some((written, machine.recording()))
}

/// What a power cut leaves.
fn crashed(recording: &Recording, position: usize, random: &mut Random) -> Image {
    let mut walk = Walk::new(recording);
    walk.advance_to(position);
    walk.crash(random)
}

/// Some moments of a drain: the origins alone are an older disk.
fn judge_meanwhile(judge: &Judge<'_>, drain: &Recording, random: &mut Random) {
    for _ in 0..MOMENTS {
        let position = random.below(drain.position() as u64 + 1) as usize;
        let image = crashed(drain, position, random);
        for (volume, origin) in (0..).zip(&image.files[..image.origins]) {
            let mut bytes = vec![0; origin.length() as usize];
            origin.get(0, &mut bytes);
            let judged = judge.judge_older(volume, &bytes);
            judged.unwrap_or_else(|why| panic!("{position} calls of a drain: {why}"));
        }
    }
}

#[test]
fn what_an_engine_would_have_found_is_on_the_origins() {
    let mut written = 0;
    for run in 0..RUNS {
        let kind = [Kind::Cache, Kind::Order][(run % 2) as usize];
        let seed = kind.seed(run);
        let engine = engine_crash::engine(seed);
        assert_eq!(engine.flush_to, FlushTo::Cache);
        let (recording, history) = engine_crash::run(&engine, seed).unwrap();
        let mut random = Random::new(mix(seed, 9));
        let mut positions: Vec<usize> = (0..CRASHES)
            .map(|_| random.below(recording.position() as u64 + 1) as usize)
            .collect();
        positions.sort_unstable();
        let (mut walk, mut judge) = (Walk::new(&recording), Judge::new(&history));
        for position in positions {
            walk.advance_to(position);
            let image = walk.crash(&mut random);
            let expected = served(&engine, &history, &image);
            judge.advance_to(position);
            let Some((some, drain)) = drained(&image, &mut random) else {
                continue;
            };
            written += some;
            if kind == Kind::Order {
                judge_meanwhile(&judge, &drain, &mut random);
            }
            let after = crashed(&drain, drain.position(), &mut random);
            let place = format!("seed {seed}, position {position}");
            assert!(of_origins(&after) == expected, "{place}: the origins");
            let origin = Engine {
                flush_to: FlushTo::Origin,
                writeback: Writeback::Unordered,
                ..engine.clone()
            };
            assert!(
                served(&origin, &history, &after) == expected,
                "{place}: what is cached"
            );
        }
    }
    assert!(written > 1 << 20, "{written}");
}
