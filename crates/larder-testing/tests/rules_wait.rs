//! Rules about waiting: a hit never waits for somebody else, and after a panic nobody hangs.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{CacheOnRead, Config, ErrorKind, Mode, ZeroOptions};
use larder_testing::holds::only_first;
use larder_testing::random::content;
use larder_testing::rig::{run, wait_until};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn rig(max_size_bytes: Option<u64>) -> Rig {
    let config = Config {
        cache_on_read: CacheOnRead::Always,
        max_size_bytes,
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(IMAGE))
}

#[test]
fn hit_never_waits_for_strangers_miss() {
    let rig = rig(None);
    let expected = rig.fill(1, 0, BLOCK as usize);
    let [stranger, client] = [(); 2].map(|()| rig.client());
    client.get(0, 4096).unwrap();
    let hold = rig.hold_origin(Kind::Read, Phase::Before);
    let miss = run(move || stranger.get(BLOCK, 4096));
    hold.wait_for(1);
    let hit = run(move || {
        client.put(8192, &[5; 512]).unwrap();
        client.get(0, 4096)
    });
    assert!(hit.finish().unwrap() == expected[..4096]);
    hold.release();
    miss.finish().unwrap();
}

#[test]
fn hit_never_waits_for_a_miss_of_other_sectors_of_its_block() {
    let rig = rig(None);
    let [stranger, client] = [(); 2].map(|()| rig.client());
    client.put(0, &[5; 4096]).unwrap();
    let hold = rig.hold_origin(Kind::Read, Phase::Before);
    let miss = run(move || stranger.get(8192, 4096));
    hold.wait_for(1);
    let hit = run(move || {
        client.put(512, &[6; 512]).unwrap();
        client.get(0, 1024)
    });
    assert!(hit.finish().unwrap()[512..] == [6; 512]);
    hold.release();
    miss.finish().unwrap();
}

#[test]
fn hit_never_waits_for_strangers_flush() {
    for kind in [Kind::Write, Kind::Flush] {
        let rig = rig(None);
        let [stranger, client] = [(); 2].map(|()| rig.client());
        client.put(0, &[5; BLOCK as usize]).unwrap();
        let hold = rig.hold_origin(kind, Phase::Before);
        let flush = run(move || stranger.flush());
        hold.wait_for(1);
        let hit = run(move || {
            client.put(512, &[6; 512]).unwrap();
            client.get(0, 1024)
        });
        assert!(hit.finish().unwrap()[512..] == [6; 512]);
        hold.release();
        flush.finish().unwrap();
    }
}

#[test]
fn hit_never_waits_for_strangers_reclaim() {
    let rig = rig(Some(1 << 20));
    let [stranger, client] = [(); 2].map(|()| rig.client());
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let pressing = run(move || {
        (0..40).try_for_each(|block| stranger.put(block * BLOCK, &[5; BLOCK as usize]))
    });
    hold.wait_for(1);
    let hit = run(move || client.get(0, 1024));
    assert!(hit.finish().unwrap() == [5; 1024]);
    hold.release();
    pressing.finish().unwrap();
}

#[test]
fn a_miss_and_a_write_go_on_during_a_flush() {
    let rig = rig(None);
    let [stranger, client] = [(); 2].map(|()| rig.client());
    stranger.put(0, &[5; 4096]).unwrap();
    let hold = rig.hold_origin(Kind::Flush, Phase::Before);
    let flush = run(move || stranger.flush());
    hold.wait_for(1);
    let other = run(move || {
        client.put(BLOCK + 100, &[6; 700])?;
        client.get(10 * BLOCK, 700)
    });
    other.finish().unwrap();
    hold.release();
    flush.finish().unwrap();
}

#[test]
fn write_into_a_block_being_fetched_does_not_wait_for_the_fetch() {
    let rig = rig(None);
    let [stranger, client] = [(); 2].map(|()| rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::Before)));
    let miss = run(move || stranger.get(0, 4096));
    hold.wait_for(1);
    let write = run(move || client.put(8192, &[5; 4096]));
    write.finish().unwrap();
    hold.release();
    miss.finish().unwrap();
}

#[test]
fn panic_poisons_volume_nobody_hangs() {
    let rig = rig(None);
    let [first, second, third] = [(); 3].map(|()| rig.client());
    third.put(BLOCK, &content(2, 0, 512)).unwrap();
    rig.origin
        .fault(Fault::new(Kind::Read, When::Nth(1)).panic());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::Before)));
    let panicking = run(move || first.get(0, 4096));
    hold.wait_for(1);
    let waiting = run({
        let second = Arc::clone(&second);
        move || second.get(0, 4096)
    });
    wait_until("a reader waits", || rig.cache.stats().fetch_waits >= 1);
    hold.release();
    let poisoned = |result: Result<(), larder::Error>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Poisoned);
    };
    poisoned(panicking.finish().map(drop));
    poisoned(waiting.finish().map(drop));
    poisoned(second.get(0, 512).map(drop));
    poisoned(second.put(0, &[1; 512]));
    poisoned(second.flush());
    poisoned(second.serve(|one| one.extents(0, 4096, false)).map(drop));
    let leaving = run(move || {
        // Nothing can be saved any more; leaving must come to an end all the same.
        let _ = second.leave();
        let _ = third.leave();
    });
    leaving.finish();
}

#[test]
fn a_panic_while_writing_back_poisons_and_nobody_hangs() {
    for kind in [Kind::Write, Kind::Flush] {
        let rig = rig(Some(1 << 20));
        let [first, second] = [(); 2].map(|()| rig.client());
        first.put(0, &[5; 4096]).unwrap();
        rig.origin.fault(Fault::new(kind, When::Nth(1)).panic());
        let hold = rig.hold(only_first(move |stop| stop.is_origin(kind, Phase::Before)));
        let panicking = run(move || first.flush());
        hold.wait_for(1);
        let waiting = run({
            let second = Arc::clone(&second);
            move || second.flush()
        });
        waiting.give_a_chance();
        hold.release();
        assert_eq!(panicking.finish().unwrap_err().kind(), ErrorKind::Poisoned);
        assert!(waiting.finish().is_err());
        let pressing = run(move || {
            (0..40).for_each(|block| {
                // Poisoned: refused, but answered.
                let _ = second.put(block * BLOCK, &[5; 512]);
            });
        });
        pressing.finish();
    }
}

#[test]
fn a_panic_in_any_call_of_the_origin_poisons() {
    for kind in [
        Kind::Read,
        Kind::Extents,
        Kind::Trim,
        Kind::Zero,
        Kind::Flush,
    ] {
        let rig = Rig::new(Config::default(), OriginSettings::new(IMAGE));
        let client = rig.client();
        client.put(0, &[5; 512]).unwrap();
        rig.origin.fault(Fault::new(kind, When::Nth(1)).panic());
        let fua = ZeroOptions {
            fua: true,
            ..ZeroOptions::default()
        };
        let asked = client.serve(|one| match kind {
            Kind::Read => one.read(BLOCK, &mut [0; 4096]),
            Kind::Extents => one.extents(BLOCK, BLOCK, false).map(drop),
            Kind::Trim => one.trim(BLOCK, BLOCK, false),
            Kind::Zero => one.zero(BLOCK, BLOCK, fua),
            _ => one.flush(),
        });
        assert_eq!(asked.unwrap_err().kind(), ErrorKind::Poisoned, "{kind:?}");
        let next = client.get(0, 512).unwrap_err();
        assert_eq!(next.kind(), ErrorKind::Poisoned, "{kind:?}");
    }
}

#[test]
fn a_panic_poisons_only_its_volume() {
    let rig = rig(None);
    let client = rig.client();
    let other = rig.cache.volume("other");
    let origin = rig.origin.connect();
    let healthy = other.connect(origin as _).unwrap();
    let mut bytes = [0; 512];
    healthy.write(0, &[5; 512], false).unwrap();
    rig.origin
        .fault(Fault::new(Kind::Read, When::Nth(1)).panic());
    assert!(client.get(0, 512).is_err());
    healthy.read(0, &mut bytes).unwrap();
    assert!(bytes == [5; 512]);
    healthy.flush().unwrap();
}

#[test]
fn a_waiting_write_through_wakes_after_a_panic() {
    let config = Config {
        mode: Mode::Writethrough,
        ..Config::default()
    };
    let rig = Rig::new(config, OriginSettings::new(IMAGE));
    let [first, second] = [(); 2].map(|()| rig.client());
    rig.origin
        .fault(Fault::new(Kind::Write, When::Nth(1)).panic());
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Before)
    }));
    let panicking = run(move || first.put(0, &[1; 512]));
    hold.wait_for(1);
    let waiting = run({
        let second = Arc::clone(&second);
        move || second.put(0, &[2; 512])
    });
    waiting.give_a_chance();
    hold.release();
    assert!(panicking.finish().is_err());
    // Whether it came before the poison or after it, it is answered.
    let _ = waiting.finish();
    assert_eq!(
        second.put(0, &[3; 512]).unwrap_err().kind(),
        ErrorKind::Poisoned
    );
}
