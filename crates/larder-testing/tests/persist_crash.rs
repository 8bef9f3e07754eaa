//! The files of a cache directory in the crash simulator, under a store that is small enough to be seen through: commits, checkpoints,
//! recovery and the clean end lose nothing; each mistake that can be planted in them is caught.
//!
//! `LARDER_SEED=n LARDER_SEEDS=count cargo test -p larder-testing --test persist_crash replay` runs some seeds again, or others.
//! `LARDER_SOAK_SECONDS=n cargo test -p larder-testing --test persist_crash soak -- --ignored --nocapture` runs new ones.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use larder::Origin;
use larder::planted::{Bug, plant};
use larder::trial::{Bad, Setup, Trial};
use larder_testing::crash::damage::{self, Damage};
use larder_testing::crash::history::origin_bytes;
use larder_testing::crash::judge::{Demand, Judge};
use larder_testing::crash::requests;
use larder_testing::crash::walk::Walk;
use larder_testing::crash::{
    BadSector, CallKind, History, Image, Look, Machine, MediumFault, Origins, Recording, Shape,
    Store, Subject, Sweep, Tally, Violation, soak_for_seconds,
};
use larder_testing::random::mix;
use larder_testing::{Random, When};

const VOLUMES: u32 = 2;
const SECTORS: u64 = 48;
/// Fewer than there are blocks.
const SLOTS: u32 = 8;

/// What must be passed.
const CRASHES: u64 = 20_000;
/// What a mistake may take to be caught.
const CRASHES_TO_CATCH: u64 = 5_000;

/// A bug is planted in the whole process, so one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy)]
struct Files {
    setup: Setup,
}

impl Files {
    fn new(seed: u64) -> Self {
        let setup = Setup {
            sectors: SECTORS,
            slots: SLOTS,
            journal_bytes: 64 << 10,
            identity: mix(seed, 3),
        };
        Self { setup }
    }

    fn open(&self, machine: &Machine) -> Result<Trial, String> {
        let origins = (0..VOLUMES as usize).map(|number| Box::new(machine.origin(number)) as _);
        let origins: Vec<Box<dyn Origin>> = origins.collect();
        Trial::open(Arc::new(machine.medium()), origins, self.setup)
    }
}

impl Subject for Files {
    /// The machine is a copy: what is done to it is seen by nobody.
    fn look(&self, machine: &Machine) -> Result<Box<dyn Look>, String> {
        let trial = self.open(machine)?;
        let bad = trial.bad().map_err(|error| error.to_string())?;
        Ok(Box::new(Running::new(*self, machine, trial, bad)))
    }

    fn start(&self, machine: &Machine) -> Result<Box<dyn Store>, String> {
        let trial = self.open(machine)?;
        Ok(Box::new(Running::new(*self, machine, trial, Vec::new())))
    }
}

/// A trial, which can be closed and opened again.
struct Running {
    files: Files,
    machine: Machine,
    trial: Option<Trial>,
    bad: Vec<Bad>,
}

impl Running {
    fn new(files: Files, machine: &Machine, trial: Trial, bad: Vec<Bad>) -> Self {
        Self {
            files,
            machine: machine.clone(),
            trial: Some(trial),
            bad,
        }
    }

    fn trial(&mut self) -> io::Result<&mut Trial> {
        self.trial
            .as_mut()
            .ok_or_else(|| io::Error::other("closed"))
    }

    fn restart(&mut self) {
        let Some(trial) = &mut self.trial else { return };
        // What could not be closed is still there to be read.
        if let Ok(true) = trial.close() {
            self.trial = None;
            self.trial = self.files.open(&self.machine).ok();
        }
    }
}

impl Look for Running {
    fn read(&mut self, volume: u32, first: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.trial()?.read(volume, first, buffer)
    }

    fn bad(&mut self) -> Vec<BadSector> {
        // A clean one may be bad for having been written to since it was listed, be it before an earlier crash.
        let bad = self.bad.iter().filter(|bad| bad.is_dirty);
        bad.map(|bad| BadSector {
            volume: bad.volume,
            sector: bad.sector,
            is_dirty: true,
            listed: None,
        })
        .collect()
    }
}

impl Store for Running {
    fn write(&mut self, volume: u32, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        self.trial()?.write(volume, offset, data)?;
        if fua { self.flush(volume) } else { Ok(()) }
    }

    fn zero(&mut self, volume: u32, first: u64, count: u64, fua: bool) -> io::Result<()> {
        self.trial()?.zero(volume, first, count)?;
        if fua { self.flush(volume) } else { Ok(()) }
    }

    fn trim(&mut self, volume: u32, first: u64, count: u64) -> io::Result<()> {
        self.zero(volume, first, count, false)
    }

    fn flush(&mut self, _: u32) -> io::Result<()> {
        self.trial()?.flush()
    }

    fn step(&mut self, random: &mut Random) {
        if random.chance(8) {
            return self.restart();
        }
        if let Ok(trial) = self.trial() {
            trial.step(random.next_u64());
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        self.trial()?.drain()
    }
}

/// Every third seed has faults.
fn shape(seed: u64) -> Shape {
    let once = When::Nth(1);
    let faults = [
        MediumFault::file("journal", CallKind::Sync, once),
        MediumFault::file("journal", CallKind::Write, once),
        MediumFault::file("slots", CallKind::Sync, once),
        MediumFault::file("slots", CallKind::Write, When::Chance(30)).errno(28),
        MediumFault::file("map", CallKind::Write, once).errno(28),
        MediumFault::file("map.copy", CallKind::Sync, once),
        MediumFault::file("sums", CallKind::Sync, once),
        MediumFault::file("volumes", CallKind::Write, once).errno(28),
        MediumFault::file("superblock", CallKind::Sync, When::Nth(2)),
        MediumFault::file("superblock", CallKind::Write, once),
    ];
    Shape {
        trims: true,
        requests: 150,
        longest: 10,
        faults: match seed % 3 {
            1 => faults.into(),
            _ => Vec::new(),
        },
        ..Shape::default()
    }
}

/// A run from an empty medium on.
fn run(files: &Files, seed: u64) -> Result<(Recording, History), Violation> {
    requests::run(files, (VOLUMES, SECTORS), &shape(seed), seed)
}

/// A run, and every moment of it as a crash.
fn sweep(seed: u64, started_percent: u64) -> Result<Tally, (Tally, Violation)> {
    let files = Files::new(seed);
    let none = |violation| (Tally::default(), violation);
    let (recording, history) = run(&files, seed).map_err(none)?;
    let sweep = Sweep {
        subject: &files,
        recording: &recording,
        history: &history,
        origins: Origins::Anything,
        later: Shape {
            longest: 4,
            trims: true,
            ..Shape::default()
        },
        survivals: 1,
        started_percent,
        seed,
    };
    sweep.run()
}

#[test]
fn nothing_is_lost() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut tally = Tally::default();
    let mut seed = 0;
    while tally.crashes < CRASHES {
        match sweep(seed, 4) {
            Ok(more) => tally = tally.and(more),
            Err((_, violation)) => panic!("seed {seed}: {violation}"),
        }
        seed += 1;
    }
    println!("{seed} runs: {tally:?}");
    assert!(tally.started > CRASHES / 50 && tally.second > tally.started);
}

#[test]
fn replay() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    if let Some(first) = number("LARDER_SEED") {
        for seed in first..first + number("LARDER_SEEDS").unwrap_or(1) {
            if let Err((_, violation)) = sweep(seed, 4) {
                panic!("seed {seed}: {violation}");
            }
        }
    }
}

#[test]
#[ignore = "runs as long as LARDER_SOAK_SECONDS says; cargo xtask soak"]
fn soak() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    soak_for_seconds(|seed| sweep(seed, 4));
}

/// After how many crashes a bug is caught.
fn caught(bug: Bug) -> Option<u64> {
    plant(Some(bug));
    let mut tally = Tally::default();
    let mut found = None;
    // Without faults: the bug is the only reason.
    for seed in (0..).step_by(3) {
        match sweep(seed, 4) {
            Ok(more) => tally = tally.and(more),
            Err((more, violation)) => {
                let crashes = tally.and(more).crashes;
                println!("{bug:?}, {crashes} crashes, seed {seed}: {violation}");
                found = Some(crashes);
            }
        }
        if found.is_some() || tally.crashes > CRASHES_TO_CATCH {
            break;
        }
    }
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_caught() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for bug in [Bug::SyncLeftOut, Bug::TailMovedEarly, Bug::FoldInOnePhase] {
        let crashes = caught(bug);
        assert!(
            crashes.is_some_and(|crashes| crashes <= CRASHES_TO_CATCH),
            "{bug:?}"
        );
    }
}

/// How often a frame that had followed one which a crash lost is joined to another in its place.
fn joined() -> u32 {
    const BLOCK: usize = 4096;
    let files = Files::new(0);
    let origins = (0..VOLUMES).map(|volume| origin_bytes(volume, SECTORS));
    let machine = Machine::new(Image::with_origins(origins.collect()), 0);
    let mut store = files.start(&machine).unwrap();
    // The second time both blocks are sealed, and each has a frame of its own for its bytes.
    for version in 1..3 {
        store
            .write(0, 0, &[version; 2 * BLOCK], version == 1)
            .unwrap();
    }
    let before = machine.position();
    store.flush(0).unwrap();
    let recording = machine.recording();
    let (mut joined, mut lost) = (0, 0);
    for position in before..recording.position() {
        let mut walk = Walk::new(&recording);
        walk.advance_to(position);
        for survival in 0..20 {
            let image = walk.crash(&mut Random::new(survival));
            let machine = Machine::new(image, 0);
            let mut store = files.start(&machine).unwrap();
            let (mut first, mut second) = ([0; BLOCK], [0; BLOCK]);
            store.read(0, 0, &mut first).unwrap();
            lost += u32::from(first[0] == 1);
            store.write(0, BLOCK as u64, &[3; BLOCK], true).unwrap();
            drop(store);
            let mut store = files.start(&machine).unwrap();
            store.read(0, 0, &mut second).unwrap();
            joined += u32::from(first != second);
        }
    }
    assert!(lost > 20);
    joined
}

#[test]
fn what_followed_a_lost_frame_stays_lost_and_the_chain_is_why() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(joined(), 0);
    plant(Some(Bug::ChainIgnored));
    let joined = joined();
    plant(None);
    assert!(joined > 0);
}

/// What the journal's last frames say may be lost with a flip, as with a crash; nothing else is.
#[test]
fn damaged_files_give_an_error_or_what_was_written() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut opened, mut refused) = (0, 0);
    let (other, _) = run(&Files::new(1000), 1000).unwrap();
    let mut other_walk = Walk::new(&other);
    other_walk.advance_to(other.position());
    let other = other_walk.crash(&mut Random::new(0));
    for seed in [0, 3, 6] {
        let files = Files::new(seed);
        let (recording, history) = run(&files, seed).unwrap();
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
            let checked = damage::check(&files, &history, &judge, &image, Demand::Begun, "lock");
            match checked {
                Ok(true) => opened += 1,
                Ok(false) => refused += 1,
                Err(violation) => panic!("seed {seed} position {position} {damage:?}: {violation}"),
            }
        }
    }
    println!("{opened} opened, {refused} refused");
    assert!(opened > 100 && refused > 100);
}
