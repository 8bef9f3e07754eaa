//! Rules about block status: it tells the truth, whatever runs beside it.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use larder::{CacheOnRead, Config, Extent, Mode, ZeroOptions};
use larder_testing::holds::only_first;
use larder_testing::rig::{Client, run};
use larder_testing::{Kind, OriginSettings, Phase, Rig};

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

fn rig() -> Rig {
    rig_with(|_, _| {})
}

fn extents(client: &Client, offset: u64, length: u64) -> Vec<Extent> {
    client
        .serve(|one| one.extents(offset, length, false))
        .unwrap()
}

/// Length, hole and zero of runs that are alike.
fn joined(extents: &[Extent]) -> Vec<(u64, bool, bool)> {
    let mut joined: Vec<(u64, bool, bool)> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last) if (last.1, last.2) == (extent.hole, extent.zero) => {
                last.0 += extent.length;
            }
            _ => joined.push((extent.length, extent.hole, extent.zero)),
        }
    }
    joined
}

#[test]
fn dirty_data_over_a_hole_is_data() {
    let rig = rig();
    let client = rig.client();
    client.put(BLOCK, &[5; 4096]).unwrap();
    let found = joined(&extents(&client, 0, 4 * BLOCK));
    let hole = |length| (length, true, true);
    assert_eq!(
        found,
        [hole(BLOCK), (4096, false, false), hole(3 * BLOCK - 4096)]
    );
}

#[test]
fn cached_zeros_over_data_are_zero() {
    let rig = rig();
    rig.fill(1, 0, 4 * BLOCK as usize);
    let client = rig.client();
    let options = ZeroOptions::default();
    client.serve(|one| one.zero(BLOCK, BLOCK, options)).unwrap();
    let found = joined(&extents(&client, 0, 4 * BLOCK));
    let data = |length| (length, false, false);
    assert_eq!(found, [data(BLOCK), (BLOCK, false, true), data(2 * BLOCK)]);
}

#[test]
fn clean_data_is_the_origins_answer() {
    let rig = rig();
    rig.fill(1, BLOCK, BLOCK as usize);
    let client = rig.client();
    client.get(0, 4 * BLOCK as usize).unwrap();
    let found = joined(&extents(&client, 0, 4 * BLOCK));
    let hole = |length| (length, true, true);
    assert_eq!(found, [hole(BLOCK), (BLOCK, false, false), hole(2 * BLOCK)]);
}

#[test]
fn extents_snapshot_before_origin() {
    for max_size_bytes in [None, Some(1 << 20)] {
        let rig = rig_with(|config, _| config.max_size_bytes = max_size_bytes);
        let [first, second] = [(); 2].map(|()| rig.client());
        first.put(BLOCK, &[5; 4096]).unwrap();
        let hold = rig.hold(only_first(|stop| {
            stop.is_origin(Kind::Extents, Phase::After)
        }));
        let status = run(move || extents(&first, 0, 4 * BLOCK));
        hold.wait_for(1);
        second.flush().unwrap();
        for block in 100..140 {
            second.get(block * BLOCK, 512).unwrap();
        }
        hold.release();
        let mut at = 0;
        for extent in status.finish() {
            let beside = at + extent.length <= BLOCK || at >= BLOCK + 4096;
            assert!(
                beside || !(extent.zero || extent.hole),
                "at {at}: {extent:?}"
            );
            at += extent.length;
        }
    }
}

#[test]
fn extents_keep_to_the_range_and_to_one() {
    let rig = rig();
    let client = rig.client();
    client.put(1000, &[5; 500]).unwrap();
    for (offset, length) in [(0, 1), (1200, 5000), (700, 100_000), (IMAGE - 5, 5)] {
        let all = extents(&client, offset, length);
        let total: u64 = all.iter().map(|extent| extent.length).sum();
        assert!(total > 0 && total <= length, "{offset}+{length}: {all:?}");
        let one = client
            .serve(|one| one.extents(offset, length, true))
            .unwrap();
        assert_eq!(one.len(), 1);
        assert!(one[0].length <= length);
        assert_eq!(one[0].zero, all[0].zero);
    }
}

#[test]
fn an_origin_without_extents_has_only_data_and_cached_zeros() {
    let rig = rig_with(|_, settings| settings.capabilities.extents = false);
    let client = rig.client();
    let options = ZeroOptions::default();
    client.serve(|one| one.zero(0, BLOCK, options)).unwrap();
    let found = joined(&extents(&client, 0, 2 * BLOCK));
    assert_eq!(found, [(BLOCK, false, true), (BLOCK, false, false)]);
}

#[test]
fn a_copy_by_extents_is_exact() {
    for mode in [Mode::Writeback, Mode::Writethrough, Mode::Unsafe] {
        let rig = rig_with(|config, _| config.mode = mode);
        rig.fill(1, 3 * BLOCK, 5 * BLOCK as usize);
        let client = rig.client();
        client.put(1000, &[5; 500]).unwrap();
        let options = ZeroOptions::default();
        client
            .serve(|one| one.zero(4 * BLOCK + 700, BLOCK, options))
            .unwrap();
        let mut copy = vec![0; 10 * BLOCK as usize];
        let mut at = 0;
        while at < copy.len() as u64 {
            for extent in extents(&client, at, copy.len() as u64 - at) {
                let length = extent.length as usize;
                if !extent.zero {
                    let data = client.get(at, length).unwrap();
                    copy[at as usize..at as usize + length].copy_from_slice(&data);
                }
                at += extent.length;
            }
        }
        assert!(client.get(0, copy.len()).unwrap() == copy, "{mode:?}");
    }
}
