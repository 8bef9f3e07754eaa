//! Bugs that were, about origins that change their size: none may come back.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{CacheOnRead, Config, ErrorKind, Mode, ZeroOptions};
use larder_testing::log::Level;
use larder_testing::origin::OriginConnection;
use larder_testing::random::content;
use larder_testing::rig::{Client, run};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn rig(mode: Mode, cache_on_read: CacheOnRead) -> Rig {
    let config = Config {
        mode,
        cache_on_read,
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(IMAGE))
}

fn origin_of(rig: &Rig, size: u64) -> Arc<OriginConnection> {
    rig.origin.connect_as(|terms| terms.size = size)
}

fn assert_refused(rig: &Rig, size: u64) {
    let origin = origin_of(rig, size);
    let joining = run({
        let (volume, origin) = (Arc::clone(&rig.volume), Arc::clone(&origin));
        move || volume.connect(origin as _).map(drop)
    });
    let error = joining.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let says = error.to_string();
    assert!(says.contains(&size.to_string()), "{says}");
    // It must not be used behind the refusal either.
    origin.close();
}

#[test]
fn regression_growth_within_a_block_shows_what_the_origin_has_there() {
    for sectors in [1, 10, 127] {
        for is_written in [false, true] {
            let rig = rig(Mode::Writeback, CacheOnRead::Always);
            let old = 4 * BLOCK + sectors * 512;
            let mut expected = rig.fill(1, 0, 6 * BLOCK as usize);
            let small = rig.client_over(origin_of(&rig, old));
            if is_written {
                let data = content(2, 4 * BLOCK, sectors as usize * 512);
                small.put(4 * BLOCK, &data).unwrap();
                expected[4 * BLOCK as usize..old as usize].copy_from_slice(&data);
            }
            small.get(0, old as usize).unwrap();
            small.leave().unwrap();
            let large = rig.client();
            let beyond = large.get(old, 512).unwrap();
            assert!(beyond == expected[old as usize..][..512], "{sectors}");
            assert!(large.get(0, expected.len()).unwrap() == expected);
        }
    }
}

#[test]
fn regression_growth_within_a_block_shows_no_zeros_beyond_the_old_end() {
    let rig = rig(Mode::Writeback, CacheOnRead::Always);
    let old = 4 * BLOCK + 512;
    let mut expected = rig.fill(1, 0, 6 * BLOCK as usize);
    let small = rig.client_over(origin_of(&rig, old));
    let options = ZeroOptions::default();
    small
        .serve(|one| one.zero(BLOCK, old - BLOCK, options))
        .unwrap();
    expected[BLOCK as usize..old as usize].fill(0);
    rig.origin.fault(Fault::new(Kind::Zero, When::Always));
    small.leave().unwrap_err();
    rig.origin.heal();
    let large = rig.client();
    assert!(large.get(0, expected.len()).unwrap() == expected);
    large.flush().unwrap();
    assert!(rig.durable(0, expected.len()) == expected);
}

#[test]
fn regression_another_size_is_refused_while_clients_are_served() {
    for size in [IMAGE / 2, IMAGE - 100, IMAGE + BLOCK] {
        let rig = rig(Mode::Writeback, CacheOnRead::Never);
        let client = rig.client();
        client.put(0, &[5; 4096]).unwrap();
        client.put(IMAGE - 4096, &[6; 4096]).unwrap();
        assert_refused(&rig, size);
        assert_eq!(rig.log.messages(Level::Error), [""; 0]);
        let same = rig.client();
        assert!(same.get(IMAGE - 4096, 4096).unwrap() == [6; 4096]);
        same.leave().unwrap();
        client.flush().unwrap();
        assert!(rig.durable(0, 4096) == [5; 4096]);
        assert!(rig.durable(IMAGE - 4096, 4096) == [6; 4096]);
        client.leave().unwrap();
        // Nobody is left to be hurt.
        let newcomer = rig.client_over(origin_of(&rig, size));
        assert!(newcomer.get(0, 4096).unwrap() == [5; 4096]);
    }
}

#[test]
fn regression_another_size_is_refused_while_the_last_client_writes_back() {
    for kind in [Kind::Write, Kind::Flush] {
        for size in [IMAGE / 2, IMAGE - 4000, IMAGE + BLOCK] {
            let rig = rig(Mode::Writeback, CacheOnRead::Never);
            let client = rig.client();
            client.put(0, &[5; 4096]).unwrap();
            client.put(IMAGE - 4096, &[6; 4096]).unwrap();
            let hold = rig.hold_origin(kind, Phase::Before);
            let leaving = run(move || client.leave());
            hold.wait_for(1);
            assert_refused(&rig, size);
            hold.release();
            leaving.finish().unwrap();
            assert_eq!(rig.log.messages(Level::Error), [""; 0], "nothing is lost");
            assert!(rig.durable(0, 4096) == [5; 4096]);
            assert!(rig.durable(IMAGE - 4096, 4096) == [6; 4096]);
            assert!(rig.cache.leftovers().is_empty());
            let newcomer = rig.client_over(origin_of(&rig, size));
            assert!(newcomer.get(0, 4096).unwrap() == [5; 4096]);
        }
    }
}

/// A cache with 100 bytes at an end that cuts a sector, acknowledged and not written back.
fn cut_end(mode: Mode, old: u64) -> Rig {
    let rig = rig(mode, CacheOnRead::Always);
    rig.fill(1, 0, IMAGE as usize);
    let small = rig.client_over(origin_of(&rig, old));
    small.put(old - 100, &[5; 100]).unwrap();
    rig.origin.fault(Fault::new(Kind::Write, When::Always));
    assert_eq!(small.leave().is_err(), mode == Mode::Writeback);
    rig.origin.heal();
    rig
}

fn assert_kept(rig: &Rig, client: &Client, old: u64) {
    let mut expected = content(1, old - 4096, 8192);
    expected[3996..4096].fill(5);
    assert!(client.get(old - 4096, 8192).unwrap() == expected);
    let lost = rig.log.messages(Level::Error).join("\n");
    assert!(!lost.contains("dropped"), "{lost}");
}

#[test]
fn regression_growth_keeps_what_was_written_up_to_an_end_within_a_sector() {
    for mode in [Mode::Writeback, Mode::Unsafe] {
        // The last also reaches back over a block's start.
        for old in [(1 << 20) + 100, (1 << 20) + 5000, (1 << 20) + 50] {
            let rig = cut_end(mode, old);
            let large = rig.client();
            assert_kept(&rig, &large, old);
            large.leave().unwrap();
            let is_written = rig.on_origin(old - 100, 100) == [5; 100];
            assert_eq!(is_written, mode == Mode::Writeback);
        }
    }
}

#[test]
fn regression_growth_under_a_read_only_client_keeps_what_was_written() {
    for mode in [Mode::Writeback, Mode::Unsafe] {
        let old = (1 << 20) + 100;
        let rig = cut_end(mode, old);
        let reader = rig.client_over(rig.origin.connect_read_only());
        assert_kept(&rig, &reader, old);
        let writer = rig.client();
        assert_kept(&rig, &writer, old);
        writer.flush().unwrap();
        if mode == Mode::Writeback {
            assert!(rig.durable(old - 100, 100) == [5; 100]);
        }
        assert!(rig.durable(old, 4096) == content(1, old, 4096));
    }
}

#[test]
fn regression_growth_keeps_what_the_origin_refuses_meanwhile() {
    let old = (1 << 20) + 100;
    let rig = cut_end(Mode::Writeback, old);
    rig.origin.fault(Fault::new(Kind::Write, When::Always));
    let large = rig.client();
    assert_kept(&rig, &large, old);
    rig.origin.heal();
    large.flush().unwrap();
    assert!(rig.durable(old - 100, 100) == [5; 100]);
    assert!(rig.durable(old, 4096) == content(1, old, 4096));
}

#[test]
fn regression_growth_keeps_zeros_up_to_an_end_within_a_sector() {
    for mode in [Mode::Writeback, Mode::Unsafe] {
        for is_read_only in [false, true] {
            let rig = rig(mode, CacheOnRead::Always);
            rig.fill(1, 0, IMAGE as usize);
            let old = (1 << 20) + 5000;
            let small = rig.client_over(origin_of(&rig, old));
            let zeros = ZeroOptions::default();
            small.serve(|one| one.zero(1 << 20, 5000, zeros)).unwrap();
            rig.origin.fault(Fault::new(Kind::Zero, When::Always));
            assert_eq!(small.leave().is_err(), mode == Mode::Writeback);
            rig.origin.heal();
            let large = rig.client_over(match is_read_only {
                true => rig.origin.connect_read_only(),
                false => rig.origin.connect(),
            });
            let mut expected = content(1, 1 << 20, 8192);
            expected[..5000].fill(0);
            assert!(large.get(1 << 20, 8192).unwrap() == expected);
        }
    }
}
