//! Rules about room: the limit, a full disk, a cache file that fails, and what pressure may not do.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{Cache, CacheOnRead, Config, ErrorKind, Mode};
use larder_testing::cache_file::EVERYWHERE;
use larder_testing::log::Level;
use larder_testing::pace::SharedPace;
use larder_testing::random::{Random, content};
use larder_testing::rig::{Client, run};
use larder_testing::{
    Fault, Kind, ManualClock, MemoryLog, OriginDouble, OriginSettings, Rig, When,
};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 48 << 20;

fn limited(max_size_bytes: u64) -> Config {
    Config {
        cache_on_read: CacheOnRead::Always,
        max_size_bytes: Some(max_size_bytes),
        ..Config::default()
    }
}

fn unlimited() -> Config {
    Config {
        cache_on_read: CacheOnRead::Always,
        ..Config::default()
    }
}

fn write_all(client: &Client, seed: u64, length: u64) -> Vec<u8> {
    let all = content(seed, 0, length as usize);
    for (part, data) in all.chunks(BLOCK as usize).enumerate() {
        client.put(part as u64 * BLOCK, data).unwrap();
    }
    all
}

#[test]
fn limit_hard() {
    for (block_bytes, background) in [(4 << 10, false), (64 << 10, true), (1 << 20, false)] {
        let limit = 4 << 20;
        let config = Config {
            block_bytes,
            background,
            ..limited(limit)
        };
        let rig = Rig::new(config, OriginSettings::new(IMAGE));
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let client = rig.client();
                run(move || {
                    let mut random = Random::new(number);
                    for _ in 0..100 {
                        let block = random.below(IMAGE / BLOCK);
                        client.put(block * BLOCK, &[7; BLOCK as usize]).unwrap();
                        client.get(random.below(IMAGE - 9999), 9999).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.finish();
        }
        let most = rig.file.most_allocated_bytes();
        assert!(most <= limit, "{most} bytes allocated of {limit}");
        assert!(most >= limit / 2, "only {most} bytes used of {limit}");
        let stats = rig.cache.stats();
        let past = stats.no_room_reads + stats.no_room_writes;
        let all = stats.writes + stats.hits + stats.misses + past;
        assert!(
            past * 100 <= all,
            "{past} of {all} requests went past the cache"
        );
    }
}

#[test]
fn dirty_never_evicted_unwritten() {
    let rig = Rig::new(limited(4 << 20), OriginSettings::new(IMAGE));
    let client = rig.client();
    let all = write_all(&client, 2, 40 << 20);
    assert!(client.get(0, 40 << 20).unwrap() == all);
    client.flush().unwrap();
    assert!(rig.durable(0, 40 << 20) == all);
    assert!(client.get(0, 40 << 20).unwrap() == all);
    assert!(rig.cache.stats().reclaim_writebacks > 0);
    assert_eq!(rig.cache.stats().no_room_writes, 0);
}

#[test]
fn pressure_never_loses_data_when_the_origin_refuses() {
    let rig = Rig::new(limited(1 << 20), OriginSettings::new(IMAGE));
    let client = rig.client();
    let mut kept = Vec::new();
    rig.origin
        .fault(Fault::new(Kind::Write, When::Always).errno(libc::EREMOTEIO));
    for block in 0..32 {
        let offset = block * BLOCK;
        let data = content(2, offset, BLOCK as usize);
        match client.put(offset, &data) {
            Ok(()) => kept.push((offset, data)),
            // Full of dirty data that the origin does not take: its error, not the cache's.
            Err(error) => assert_eq!(error.errno(), libc::EREMOTEIO),
        }
    }
    assert!((8..32).contains(&kept.len()), "{} kept", kept.len());
    for (offset, data) in &kept {
        assert!(client.get(*offset, BLOCK as usize).unwrap() == *data);
    }
    rig.origin.heal();
    client.flush().unwrap();
    for (offset, data) in &kept {
        assert!(rig.durable(*offset, BLOCK as usize) == *data);
    }
    client.put(IMAGE - BLOCK, &[1; BLOCK as usize]).unwrap();
}

#[test]
fn reads_pass_through_while_the_cache_is_full_of_dirty_data() {
    let rig = Rig::new(limited(1 << 20), OriginSettings::new(IMAGE));
    let expected = rig.fill(1, 40 << 20, BLOCK as usize);
    let client = rig.client();
    rig.origin.fault(Fault::new(Kind::Write, When::Always));
    for block in 0..32 {
        // Some of these fail: that is another test's matter.
        let _ = client.put(block * BLOCK, &[1; BLOCK as usize]);
    }
    assert!(client.get(40 << 20, BLOCK as usize).unwrap() == expected);
    assert!(rig.cache.stats().no_room_reads > 0);
}

#[test]
fn enospc_is_not_client_error() {
    for capacity_bytes in [0, 40_000, 300_000, 1 << 20] {
        for mode in [Mode::Writeback, Mode::Writethrough, Mode::Unsafe] {
            let config = Config {
                mode,
                ..unlimited()
            };
            let rig = Rig::over(config, OriginSettings::new(IMAGE), |file| {
                file.set_capacity_bytes(Some(capacity_bytes));
            });
            let client = rig.client();
            let all = write_all(&client, 2, 4 << 20);
            assert!(client.get(0, 4 << 20).unwrap() == all);
            client.flush().unwrap();
            if mode != Mode::Unsafe {
                assert!(rig.durable(0, 4 << 20) == all);
            }
            assert!(rig.file.most_allocated_bytes() <= capacity_bytes);
        }
    }
}

#[test]
fn a_disk_that_gets_room_is_used_again() {
    let rig = Rig::over(unlimited(), OriginSettings::new(IMAGE), |file| {
        file.set_capacity_bytes(Some(1 << 20));
    });
    let client = rig.client();
    write_all(&client, 2, 4 << 20);
    client.flush().unwrap();
    rig.file.set_capacity_bytes(None);
    for _ in 0..4 {
        client.get(0, 40 << 20).unwrap();
    }
    let most = rig.file.most_allocated_bytes();
    assert!(most > 4 << 20, "only {most} bytes used");
}

#[test]
fn block_larger_than_limit_is_a_start_up_error() {
    let config = Config {
        block_bytes: 4 << 20,
        ..limited(2 << 20)
    };
    let rig = Rig::new(unlimited(), OriginSettings::new(IMAGE));
    let clock = Arc::new(ManualClock::default());
    let log = Arc::new(MemoryLog::default());
    let made = Cache::new(config, rig.file.file(), clock as _, log as _);
    let Err(error) = made else {
        panic!("accepted");
    };
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("4194304"), "{error}");
}

#[test]
fn cache_file_read_error_on_clean_falls_back_to_the_origin() {
    let rig = Rig::new(unlimited(), OriginSettings::new(IMAGE));
    let expected = rig.fill(1, 0, 2 * BLOCK as usize);
    let client = rig.client();
    client.get(0, 2 * BLOCK as usize).unwrap();
    client.put(4096, &expected[4096..8192]).unwrap();
    client.flush().unwrap();
    rig.file.fail_reads(&[EVERYWHERE]);
    assert!(client.get(0, 2 * BLOCK as usize).unwrap() == expected);
    assert!(client.get(777, 5000).unwrap() == expected[777..5777]);
    rig.file.fail_reads(&[]);
    assert!(client.get(0, 2 * BLOCK as usize).unwrap() == expected);
}

#[test]
fn cache_file_read_error_on_dirty_is_eio_for_those_sectors_and_named() {
    let rig = Rig::new(unlimited(), OriginSettings::new(IMAGE));
    let expected = rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    client.put(4096, &[5; 512]).unwrap();
    rig.file.fail_reads(&[EVERYWHERE]);
    let error = client.get(4096, 512).unwrap_err();
    assert_eq!(
        (error.kind(), error.errno()),
        (ErrorKind::CacheFile, libc::EIO)
    );
    assert!(client.get(0, 4096).unwrap() == expected[..4096]);
    let errors = rig.log.messages(Level::Error).join("\n");
    assert!(
        errors.contains("4096") && errors.contains("512"),
        "{errors}"
    );
    assert!(client.flush().is_err());
    rig.file.fail_reads(&[]);
    assert!(client.get(4096, 512).unwrap() == [5; 512]);
    client.flush().unwrap();
    assert!(rig.durable(4096, 512) == [5; 512]);
}

#[test]
fn a_cache_file_that_takes_no_writes_is_not_the_clients_error() {
    for mode in [Mode::Writeback, Mode::Writethrough] {
        let config = Config {
            mode,
            ..unlimited()
        };
        let rig = Rig::new(config, OriginSettings::new(IMAGE));
        let mut expected = rig.fill(1, 0, BLOCK as usize);
        let client = rig.client();
        client.get(0, 8192).unwrap();
        rig.file.fail_writes(&[EVERYWHERE]);
        client.put(1000, &[5; 9000]).unwrap();
        expected[1000..10_000].fill(5);
        assert!(client.get(0, BLOCK as usize).unwrap() == expected);
        rig.file.fail_writes(&[]);
        client.flush().unwrap();
        assert!(client.get(0, BLOCK as usize).unwrap() == expected);
        assert!(rig.durable(0, BLOCK as usize) == expected);
    }
}

#[test]
fn background_reclaim_starts_above_high_and_ends_below_low() {
    let config = Config {
        background: true,
        high_threshold_percent: 80,
        low_threshold_percent: 40,
        ..limited(8 << 20)
    };
    let rig = Rig::new(config, OriginSettings::new(IMAGE));
    let client = rig.client();
    let limit = (8 << 20) / BLOCK;
    for block in 0..limit * 7 / 10 {
        client.get(block * BLOCK, 512).unwrap();
    }
    rig.cache.maintain(std::time::Duration::from_millis(1));
    assert_eq!(rig.cache.stats().reclaimed, 0);
    for block in 0..limit * 9 / 10 {
        client.get(block * BLOCK, 512).unwrap();
    }
    rig.cache.maintain(std::time::Duration::from_millis(1));
    let used = rig.cache.stats().slots_used;
    assert!(used <= limit * 40 / 100, "{used} slots used of {limit}");
    assert!(used >= limit * 30 / 100, "{used} slots used of {limit}");
}

#[test]
fn volumes_share_slots_and_never_content() {
    let rig = Rig::new(limited(1 << 20), OriginSettings::new(IMAGE));
    let running: Vec<_> = (0..3)
        .map(|number| {
            let settings = OriginSettings::new(4 << 20);
            let violations = rig.violations.clone();
            let origin = OriginDouble::new(settings, violations, SharedPace::default());
            let mut expected = content(100 + number, 0, 4 << 20);
            origin.disk().fill(0, &expected);
            let volume = rig.cache.volume(&format!("volume {number}"));
            let connection = volume.connect(origin.connect() as _).unwrap();
            run(move || {
                let mut random = Random::new(number);
                for round in 0..300 {
                    let length = random.between(1, 100_000);
                    let offset = random.below((4 << 20) - length);
                    let range = offset as usize..(offset + length) as usize;
                    if random.chance(40) {
                        let data = content(1000 * number + round, offset, length as usize);
                        connection.write(offset, &data, false).unwrap();
                        expected[range].copy_from_slice(&data);
                    } else {
                        let mut found = vec![0; length as usize];
                        connection.read(offset, &mut found).unwrap();
                        assert!(found == expected[range], "volume {number}");
                    }
                }
                connection.disconnect().unwrap();
                assert!(origin.disk().current(0, 4 << 20) == expected);
            })
        })
        .collect();
    for one in running {
        one.finish();
    }
    assert!(rig.file.most_allocated_bytes() <= 1 << 20);
}
