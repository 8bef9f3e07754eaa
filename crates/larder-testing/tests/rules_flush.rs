//! Rules about durability: what a flush and FUA promise, shown by crashing the origin.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder::{CacheOnRead, Config, ErrorKind, Fua, ZeroOptions};
use larder_testing::fault::Happens;
use larder_testing::holds::only_first;
use larder_testing::random::content;
use larder_testing::rig::run;
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn config() -> Config {
    Config {
        cache_on_read: CacheOnRead::Always,
        max_size_bytes: Some(1 << 20),
        ..Config::default()
    }
}

fn rig() -> Rig {
    Rig::new(config(), OriginSettings::new(IMAGE))
}

fn rig_with(change: impl FnOnce(&mut OriginSettings)) -> Rig {
    let mut settings = OriginSettings::new(IMAGE);
    change(&mut settings);
    Rig::new(config(), settings)
}

#[test]
fn a_write_is_acknowledged_from_the_cache_and_durable_after_a_flush() {
    let rig = rig();
    let client = rig.client();
    client.put(700, &content(2, 700, 100_000)).unwrap();
    assert_eq!(rig.origin.calls().count(Kind::Write), 0);
    client.flush().unwrap();
    rig.origin.disk().crash(None);
    assert!(rig.durable(700, 100_000) == content(2, 700, 100_000));
}

#[test]
fn a_flush_covers_every_connection_whether_multi_conn_or_not() {
    for multi_conn in [true, false] {
        let rig = rig_with(|settings| settings.capabilities.multi_conn = multi_conn);
        let [first, second] = [(); 2].map(|()| rig.client());
        first.put(0, &content(2, 0, 4096)).unwrap();
        second.flush().unwrap();
        assert!(rig.durable(0, 4096) == content(2, 0, 4096));
        first
            .serve(|one| one.write(8192, &[7; 4096], false))
            .unwrap();
        first.leave().unwrap();
        second.flush().unwrap();
        assert!(rig.durable(8192, 4096) == [7; 4096]);
    }
}

#[test]
fn written_is_not_evicted_before_the_origin_flush() {
    let rig = rig();
    let [writer, reader] = [(); 2].map(|()| rig.client());
    for block in 0..8 {
        let offset = block * BLOCK;
        writer
            .put(offset, &content(2, offset, BLOCK as usize))
            .unwrap();
    }
    rig.origin.fault(Fault::new(Kind::Flush, When::Nth(1)));
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Flush, Phase::After)));
    let flush = run({
        let writer = Arc::clone(&writer);
        move || writer.flush()
    });
    hold.wait_for(1);
    // Reads that want the whole cache, while everything written waits for its flush.
    let reading =
        run(move || (100..140).try_for_each(|block| reader.get(block * BLOCK, 4096).map(drop)));
    reading.give_a_chance();
    hold.release();
    flush.finish().unwrap_err();
    reading.finish().unwrap();
    writer.flush().unwrap();
    assert!(rig.durable(0, 8 * BLOCK as usize) == content(2, 0, 8 * BLOCK as usize));
}

#[test]
fn written_is_not_clean_until_origin_flush() {
    let rig = rig();
    let client = rig.client();
    client.put(0, &content(2, 0, 4096)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let flush = run({
        let client = Arc::clone(&client);
        move || client.flush()
    });
    hold.wait_for(1);
    assert!(rig.on_origin(0, 4096) == content(2, 0, 4096));
    rig.origin.disk().crash(None);
    hold.release();
    flush.finish().unwrap_err();
    rig.origin.disk().restart();
    client.flush().unwrap();
    assert!(rig.durable(0, 4096) == content(2, 0, 4096));
}

#[test]
fn failed_origin_flush_makes_dirty_again() {
    let rig = rig();
    let client = rig.client();
    client.put(0, &content(2, 0, 4096)).unwrap();
    let zeroed = client.serve(|one| one.zero(BLOCK, BLOCK, ZeroOptions::default()));
    zeroed.unwrap();
    rig.fill(1, BLOCK, BLOCK as usize);
    rig.origin
        .fault(Fault::new(Kind::Flush, When::Nth(1)).errno(libc::EREMOTEIO));
    let error = client.flush().unwrap_err();
    assert_eq!(error.errno(), libc::EREMOTEIO);
    assert!(rig.cache.stats().dirty_bytes >= 4096);
    client.flush().unwrap();
    assert!(rig.durable(0, 4096) == content(2, 0, 4096));
    assert!(rig.durable(BLOCK, BLOCK as usize) == vec![0; BLOCK as usize]);
}

#[test]
fn failed_writeback_keeps_the_data_and_fails_the_flush() {
    for happens in [Happens::Nothing, Happens::Half, Happens::Everything] {
        let rig = rig();
        let client = rig.client();
        client.put(0, &content(2, 0, 100_000)).unwrap();
        rig.origin.fault(
            Fault::new(Kind::Write, When::Always)
                .errno(libc::EREMOTEIO)
                .happens(happens),
        );
        let error = client.flush().unwrap_err();
        assert_eq!(
            (error.kind(), error.errno()),
            (ErrorKind::Origin, libc::EREMOTEIO)
        );
        assert!(client.get(0, 100_000).unwrap() == content(2, 0, 100_000));
        assert!(rig.cache.stats().writeback_errors > 0);
        rig.origin.heal();
        client.flush().unwrap();
        assert!(rig.durable(0, 100_000) == content(2, 0, 100_000));
    }
}

#[test]
fn one_failed_request_of_a_writeback_does_not_lose_the_others() {
    let rig = rig_with(|settings| settings.limits.maximum = 64 << 10);
    let client = rig.client();
    client.put(0, &content(2, 0, 8 * BLOCK as usize)).unwrap();
    rig.origin.fault(Fault::new(Kind::Write, When::Nth(3)));
    client.flush().unwrap_err();
    client.flush().unwrap();
    assert!(rig.durable(0, 8 * BLOCK as usize) == content(2, 0, 8 * BLOCK as usize));
}

/// So many blocks, none beside another, so that each is a request.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|number| number * 2 * BLOCK)
}

#[test]
fn regression_a_silent_origin_is_not_asked_for_every_request_of_a_pass() {
    const BLOCKS: u64 = 150;
    let rig = Rig::new(
        Config {
            max_size_bytes: None,
            ..config()
        },
        OriginSettings::new(IMAGE),
    );
    let client = rig.client();
    for offset in scattered(BLOCKS) {
        client.put(offset, &content(2, offset, 4096)).unwrap();
    }
    rig.origin
        .fault(Fault::new(Kind::Write, When::Always).silence());
    let error = client.flush().unwrap_err();
    assert_eq!(error.errno(), libc::EIO);
    // As many as are in flight at a time, and not even a flush.
    let calls = rig.origin.calls();
    assert!(
        calls.count(Kind::Write) <= 16,
        "{}",
        calls.count(Kind::Write)
    );
    assert_eq!(calls.count(Kind::Flush), 0);
    rig.origin.heal();
    client.flush().unwrap();
    for offset in scattered(BLOCKS) {
        assert!(rig.durable(offset, 4096) == content(2, offset, 4096));
    }
}

#[test]
fn flushes_that_wait_behind_a_silent_origin_fail_together() {
    let rig = rig();
    let clients = [(); 9].map(|()| rig.client());
    clients[0].put(0, &content(2, 0, 4096)).unwrap();
    rig.origin
        .fault(Fault::new(Kind::Write, When::Always).silence());
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let mut flushes = clients.iter().map(|client| {
        let client = Arc::clone(client);
        run(move || client.flush())
    });
    let first = flushes.next().unwrap();
    hold.wait_for(1);
    let others: Vec<_> = flushes.collect();
    for other in &others {
        other.assert_waits();
    }
    hold.release();
    for flush in std::iter::once(first).chain(others) {
        assert_eq!(flush.finish().unwrap_err().errno(), libc::EIO);
    }
    // That of the first, and one for all others.
    assert_eq!(rig.origin.calls().count(Kind::Write), 2);
    rig.origin.heal();
    clients[8].flush().unwrap();
    assert!(rig.durable(0, 4096) == content(2, 0, 4096));
}

#[test]
fn one_place_without_an_answer_keeps_only_itself() {
    const BLOCKS: u64 = 100;
    let rig = Rig::new(
        Config {
            max_size_bytes: None,
            ..config()
        },
        OriginSettings::new(IMAGE),
    );
    let client = rig.client();
    for offset in scattered(BLOCKS) {
        client.put(offset, &content(2, offset, 4096)).unwrap();
    }
    rig.origin
        .fault(Fault::new(Kind::Write, When::Meets(0, 4096)).silence());
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before) && stop.meets(0, 4096)
    }));
    let flush = run({
        let client = Arc::clone(&client);
        move || client.flush()
    });
    hold.wait_for(1);
    // More than are in flight at a time: others have been answered.
    while rig.origin.calls().count(Kind::Write) < 40 {
        std::thread::yield_now();
    }
    hold.release();
    flush.finish().unwrap_err();
    for offset in scattered(BLOCKS).skip(1) {
        assert!(rig.durable(offset, 4096) == content(2, offset, 4096));
    }
    rig.origin.heal();
    client.flush().unwrap();
    assert!(rig.durable(0, 4096) == content(2, 0, 4096));
}

#[test]
fn flush_waits_for_writebacks_in_flight_and_takes_their_errors() {
    let rig = rig();
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 4096)).unwrap();
    rig.origin.fault(Fault::new(Kind::Write, When::Always));
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let one = run(move || first.flush());
    hold.wait_for(1);
    let two = run({
        let second = Arc::clone(&second);
        move || second.flush()
    });
    two.assert_waits();
    hold.release();
    one.finish().unwrap_err();
    two.finish().unwrap_err();
    rig.origin.heal();
    second.flush().unwrap();
    assert!(rig.durable(0, 4096) == content(2, 0, 4096));
}

#[test]
fn flush_covers_what_was_acknowledged_while_another_ran() {
    let rig = rig();
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &content(2, 0, 4096)).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let one = run(move || first.flush());
    hold.wait_for(1);
    second.put(BLOCK, &content(3, BLOCK, 4096)).unwrap();
    let two = run(move || second.flush());
    two.assert_waits();
    hold.release();
    one.finish().unwrap();
    two.finish().unwrap();
    assert!(rig.durable(BLOCK, 4096) == content(3, BLOCK, 4096));
}

#[test]
fn a_flush_with_nothing_dirty_still_flushes_what_was_written_with_it() {
    let rig = rig();
    let client = rig.client();
    client.put(0, &[1; 4096]).unwrap();
    client.flush().unwrap();
    let flushes = rig.origin.calls().count(Kind::Flush);
    assert_eq!(flushes, 1);
    client.flush().unwrap();
    assert!(rig.durable(0, 4096) == [1; 4096]);
}

#[test]
fn an_origin_without_flush_gets_everything_written_back_by_a_flush() {
    let rig = rig_with(|settings| {
        settings.capabilities.flush = false;
        settings.capabilities.fua = Fua::None;
    });
    let client = rig.client();
    client.put(0, &content(2, 0, 4096)).unwrap();
    client.flush().unwrap();
    assert!(rig.durable(0, 4096) == content(2, 0, 4096));
    assert_eq!(rig.cache.stats().dirty_bytes, 0);
}

#[test]
fn fua_is_durable() {
    for fua in [Fua::None, Fua::Emulated, Fua::Native] {
        for multi_conn in [true, false] {
            let rig = rig_with(|settings| {
                settings.capabilities.fua = fua;
                settings.capabilities.multi_conn = multi_conn;
            });
            let client = rig.client();
            client.put(0, &content(2, 0, 10_000)).unwrap();
            let write = |one: &larder::Connection| one.write(700, &content(3, 700, 5000), true);
            client.serve(write).unwrap();
            let zeros = ZeroOptions {
                fua: true,
                ..ZeroOptions::default()
            };
            rig.fill(1, BLOCK, BLOCK as usize);
            client.serve(|one| one.zero(BLOCK, 5000, zeros)).unwrap();
            rig.origin.disk().crash(None);
            assert!(rig.durable(700, 5000) == content(3, 700, 5000), "{fua:?}");
            assert!(rig.durable(BLOCK, 5000) == [0; 5000], "{fua:?}");
        }
    }
}

#[test]
fn failed_fua_not_pretended() {
    for happens in [Happens::Nothing, Happens::Half, Happens::Everything] {
        for kind in [Kind::Write, Kind::Flush] {
            let rig = rig_with(|settings| settings.capabilities.fua = Fua::None);
            rig.fill(1, 0, 8192);
            let client = rig.client();
            client.get(0, 8192).unwrap();
            rig.origin
                .fault(Fault::new(kind, When::Nth(1)).happens(happens));
            let written = client.serve(|one| one.write(0, &[5; 4096], true));
            written.unwrap_err();
            // Whatever the origin made of it, the cache says the same, now and after a flush.
            let seen = client.get(0, 8192).unwrap();
            assert!(seen == rig.on_origin(0, 8192) || kind == Kind::Flush);
            client.flush().unwrap();
            assert!(client.get(0, 8192).unwrap() == rig.on_origin(0, 8192));
        }
    }
}

#[test]
fn failed_fua_over_dirty_data_loses_nothing_beside_it() {
    for happens in [Happens::Nothing, Happens::Half, Happens::Everything] {
        let rig = rig();
        let client = rig.client();
        client.put(0, &content(2, 0, 8192)).unwrap();
        rig.origin
            .fault(Fault::new(Kind::Write, When::Always).happens(happens));
        let written = client.serve(|one| one.write(1000, &[5; 2000], true));
        written.unwrap_err();
        rig.origin.heal();
        client.flush().unwrap();
        let durable = rig.durable(0, 8192);
        assert!(durable == client.get(0, 8192).unwrap());
        let old = content(2, 0, 8192);
        assert!(durable[..1000] == old[..1000] && durable[3000..] == old[3000..]);
        let either = |at: usize| durable[at] == 5 || durable[at] == old[at];
        assert!((1000..3000).all(either));
    }
}

#[test]
fn fua_into_a_part_of_a_zeroed_or_dirty_sector_is_kept() {
    let rig = rig();
    rig.fill(1, 0, 8192);
    let client = rig.client();
    let zeroed = client.serve(|one| one.zero(0, 4096, ZeroOptions::default()));
    zeroed.unwrap();
    client.put(4096, &[2; 4096]).unwrap();
    let mut expected = [[0; 4096], [2; 4096]].concat();
    for offset in [700, 5000] {
        let written = client.serve(|one| one.write(offset, &[5; 100], true));
        written.unwrap();
        expected[offset as usize..offset as usize + 100].fill(5);
        assert!(rig.durable(offset, 100) == [5; 100]);
        assert!(client.get(0, 8192).unwrap() == expected);
    }
    client.flush().unwrap();
    assert!(rig.durable(0, 8192) == expected);
}

#[test]
fn fua_notices_that_somebody_elses_failed_flush_lost_its_data() {
    let rig = rig_with(|settings| settings.capabilities.fua = Fua::None);
    let [durable, other] = [(); 2].map(|()| rig.client());
    other.put(BLOCK, &[2; 4096]).unwrap();
    let number = durable.origin.number();
    let hold = rig.hold(only_first(move |stop| {
        stop.is_origin(Kind::Flush, Phase::Before) && stop.connection == number
    }));
    let fua = run(move || durable.serve(|one| one.write(0, &[5; 4096], true)));
    hold.wait_for(1);
    // It fails, tells its own client, and takes with it what the other had written.
    let failing = other.origin.number();
    rig.origin
        .fault(Fault::new(Kind::Flush, When::Connection(failing)));
    other.flush().unwrap_err();
    rig.origin.heal();
    hold.release();
    let written = fua.finish();
    assert!(written.is_err() || rig.durable(0, 4096) == [5; 4096]);
}

#[test]
fn a_write_without_room_is_durable_at_once() {
    let config = Config {
        max_size_bytes: None,
        ..config()
    };
    let rig = Rig::over(config, OriginSettings::new(IMAGE), |file| {
        file.set_capacity_bytes(Some(0));
    });
    let client = rig.client();
    client.put(700, &[5; 9000]).unwrap();
    // Nobody remembers it, so no later flush could make up for one that fails.
    assert!(rig.durable(700, 9000) == [5; 9000]);
}

#[test]
fn a_flush_that_succeeds_leaves_the_origin_equal_to_what_is_read() {
    let rig = rig();
    let client = rig.client();
    let mut expected = rig.fill(1, 0, 1 << 20);
    for (seed, offset, length) in [(2, 3, 5000), (3, 70_001, 200_000), (4, 511, 2)] {
        let new = content(seed, offset as u64, length);
        client.put(offset as u64, &new).unwrap();
        expected[offset..offset + length].copy_from_slice(&new);
    }
    client.flush().unwrap();
    assert!(rig.durable(0, 1 << 20) == expected);
    assert!(client.get(0, 1 << 20).unwrap() == expected);
}

#[test]
fn regression_a_flush_sees_a_block_that_is_just_being_let_go() {
    let rig = rig();
    let [writer, reader] = [(); 2].map(|()| rig.client());
    writer.put(0, &[0; 512]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let reading = run({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::SeqCst) {
                reader.get(0, 512).unwrap();
            }
        }
    });
    for round in 0..60_000_u32 {
        let data = [round as u8; 512];
        writer.put(0, &data).unwrap();
        writer.flush().unwrap();
        assert!(rig.durable(0, 512) == data, "round {round}");
    }
    stop.store(true, Ordering::SeqCst);
    reading.finish();
}

fn one_at_a_time() -> Rig {
    let rig = rig_with(|settings| {
        settings.capabilities.parallel = false;
        settings.limits.maximum = 64 << 10;
    });
    rig.fill(1, 10 * BLOCK, 4096);
    rig
}

#[test]
fn regression_a_zero_during_a_flush_does_not_swallow_what_the_flush_was_to_write() {
    let rig = one_at_a_time();
    let [first, second] = [(); 2].map(|()| rig.client());
    first.put(0, &[2; 4096]).unwrap();
    first.put(10 * BLOCK, &[2; 4096]).unwrap();
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    let zeroed = second.serve(|one| one.zero(10 * BLOCK, 4096, ZeroOptions::default()));
    zeroed.unwrap();
    hold.release();
    flush.finish().unwrap();
    let durable = rig.durable(10 * BLOCK, 4096);
    assert!(durable == [2; 4096] || durable == [0; 4096]);
}

#[test]
fn regression_a_write_during_a_flush_does_not_swallow_a_zero_that_the_flush_was_to_do() {
    let rig = one_at_a_time();
    let [first, second] = [(); 2].map(|()| rig.client());
    for block in [0, 10] {
        let zeroed = first.serve(|one| one.zero(block * BLOCK, 4096, ZeroOptions::default()));
        zeroed.unwrap();
    }
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Zero, Phase::Before)));
    let flush = run(move || first.flush());
    hold.wait_for(1);
    second.put(10 * BLOCK, &[2; 4096]).unwrap();
    hold.release();
    flush.finish().unwrap();
    let durable = rig.durable(10 * BLOCK, 4096);
    assert!(durable == [2; 4096] || durable == [0; 4096]);
}
