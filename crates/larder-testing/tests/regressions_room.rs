//! Bugs that were, about room in the cache and a cache file that fails: none may come back.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::{CacheOnRead, Config, Connection, Volume};
use larder_testing::cache_file::EVERYWHERE;
use larder_testing::holds::Hold;
use larder_testing::pace::SharedPace;
use larder_testing::random::Random;
use larder_testing::rig::{Client, Running, run, wait_until};
use larder_testing::{Fault, Kind, OriginDouble, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

/// Slots in the smallest cache with blocks of the usual size.
const SLOTS: u64 = 15;

fn small_rig() -> Rig {
    let config = Config {
        max_size_bytes: Some(1 << 20),
        background: true,
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(IMAGE))
}

/// A volume with an origin of its own, which no hold of the rig's holds.
fn stranger(rig: &Rig, name: &str) -> (OriginDouble, Arc<Volume>, Connection) {
    let settings = OriginSettings::new(IMAGE);
    let origin = OriginDouble::new(settings, rig.violations.clone(), SharedPace::default());
    let volume = rig.cache.volume(name);
    let connection = volume.connect(origin.connect() as _).unwrap();
    (origin, volume, connection)
}

/// Fills blocks and begins a flush that does not get on.
fn slow_flush(
    rig: &Rig,
    client: Arc<Client>,
    blocks: u64,
) -> (Hold, Running<Result<(), larder::Error>>) {
    for block in 0..blocks {
        client.put(block * BLOCK, &[1; 512]).unwrap();
    }
    assert_eq!(rig.cache.stats().slots_used, SLOTS);
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || client.flush());
    // All of them, so that nothing moves any more in this volume.
    hold.wait_for(blocks as usize);
    (hold, flush)
}

#[test]
fn regression_waiting_for_another_volumes_pass_is_neither_busy_nor_given_up() {
    let rig = small_rig();
    let (hold, flush) = slow_flush(&rig, rig.client(), SLOTS);
    let (origin, _volume, writer) = stranger(&rig, "another");
    let writing = run(move || {
        writer.write(20 * BLOCK, &[2; 512], false).unwrap();
        writer
    });
    let start = Instant::now();
    wait_until("the writer waits", || rig.cache.stats().room_waits > 0);
    writing.assert_waits();
    let waits = rig.cache.stats().room_waits;
    // It looks again now and then, in case it was not told.
    let most = 5 + start.elapsed().as_millis() as u64 / 10;
    assert!(waits <= most, "{waits} looks for room, at most {most}");
    hold.release();
    flush.finish().unwrap();
    writing.finish().disconnect().unwrap();
    assert_eq!(rig.cache.stats().no_room_writes, 0);
    assert!(origin.disk().durable(20 * BLOCK, 512) == [2; 512]);
}

#[test]
fn regression_a_pass_is_waited_for_although_others_dirty_data_has_nobody_to_write_it() {
    let rig = small_rig();
    let (orphan, orphans, owner) = stranger(&rig, "orphan");
    owner.write(0, &[3; 512], false).unwrap();
    orphan.fault(Fault::new(Kind::Write, When::Always));
    owner.disconnect().unwrap_err();
    let (hold, flush) = slow_flush(&rig, rig.client(), SLOTS - 1);
    let (_origin, _volume, writer) = stranger(&rig, "another");
    let writing = run(move || writer.write(20 * BLOCK, &[2; 512], false));
    wait_until("the writer waits", || rig.cache.stats().room_waits > 0);
    writing.assert_waits();
    hold.release();
    flush.finish().unwrap();
    writing.finish().unwrap();
    assert_eq!(rig.cache.stats().no_room_writes, 0);
    orphan.heal();
    let heir = orphans.connect(orphan.connect() as _).unwrap();
    heir.flush().unwrap();
    assert!(orphan.disk().durable(0, 512) == [3; 512]);
}

#[test]
fn regression_writers_share_the_only_slot() {
    const LARGE: u64 = 1 << 20;
    for background in [false, true] {
        let config = Config {
            block_bytes: LARGE,
            max_size_bytes: Some(LARGE),
            background,
            ..Config::default()
        };
        let rig = Rig::new(config, OriginSettings::new(IMAGE));
        let cache = Arc::clone(&rig.cache);
        let maintenance = run(move || while cache.maintain(Duration::from_millis(10)) {});
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let client = rig.client();
                run(move || {
                    let mut random = Random::new(number);
                    for _ in 0..100 {
                        let block = random.below(IMAGE / LARGE);
                        let offset = block * LARGE + number * BLOCK;
                        client.put(offset, &[number as u8; BLOCK as usize]).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.finish();
        }
        rig.cache.stop();
        maintenance.finish();
        let stats = rig.cache.stats();
        assert_eq!((stats.writes, stats.no_room_writes), (400, 0));
        assert!(rig.file.most_allocated_bytes() <= LARGE);
    }
}

#[test]
fn regression_clean_data_unreadable_in_several_runs_comes_from_the_origin() {
    let sector = 512;
    for cache_on_read in [CacheOnRead::Never, CacheOnRead::Always] {
        for failing in [
            vec![EVERYWHERE],
            vec![(512, 1024), (2048, 100), (60_000, 1)],
        ] {
            let config = Config {
                cache_on_read: cache_on_read.clone(),
                ..Config::default()
            };
            let rig = Rig::new(config, OriginSettings::new(IMAGE));
            let expected = rig.fill(1, 0, BLOCK as usize);
            let client = rig.client();
            for run in [0, 2, 4, 5, 100, 117] {
                let from = run * sector;
                let data = &expected[from..from + sector];
                client.put(from as u64, data).unwrap();
            }
            client.flush().unwrap();
            rig.file.fail_reads(&failing);
            for _ in 0..2 {
                assert!(client.get(0, BLOCK as usize).unwrap() == expected);
            }
            assert!(client.get(700, 2000).unwrap() == expected[700..2700]);
            rig.file.fail_reads(&[]);
            assert!(client.get(0, BLOCK as usize).unwrap() == expected);
        }
    }
}

#[test]
fn regression_unreadable_dirty_data_between_clean_runs_stays() {
    let rig = Rig::new(Config::default(), OriginSettings::new(IMAGE));
    let expected = rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    for offset in [0, 1024, 4096] {
        client
            .put(offset, &expected[offset as usize..][..512])
            .unwrap();
    }
    client.flush().unwrap();
    client.put(2048, &[5; 512]).unwrap();
    rig.file.fail_reads(&[EVERYWHERE]);
    client.get(0, 8192).unwrap_err();
    assert!(client.get(0, 2048).unwrap() == expected[..2048]);
    assert!(client.get(2560, 4096).unwrap() == expected[2560..6656]);
    rig.file.fail_reads(&[]);
    let mut newest = expected;
    newest[2048..2560].fill(5);
    assert!(client.get(0, BLOCK as usize).unwrap() == newest);
    client.flush().unwrap();
    assert!(rig.durable(0, BLOCK as usize) == newest);
}
