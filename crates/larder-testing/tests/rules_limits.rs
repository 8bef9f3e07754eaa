//! Rules about what an origin is asked: its minimum and maximum, its size, its thread model, and
//! how many requests a writeback takes.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use larder::{CacheOnRead, Config, ErrorKind, Mode, RequestLimits, ZeroOptions};
use larder_testing::log::Level;
use larder_testing::random::{Random, content};
use larder_testing::rig::run;
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn rig_with(change: impl FnOnce(&mut Config, &mut OriginSettings)) -> Rig {
    let mut config = Config {
        cache_on_read: CacheOnRead::Always,
        ..Config::default()
    };
    let mut settings = OriginSettings::new(IMAGE);
    change(&mut config, &mut settings);
    Rig::new(config, settings)
}

#[test]
fn origin_minimum_and_maximum_respected() {
    for (minimum, maximum) in [
        (512, 8192),
        (4096, 4096),
        (4096, 64 << 10),
        (65536, 1 << 20),
    ] {
        for mode in [Mode::Writeback, Mode::Writethrough, Mode::Unsafe] {
            let rig = rig_with(|config, settings| {
                config.mode = mode;
                config.max_size_bytes = Some(1 << 20);
                if maximum > 8192 {
                    config.cache_on_read = CacheOnRead::Never;
                }
                settings.size = IMAGE + 777;
                settings.limits = RequestLimits {
                    minimum,
                    preferred: minimum,
                    maximum,
                };
            });
            let client = rig.client();
            let mut expected = rig.fill(1, 0, IMAGE as usize + 777);
            let mut random = Random::new(u64::from(minimum));
            for round in 0..60 {
                let length = random.between(1, 200_000);
                let offset = random.below(IMAGE + 778 - length);
                let range = offset as usize..(offset + length) as usize;
                match random.below(3) {
                    0 => {
                        let found = client.get(offset, length as usize).unwrap();
                        assert!(found == expected[range], "{minimum} {maximum} {mode:?}");
                    }
                    1 => {
                        let data = content(round, offset, length as usize);
                        let fua = random.chance(20);
                        client.serve(|one| one.write(offset, &data, fua)).unwrap();
                        expected[range].copy_from_slice(&data);
                    }
                    _ => {
                        let zeros = ZeroOptions::default();
                        client.serve(|one| one.zero(offset, length, zeros)).unwrap();
                        expected[range].fill(0);
                    }
                }
            }
            client.flush().unwrap();
            assert!(client.get(0, expected.len()).unwrap() == expected);
            // The doubles check every request against the limits.
            rig.violations.assert_none();
        }
    }
}

#[test]
fn an_origin_whose_minimum_is_larger_than_a_block_is_refused_with_a_reason() {
    let rig = rig_with(|config, _| config.block_bytes = 4096);
    let origin = rig.origin.connect_as(|terms| {
        terms.limits.minimum = 8192;
        terms.limits.preferred = 8192;
    });
    let Err(error) = rig.volume.connect(origin as _) else {
        panic!("accepted");
    };
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("8192"), "{error}");
}

#[test]
fn multi_block_joined_writeback() {
    let rig = rig_with(|_, _| {});
    let client = rig.client();
    for block in (0..256).rev() {
        let offset = block * BLOCK;
        client
            .put(offset, &content(2, offset, BLOCK as usize))
            .unwrap();
    }
    client.flush().unwrap();
    let calls = rig.origin.calls().count(Kind::Write);
    assert!(calls <= 32, "{calls} writes for 16 MiB");
    assert_eq!(rig.origin.calls().count(Kind::Flush), 1);
    assert!(rig.durable(0, 16 << 20) == content(2, 0, 16 << 20));
}

#[test]
fn writebacks_overlap_where_the_origin_is_parallel_and_only_there() {
    for parallel in [true, false] {
        let rig = rig_with(|_, settings| {
            settings.capabilities.parallel = parallel;
            settings.limits.maximum = 1 << 20;
        });
        let client = rig.client();
        for block in 0..64 {
            client.put(block * BLOCK, &[5; BLOCK as usize]).unwrap();
        }
        let hold = rig.hold_origin(Kind::Write, Phase::Before);
        let flush = run(move || client.flush());
        hold.wait_for(if parallel { 4 } else { 1 });
        if !parallel {
            flush.give_a_chance();
            assert_eq!(hold.held(), 1);
        }
        hold.release();
        flush.finish().unwrap();
    }
}

#[test]
fn a_writeback_goes_in_origin_order() {
    let rig = rig_with(|_, settings| settings.capabilities.parallel = false);
    let client = rig.client();
    for block in [50, 3, 200, 77, 4] {
        client.put(block * BLOCK, &[5; 512]).unwrap();
    }
    client.flush().unwrap();
    let offsets: Vec<u64> = rig
        .origin
        .calls()
        .ranges(Kind::Write)
        .iter()
        .map(|range| range.0 / BLOCK)
        .collect();
    assert_eq!(offsets, [3, 4, 50, 77, 200]);
}

#[test]
fn a_tail_that_no_unit_divides_is_served() {
    for mode in [Mode::Writeback, Mode::Writethrough, Mode::Unsafe] {
        let rig = rig_with(|config, settings| {
            config.mode = mode;
            settings.size = IMAGE + 1;
        });
        let client = rig.client();
        rig.fill(1, IMAGE - 5, 6);
        assert!(client.get(IMAGE - 5, 6).unwrap() == content(1, IMAGE - 5, 6));
        client.put(IMAGE, &[7]).unwrap();
        assert!(client.get(IMAGE, 1).unwrap() == [7]);
        client.flush().unwrap();
        assert!(mode == Mode::Unsafe || rig.durable(IMAGE, 1) == [7]);
        let past = client.get(IMAGE, 2).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::OutOfRange);
        assert_eq!(
            client.put(IMAGE + 1, &[7]).unwrap_err().kind(),
            ErrorKind::OutOfRange
        );
    }
}

#[test]
fn an_origin_of_exbibytes_is_cached() {
    let size = 1 << 62;
    let rig = rig_with(|config, settings| {
        config.max_size_bytes = Some(1 << 20);
        settings.size = size;
    });
    let client = rig.client();
    for offset in [0, 1 << 40, (1 << 61) + 333, size - 5000] {
        client.put(offset, &content(2, offset, 5000)).unwrap();
    }
    for offset in [0, 1 << 40, (1 << 61) + 333, size - 5000] {
        assert!(client.get(offset, 5000).unwrap() == content(2, offset, 5000));
    }
    client.flush().unwrap();
    assert!(rig.durable(size - 5000, 5000) == content(2, size - 5000, 5000));
    assert!(rig.file.most_allocated_bytes() <= 1 << 20);
}

#[test]
fn size_shrink_reports_ranges() {
    let rig = rig_with(|_, _| {});
    let client = rig.client();
    client.put(1 << 20, &[5; 4096]).unwrap();
    client.put(8 << 20, &[6; 4096]).unwrap();
    rig.origin.fault(Fault::new(Kind::Write, When::Always));
    client.leave().unwrap_err();
    rig.origin.heal();
    let before = rig.log.messages(Level::Error).len();
    let small = rig.client_over(rig.origin.connect_as(|terms| terms.size = 4 << 20));
    let said = rig.log.messages(Level::Error)[before..].join("\n");
    assert!(said.contains("8388608") && said.contains("4096"), "{said}");
    assert_eq!(small.connection.size(), 4 << 20);
    assert!(small.get(1 << 20, 4096).unwrap() == [5; 4096]);
    small.leave().unwrap();
    assert!(rig.on_origin(1 << 20, 4096) == [5; 4096]);
    assert!(rig.cache.leftovers().is_empty());
}

#[test]
fn a_grown_origin_shows_what_it_has_beyond_the_old_end() {
    let rig = rig_with(|_, _| {});
    let small_size = (1 << 20) + 100;
    rig.fill(1, 1 << 20, 8192);
    let small = rig.client_over(rig.origin.connect_as(|terms| terms.size = small_size));
    small.get(1 << 20, 100).unwrap();
    small.put(1 << 20, &[5; 50]).unwrap();
    small.leave().unwrap();
    let large = rig.client();
    let mut expected = content(1, 1 << 20, 8192);
    expected[..50].fill(5);
    assert!(large.get(1 << 20, 8192).unwrap() == expected);
}
