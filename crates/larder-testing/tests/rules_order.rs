//! Rules about order: what reaches the origin when two want to change it, and what a writeback
//! takes with it.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{CacheOnRead, Config, Mode, ZeroOptions};
use larder_testing::holds::only_first;
use larder_testing::pace::Side;
use larder_testing::random::content;
use larder_testing::rig::run;
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn rig(mode: Mode) -> Rig {
    let config = Config {
        mode,
        cache_on_read: CacheOnRead::Always,
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(IMAGE))
}

#[test]
fn writes_of_one_range_wait_for_each_other_and_the_cache_agrees_with_the_origin() {
    let rig = rig(Mode::Writethrough);
    let (first, second) = (rig.client(), rig.client());
    let reader = rig.client();
    reader.get(0, 4096).unwrap();
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Write, Phase::After)));
    let one = run(move || first.put(0, &content(2, 0, 4096)));
    hold.wait_for(1);
    let two = run(move || second.put(0, &content(3, 0, 4096)));
    two.assert_waits();
    hold.release();
    one.finish().unwrap();
    two.finish().unwrap();
    assert!(rig.on_origin(0, 4096) == content(3, 0, 4096));
    assert!(reader.get(0, 4096).unwrap() == content(3, 0, 4096));
}

#[test]
fn changes_of_different_ranges_do_not_wait_for_each_other() {
    let rig = rig(Mode::Writethrough);
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let writers: Vec<_> = (0..4)
        .map(|sector| {
            let client = rig.client();
            run(move || client.put(sector * 512, &[5; 512]))
        })
        .collect();
    hold.wait_for(4);
    hold.release();
    for writer in writers {
        writer.finish().unwrap();
    }
}

#[test]
fn a_trim_and_a_zero_wait_for_a_write_of_their_range() {
    let rig = rig(Mode::Writethrough);
    let [writer, trimmer, zeroer] = [(); 3].map(|()| rig.client());
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let writing = run(move || writer.put(0, &[5; 8192]));
    hold.wait_for(1);
    let trimming = run(move || trimmer.serve(|one| one.trim(0, 4096, false)));
    let zeroing = run(move || zeroer.serve(|one| one.zero(4096, 4096, ZeroOptions::default())));
    trimming.assert_waits();
    zeroing.assert_waits();
    hold.release();
    writing.finish().unwrap();
    trimming.finish().unwrap();
    zeroing.finish().unwrap();
    assert!(rig.on_origin(4096, 4096) == [0; 4096]);
}

#[test]
fn an_old_writeback_never_lands_after_a_newer_one() {
    let rig = rig(Mode::Writeback);
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 4096)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let old_flush = run({
        let first = Arc::clone(&first);
        move || first.flush()
    });
    hold.wait_for(1);
    second.put(0, &content(3, 0, 4096)).unwrap();
    let new_flush = run(move || second.flush());
    new_flush.assert_waits();
    hold.release();
    old_flush.finish().unwrap();
    new_flush.finish().unwrap();
    assert!(rig.durable(0, 4096) == content(3, 0, 4096));
}

#[test]
fn fua_does_not_overtake_a_writeback_of_its_range() {
    let rig = rig(Mode::Writeback);
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 4096)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    let fua = run(move || second.serve(|one| one.write(0, &content(3, 0, 4096), true)));
    fua.assert_waits();
    hold.release();
    flush.finish().unwrap();
    fua.finish().unwrap();
    assert!(rig.durable(0, 4096) == content(3, 0, 4096));
    let reader = rig.client();
    assert!(reader.get(0, 4096).unwrap() == content(3, 0, 4096));
}

#[test]
fn writeback_clears_only_what_it_took() {
    for phase in [Phase::Before, Phase::After] {
        let rig = rig(Mode::Writeback);
        let [first, second] = [(); 2].map(|()| rig.client());
        first.put(0, &content(2, 0, 8192)).unwrap();
        let hold = rig.hold(only_first(move |stop| stop.is_origin(Kind::Write, phase)));
        let flush = run({
            let first = Arc::clone(&first);
            move || first.flush()
        });
        hold.wait_for(1);
        second.put(1024, &content(3, 1024, 512)).unwrap();
        hold.release();
        flush.finish().unwrap();
        assert_eq!(rig.cache.stats().dirty_bytes, 512);
        let mut expected = content(2, 0, 8192);
        expected[1024..1536].copy_from_slice(&content(3, 1024, 512));
        assert!(first.get(0, 8192).unwrap() == expected);
        first.flush().unwrap();
        assert!(rig.durable(0, 8192) == expected);
        assert_eq!(rig.cache.stats().dirty_bytes, 0);
    }
}

#[test]
fn a_sector_rewritten_during_the_origin_flush_stays_dirty() {
    let rig = rig(Mode::Writeback);
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 4096)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    second.put(0, &content(3, 0, 4096)).unwrap();
    hold.release();
    flush.finish().unwrap();
    assert_eq!(rig.cache.stats().dirty_bytes, 4096);
    second.flush().unwrap();
    assert!(rig.durable(0, 4096) == content(3, 0, 4096));
}

#[test]
fn writeback_sends_a_stable_copy() {
    let rig = rig(Mode::Writeback);
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, BLOCK as usize)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    second.put(0, &content(3, 0, BLOCK as usize)).unwrap();
    hold.release();
    flush.finish().unwrap();
    assert!(rig.durable(0, BLOCK as usize) == content(2, 0, BLOCK as usize));
}

#[test]
fn a_zero_that_meets_a_writeback_in_flight_wins() {
    let rig = rig(Mode::Writeback);
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 8192)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    let zeroed = second.serve(|one| one.zero(0, 4096, ZeroOptions::default()));
    zeroed.unwrap();
    hold.release();
    flush.finish().unwrap();
    assert!(second.get(0, 4096).unwrap() == [0; 4096]);
    second.flush().unwrap();
    assert!(rig.durable(0, 4096) == [0; 4096]);
    assert!(rig.durable(4096, 4096) == content(2, 4096, 4096));
}

#[test]
fn a_failed_writeback_beside_a_rewrite_keeps_the_newer_data() {
    let rig = rig(Mode::Writeback);
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 8192)).unwrap();
    rig.origin.fault(Fault::new(Kind::Write, When::Nth(1)));
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Write, Phase::After)));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    second.put(0, &content(3, 0, 4096)).unwrap();
    hold.release();
    flush.finish().unwrap_err();
    let mut expected = content(2, 0, 8192);
    expected[..4096].copy_from_slice(&content(3, 0, 4096));
    assert!(second.get(0, 8192).unwrap() == expected);
    second.flush().unwrap();
    assert!(rig.durable(0, 8192) == expected);
}

#[test]
fn a_hit_that_meets_a_write_of_its_slot_is_old_or_new() {
    for phase in [Phase::Before, Phase::After] {
        let rig = rig(Mode::Writeback);
        let [reader, writer] = [(); 2].map(|()| rig.client());
        reader.put(0, &[2; 4096]).unwrap();
        let hold = rig.hold(only_first(move |stop| {
            stop.side == Side::CacheFile && stop.kind == Kind::Read && stop.phase == phase
        }));
        let reading = run(move || reader.get(0, 4096));
        hold.wait_for(1);
        let writing = run(move || writer.put(0, &[3; 4096]));
        writing.give_a_chance();
        hold.release();
        let found = reading.finish().unwrap();
        assert!(found == [2; 4096] || found == [3; 4096]);
        writing.finish().unwrap();
    }
}
