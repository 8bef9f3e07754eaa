//! What `cache-writeback=ordered` promises: the origin gets flush by flush, and all that a flush covers is durable in the cache's directory.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use larder::{CacheState, Config, ErrorKind, HomeSizes, Medium, Writeback, ZeroOptions};
use larder_testing::crash::{CallKind, Machine, MediumFault};
use larder_testing::flushing::{
    AGE, BLOCK, IMAGE, LOG_FAILURES, end, few, new, newer, old, survivor, survivor_beside,
    to_cache, to_origin,
};
use larder_testing::random::content;
use larder_testing::rig::Client;
use larder_testing::surviving::{Life, Survivor};
use larder_testing::{Fault, Kind, OriginSettings, Random, When};

fn ordered() -> Config {
    Config {
        writeback: Writeback::Ordered,
        ..to_cache()
    }
}

/// With a queue of so many bytes, and room for all blocks.
fn begin(survivor: &Survivor, queue_bytes: u64) -> Life {
    let sizes = HomeSizes {
        queue_bytes,
        ..few(600)
    };
    survivor
        .try_start_with(ordered(), true, Some(sizes))
        .unwrap()
}

fn start(survivor: &Survivor) -> Life {
    begin(survivor, 1 << 20)
}

/// How often the origin was asked to change or to flush.
fn changes(survivor: &Survivor) -> usize {
    let kinds = [Kind::Write, Kind::Zero, Kind::Trim, Kind::Flush];
    let calls = survivor.origin.calls();
    kinds.into_iter().map(|kind| calls.count(kind)).sum()
}

fn message<T>(result: Result<T, larder::Error>) -> String {
    result.err().unwrap().to_string()
}

/// The next request sends an epoch.
fn send_one(life: &Life, client: &Client) {
    life.clock.advance(2 * AGE);
    client.get(IMAGE - 512, 512).unwrap();
}

#[test]
fn nothing_that_is_durable_waits_for_the_origin() {
    let survivor = survivor();
    let life = begin(&survivor, 4 << 20);
    let client = life.client();
    client.get(0, BLOCK).unwrap();
    // Who joins flushes what was there before.
    let before = changes(&survivor);
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    survivor.origin.fault(Fault::new(Kind::Zero, When::Always));
    survivor.origin.fault(Fault::new(Kind::Flush, When::Always));
    for round in 0..8_u64 {
        client.put(0, &content(round, 0, BLOCK)).unwrap();
        client.flush().unwrap();
        let fua = content(round, 8192, 700);
        client.serve(|one| one.write(8192, &fua, true)).unwrap();
        let zero = ZeroOptions {
            fua: true,
            ..ZeroOptions::default()
        };
        client.serve(|one| one.zero(16384, 8192, zero)).unwrap();
        client.serve(|one| one.trim(32768, 8192, true)).unwrap();
    }
    assert_eq!(changes(&survivor), before);
    assert!(client.get(16384, 8192).unwrap() == [0; 8192]);
    survivor.origin.heal();
    end(life, client);
    let disk = survivor.origin.disk();
    assert!(disk.durable(0, BLOCK) == content(7, 0, BLOCK));
    assert!(disk.durable(8192, 700) == content(7, 8192, 700));
    assert!(disk.durable(16384, 8192) == [0; 8192]);
}

#[test]
fn the_origin_gets_one_flush_after_the_other() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    for round in 0..4_u64 {
        client.put(0, &content(10 + round, 0, BLOCK)).unwrap();
        let own = (round + 1) * 8192;
        client.put(own, &content(10 + round, own, BLOCK)).unwrap();
        client.flush().unwrap();
    }
    let disk = survivor.origin.disk();
    assert!(disk.current(0, BLOCK) == old(0, BLOCK));
    for round in 0..4_u64 {
        assert_eq!(life.cache.stats().queued_flushes, 4 - round);
        send_one(&life, &client);
        assert!(disk.durable(0, BLOCK) == content(10 + round, 0, BLOCK));
        let own = (round + 1) * 8192;
        assert!(disk.durable(own, BLOCK) == content(10 + round, own, BLOCK));
        let next = own + 8192;
        assert!(disk.current(next, BLOCK) == old(next, BLOCK));
    }
    let stats = life.cache.stats();
    assert_eq!((stats.queued_flushes, stats.sent_flushes), (0, 4));
    assert_eq!((stats.queued_bytes, stats.dirty_bytes), (0, 0));
    end(life, client);
}

#[test]
fn an_epoch_is_not_begun_before_the_one_before_is_durable() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, BLOCK)).unwrap();
    client.flush().unwrap();
    client.put(8192, &new(8192, BLOCK)).unwrap();
    client.flush().unwrap();
    survivor.origin.fault(Fault::new(Kind::Flush, When::Always));
    for _ in 0..5 {
        send_one(&life, &client);
    }
    let disk = survivor.origin.disk();
    assert!(disk.current(0, BLOCK) == new(0, BLOCK), "it was tried");
    assert!(disk.current(8192, BLOCK) == old(8192, BLOCK));
    assert_eq!(life.cache.stats().queued_flushes, 2);
    survivor.origin.heal();
    end(life, client);
    assert!(disk.durable(8192, BLOCK) == new(8192, BLOCK));
}

#[test]
fn what_the_origin_loses_with_its_connection_is_sent_again() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, 5 * BLOCK)).unwrap();
    client.flush().unwrap();
    survivor.origin.lose_connection(Some(Random::new(3)));
    send_one(&life, &client);
    assert!(survivor.origin.disk().durable(0, 5 * BLOCK) == new(0, 5 * BLOCK));
    end(life, client);
}

#[test]
fn zeros_that_the_origin_is_unwilling_to_make_are_written() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    let zero = || {
        let options = ZeroOptions::default();
        client.serve(|one| one.zero(4096, 24_576, options)).unwrap();
    };
    zero();
    client.put(8192, &new(8192, 700)).unwrap();
    client.flush().unwrap();
    let unwilling = Fault::new(Kind::Zero, When::Always).errno(libc::EOPNOTSUPP);
    survivor.origin.fault(unwilling);
    send_one(&life, &client);
    let disk = survivor.origin.disk();
    assert!(disk.durable(4096, 4096) == [0; 4096]);
    assert!(disk.durable(8192, 700) == new(8192, 700));
    assert!(disk.durable(8892, 19_780) == [0; 19_780]);
    assert!(disk.durable(28_672, BLOCK) == old(28_672, BLOCK));
    // An error that is about the disk is one.
    survivor.origin.heal();
    survivor.origin.fault(Fault::new(Kind::Zero, When::Always));
    zero();
    client.flush().unwrap();
    send_one(&life, &client);
    assert_eq!(life.cache.stats().queued_flushes, 1);
    assert!(disk.current(8192, 700) == new(8192, 700));
    survivor.origin.heal();
    end(life, client);
    assert!(disk.durable(4096, 24_576) == [0; 24_576]);
}

#[test]
fn an_epoch_whose_connection_is_reset_is_sent_again_before_the_next() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    for round in 0..2_u64 {
        client.put(0, &content(round, 0, 700)).unwrap();
        client.put(16_384, &content(round, 16_384, 700)).unwrap();
        client.flush().unwrap();
    }
    let reset = Fault::new(Kind::Write, When::Meets(16_384, 700)).errno(libc::ECONNRESET);
    survivor.origin.fault(reset);
    send_one(&life, &client);
    survivor.origin.lose_connection(None);
    assert_eq!(life.cache.stats().queued_flushes, 2);
    let disk = survivor.origin.disk();
    assert!(disk.current(0, 700) == old(0, 700), "it is lost");
    survivor.origin.heal();
    for round in 0..2_u64 {
        send_one(&life, &client);
        assert!(disk.durable(0, 700) == content(round, 0, 700));
        assert!(disk.durable(16_384, 700) == content(round, 16_384, 700));
    }
    end(life, client);
}

#[test]
fn what_was_flushed_outlives_power_cuts_and_reaches_the_origin_in_order() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(1024, &new(1024, 30_000)).unwrap();
    client.flush().unwrap();
    client.put(4096, &newer(4096, 4096)).unwrap();
    client
        .serve(|one| one.zero(8192, 4096, ZeroOptions::default()))
        .unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    assert!(survivor.origin.disk().durable(1024, 30_000) == old(1024, 30_000));
    let seen = |client: &Client| {
        assert!(client.get(1024, 3072).unwrap() == new(1024, 3072));
        assert!(client.get(4096, 4096).unwrap() == newer(4096, 4096));
        assert!(client.get(8192, 4096).unwrap() == [0; 4096]);
        assert!(client.get(12288, 18_736).unwrap() == new(12288, 18_736));
        assert!(client.get(0, 1024).unwrap() == old(0, 1024));
    };
    let life = start(&survivor);
    let client = life.client();
    seen(&client);
    let states: Vec<CacheState> = client
        .status(1024, 28_672)
        .iter()
        .map(|one| one.1)
        .collect();
    assert_eq!(states, [CacheState::Dirty]);
    send_one(&life, &client);
    let disk = survivor.origin.disk();
    assert!(disk.durable(1024, 30_000) == new(1024, 30_000));
    survivor.power_cut(life, vec![client]);
    let life = start(&survivor);
    let client = life.client();
    seen(&client);
    end(life, client);
    assert!(survivor.origin.disk().durable(4096, 4096) == newer(4096, 4096));
    let life = survivor.start(&to_origin());
    seen(&life.client());
}

#[test]
fn a_queue_that_is_full_is_sent_by_who_wants_room() {
    let survivor = survivor();
    // Some fifteen blocks.
    let life = begin(&survivor, 128 << 10);
    let client = life.client();
    for round in 0..6_u64 {
        for block in 0..40_u64 {
            let at = block * BLOCK as u64;
            client.put(at, &content(round, at, BLOCK)).unwrap();
            if block % 3 == 0 {
                client.flush().unwrap();
            }
        }
        // More at once than the ring holds.
        let large = content(20 + round, 400_000, 300_000);
        client
            .serve(|one| one.write(400_000, &large, true))
            .unwrap();
    }
    for block in 0..40_u64 {
        let at = block * BLOCK as u64;
        assert!(client.get(at, BLOCK).unwrap() == content(5, at, BLOCK));
    }
    end(life, client);
    let disk = survivor.origin.disk();
    assert!(disk.durable(0, 40 * BLOCK) == content(5, 0, 40 * BLOCK));
    assert!(disk.durable(400_000, 300_000) == content(25, 400_000, 300_000));
}

#[test]
fn a_full_queue_and_an_origin_that_refuses_are_an_error_and_nothing_is_lost() {
    let survivor = survivor();
    let life = begin(&survivor, 128 << 10);
    let client = life.client();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    let mut flushed = 0;
    let failed = (0..100_u64).find_map(|block| {
        let at = block * BLOCK as u64;
        client.put(at, &new(at, BLOCK)).unwrap();
        let result = client.flush();
        flushed += u64::from(result.is_ok());
        result.err()
    });
    assert_eq!(failed.unwrap().kind(), ErrorKind::Origin);
    assert!(flushed >= 8, "{flushed}");
    let all = (flushed as usize + 1) * BLOCK;
    assert!(client.get(0, all).unwrap() == new(0, all));
    survivor.origin.heal();
    life.clock.advance(Duration::from_secs(1));
    client.flush().unwrap();
    end(life, client);
    assert!(survivor.origin.disk().durable(0, all) == new(0, all));
}

#[test]
fn an_end_without_the_origin_keeps_the_queue() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, 8192)).unwrap();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    assert_eq!(client.leave().unwrap_err().kind(), ErrorKind::Origin);
    drop(client);
    let leftovers = life.cache.leftovers();
    assert_eq!(leftovers[0].ranges, [(0, 8192)]);
    life.cache.close().unwrap();
    assert!(life.cache.keeps_leftovers());
    drop(life);
    survivor.origin.heal();
    let said = message(survivor.try_start(to_origin(), false));
    assert!(said.contains("cache-writeback=ordered"), "{said}");
    let said = message(survivor.try_start(to_cache(), false));
    assert!(said.contains("larder drain"), "{said}");
    let life = start(&survivor);
    assert_eq!(life.cache.leftovers()[0].ranges, [(0, 8192)]);
    let client = life.client();
    assert!(client.get(0, 8192).unwrap() == new(0, 8192));
    end(life, client);
    assert!(survivor.origin.disk().durable(0, 8192) == new(0, 8192));
    // Nothing is queued any more: any mode will do.
    let life = survivor.start(&to_cache());
    assert!(life.client().get(0, 8192).unwrap() == new(0, 8192));
}

#[test]
fn all_connections_see_what_is_queued() {
    let survivor = survivor();
    let life = start(&survivor);
    let reader = {
        let origin = survivor.origin.connect_read_only();
        let connection = life.volume.connect(Arc::clone(&origin) as _).unwrap();
        Arc::new(Client { connection, origin })
    };
    assert!(reader.get(0, BLOCK).unwrap() == old(0, BLOCK));
    let writer = life.client();
    writer
        .serve(|one| one.write(65_536, &new(65_536, BLOCK), true))
        .unwrap();
    writer.serve(|one| one.trim(131_072, 8192, false)).unwrap();
    assert!(reader.get(65_536, BLOCK).unwrap() == new(65_536, BLOCK));
    assert!(reader.get(131_072, 8192).unwrap() == [0; 8192]);
    let extents = reader
        .serve(|one| one.extents(65_536, 73_728, false))
        .unwrap();
    assert!(!extents[0].hole && !extents[0].zero);
    assert!(extents.last().unwrap().zero);
    reader.flush().unwrap();
    reader.leave().unwrap();
    drop(reader);
    end(life, writer);
}

#[test]
fn an_origin_that_is_another_one_is_refused_while_something_is_queued() {
    let mut survivor = survivor();
    survivor.origin.set_version("inode 1", "noon");
    let config = Config {
        cache_id: None,
        ..ordered()
    };
    let life = survivor.try_start(config.clone(), false).unwrap();
    let client = life.client();
    client.put(0, &new(0, 8192)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    survivor.origin.set_version("inode 2", "noon");
    let life = survivor.try_start(config.clone(), false).unwrap();
    let other = survivor.origin.connect();
    let said = message(life.volume.connect(other as _));
    assert!(said.contains("inode 2"), "{said}");
    assert!(said.contains("larder drain"), "{said}");
    survivor.origin.set_version("inode 1", "one");
    let client = life.client();
    assert!(client.get(0, 8192).unwrap() == new(0, 8192));
    end(life, client);
}

/// Whoever joins takes the origin's version as it is then, and what is queued changes it afterwards.
#[test]
fn what_is_sent_in_a_later_life_is_known_to_be_our_own_change() {
    let mut survivor = survivor();
    survivor.origin.set_version("inode 1", "noon");
    let config = Config {
        cache_id: None,
        ..ordered()
    };
    let life = survivor.try_start(config.clone(), false).unwrap();
    let client = life.client();
    for round in 0..2 {
        client.put(0, &content(round, 0, 8192)).unwrap();
        client.flush().unwrap();
    }
    survivor.power_cut(life, vec![client]);
    let life = survivor.try_start(config.clone(), false).unwrap();
    let client = life.client();
    send_one(&life, &client);
    survivor.origin.set_version("inode 1", "one");
    survivor.power_cut(life, vec![client]);
    let life = survivor.try_start(config, false).unwrap();
    let client = life.client();
    assert!(client.get(0, 8192).unwrap() == content(1, 0, 8192));
    end(life, client);
}

#[test]
fn an_origin_needs_a_flush_and_a_volume_a_name() {
    let mut settings = OriginSettings::new(IMAGE);
    settings.capabilities.flush = false;
    let survivor = survivor_beside(settings);
    let life = start(&survivor);
    let said = message(life.volume.connect(survivor.origin.connect() as _));
    assert!(
        said.contains("cache-writeback=ordered needs an origin that can flush"),
        "{said}"
    );
    let nameless = Config {
        cache_id: None,
        ..ordered()
    };
    drop(life);
    let life = survivor.try_start(nameless, false).unwrap();
    let said = message(life.volume.connect(survivor.origin.connect() as _));
    assert!(said.contains("cache-id"), "{said}");
}

#[test]
fn a_queue_that_is_gone_is_missed() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, 8192)).unwrap();
    client.flush().unwrap();
    survivor.kill(life, vec![client]);
    let medium = survivor.machine.medium();
    medium.remove("queue-0").unwrap();
    let said = message(survivor.try_start(ordered(), false));
    assert!(
        said.contains("the queue of volume 'volume' is missing"),
        "{said}"
    );
    assert!(said.ends_with("'larder drain --discard DIR'"), "{said}");
}

#[test]
fn a_queue_that_cannot_be_written_fails_flushes_for_good_and_nothing_else() {
    for (kind, errno) in LOG_FAILURES {
        let mut survivor = survivor();
        let life = start(&survivor);
        let client = life.client();
        end(life, client);
        // It is there now, and was opened by that name.
        let life = start(&survivor);
        let client = life.client();
        client.put(0, &new(0, BLOCK)).unwrap();
        client.flush().unwrap();
        let fault = MediumFault::file("queue-0", kind, When::Nth(1));
        survivor.machine.fail(fault.errno(errno));
        client.put(8192, &new(8192, BLOCK)).unwrap();
        let told = message(client.flush());
        assert!(told.contains("queue-0 cannot be"), "{told}");
        survivor.machine.heal();
        assert!(client.flush().is_err(), "for good");
        let fua = client.serve(|one| one.write(20_000, &[1; 512], true));
        assert!(fua.is_err());
        assert!(client.get(0, BLOCK).unwrap() == new(0, BLOCK));
        assert!(client.get(8192, BLOCK).unwrap() == new(8192, BLOCK));
        survivor.power_cut(life, vec![client]);
        let life = start(&survivor);
        let client = life.client();
        assert!(client.get(0, BLOCK).unwrap() == new(0, BLOCK));
        client.put(8192, &newer(8192, BLOCK)).unwrap();
        client.flush().unwrap();
        end(life, client);
        let disk = survivor.origin.disk();
        assert!(disk.durable(0, BLOCK) == new(0, BLOCK));
        assert!(disk.durable(8192, BLOCK) == newer(8192, BLOCK));
    }
}

/// The next start sends once more what the log does not know to be sent: until then nobody else should write there.
#[test]
fn an_end_at_which_the_log_cannot_say_what_was_sent_is_an_error() {
    for kind in [CallKind::Write, CallKind::Sync] {
        let survivor = survivor();
        let life = start(&survivor);
        let client = life.client();
        end(life, client);
        // It is there now, and was opened by that name.
        let life = start(&survivor);
        let client = life.client();
        client.put(0, &new(0, BLOCK)).unwrap();
        client.flush().unwrap();
        survivor
            .machine
            .fail(MediumFault::file("queue-0", kind, When::Nth(1)));
        send_one(&life, &client);
        let disk = survivor.origin.disk();
        assert!(disk.durable(0, BLOCK) == new(0, BLOCK), "it was sent");
        client.leave().unwrap_err();
        drop(client);
        survivor.machine.heal();
        let _ = life.cache.close();
        drop(life);
        let life = start(&survivor);
        let client = life.client();
        end(life, client);
        assert!(disk.durable(0, BLOCK) == new(0, BLOCK));
    }
}

/// It has nothing dirty, and nothing in the index.
#[test]
fn a_volume_with_something_queued_is_not_forgotten_for_others() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, BLOCK)).unwrap();
    client
        .serve(|one| one.zero(0, 8192, ZeroOptions::default()))
        .unwrap();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    survivor.origin.fault(Fault::new(Kind::Zero, When::Always));
    client.leave().unwrap_err();
    drop(client);
    survivor.origin.heal();
    for number in 0..200 {
        drop(life.cache.volume(&format!("invented {number}")));
    }
    let other = life.client_of(&life.cache.volume("other"));
    other.put(65_536, &new(65_536, BLOCK)).unwrap();
    other.flush().unwrap();
    survivor.power_cut(life, vec![other]);
    let life = start(&survivor);
    let client = life.client();
    assert!(client.get(0, 8192).unwrap() == [0; 8192]);
    let other = life.client_of(&life.cache.volume("other"));
    assert!(other.get(65_536, BLOCK).unwrap() == new(65_536, BLOCK));
    other.leave().unwrap();
    drop(other);
    end(life, client);
    assert!(survivor.origin.disk().durable(0, 8192) == [0; 8192]);
}

/// Nothing of it may be listed, and all of it is still to be sent.
#[test]
fn a_volume_that_answers_nothing_keeps_what_was_queued() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, BLOCK)).unwrap();
    client.flush().unwrap();
    survivor
        .origin
        .fault(Fault::new(Kind::Read, When::Nth(1)).panic());
    assert!(client.get(131_072, 512).is_err());
    survivor.origin.heal();
    let _ = client.leave();
    drop(client);
    let _ = life.cache.close();
    drop(life);
    let life = start(&survivor);
    let client = life.client();
    assert!(client.get(0, BLOCK).unwrap() == new(0, BLOCK));
    end(life, client);
    assert!(survivor.origin.disk().durable(0, BLOCK) == new(0, BLOCK));
}

#[test]
fn there_is_space_for_so_many_queues_and_one_more_is_refused() {
    let survivor = survivor();
    let life = survivor.start(&ordered());
    let first = life.client();
    first.put(0, &new(0, BLOCK)).unwrap();
    first.flush().unwrap();
    let other = life.cache.volume("other");
    let said = message(other.connect(survivor.origin.connect() as _));
    assert!(said.contains("a larger cache-max-size"), "{said}");
    let reader = other.connect(survivor.origin.connect_read_only() as _);
    drop(reader.unwrap());
    end(life, first);
}

/// What is damaged is an error, or was never there; it is no other data.
#[test]
fn a_damaged_queue_gives_no_wrong_data() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    for round in 0..6_u64 {
        let at = round * 8192;
        client.put(at, &new(at, BLOCK)).unwrap();
        client.flush().unwrap();
    }
    survivor.kill(life, vec![client]);
    let image = survivor.machine.durable();
    let mut refused = 0;
    for place in (0..100_000).step_by(1021) {
        let damaged = Survivor {
            origin: survivor.origin.clone(),
            machine: Machine::new(image.clone(), 1),
            violations: survivor.violations.clone(),
        };
        let file = damaged.machine.medium().open("queue-0").unwrap();
        let mut byte = [0];
        file.read(place, &mut byte).unwrap();
        file.write(place, &[byte[0] ^ 0x10]).unwrap();
        drop(file);
        let sizes = HomeSizes {
            queue_bytes: 1 << 20,
            ..few(600)
        };
        let Ok(life) = damaged.try_start_with(ordered(), true, Some(sizes)) else {
            refused += 1;
            continue;
        };
        let client = life.client();
        for round in 0..5_u64 {
            let at = round * 8192;
            assert!(client.get(at, BLOCK).unwrap() == new(at, BLOCK), "{place}");
        }
        // The last frames may look like ones that a crash tore off.
        let last = client.get(5 * 8192, BLOCK).unwrap();
        assert!(last == new(5 * 8192, BLOCK) || last == old(5 * 8192, BLOCK));
        damaged.machine.kill();
        drop((client, life));
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn dirty_data_of_the_other_order_is_refused() {
    let mut survivor = survivor();
    let life = survivor.start(&to_cache());
    let client = life.client();
    client.put(0, &new(0, 8192)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let said = message(survivor.try_start(ordered(), false));
    assert!(said.contains("cache-writeback=unordered"), "{said}");
}
