//! Rules about an origin whose connection is lost with unflushed writes, and comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use larder::{CacheOnRead, Config, Connection, Fua, Mode, ZeroOptions};
use larder_testing::holds::only_first;
use larder_testing::pace::{Side, Stop};
use larder_testing::random::content;
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
    settings.capabilities.fua = Fua::None;
    change(&mut config, &mut settings);
    Rig::new(config, settings)
}

fn rig() -> Rig {
    rig_with(|_, _| {})
}

fn writethrough(fua: Fua) -> Rig {
    rig_with(|config, settings| {
        config.mode = Mode::Writethrough;
        settings.capabilities.fua = fua;
    })
}

/// Loses the connection when everything has been sent and is about to be flushed for the first time.
fn losing_before_the_flush<T: Send + 'static>(
    rig: &Rig,
    request: impl FnOnce() -> T + Send + 'static,
) -> T {
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let running = run(request);
    hold.wait_for(1);
    rig.origin.lose_connection(None);
    hold.release();
    running.finish()
}

type Request = fn(&Connection) -> Result<(), larder::Error>;

const ZEROS: ZeroOptions = ZeroOptions {
    may_trim: false,
    fua: true,
    fast: false,
};

#[test]
fn a_flush_writes_again_what_was_lost() {
    for multi_conn in [true, false] {
        let rig = rig_with(|_, settings| settings.capabilities.multi_conn = multi_conn);
        let [client, other] = [(); 2].map(|()| rig.client());
        rig.fill(1, 4 * BLOCK, BLOCK as usize);
        other.put(0, &content(2, 0, 2 * BLOCK as usize)).unwrap();
        let zeroed = client.serve(|one| one.zero(4 * BLOCK, BLOCK, ZeroOptions::default()));
        zeroed.unwrap();
        losing_before_the_flush(&rig, {
            let client = Arc::clone(&client);
            move || client.flush()
        })
        .unwrap();
        assert!(rig.durable(0, 2 * BLOCK as usize) == content(2, 0, 2 * BLOCK as usize));
        assert!(rig.durable(4 * BLOCK, BLOCK as usize) == vec![0; BLOCK as usize]);
        assert_eq!(rig.cache.stats().dirty_bytes, 0);
        // The other's connection has still to tell it, with nothing lost any more.
        other.put(0, &[7; 512]).unwrap();
        other.flush().unwrap();
        assert_eq!(rig.durable(0, 512), [7; 512]);
        client.flush().unwrap();
    }
}

#[test]
fn what_an_origin_without_flush_has_lost_is_written_again() {
    let rig = rig_with(|_, settings| {
        settings.capabilities.flush = false;
        settings.capabilities.tells_losses = true;
    });
    let client = rig.client();
    client.put(700, &[5; 9000]).unwrap();
    let flushing = Arc::clone(&client);
    losing_before_the_flush(&rig, move || flushing.flush()).unwrap();
    assert_eq!(rig.durable(700, 9000), [5; 9000]);
}

#[test]
fn a_flush_without_dirty_data_survives_a_loss() {
    let rig = rig();
    let client = rig.client();
    client.put(0, &[5; 512]).unwrap();
    client.flush().unwrap();
    rig.origin.lose_connection(None);
    client.flush().unwrap();
    let reader = rig.client_over(rig.origin.connect_read_only());
    reader.get(0, 512).unwrap();
    rig.origin.lose_connection(None);
    reader.flush().unwrap();
    assert_eq!(rig.durable(0, 512), [5; 512]);
}

#[test]
fn an_origin_that_keeps_losing_fails_the_flush_in_the_end() {
    for dirty in [true, false] {
        let rig = rig();
        let client = rig.client();
        client.put(0, &[5; 512]).unwrap();
        if !dirty {
            client.flush().unwrap();
        }
        rig.origin.calls().clear();
        let lost = Fault::new(Kind::Flush, When::Always).errno(libc::ECONNRESET);
        rig.origin.fault(lost);
        assert_eq!(client.flush().unwrap_err().errno(), libc::ECONNRESET);
        assert_eq!(rig.origin.calls().count(Kind::Flush), 9);
        assert_eq!(rig.cache.stats().dirty_bytes, if dirty { 512 } else { 0 });
        rig.origin.heal();
        client.flush().unwrap();
        assert_eq!(rig.durable(0, 512), [5; 512]);
    }
}

#[test]
fn the_last_disconnect_writes_again_what_was_lost() {
    let rig = rig();
    let client = rig.client();
    client.put(0, &[5; 512]).unwrap();
    losing_before_the_flush(&rig, move || client.leave()).unwrap();
    assert_eq!(rig.durable(0, 512), [5; 512]);
    assert!(rig.cache.leftovers().is_empty());
}

#[test]
fn reclaim_and_age_write_again_what_was_lost() {
    let rig = rig_with(|config, _| {
        config.max_size_bytes = Some(1 << 20);
        config.dirty_age = Some(Duration::from_secs(10));
    });
    let client = rig.client();
    let all = content(2, 0, 40 * BLOCK as usize);
    losing_before_the_flush(&rig, {
        let (client, all) = (Arc::clone(&client), all.clone());
        move || client.put(0, &all)
    })
    .unwrap();
    assert!(client.get(0, all.len()).unwrap() == all);
    rig.clock.advance(Duration::from_secs(20));
    losing_before_the_flush(&rig, move || {
        client.put(50 * BLOCK, &[5; 512]).unwrap();
        client.flush().unwrap();
    });
    assert!(rig.durable(0, all.len()) == all);
}

#[test]
fn a_durable_request_does_again_what_was_lost() {
    for fua in [Fua::None, Fua::Emulated] {
        let requests: [Request; 3] = [
            |one| one.write(512, &[5; 4096], true),
            |one| one.zero(512, 4096, ZEROS),
            |one| one.trim(512, 4096, true),
        ];
        for (which, request) in requests.into_iter().enumerate() {
            let rig = rig_with(|_, settings| settings.capabilities.fua = fua);
            rig.fill(1, 0, BLOCK as usize);
            let client = rig.client();
            client.put(BLOCK, &[9; 512]).unwrap();
            match fua {
                Fua::Emulated => rig.origin.lose_connection(None),
                _ => {
                    let client = Arc::clone(&client);
                    losing_before_the_flush(&rig, move || client.serve(request)).unwrap();
                }
            }
            client.serve(request).unwrap();
            let expected = if which == 0 { [5; 4096] } else { [0; 4096] };
            assert_eq!(rig.durable(512, 4096), expected, "{fua:?} {which}");
            client.flush().unwrap();
            assert_eq!(rig.durable(BLOCK, 512), [9; 512]);
        }
    }
}

#[test]
fn a_write_without_room_is_done_again() {
    let config = Config::default();
    let mut settings = OriginSettings::new(IMAGE);
    settings.capabilities.fua = Fua::None;
    let rig = Rig::over(config, settings, |file| file.set_capacity_bytes(Some(0)));
    let client = rig.client();
    losing_before_the_flush(&rig, move || client.put(700, &[5; 9000])).unwrap();
    assert_eq!(rig.durable(700, 9000), [5; 9000]);
}

#[test]
fn whoever_notices_that_anothers_flush_failed_does_its_work_again() {
    let rig = rig();
    let [durable, other] = [(); 2].map(|()| rig.client());
    other.put(BLOCK, &[2; 4096]).unwrap();
    let number = durable.origin.number();
    let hold = rig.hold(only_first(move |stop| {
        stop.is_origin(Kind::Flush, Phase::Before) && stop.connection == number
    }));
    let fua = run(move || durable.serve(|one| one.write(0, &[5; 4096], true)));
    hold.wait_for(1);
    let failing = other.origin.number();
    let fault = Fault::new(Kind::Flush, When::Connection(failing));
    rig.origin.fault(fault);
    other.flush().unwrap_err();
    rig.origin.heal();
    hold.release();
    fua.finish().unwrap();
    assert_eq!(rig.durable(0, 4096), [5; 4096]);
}

#[test]
fn a_flush_waits_for_what_others_on_its_connection_are_told() {
    let rig = rig_with(|_, settings| settings.capabilities.fua = Fua::Emulated);
    let client = rig.client();
    client.put(0, &[5; 512]).unwrap();
    let flushing = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let flush = run({
        let client = Arc::clone(&client);
        move || client.flush()
    });
    flushing.wait_for(1);
    rig.origin.lose_connection(None);
    // The origin has told this one, which does not know yet.
    let told = rig.hold(only_first(|stop: &Stop| {
        stop.is_origin(Kind::Write, Phase::After)
    }));
    let fua = run(move || client.serve(|one| one.write(BLOCK, &[6; 512], true)));
    told.wait_for(1);
    flushing.release();
    flush.assert_waits();
    told.release();
    flush.finish().unwrap();
    fua.finish().unwrap();
    assert_eq!(rig.durable(0, 512), [5; 512]);
    assert_eq!(rig.durable(BLOCK, 512), [6; 512]);
}

#[test]
fn writethrough_tells_the_client_and_forgets_what_was_lost() {
    let rig = writethrough(Fua::None);
    let [client, other] = [(); 2].map(|()| rig.client());
    let mut old = rig.fill(1, 0, 8 * BLOCK as usize);
    client.get(0, old.len()).unwrap();
    client.put(0, &[4; 512]).unwrap();
    client.flush().unwrap();
    old[..512].fill(4);
    // Written, zeroed and trimmed, and then read into the cache.
    client.put(BLOCK + 100, &[5; 1000]).unwrap();
    other.put(2 * BLOCK, &[5; BLOCK as usize]).unwrap();
    let lasting = ZeroOptions {
        fua: false,
        ..ZEROS
    };
    client
        .serve(|one| one.zero(4 * BLOCK + 7, BLOCK, lasting))
        .unwrap();
    other
        .serve(|one| one.trim(6 * BLOCK, BLOCK, false))
        .unwrap();
    client.get(0, old.len()).unwrap();
    rig.origin.lose_connection(None);
    assert_eq!(client.flush().unwrap_err().errno(), libc::EIO);
    assert!(rig.on_origin(0, old.len()) == old);
    assert!(client.get(0, old.len()).unwrap() == old);
    let reads = rig.origin.calls().count(Kind::Read);
    assert!(
        client.try_get(0, 512).unwrap().is_some(),
        "it had been flushed"
    );
    assert_eq!(rig.origin.calls().count(Kind::Read), reads);
    client.flush().unwrap();
    // Each connection tells it once.
    other.flush().unwrap_err();
    other.flush().unwrap();
    assert!(other.get(0, old.len()).unwrap() == old);
}

#[test]
fn writethrough_forgets_when_fua_tells_of_the_loss() {
    for fua in [Fua::None, Fua::Emulated] {
        let rig = writethrough(fua);
        let client = rig.client();
        let old = rig.fill(1, 0, 4096);
        client.put(0, &[5; 4096]).unwrap();
        rig.origin.lose_connection(None);
        // It could be done again, but then nobody would hear of what was lost before.
        let durable = client.serve(|one| one.write(BLOCK, &[6; 512], true));
        assert_eq!(durable.unwrap_err().errno(), libc::EIO);
        assert!(client.get(0, 4096).unwrap() == old);
        let written = client.get(BLOCK, 512).unwrap();
        assert!(written == rig.on_origin(BLOCK, 512));
        client
            .serve(|one| one.write(BLOCK, &[6; 512], true))
            .unwrap();
        assert_eq!(rig.durable(BLOCK, 512), [6; 512]);
    }
}

#[test]
fn writethrough_forgets_what_was_lost_of_a_write_that_failed() {
    let rig = rig_with(|config, settings| {
        config.mode = Mode::Writethrough;
        settings.limits.maximum = 4096;
    });
    let client = rig.client();
    let old = rig.fill(1, 0, 8192);
    rig.origin.fault(Fault::new(Kind::Write, When::Nth(2)));
    client.put(0, &[5; 8192]).unwrap_err();
    assert_eq!(client.get(0, 4096).unwrap(), [5; 4096], "its first half");
    rig.origin.lose_connection(None);
    client.flush().unwrap_err();
    assert!(client.get(0, 8192).unwrap() == old);
}

#[test]
fn writethrough_forgets_what_a_refused_flush_did_not_save() {
    let rig = writethrough(Fua::None);
    let client = rig.client();
    let old = rig.fill(1, 0, 4096);
    client.put(0, &[5; 4096]).unwrap();
    rig.origin.fault(Fault::new(Kind::Flush, When::Nth(1)));
    client.flush().unwrap_err();
    // Nothing was left for this one to save.
    client.flush().unwrap();
    assert_eq!(client.get(0, 4096).unwrap(), rig.on_origin(0, 4096));
    rig.origin.lose_connection(None);
    client.flush().unwrap_err();
    assert!(client.get(0, 4096).unwrap() == old);
}

/// The origin tells its one failure to one of two who flush at once, and it concerns both.
#[test]
fn regression_writethrough_believes_no_flush_beside_which_another_was_refused() {
    let rig = writethrough(Fua::None);
    let [client, other] = [(); 2].map(|()| rig.client());
    client.put(0, &[5; 4096]).unwrap();
    other.put(BLOCK, &[6; 4096]).unwrap();
    let number = client.origin.number();
    let hold = rig.hold(only_first(move |stop| {
        stop.is_origin(Kind::Flush, Phase::Before) && stop.connection == number
    }));
    let believing = Arc::clone(&client);
    let flush = run(move || believing.flush());
    hold.wait_for(1);
    let failing = other.origin.number();
    rig.origin
        .fault(Fault::new(Kind::Flush, When::Connection(failing)));
    other.flush().unwrap_err();
    rig.origin.heal();
    hold.release();
    assert_eq!(flush.finish().unwrap_err().errno(), libc::EIO);
    assert_ne!(rig.durable(0, 4096), [5; 4096], "it was lost");
    client.put(0, &[7; 4096]).unwrap();
    client.flush().unwrap();
    assert_eq!(rig.durable(0, 4096), [7; 4096]);
}

#[test]
fn writethrough_is_told_by_a_connection_that_was_there() {
    let rig = writethrough(Fua::None);
    let client = rig.client();
    let old = rig.fill(1, 0, 4096);
    client.put(0, &[5; 4096]).unwrap();
    rig.origin.lose_connection(None);
    // One that came later knows of nothing.
    let late = rig.client();
    late.flush().unwrap();
    client.flush().unwrap_err();
    assert!(late.get(0, 4096).unwrap() == old);
}

#[test]
fn writethrough_forgets_everything_when_too_much_is_unflushed() {
    let rig = writethrough(Fua::None);
    let client = rig.client();
    let old = rig.fill(1, 0, 9 << 20);
    for sector in 0..5000 {
        client.put(sector * 1536, &[5; 512]).unwrap();
    }
    rig.origin.lose_connection(None);
    client.flush().unwrap_err();
    assert!(client.get(0, old.len()).unwrap() == old);
}

#[test]
fn writethrough_does_not_keep_a_write_that_was_lost_before_the_cache_followed() {
    let rig = writethrough(Fua::None);
    let [client, other] = [(); 2].map(|()| rig.client());
    let old = rig.fill(1, 0, 4096);
    client.get(0, 4096).unwrap();
    let hold = rig.hold(only_first(|stop: &Stop| {
        stop.side == Side::CacheFile && stop.kind == Kind::Write
    }));
    let writing = run(move || client.put(0, &[5; 4096]));
    hold.wait_for(1);
    rig.origin.lose_connection(None);
    // Whoever forgets must wait for the block; what it looks at first is what it can see.
    let flushing = run({
        let other = Arc::clone(&other);
        move || other.flush()
    });
    flushing.give_a_chance();
    hold.release();
    writing.finish().unwrap();
    flushing.finish().unwrap_err();
    assert!(rig.on_origin(0, 4096) == old);
    assert!(other.get(0, 4096).unwrap() == old);
}

#[test]
fn writethrough_does_not_keep_a_write_that_was_lost_on_its_way_back() {
    let rig = writethrough(Fua::None);
    let [client, other] = [(); 2].map(|()| rig.client());
    let old = rig.fill(1, 0, 4096);
    client.get(0, 4096).unwrap();
    // Acknowledged and lost, which its client's thread learns after the other was told.
    let hold = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Write, Phase::Acknowledged)
    }));
    let writing = run(move || client.put(0, &[5; 4096]));
    hold.wait_for(1);
    rig.origin.lose_connection(None);
    other.flush().unwrap_err();
    hold.release();
    writing.finish().unwrap();
    assert!(rig.on_origin(0, 4096) == old);
    assert!(other.get(0, 4096).unwrap() == old);
}

/// An origin tells a failure once: here to a write with FUA, and what a pass had written is lost with it.
#[test]
fn regression_a_pass_waits_for_a_durable_write_that_may_be_told_of_its_loss() {
    let rig = rig_with(|_, settings| settings.capabilities.fua = Fua::Native);
    let [client, other] = [(); 2].map(|()| rig.client());
    client.put(0, &content(2, 0, BLOCK as usize)).unwrap();
    let place = 8 * BLOCK;
    rig.origin
        .fault(Fault::new(Kind::Write, When::Meets(place, 4096)));
    let flushing = rig.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let flush = run({
        let client = Arc::clone(&client);
        move || client.flush()
    });
    flushing.wait_for(1);
    let failing =
        rig.hold(move |stop| stop.is_origin(Kind::Write, Phase::After) && stop.meets(place, 4096));
    let durable = run(move || other.serve(|one| one.write(place, &[5; 4096], true)));
    failing.wait_for(1);
    let disk = rig.origin.disk();
    disk.lose(&disk.covered(None));
    flushing.release();
    flush.give_a_chance();
    failing.release();
    durable.finish().unwrap_err();
    flush.finish().unwrap();
    assert!(rig.durable(0, BLOCK as usize) == content(2, 0, BLOCK as usize));
    assert_eq!(rig.cache.stats().dirty_bytes, 0);
}
