//! The mode table, and what happens when clients leave.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use larder::{CacheOnRead, Config, ErrorKind, Fua, Mode, ZeroOptions};
use larder_testing::fault::Happens;
use larder_testing::log::Level;
use larder_testing::random::content;
use larder_testing::{Fault, Kind, OriginSettings, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn rig_with(mode: Mode, change: impl FnOnce(&mut Config, &mut OriginSettings)) -> Rig {
    let mut config = Config {
        mode,
        cache_on_read: CacheOnRead::Always,
        ..Config::default()
    };
    let mut settings = OriginSettings::new(IMAGE);
    change(&mut config, &mut settings);
    Rig::new(config, settings)
}

fn rig(mode: Mode) -> Rig {
    rig_with(mode, |_, _| {})
}

#[test]
fn writethrough_is_acknowledged_by_the_origin_and_nothing_is_ever_dirty() {
    let rig = rig(Mode::Writethrough);
    let client = rig.client();
    client.put(700, &content(2, 700, 5000)).unwrap();
    assert!(rig.on_origin(700, 5000) == content(2, 700, 5000));
    assert_eq!(rig.cache.stats().dirty_bytes, 0);
    assert!(rig.cache.leftovers().is_empty());
    assert!(client.get(700, 5000).unwrap() == content(2, 700, 5000));
}

#[test]
fn writethrough_zero_reaches_the_origin() {
    let rig = rig(Mode::Writethrough);
    rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    client.get(0, 4096).unwrap();
    client
        .serve(|one| one.zero(100, 9000, ZeroOptions::default()))
        .unwrap();
    assert!(rig.on_origin(100, 9000) == [0; 9000]);
    assert!(client.get(0, BLOCK as usize).unwrap() == rig.on_origin(0, BLOCK as usize));
}

#[test]
fn writethrough_passes_fua_and_flush_on() {
    let rig = rig(Mode::Writethrough);
    let client = rig.client();
    client.serve(|one| one.write(0, &[1; 4096], true)).unwrap();
    assert!(
        rig.origin
            .calls()
            .of(Kind::Write)
            .iter()
            .all(|call| call.fua)
    );
    assert!(rig.durable(0, 4096) == [1; 4096]);
    client.put(4096, &[2; 4096]).unwrap();
    assert!(rig.durable(4096, 4096) == [0; 4096]);
    client.flush().unwrap();
    assert!(rig.durable(4096, 4096) == [2; 4096]);
}

#[test]
fn writethrough_fua_over_an_origin_without_it_is_a_flush() {
    let rig = rig_with(Mode::Writethrough, |_, settings| {
        settings.capabilities.fua = Fua::None;
    });
    let client = rig.client();
    client.serve(|one| one.write(0, &[1; 4096], true)).unwrap();
    assert!(rig.durable(0, 4096) == [1; 4096]);
}

#[test]
fn writethrough_that_failed_is_not_served_from_the_cache() {
    for happens in [Happens::Nothing, Happens::Half, Happens::Everything] {
        for (offset, length) in [(0, 4096), (700, 3000)] {
            let rig = rig(Mode::Writethrough);
            rig.fill(1, 0, BLOCK as usize);
            let client = rig.client();
            client.get(0, BLOCK as usize).unwrap();
            rig.origin
                .fault(Fault::new(Kind::Write, When::Nth(1)).happens(happens));
            client.put(offset, &vec![5; length]).unwrap_err();
            let seen = client.get(0, BLOCK as usize).unwrap();
            assert!(seen == rig.on_origin(0, BLOCK as usize), "{happens:?}");
        }
    }
}

#[test]
fn unsafe_ignores_flush_and_fua() {
    let rig = rig(Mode::Unsafe);
    let client = rig.client();
    client.serve(|one| one.write(0, &[1; 4096], true)).unwrap();
    client.flush().unwrap();
    let zeros = ZeroOptions {
        fua: true,
        ..ZeroOptions::default()
    };
    client.serve(|one| one.zero(8192, 4096, zeros)).unwrap();
    client.serve(|one| one.trim(BLOCK, BLOCK, true)).unwrap();
    assert!(client.get(0, 4096).unwrap() == [1; 4096]);
    let calls = rig.origin.calls().all();
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
fn unsafe_is_written_back_when_space_runs_out_and_reads_back_whole() {
    let rig = rig_with(Mode::Unsafe, |config, _| {
        config.max_size_bytes = Some(1 << 20);
    });
    let client = rig.client();
    let all = content(2, 0, 8 << 20);
    for (block, data) in all.chunks(BLOCK as usize).enumerate() {
        client.put(block as u64 * BLOCK, data).unwrap();
    }
    assert!(rig.origin.calls().count(Kind::Write) > 0);
    assert!(client.get(0, 8 << 20).unwrap() == all);
}

#[test]
fn unsafe_keeps_what_is_left_to_itself() {
    let rig = rig(Mode::Unsafe);
    let client = rig.client();
    client.put(4096, &[1; 8192]).unwrap();
    client.leave().unwrap();
    assert_eq!(rig.origin.calls().count(Kind::Write), 0);
    let leftovers = rig.cache.leftovers();
    assert_eq!(leftovers[0].ranges, [(4096, 8192)]);
}

#[test]
fn unsafe_trim_is_a_zero_in_the_cache() {
    let rig = rig(Mode::Unsafe);
    rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    client.serve(|one| one.trim(0, 8192, false)).unwrap();
    assert!(client.get(0, 8192).unwrap() == [0; 8192]);
    assert_eq!(rig.origin.calls().count(Kind::Trim), 0);
}

#[test]
fn last_writable_disconnect_writes_back() {
    for multi_conn in [true, false] {
        let rig = rig_with(Mode::Writeback, |_, settings| {
            settings.capabilities.multi_conn = multi_conn;
        });
        let [first, second] = [(); 2].map(|()| rig.client());
        let reader = rig.client_over(rig.origin.connect_read_only());
        first.put(0, &content(2, 0, 100_000)).unwrap();
        second
            .serve(|one| one.zero(1 << 20, 4096, ZeroOptions::default()))
            .unwrap();
        rig.fill(1, 1 << 20, 4096);
        first.leave().unwrap();
        second.leave().unwrap();
        assert!(rig.on_origin(0, 100_000) == content(2, 0, 100_000));
        assert!(rig.on_origin(1 << 20, 4096) == [0; 4096]);
        assert!(rig.cache.leftovers().is_empty());
        assert!(reader.get(0, 100_000).unwrap() == content(2, 0, 100_000));
        reader.leave().unwrap();
    }
}

#[test]
fn a_second_disconnect_does_nothing() {
    let rig = rig(Mode::Writeback);
    let client = rig.client();
    client.put(0, &[1; 512]).unwrap();
    client.leave().unwrap();
    let calls = rig.origin.calls().all().len();
    client.serve(|one| one.disconnect()).unwrap();
    assert_eq!(rig.origin.calls().all().len(), calls);
}

#[test]
fn leftovers_by_range() {
    let rig = rig(Mode::Writeback);
    let client = rig.client();
    client.put(4096, &[1; 8192]).unwrap();
    client.put(10 << 20, &[1; 512]).unwrap();
    rig.origin.fault(Fault::new(Kind::Write, When::Always));
    client.leave().unwrap_err();
    let leftovers = rig.cache.leftovers();
    assert_eq!(leftovers.len(), 1);
    assert_eq!(leftovers[0].volume, "volume");
    assert_eq!(leftovers[0].ranges, [(4096, 8192), (10 << 20, 512)]);
    let errors = rig.log.messages(Level::Error).join("\n");
    assert!(
        errors.contains("4096") && errors.contains("10485760"),
        "{errors}"
    );
    rig.origin.heal();
    let next = rig.client();
    assert!(next.get(4096, 8192).unwrap() == [1; 8192]);
    next.leave().unwrap();
    assert!(rig.on_origin(4096, 8192) == [1; 8192]);
}

#[test]
fn reads_through_read_only_connection() {
    let rig = rig(Mode::Writeback);
    rig.fill(1, 0, BLOCK as usize);
    let reader = rig.client_over(rig.origin.connect_read_only());
    let writer = rig.client();
    writer.put(512, &[5; 512]).unwrap();
    let mut expected = content(1, 0, BLOCK as usize);
    expected[512..1024].fill(5);
    assert!(reader.get(0, BLOCK as usize).unwrap() == expected);
    for refused in [
        reader.put(0, &[1; 512]),
        reader.serve(|one| one.zero(0, 512, ZeroOptions::default())),
        reader.serve(|one| one.trim(0, 512, false)),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnly);
    }
    writer.leave().unwrap();
    assert!(rig.on_origin(512, 512) == [5; 512]);
    assert!(reader.get(0, BLOCK as usize).unwrap() == expected);
}

#[test]
fn volumes_do_not_mix_and_a_private_one_is_nobody_elses() {
    let rig = rig(Mode::Writeback);
    let client = rig.client();
    client.put(0, &[1; 4096]).unwrap();
    for volume in [
        rig.cache.volume("other"),
        rig.cache.private_volume("volume"),
    ] {
        let origin = rig.origin.connect_as(|_| {});
        let connection = volume.connect(origin.clone() as _).unwrap();
        let mut bytes = [9; 4096];
        connection.read(0, &mut bytes).unwrap();
        assert!(bytes == [0; 4096]);
        connection.disconnect().unwrap();
    }
    let again = rig
        .cache
        .volume("volume")
        .connect(rig.origin.connect() as _)
        .unwrap();
    let mut bytes = [9; 4096];
    again.read(0, &mut bytes).unwrap();
    assert!(bytes == [1; 4096]);
}

#[test]
fn dirty_age() {
    let rig = rig_with(Mode::Writeback, |config, _| {
        config.dirty_age = Some(Duration::from_secs(30));
        config.background = true;
    });
    let client = rig.client();
    client.put(0, &[1; 4096]).unwrap();
    rig.clock.advance(Duration::from_secs(29));
    rig.cache.maintain(Duration::from_millis(20));
    assert_eq!(rig.origin.calls().count(Kind::Write), 0);
    assert_eq!(rig.cache.stats().oldest_dirty_ms, 29_000);
    rig.clock.advance(Duration::from_secs(2));
    rig.cache.maintain(Duration::from_millis(20));
    assert!(rig.on_origin(0, 4096) == [1; 4096]);
    assert_eq!(rig.cache.stats().dirty_bytes, 0);
    rig.cache.stop();
    assert!(!rig.cache.maintain(Duration::from_secs(60)));
}

#[test]
fn without_dirty_age_nothing_is_written_without_a_flush() {
    let rig = rig(Mode::Writeback);
    let client = rig.client();
    client.put(0, &[1; 4096]).unwrap();
    rig.clock.advance(Duration::from_secs(100_000));
    client.get(0, 4096).unwrap();
    client.put(8192, &[1; 4096]).unwrap();
    assert_eq!(rig.origin.calls().count(Kind::Write), 0);
}
