//! `larder drain` in the crash simulator: a directory that a crash has left is drained, and every moment of that is a crash.
//!
//! Whatever a crash leaves of directory and origins, both together hold what they held before, and draining what is left of it brings all of it to the
//! origins, durably.
//!
//! `LARDER_SEED=n LARDER_SEEDS=count cargo test -p larder-testing --test drain_crash replay` runs some seeds again, or others.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use larder::Origin;
use larder::drain::{Drain, DrainError, WriteBack};
use larder::planted::{Bug, plant};
use larder::trial::{Setup, Trial};
use larder_testing::crash::history::origin_bytes;
use larder_testing::crash::value::{SECTOR_BYTES, fill};
use larder_testing::crash::walk::Walk;
use larder_testing::crash::{CallKind, Image, Machine, MediumFault, Recording};
use larder_testing::random::mix;
use larder_testing::{Random, When};

const VOLUMES: u32 = 2;
const SECTORS: u64 = 48;

/// What must be passed.
const CRASHES: u64 = 10_000;
/// What a mistake may take to be caught.
const CRASHES_TO_CATCH: u64 = 2_000;
/// How many crashes are drained again, in percent, and how many of these once more after a second crash.
const AGAIN_PERCENT: u64 = 10;

/// A bug is planted in the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// All volumes, one after the other.
type Contents = Vec<u8>;

fn open(machine: &Machine, seed: u64) -> Result<Trial, String> {
    let setup = Setup {
        sectors: SECTORS,
        slots: 8,
        journal_bytes: 64 << 10,
        identity: mix(seed, 3),
    };
    let origins = (0..VOLUMES as usize).map(|number| Box::new(machine.origin(number)) as _);
    let origins: Vec<Box<dyn Origin>> = origins.collect();
    Trial::open(Arc::new(machine.medium()), origins, setup)
}

/// A store at work that is killed at the end.
fn work(machine: &Machine, seed: u64) -> Result<(), String> {
    let mut random = Random::new(mix(seed, 5));
    let mut trial = open(machine, seed)?;
    for version in 1..=random.between(5, 60) {
        let volume = random.below(VOLUMES.into()) as u32;
        let first = random.below(SECTORS);
        let count = random.between(1, 10).min(SECTORS - first);
        // What fails for want of room was not promised.
        let _: io::Result<()> = match random.below(10) {
            0..6 => {
                let mut bytes = vec![0; count as usize * SECTOR_BYTES];
                for (sector, bytes) in (first..).zip(bytes.chunks_exact_mut(SECTOR_BYTES)) {
                    fill(volume, sector, version, bytes);
                }
                trial.write(volume, first * SECTOR_BYTES as u64, &bytes)
            }
            6 => trial.zero(volume, first, count),
            7 => trial.flush(),
            _ => {
                trial.step(random.next_u64());
                Ok(())
            }
        };
    }
    match random.chance(70) {
        true => trial.flush().map_err(|error| error.to_string()),
        false => trial.close().map(drop).map_err(|error| error.to_string()),
    }
}

/// What a store finds.
fn contents(image: &Image, seed: u64) -> Result<Contents, String> {
    let machine = Machine::new(image.clone(), seed);
    let mut trial = open(&machine, seed)?;
    let mut contents = Vec::new();
    for volume in 0..VOLUMES {
        let mut bytes = vec![0; SECTORS as usize * SECTOR_BYTES];
        let read = trial.read(volume, 0, &mut bytes);
        read.map_err(|error| error.to_string())?;
        contents.append(&mut bytes);
    }
    Ok(contents)
}

/// What the origins alone hold.
fn of_origins(image: &Image) -> Contents {
    let mut contents = Vec::new();
    for origin in &image.files[..image.origins] {
        let mut bytes = vec![0; origin.length() as usize];
        origin.get(0, &mut bytes);
        contents.append(&mut bytes);
    }
    contents
}

/// Drains all volumes. Whether everything is on the origins, and the directory knows.
fn drain(machine: &Machine) -> Result<bool, DrainError> {
    let mut drain = Drain::open(Arc::new(machine.medium()), "pid 9")?;
    let mut is_done = true;
    for holding in drain.holdings() {
        let origin = machine.origin(holding.number as usize);
        let asked = WriteBack::default();
        let done = drain.write_back(holding.number, &origin, &asked, &mut |_| {})?;
        is_done &= done.left.is_empty();
    }
    drain.close()?;
    Ok(is_done)
}

/// The directory that is drained: what a kill has left, or a power cut.
fn start(seed: u64) -> Image {
    let origins = (0..VOLUMES).map(|volume| origin_bytes(volume, SECTORS));
    let image = Image::with_origins(origins.collect()).garbage_in("slots");
    let machine = Machine::new(image, seed);
    work(&machine, seed).unwrap();
    crash(&machine.recording(), usize::MAX, &mut Random::new(seed))
}

fn crash(recording: &Recording, position: usize, random: &mut Random) -> Image {
    let mut walk = Walk::new(recording);
    walk.advance_to(position.min(recording.position()));
    walk.crash(random)
}

/// What may fail while it is drained: every second seed has something.
fn fault(seed: u64) -> Option<MediumFault> {
    let faults = [
        MediumFault::file("journal", CallKind::Sync, When::Nth(1)),
        MediumFault::file("slots", CallKind::Sync, When::Nth(1)),
        MediumFault::file("map", CallKind::Write, When::Nth(1)).errno(28),
        MediumFault::file("map.copy", CallKind::Sync, When::Nth(1)),
        MediumFault::file("superblock", CallKind::Sync, When::Nth(3)),
        MediumFault::file("volumes", CallKind::Write, When::Nth(1)).errno(28),
    ];
    let chosen = (seed / 2) as usize % faults.len();
    (seed % 2 == 1).then(|| faults[chosen].clone())
}

/// One directory and every moment of its being drained. How many crashes it was, or what was wrong.
fn sweep(seed: u64) -> Result<u64, String> {
    let image = start(seed);
    let expected = contents(&image, seed)?;
    let machine = Machine::new(image, seed);
    fault(seed)
        .into_iter()
        .for_each(|fault| machine.fail(fault));
    let is_done = drain(&machine).is_ok_and(|is_done| is_done);
    let recording = machine.recording();
    if is_done {
        let end = crash(&recording, usize::MAX, &mut Random::new(seed));
        check_drained(&end, &expected).map_err(|what| format!("drained: {what}"))?;
    } else if seed.is_multiple_of(2) {
        return Err("not everything was drained".to_owned());
    }
    check_all(&recording, &expected, seed)
}

fn check_all(recording: &Recording, expected: &Contents, seed: u64) -> Result<u64, String> {
    let mut crashes = 0;
    for position in 0..=recording.position() {
        if !recording.is_point(position) {
            continue;
        }
        crashes += 1;
        let mut random = Random::new(mix(seed, position as u64));
        let image = crash(recording, position, &mut random);
        let at = |what: String| format!("position {position}: {what}");
        check_kept(&image, expected, seed).map_err(at)?;
        if random.chance(AGAIN_PERCENT) {
            drain_again(&image, expected, &mut random).map_err(at)?;
        }
    }
    Ok(crashes)
}

/// Nothing is lost, and nothing else has come.
fn check_kept(image: &Image, expected: &Contents, seed: u64) -> Result<(), String> {
    let found = contents(image, seed)?;
    match differing(&found, expected) {
        None => Ok(()),
        Some(sector) => Err(format!("sector {sector} of all is another one")),
    }
}

/// The origins have everything by themselves, and the directory says so.
fn check_drained(image: &Image, expected: &Contents) -> Result<(), String> {
    if let Some(sector) = differing(&of_origins(image), expected) {
        return Err(format!("sector {sector} of all is not on its origin"));
    }
    let machine = Machine::new(image.clone(), 0);
    let drain = Drain::open(Arc::new(machine.medium()), "pid 10");
    let holdings = drain.map_err(|error| error.to_string())?.holdings();
    match holdings.iter().all(|holding| holding.is_empty()) {
        true => Ok(()),
        false => Err(format!("still held: {holdings:?}")),
    }
}

/// It can be run again, and a crash of that too can be.
fn drain_again(image: &Image, expected: &Contents, random: &mut Random) -> Result<(), String> {
    let mut image = image.clone();
    if random.chance(50) {
        let machine = Machine::new(image, random.next_u64());
        drain(&machine).map_err(|error| error.to_string())?;
        let recording = machine.recording();
        let position = random.below(recording.position() as u64 + 1) as usize;
        image = crash(&recording, position, random);
        check_kept(&image, expected, 0)?;
    }
    let machine = Machine::new(image, random.next_u64());
    match drain(&machine) {
        Ok(true) => {
            let end = crash(&machine.recording(), usize::MAX, random);
            check_drained(&end, expected)
        }
        Ok(false) => Err("not everything was drained the second time".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn differing(found: &[u8], expected: &[u8]) -> Option<usize> {
    let sectors = found
        .chunks_exact(SECTOR_BYTES)
        .zip(expected.chunks_exact(SECTOR_BYTES));
    sectors.into_iter().position(|(is, should)| is != should)
}

#[test]
fn nothing_is_lost_at_any_moment_of_a_drain() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut crashes, mut seed) = (0, 0);
    while crashes < CRASHES {
        match sweep(seed) {
            Ok(more) => crashes += more,
            Err(what) => panic!("seed {seed}: {what}"),
        }
        seed += 1;
    }
    println!("{seed} drains, {crashes} crashes");
}

#[test]
fn replay() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(first) = number("LARDER_SEED") {
        for seed in first..first + number("LARDER_SEEDS").unwrap_or(1) {
            if let Err(what) = sweep(seed) {
                panic!("seed {seed}: {what}");
            }
        }
    }
}

#[test]
fn a_directory_that_is_told_before_the_origin_is_flushed_is_caught() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    plant(Some(Bug::UndirtyBeforeFlush));
    let (mut crashes, mut found) = (0, None);
    // Without faults: the bug is the only reason.
    for seed in (0..).step_by(2) {
        match sweep(seed) {
            Ok(more) => crashes += more,
            Err(what) => found = Some(what),
        }
        if found.is_some() || crashes > CRASHES_TO_CATCH {
            break;
        }
    }
    plant(None);
    println!("{crashes} crashes: {found:?}");
    assert!(found.is_some());
}
