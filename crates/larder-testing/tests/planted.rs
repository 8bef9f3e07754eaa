//! Each bug that can be planted in the engine is caught, by a directed scenario every time and by
//! the model test within a bounded number of seeds; without it both pass.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

mod engine;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder::planted::{Bug, plant};
use larder::{CacheOnRead, Config, Extent};
use larder_testing::holds::only_first;
use larder_testing::model::case::COMBINATIONS;
use larder_testing::model::{Case, run as run_case};
use larder_testing::random::content;
use larder_testing::rig::run;
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
/// Seeds that the model may need.
const SEEDS: u64 = 150;

/// A bug planted in the whole process, so one test at a time.
struct Planted {
    _alone: MutexGuard<'static, ()>,
}

impl Planted {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        Self {
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

/// Both ways of catching, with the bug and without. `case` makes a case in which it may show.
fn check(bug: Bug, scenario: fn() -> Result<(), String>, case: fn(&mut Case)) {
    let _planted = Planted::new();
    scenario().unwrap();
    plant(Some(bug));
    assert!(scenario().is_err(), "{bug:?} passes its scenario");
    let seeds = (0..SEEDS).map(|round| round * COMBINATIONS);
    let cases: Vec<Case> = seeds
        .map(|seed| {
            let mut one = Case::from_seed(seed);
            case(&mut one);
            one
        })
        .collect();
    let found = cases
        .iter()
        .position(|case| run_case(case, &engine::build).is_err());
    let found = found.unwrap_or_else(|| panic!("{bug:?} passes {SEEDS} cases of the model"));
    println!("{bug:?} was caught by case {found}");
    plant(None);
    for case in &cases[..=found] {
        if let Err(violation) = run_case(case, &engine::build) {
            panic!("without the bug: {violation}");
        }
    }
}

fn rig() -> Rig {
    let config = Config {
        cache_on_read: CacheOnRead::Always,
        max_size_bytes: Some(1 << 20),
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(24 << 20))
}

/// The verdict of a scenario; the doubles' own complaints count as well.
fn verdict(rig: Rig, right: bool) -> Result<(), String> {
    let seen = rig.violations.seen();
    // A rig checks itself when it is dropped, which here would be a panic.
    std::mem::forget(rig);
    if right && seen.is_empty() {
        Ok(())
    } else {
        Err(format!("right: {right}, contracts broken: {seen:?}"))
    }
}

fn a_write_during_a_fetch() -> Result<(), String> {
    let rig = rig();
    rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    writer.put(8192, &[5; 4096]).unwrap();
    hold.release();
    reading.finish().unwrap();
    let right = reader.get(8192, 4096).unwrap() == [5; 4096];
    verdict(rig, right)
}

fn a_durable_write_during_a_writeback() -> Result<(), String> {
    let rig = rig();
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 4096)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    let fua = run(move || second.serve(|one| one.write(0, &[7; 4096], true)));
    fua.give_a_chance();
    hold.release();
    flush.finish().unwrap();
    fua.finish().unwrap();
    let right = rig.durable(0, 4096) == [7; 4096];
    verdict(rig, right)
}

fn a_flush_during_block_status() -> Result<(), String> {
    let rig = rig();
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(BLOCK, &[5; 4096]).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Extents, Phase::After)
    }));
    let status = run(move || first.serve(|one| one.extents(0, 4 * BLOCK, false)));
    hold.wait_for(1);
    second.flush().unwrap();
    hold.release();
    let mut at = 0;
    let mut right = true;
    for Extent { length, zero, .. } in status.finish().unwrap() {
        right &= !zero || at + length <= BLOCK || at >= BLOCK + 4096;
        at += length;
    }
    verdict(rig, right)
}

fn a_failed_flush_under_pressure() -> Result<(), String> {
    let rig = rig();
    let [writer, reader] = [(); 2].map(|()| rig.client());
    let all = content(2, 0, 8 * BLOCK as usize);
    for (block, data) in all.chunks(BLOCK as usize).enumerate() {
        writer.put(block as u64 * BLOCK, data).unwrap();
    }
    rig.origin.fault(Fault::new(Kind::Flush, When::Nth(1)));
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Flush, Phase::After)));
    let flush = run({
        let writer = Arc::clone(&writer);
        move || writer.flush()
    });
    hold.wait_for(1);
    let reading =
        run(move || (100..140).try_for_each(|block| reader.get(block * BLOCK, 4096).map(drop)));
    reading.give_a_chance();
    hold.release();
    flush.finish().unwrap_err();
    reading.finish().unwrap();
    writer.flush().unwrap();
    let right = rig.durable(0, all.len()) == all;
    verdict(rig, right)
}

fn a_loss_during_a_flush() -> Result<(), String> {
    let rig = rig();
    let client = rig.client();
    client.put(0, &[5; 4096]).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let flush = run(move || client.flush());
    hold.wait_for(1);
    rig.origin.lose_connection(None);
    hold.release();
    flush.finish().unwrap();
    let right = rig.durable(0, 4096) == [5; 4096];
    verdict(rig, right)
}

#[test]
fn planted_fetch_that_commits_blindly_is_caught() {
    check(Bug::FetchCommitsBlindly, a_write_during_a_fetch, |case| {
        case.config.cache_on_read = CacheOnRead::Always;
    });
}

#[test]
fn planted_swapped_writebacks_are_caught() {
    check(
        Bug::WritebacksSwapped,
        a_durable_write_during_a_writeback,
        |_| {},
    );
}

#[test]
fn planted_extents_after_the_origin_are_caught() {
    check(
        Bug::ExtentsAfterOrigin,
        a_flush_during_block_status,
        |case| {
            case.origin.capabilities.extents = true;
        },
    );
}

#[test]
fn planted_eviction_of_written_is_caught() {
    check(Bug::WrittenIsEvicted, a_failed_flush_under_pressure, |_| {});
}

#[test]
fn planted_loss_that_is_forgotten_is_caught() {
    check(Bug::LossIsForgotten, a_loss_during_a_flush, |case| {
        case.losses = 6;
    });
}
