//! The crash simulator over a toy: right, it passes a hundred thousand crashes; each of its mistakes is caught.
//!
//! `LARDER_SEED=n cargo test -p larder-testing --test crash replay` runs one seed again.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

mod toy;

use std::process::Command;

use larder_testing::Random;
use larder_testing::When;
use larder_testing::crash::damage::{self, Damage};
use larder_testing::crash::judge::{Demand, Judge};
use larder_testing::crash::requests;
use larder_testing::crash::walk::Walk;
use larder_testing::crash::{
    CallKind, History, MediumFault, Origins, Recording, Rule, Shape, Sweep, Tally, Violation,
};
use larder_testing::random::mix;
use toy::{MISTAKES, Mistake, SECTORS, Toy, VOLUMES};

/// What the toy must pass.
const CRASHES: u64 = 100_000;
/// What a mistake may take to be caught.
const CRASHES_TO_CATCH: u64 = 5_000;

fn toy(mistake: Mistake, seed: u64) -> Toy {
    let flushes_origin = seed.is_multiple_of(3);
    Toy {
        mistake,
        flushes_origin,
        identity: mix(seed, 3),
    }
}

/// Every third seed has faults.
fn shape(seed: u64) -> Shape {
    let faults = [
        MediumFault::file("journal", CallKind::Sync, When::Nth(1)),
        MediumFault::file("journal", CallKind::Write, When::Nth(1)),
        MediumFault::file("slots", CallKind::Sync, When::Nth(1)),
        MediumFault::file("slots", CallKind::Write, When::Chance(30)).errno(28),
        MediumFault::origin(0, CallKind::Sync),
        MediumFault::origin(1, CallKind::Write),
    ];
    Shape {
        requests: 150,
        longest: 6,
        trims: true,
        faults: if seed % 3 == 1 {
            faults.into()
        } else {
            Vec::new()
        },
        ..Shape::default()
    }
}

/// A run from an empty medium on.
fn run(toy: &Toy, seed: u64) -> Result<(Recording, History), Violation> {
    requests::run(toy, (VOLUMES, SECTORS), &shape(seed), seed)
}

/// A run, and every moment of it as a crash.
fn sweep(mistake: Mistake, seed: u64, survivals: u64) -> Result<Tally, (Tally, Violation)> {
    let toy = toy(mistake, seed);
    let none = |violation| (Tally::default(), violation);
    let (recording, history) = run(&toy, seed).map_err(none)?;
    let sweep = Sweep {
        subject: &toy,
        recording: &recording,
        history: &history,
        origins: match toy.flushes_origin {
            true => Origins::Flushed,
            false => Origins::Anything,
        },
        later: Shape {
            longest: 4,
            trims: true,
            ..Shape::default()
        },
        survivals,
        started_percent: 5,
        seed,
    };
    sweep.run()
}

#[test]
fn a_store_that_is_right_passes() {
    let mut tally = Tally::default();
    let mut seed = 0;
    while tally.crashes < CRASHES {
        match sweep(Mistake::None, seed, 3) {
            Ok(more) => tally = tally.and(more),
            Err((_, violation)) => panic!("seed {seed}: {violation}"),
        }
        seed += 1;
    }
    println!("{seed} runs: {tally:?}");
    assert!(tally.started > CRASHES / 40 && tally.second > tally.started);
}

/// The rule that it breaks first, and after how many crashes.
fn caught(mistake: Mistake) -> Option<(Rule, u64)> {
    let mut tally = Tally::default();
    // Some show only where something fails.
    let seeds = match mistake {
        Mistake::FailureForgotten => (1..).step_by(3),
        _ => (0..).step_by(1),
    };
    for seed in seeds {
        match sweep(mistake, seed, 1) {
            Ok(more) => tally = tally.and(more),
            Err((more, violation)) => {
                let crashes = tally.and(more).crashes;
                println!("{mistake:?}, {crashes} crashes, seed {seed}: {violation}");
                return (crashes <= CRASHES_TO_CATCH).then_some((violation.rule, crashes));
            }
        }
        if tally.crashes > CRASHES_TO_CATCH {
            break;
        }
    }
    None
}

#[test]
fn every_mistake_is_caught() {
    let passed: Vec<Mistake> = MISTAKES
        .into_iter()
        .filter(|&mistake| caught(mistake).is_none())
        .collect();
    assert!(passed.is_empty(), "not caught: {passed:?}");
}

#[test]
fn replay() {
    if let Ok(seed) = std::env::var("LARDER_SEED") {
        let seed = seed.parse().unwrap();
        if let Err((_, violation)) = sweep(Mistake::None, seed, 3) {
            panic!("seed {seed}: {violation}");
        }
    }
}

const HASH_OF: &str = "LARDER_CRASH_HASH_OF";

/// The child that is started tells its hashes and ends.
#[test]
fn a_seed_makes_the_same_run_in_two_processes() {
    let hashes: Vec<u64> = (0..6)
        .map(|seed| run(&toy(Mistake::None, seed), seed).unwrap().0.hash)
        .collect();
    let told = format!("{HASH_OF} {hashes:?}");
    if std::env::var_os(HASH_OF).is_some() {
        println!("{told}");
        return;
    }
    let name = "a_seed_makes_the_same_run_in_two_processes";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(HASH_OF, "1")
        .output()
        .unwrap();
    let output = String::from_utf8(child.stdout).unwrap();
    assert!(output.contains(&told), "{told} is not in {output}");
    assert_ne!(hashes[0], hashes[1]);
}

/// The toy cannot tell a journal that was damaged from one that a crash has torn, so old data may come back; but never
/// another sector's, nor a mixture.
#[test]
fn damaged_files_give_an_error_or_what_was_written() {
    let (mut opened, mut refused) = (0, 0);
    let (other, _) = run(&toy(Mistake::None, 1000), 1000).unwrap();
    let mut other_walk = Walk::new(&other);
    other_walk.advance_to(other.position());
    let other = other_walk.crash(&mut Random::new(0));
    for seed in 0..6 {
        let toy = toy(Mistake::None, seed);
        let (recording, history) = run(&toy, seed).unwrap();
        let (mut walk, mut judge) = (Walk::new(&recording), Judge::new(&history));
        let mut random = Random::new(mix(seed, 5));
        for position in (0..=recording.position()).step_by(7) {
            walk.advance_to(position);
            judge.advance_to(position);
            let mut image = walk.crash(&mut random);
            let Some(damage) = Damage::draw(&mut random, &image, &other) else {
                continue;
            };
            damage.happen(&mut image);
            let checked = damage::check(&toy, &history, &judge, &image, Demand::Begun, "lock");
            match checked {
                Ok(true) => opened += 1,
                Ok(false) => refused += 1,
                Err(violation) => panic!("seed {seed} position {position} {damage:?}: {violation}"),
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 100 && refused > 20);
}
