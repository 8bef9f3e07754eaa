//! Bugs that were, about zeros and trims: none may come back.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use larder::{CacheOnRead, Config, ErrorKind, Mode, ZeroOptions};
use larder_testing::holds::only_first;
use larder_testing::rig::{Client, run};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn rig_of(size: u64, change: impl FnOnce(&mut Config)) -> Rig {
    let mut config = Config {
        cache_on_read: CacheOnRead::Always,
        ..Config::default()
    };
    change(&mut config);
    Rig::new(config, OriginSettings::new(size))
}

fn zero(client: &Client, offset: u64, length: u64) {
    let options = ZeroOptions::default();
    client
        .serve(|one| one.zero(offset, length, options))
        .unwrap();
}

#[test]
fn regression_trims_in_unsafe_mode_keep_few_ranges() {
    let rig = rig_of(1 << 30, |config| config.mode = Mode::Unsafe);
    let client = rig.client();
    client.put(0, &[5; BLOCK as usize]).unwrap();
    for sector in 0..40_000 {
        client
            .serve(|one| one.trim(sector * 1024, 512, false))
            .unwrap();
    }
    let kept = rig.cache.leftovers()[0].ranges.len();
    assert!(kept <= 20_000, "{kept} ranges kept");
    // A trim is advice only where it is not taken; what it does not cover stays.
    for sector in client.get(0, BLOCK as usize).unwrap().chunks(1024) {
        assert!(sector[..512] == [0; 512] && sector[512..] == [5; 512]);
    }
    client.put(39_999 * 1024, &[6; 1024]).unwrap();
    client
        .serve(|one| one.trim(39_999 * 1024, 512, false))
        .unwrap();
    assert!(client.get(39_999 * 1024 + 512, 512).unwrap() == [6; 512]);
    let extents = run(move || client.serve(|one| one.extents(0, 1 << 30, false)));
    assert!(!extents.finish().unwrap().is_empty());
}

#[test]
fn regression_a_zero_that_is_not_fast_hurts_nobody() {
    let not_fast = ZeroOptions {
        fua: true,
        fast: true,
        ..ZeroOptions::default()
    };
    for mode in [Mode::Writeback, Mode::Writethrough] {
        let rig = rig_of(IMAGE, |config| config.mode = mode);
        let mut expected = rig.fill(1, 0, 4 * BLOCK as usize);
        let [zeroing, flushing] = [(); 2].map(|()| rig.client());
        zeroing.get(0, 4 * BLOCK as usize).unwrap();
        flushing.put(3 * BLOCK, &[5; 4096]).unwrap();
        expected[3 * BLOCK as usize..][..4096].fill(5);
        rig.origin
            .fault(Fault::new(Kind::Zero, When::Always).errno(libc::ENOTSUP));
        let hold = rig.hold(only_first(|stop| {
            stop.is_origin(Kind::Flush, Phase::Before)
        }));
        let flush = run(move || flushing.flush());
        hold.wait_for(1);
        let refused = zeroing.serve(|one| one.zero(0, 2 * BLOCK, not_fast));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotSupported);
        hold.release();
        flush.finish().unwrap();
        let reads = rig.origin.calls().count(Kind::Read);
        assert!(zeroing.get(0, 4 * BLOCK as usize).unwrap() == expected);
        assert_eq!(rig.origin.calls().count(Kind::Read), reads, "{mode:?}");
        assert!(rig.durable(0, 4 * BLOCK as usize) == expected);
    }
}

#[test]
fn regression_a_flush_through_a_reader_sees_data_that_is_being_zeroed() {
    const ROUNDS: u64 = 300;
    let rig = rig_of(IMAGE, |_| {});
    let old = rig.fill(1, 0, ROUNDS as usize * BLOCK as usize);
    let writer = rig.client();
    let reader = rig.client_over(rig.origin.connect_read_only());
    assert!(reader.connection.multi_conn());
    let start = Arc::new(Barrier::new(2));
    let flushed = Arc::new(AtomicU64::new(0));
    let changing = run({
        let (writer, start, flushed) = (
            Arc::clone(&writer),
            Arc::clone(&start),
            Arc::clone(&flushed),
        );
        move || {
            for round in 0..ROUNDS {
                writer.put(round * BLOCK, &[7; 512]).unwrap();
                start.wait();
                while flushed.load(Ordering::SeqCst) == round {
                    zero(&writer, round * BLOCK, 512);
                    writer.put(round * BLOCK, &[7; 512]).unwrap();
                }
                // The next round's data is to be all there is to write back.
                writer.flush().unwrap();
            }
        }
    });
    for round in 0..ROUNDS {
        start.wait();
        let result = reader.flush();
        let durable = rig.durable(round * BLOCK, 512);
        flushed.store(round + 1, Ordering::SeqCst);
        result.unwrap();
        assert!(durable != old[(round * BLOCK) as usize..][..512], "{round}");
        assert!(durable == [7; 512] || durable == [0; 512], "{round}");
    }
    changing.finish();
}

#[test]
fn regression_zeros_over_cached_blocks_are_written_back_as_one() {
    let rig = rig_of(IMAGE * 4, |_| {});
    rig.fill(1, 0, IMAGE as usize * 4);
    let client = rig.client();
    for block in (0..4 * IMAGE / BLOCK).step_by(3) {
        client.get(block * BLOCK, 512).unwrap();
        client.put(block * BLOCK + 4096, &[5; 512]).unwrap();
    }
    zero(&client, BLOCK, 4 * IMAGE - 2 * BLOCK);
    client.flush().unwrap();
    let calls = rig.origin.calls().count(Kind::Zero);
    assert!(calls <= 4, "{calls} zeros");
    assert_eq!(rig.origin.calls().count(Kind::Write), 1);
    let zeroed = rig.durable(BLOCK, (4 * IMAGE - 2 * BLOCK) as usize);
    assert!(zeroed.iter().all(|byte| *byte == 0));
    assert!(rig.durable(4096, 512) == [5; 512]);
}

#[test]
fn regression_zeros_over_millions_of_blocks_are_written_back_around_data_at_once() {
    let rig = rig_of(1 << 42, |config| config.block_bytes = 4096);
    let client = rig.client();
    let start = 1 << 40;
    let length = 1 << 37;
    let places = [start, start + length / 2 + 512, start + length - 512];
    let zeroing = run({
        let client = Arc::clone(&client);
        move || zero(&client, start, length)
    });
    zeroing.finish();
    for place in places {
        client.put(place, &[5; 512]).unwrap();
    }
    let flushing = run({
        let client = Arc::clone(&client);
        move || client.flush()
    });
    flushing.finish().unwrap();
    let calls = rig.origin.calls().count(Kind::Zero);
    assert!(calls <= 160, "{calls} zeros");
    for place in places {
        assert!(rig.durable(place, 512) == [5; 512]);
    }
    assert!(rig.durable(start + 512, 4096) == [0; 4096]);
}

#[test]
fn regression_what_turns_from_zeros_into_data_during_a_flush_is_written_back_as_either() {
    for is_zero_first in [true, false] {
        let mut settings = OriginSettings::new(IMAGE);
        // One request at a time, in order: the second range is yet to be sent.
        settings.capabilities.parallel = false;
        let rig = Rig::new(Config::default(), settings);
        let old = rig.fill(1, 0, 4 * BLOCK as usize);
        let client = rig.client();
        let change = |is_zero: bool, offset| match is_zero {
            true => zero(&client, offset, BLOCK),
            false => client.put(offset, &[7; BLOCK as usize]).unwrap(),
        };
        change(is_zero_first, 0);
        change(is_zero_first, 2 * BLOCK);
        let hold = rig.hold(only_first(|stop| {
            stop.kind.changes() && stop.phase == Phase::Before && stop.offset == 0
        }));
        let flush = run({
            let client = Arc::clone(&client);
            move || client.flush()
        });
        hold.wait_for(1);
        change(!is_zero_first, 2 * BLOCK);
        hold.release();
        flush.finish().unwrap();
        let durable = rig.durable(2 * BLOCK, BLOCK as usize);
        assert!(durable != old[2 * BLOCK as usize..][..BLOCK as usize]);
        assert!(durable.iter().all(|byte| *byte == durable[0]));
    }
}
