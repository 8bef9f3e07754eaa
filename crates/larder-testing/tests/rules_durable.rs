//! What a flush promises with `cache-flush=cache`: it is durable in the cache's directory, whatever the origin does, and reaches the origin later.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use larder::{CacheState, Config, ZeroOptions};
use larder_testing::crash::{CallKind, MediumFault};
use larder_testing::flushing::{
    AGE, BLOCK, IMAGE, LOG_FAILURES, SECTOR, age, assert_old_or_new, crashes, end, few, flip, new,
    newer, old, small, survivor, to_cache, to_origin,
};
use larder_testing::random::content;
use larder_testing::rig::Client;
use larder_testing::surviving::{Life, Survivor};
use larder_testing::{Fault, Kind, OriginSettings, Random, When};

/// Writes and flushes in one life, and loses power.
fn flushed(survivor: &mut Survivor, offset: u64, data: &[u8]) {
    let life = survivor.start(&to_cache());
    let client = life.client();
    client.put(offset, data).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
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

#[test]
fn neither_a_flush_nor_fua_asks_the_origin() {
    let survivor = survivor();
    let life = survivor.start(&to_cache());
    let client = life.client();
    client.get(0, BLOCK).unwrap();
    // Who joins flushes what was there before.
    let before = changes(&survivor);
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    survivor.origin.fault(Fault::new(Kind::Flush, When::Always));
    for round in 0..20_u64 {
        client.put(0, &content(round, 0, BLOCK)).unwrap();
        client.flush().unwrap();
        let fua = content(round, 8192, 700);
        client.serve(|one| one.write(8192, &fua, true)).unwrap();
    }
    assert_eq!(changes(&survivor), before);
    survivor.origin.heal();
    end(life, client);
    assert!(survivor.origin.disk().durable(0, BLOCK) == content(19, 0, BLOCK));
}

#[test]
fn what_was_flushed_outlives_a_crash_and_reaches_the_origin_then() {
    let mut survivor = survivor();
    let (offset, length) = (1000, 30_000);
    flushed(&mut survivor, offset, &new(offset, length));
    assert!(survivor.origin.disk().durable(offset, length) == old(offset, length));
    let life = survivor.start(&to_cache());
    let client = life.client();
    assert!(client.get(offset, length).unwrap() == new(offset, length));
    assert!(client.get(0, 1000).unwrap() == old(0, 1000));
    let states: Vec<CacheState> = client
        .status(1024, 28_672)
        .iter()
        .map(|one| one.1)
        .collect();
    assert_eq!(states, [CacheState::Dirty]);
    age(&life, &client);
    assert!(survivor.origin.disk().durable(offset, length) == new(offset, length));
    survivor.power_cut(life, vec![client]);
    let life = survivor.start(&to_origin());
    let client = life.client();
    assert_eq!(life.cache.stats().dirty_bytes, 0);
    assert!(client.get(offset, length).unwrap() == new(offset, length));
}

#[test]
fn fua_alone_outlives_a_crash() {
    let mut survivor = survivor();
    let life = survivor.start(&to_cache());
    let client = life.client();
    client.put(0, &new(0, 4096)).unwrap();
    let fua = new(10_000, 5000);
    client.serve(|one| one.write(10_000, &fua, true)).unwrap();
    survivor.power_cut(life, vec![client]);
    let life = survivor.start(&to_cache());
    let client = life.client();
    assert!(client.get(10_000, 5000).unwrap() == new(10_000, 5000));
    let first = client.get(0, 4096).unwrap();
    assert!(first == old(0, 4096) || first == new(0, 4096));
}

/// What has happened to flushed sectors before they are overwritten.
fn overwritten_after(between: impl Fn(&Life, &Client), length: usize) {
    let survivor = survivor();
    let life = small(&survivor, 64);
    let client = life.client();
    client.put(4096, &new(4096, length)).unwrap();
    client.flush().unwrap();
    between(&life, &client);
    let since = survivor.machine.position();
    client.put(4096, &newer(4096, length)).unwrap();
    let (first, second) = (new(4096, length), newer(4096, length));
    let found = crashes(&survivor, since, (4096, length));
    let is_new = |found: &&Vec<u8>| **found == second;
    // It may not have reached the medium at all.
    assert!(found.iter().filter(is_new).count() < found.len());
    let either = |one: &Vec<u8>| {
        let pairs = first.chunks(SECTOR).zip(second.chunks(SECTOR));
        let mut pairs = one.chunks(SECTOR).zip(pairs);
        pairs.all(|(found, (first, second))| found == first || found == second)
    };
    assert!(found.iter().all(either));
    client.flush().unwrap();
    let found = crashes(&survivor, survivor.machine.position(), (4096, length));
    assert_old_or_new(&found, &first, &second, false);
}

/// So much of it is recorded by checksums and not in the journal.
const LARGE: usize = 40 << 10;

#[test]
fn flushed_sectors_are_old_or_new_until_the_next_flush() {
    overwritten_after(|_, _| {}, 3 * SECTOR);
    overwritten_after(|_, _| {}, LARGE);
}

#[test]
fn flushed_sectors_are_old_or_new_after_checkpoints_too() {
    let fill_the_journal = |life: &Life, client: &Client| {
        for round in 0..200 {
            client.put(200_000, &content(round, 0, 4096)).unwrap();
            client.flush().unwrap();
            if round % 7 == 0 {
                assert!(life.cache.maintain_medium(Duration::ZERO));
            }
        }
    };
    overwritten_after(fill_the_journal, 3 * SECTOR);
    overwritten_after(fill_the_journal, LARGE);
}

#[test]
fn a_part_of_a_flushed_sector_can_be_overwritten() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = life.client();
    client.put(0, &new(0, LARGE)).unwrap();
    client.flush().unwrap();
    client.put(700, &newer(700, 5000)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    let mut expected = new(0, LARGE);
    expected[700..5700].copy_from_slice(&newer(700, 5000));
    assert!(client.get(0, LARGE).unwrap() == expected);
    age(&life, &client);
    assert!(survivor.origin.disk().durable(0, LARGE) == expected);
}

/// What only the cache had once must not come back over what the origin has.
#[test]
fn old_dirty_data_does_not_come_back_over_what_went_through() {
    let mut survivor = survivor();
    let life = small(&survivor, 2);
    let client = life.client();
    client.put(0, &new(0, BLOCK)).unwrap();
    client.flush().unwrap();
    age(&life, &client);
    // Both slots are taken by what the origin refuses.
    let (refused, length) = (IMAGE / 2, 2 * BLOCK);
    let meets = When::Meets(refused, length as u64);
    survivor.origin.fault(Fault::new(Kind::Write, meets));
    client.put(refused, &new(refused, length)).unwrap();
    client.flush().unwrap();
    client.put(0, &newer(0, 1000)).unwrap();
    client.flush().unwrap();
    assert!(survivor.origin.disk().durable(0, 1000) == newer(0, 1000));
    survivor.power_cut(life, vec![client]);
    survivor.origin.heal();
    let life = small(&survivor, 2);
    let client = life.client();
    assert!(client.get(0, 1000).unwrap() == newer(0, 1000));
    assert!(client.get(1000, BLOCK - 1000).unwrap() == new(1000, BLOCK - 1000));
    assert!(client.get(refused, length).unwrap() == new(refused, length));
    end(life, client);
    let mut expected = new(0, BLOCK);
    expected[..1000].copy_from_slice(&newer(0, 1000));
    assert!(survivor.origin.disk().durable(0, BLOCK) == expected);
}

#[test]
fn a_trim_leaves_zeros_or_what_was_flushed_and_nothing_older() {
    for flushes in [0, 1] {
        let mut survivor = survivor();
        let life = small(&survivor, 64);
        let client = life.client();
        client.put(0, &new(0, 2 * BLOCK)).unwrap();
        client.flush().unwrap();
        client
            .serve(|one| one.trim(0, BLOCK as u64, false))
            .unwrap();
        for _ in 0..flushes {
            client.flush().unwrap();
        }
        survivor.power_cut(life, vec![client]);
        let life = small(&survivor, 64);
        let client = life.client();
        let found = client.get(0, BLOCK).unwrap();
        for (found, new) in found.chunks(SECTOR).zip(new(0, BLOCK).chunks(SECTOR)) {
            assert!(found == new || found == [0; SECTOR]);
        }
        assert!(client.get(BLOCK as u64, BLOCK).unwrap() == new(BLOCK as u64, BLOCK));
        age(&life, &client);
        survivor.power_cut(life, vec![client]);
        let life = small(&survivor, 64);
        assert!(life.client().get(0, BLOCK).unwrap() == found);
    }
}

#[test]
fn zeros_are_as_durable_as_data() {
    for fua in [false, true] {
        let mut survivor = survivor();
        let life = small(&survivor, 64);
        let client = life.client();
        client.put(0, &new(0, 2 * BLOCK)).unwrap();
        client.flush().unwrap();
        let options = ZeroOptions {
            fua,
            ..ZeroOptions::default()
        };
        client
            .serve(|one| one.zero(512, BLOCK as u64, options))
            .unwrap();
        if !fua {
            client.flush().unwrap();
        }
        survivor.power_cut(life, vec![client]);
        let life = small(&survivor, 64);
        let client = life.client();
        let mut expected = new(0, 2 * BLOCK);
        expected[512..512 + BLOCK].fill(0);
        assert!(client.get(0, 2 * BLOCK).unwrap() == expected);
        end(life, client);
        assert!(survivor.origin.disk().durable(0, 2 * BLOCK) == expected);
    }
}

#[test]
fn a_bad_dirty_sector_is_an_error_until_it_is_overwritten() {
    let mut survivor = survivor();
    flushed(&mut survivor, 0, &new(0, 3 * BLOCK));
    // So that it is not in the journal any more.
    let life = survivor.start(&to_cache());
    survivor.power_cut(life, Vec::new());
    flip(&survivor, &new(BLOCK as u64, SECTOR));
    let life = survivor.start(&to_cache());
    let client = life.client();
    let told = message(client.get(BLOCK as u64 + 100, 200));
    assert!(told.contains("volume") && told.contains("4096"), "{told}");
    assert!(client.get(0, BLOCK).unwrap() == new(0, BLOCK));
    let beside = BLOCK as u64 + 512;
    assert!(client.get(beside, 7168).unwrap() == new(beside, 7168));
    assert!(client.put(BLOCK as u64 + 10, &[1; 20]).is_err());
    client.put(8192, &newer(8192, 512)).unwrap();
    client.flush().unwrap();
    assert!(client.leave().is_err());
    let disk = survivor.origin.disk();
    assert!(disk.current(4096, 512) == old(4096, 512));
    assert!(disk.durable(0, 4096) == new(0, 4096));
    survivor.power_cut(life, vec![client]);
    let life = survivor.start(&to_cache());
    let client = life.client();
    assert!(client.get(4096, 512).is_err());
    client.put(4096, &newer(4096, 512)).unwrap();
    assert!(client.get(4096, 512).unwrap() == newer(4096, 512));
    client.flush().unwrap();
    end(life, client);
    assert!(survivor.origin.disk().durable(4096, 512) == newer(4096, 512));
}

#[test]
fn a_directory_with_dirty_data_is_refused_without_the_mode_and_told_the_ways_out() {
    let mut survivor = survivor();
    flushed(&mut survivor, 0, &new(0, 3 * BLOCK));
    let before = survivor.machine.durable();
    let told = message(survivor.try_start(to_origin(), false));
    for part in [
        "/cache",
        "cache-flush=cache",
        "larder drain",
        "--discard",
        "--output",
    ] {
        assert!(told.contains(part), "no {part} in: {told}");
    }
    drop(before);
    let life = survivor.start(&to_cache());
    let client = life.client();
    assert!(client.get(0, 3 * BLOCK).unwrap() == new(0, 3 * BLOCK));
    end(life, client);
    let life = survivor.try_start(to_origin(), false).unwrap();
    assert!(life.client().get(0, 3 * BLOCK).unwrap() == new(0, 3 * BLOCK));
}

#[test]
fn an_origin_that_has_changed_is_refused_while_something_is_dirty() {
    let mut survivor = survivor();
    survivor.origin.set_version("inode 1", "monday");
    let unnamed = Config {
        cache_id: None,
        ..to_cache()
    };
    let life = survivor.start(&unnamed);
    let client = life.client();
    client.put(0, &new(0, BLOCK)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    survivor.origin.set_version("inode 1", "tuesday");
    let life = survivor.start(&unnamed);
    let told = message(life.volume.connect(survivor.origin.connect()));
    assert!(
        told.contains("volume") && told.contains("monday") && told.contains("tuesday"),
        "{told}"
    );
    drop(life);
    survivor.origin.set_version("inode 1", "monday");
    let life = survivor.start(&unnamed);
    let client = life.client();
    assert!(client.get(0, BLOCK).unwrap() == new(0, BLOCK));
    end(life, client);
}

#[test]
fn a_journal_that_cannot_be_written_fails_flushes_for_good() {
    for (kind, errno) in LOG_FAILURES {
        let mut survivor = survivor();
        let life = survivor.start(&to_cache());
        let client = life.client();
        client.put(0, &new(0, BLOCK)).unwrap();
        client.flush().unwrap();
        let fault = MediumFault::file("journal", kind, When::Nth(1));
        survivor.machine.fail(fault.errno(errno));
        client.put(8192, &new(8192, BLOCK)).unwrap();
        let told = message(client.flush());
        assert!(told.contains("/cache"), "{told}");
        survivor.machine.heal();
        assert!(client.flush().is_err(), "for good");
        let fua = client.serve(|one| one.write(20_000, &[1; 512], true));
        assert!(fua.is_err());
        assert!(client.get(0, BLOCK).unwrap() == new(0, BLOCK));
        assert!(client.get(8192, BLOCK).unwrap() == new(8192, BLOCK));
        survivor.power_cut(life, vec![client]);
        let life = survivor.start(&to_cache());
        let client = life.client();
        assert!(client.get(0, BLOCK).unwrap() == new(0, BLOCK));
        let found = client.get(8192, BLOCK).unwrap();
        for (at, found) in (8192..).step_by(SECTOR).zip(found.chunks(SECTOR)) {
            assert!(found == old(at, SECTOR) || found == new(at, SECTOR));
        }
        client.put(8192, &newer(8192, BLOCK)).unwrap();
        client.flush().unwrap();
        end(life, client);
        assert!(survivor.origin.disk().durable(8192, BLOCK) == newer(8192, BLOCK));
    }
}

#[test]
fn slots_that_cannot_be_synced_fail_the_flush_that_needs_them() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = life.client();
    client.put(0, &new(0, LARGE)).unwrap();
    client.flush().unwrap();
    let fault = MediumFault::file("slots", CallKind::Sync, When::Nth(1));
    survivor.machine.fail(fault);
    let second = 1 << 19;
    client.put(second, &new(second, LARGE)).unwrap();
    assert!(client.flush().is_err());
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    assert!(client.get(0, LARGE).unwrap() == new(0, LARGE));
}

#[test]
fn a_smaller_limit_loses_nothing_dirty() {
    let mut survivor = survivor();
    let life = small(&survivor, 200);
    let client = life.client();
    let length = 150 * BLOCK;
    client.put(0, &new(0, length)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let told = message(survivor.try_start_with(to_cache(), true, Some(few(20))));
    assert!(told.contains("cache-max-size that it had"), "{told}");
    let life = small(&survivor, 200);
    let client = life.client();
    assert!(client.get(0, length).unwrap() == new(0, length));
    client.put(0, &newer(0, BLOCK)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 300);
    let client = life.client();
    assert!(client.get(0, BLOCK).unwrap() == newer(0, BLOCK));
    let rest = BLOCK as u64;
    assert!(client.get(rest, length - BLOCK).unwrap() == new(rest, length - BLOCK));
    end(life, client);
    assert!(survivor.origin.disk().durable(rest, length - BLOCK) == new(rest, length - BLOCK));
    let life = survivor.start(&to_origin());
    assert!(life.client().get(rest, length - BLOCK).unwrap() == new(rest, length - BLOCK));
}

#[test]
fn a_connection_that_cannot_write_flushes_what_others_wrote() {
    let mut survivor = survivor();
    let life = survivor.start(&to_cache());
    let (writer, origin) = (life.client(), survivor.origin.connect_read_only());
    let reader = Arc::new(Client {
        connection: life.volume.connect(Arc::clone(&origin) as _).unwrap(),
        origin,
    });
    let before = changes(&survivor);
    writer.put(0, &new(0, BLOCK)).unwrap();
    reader.flush().unwrap();
    assert_eq!(changes(&survivor), before);
    survivor.power_cut(life, vec![writer, reader]);
    let life = survivor.start(&to_cache());
    assert!(life.client().get(0, BLOCK).unwrap() == new(0, BLOCK));
}

#[test]
fn more_than_fits_can_be_dirty_and_flushed_all_the_time() {
    let mut survivor = survivor();
    let mut life = small(&survivor, 8);
    let mut client = life.client();
    let mut versions = [1; 64];
    let mut random = Random::new(5);
    for round in 2..600 {
        let block = random.below(64);
        let at = block * BLOCK as u64;
        client.put(at, &content(round, at, BLOCK)).unwrap();
        versions[block as usize] = round;
        client.flush().unwrap();
        if round % 50 == 0 {
            survivor.power_cut(life, vec![client]);
            life = small(&survivor, 8);
            client = life.client();
            for (block, version) in versions.iter().enumerate() {
                let at = (block * BLOCK) as u64;
                let found = client.get(at, BLOCK).unwrap();
                assert!(found == content(*version, at, BLOCK), "{round}: {block}");
            }
        }
    }
    end(life, client);
    for (block, version) in versions.iter().enumerate() {
        let at = (block * BLOCK) as u64;
        assert!(survivor.origin.disk().durable(at, BLOCK) == content(*version, at, BLOCK));
    }
}

#[test]
fn many_volumes_keep_what_is_theirs() {
    const VOLUMES: u64 = 20;
    const SHARE: u64 = IMAGE / VOLUMES / 4096 * 4096;
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let mut clients = Vec::new();
    for number in 0..VOLUMES {
        let client = life.client_of(&life.cache.volume(&format!("volume {number}")));
        client
            .put(number * SHARE, &new(number * SHARE, 5000))
            .unwrap();
        if number % 2 == 0 {
            client.flush().unwrap();
        }
        clients.push(client);
    }
    survivor.power_cut(life, clients);
    let life = small(&survivor, 64);
    for number in 0..VOLUMES {
        let client = life.client_of(&life.cache.volume(&format!("volume {number}")));
        let found = client.get(number * SHARE, 5000).unwrap();
        let is_new = found == new(number * SHARE, 5000);
        assert!(is_new || (number % 2 == 1 && found == old(number * SHARE, 5000)));
        client.leave().unwrap();
    }
    life.end();
    survivor.try_start(to_origin(), false).unwrap().end();
}

#[test]
fn what_the_origin_refuses_at_the_end_is_kept() {
    let survivor = survivor();
    let life = survivor.start(&to_cache());
    let client = life.client();
    client.put(0, &new(0, 3 * BLOCK)).unwrap();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    // Whether that is worth an error is the front end's to say.
    let _ = client.leave();
    drop(client);
    life.end();
    survivor.origin.heal();
    assert!(survivor.try_start(to_origin(), false).is_err());
    let life = survivor.start(&to_cache());
    let client = life.client();
    assert!(client.get(0, 3 * BLOCK).unwrap() == new(0, 3 * BLOCK));
    end(life, client);
    assert!(survivor.origin.disk().durable(0, 3 * BLOCK) == new(0, 3 * BLOCK));
}

/// The process is killed between the origin's write and its flush, and then power fails: what was seen in between and flushed is there.
#[test]
fn what_a_killed_process_had_sent_is_flushed_by_the_next_before_it_counts() {
    let mut survivor = survivor();
    flushed(&mut survivor, 0, &new(0, BLOCK));
    let life = survivor.start(&to_cache());
    let client = life.client();
    client.put(0, &newer(0, BLOCK)).unwrap();
    survivor.origin.fault(Fault::new(Kind::Flush, When::Always));
    life.clock.advance(2 * AGE);
    client.get(IMAGE - 512, 512).unwrap();
    survivor.kill(life, vec![client]);
    survivor.origin.heal();
    let life = survivor.start(&to_cache());
    let client = life.client();
    let found = client.get(0, BLOCK).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = survivor.start(&to_cache());
    assert!(life.client().get(0, BLOCK).unwrap() == found);
}

#[test]
fn the_ragged_end_of_a_volume_is_as_durable_as_the_rest() {
    let size = IMAGE + 700;
    let mut survivor = Survivor::new(OriginSettings::new(size));
    survivor.origin.disk().fill(0, &old(0, size as usize));
    let (offset, length) = (IMAGE - 900, 1600);
    for round in 2..6 {
        let life = small(&survivor, 64);
        let client = life.client();
        client.put(offset, &content(round, offset, length)).unwrap();
        client.flush().unwrap();
        if round == 4 {
            assert!(life.cache.maintain_medium(Duration::ZERO));
            client.put(size - 1, &[9]).unwrap();
        }
        survivor.power_cut(life, vec![client]);
        let life = small(&survivor, 64);
        let client = life.client();
        let found = client.get(offset, length).unwrap();
        let last = found[length - 1];
        assert!(found[..length - 1] == content(round, offset, length)[..length - 1]);
        assert!(last == content(round, offset, length)[length - 1] || (round == 4 && last == 9));
        survivor.power_cut(life, vec![client]);
    }
    let life = small(&survivor, 64);
    let client = life.client();
    end(life, client);
    assert!(survivor.origin.disk().durable(offset, length) == content(5, offset, length));
}

#[test]
fn an_origin_of_another_size_is_refused_while_something_is_dirty() {
    let mut survivor = survivor();
    flushed(&mut survivor, 0, &new(0, 3 * BLOCK));
    let life = survivor.start(&to_cache());
    for size in [IMAGE / 2, 2 * IMAGE] {
        let origin = survivor.origin.connect_as(|terms| terms.size = size);
        let told = message(life.volume.connect(origin));
        assert!(told.contains(&size.to_string()), "{told}");
    }
    let client = life.client();
    assert!(client.get(0, 3 * BLOCK).unwrap() == new(0, 3 * BLOCK));
    end(life, client);
    assert!(survivor.origin.disk().durable(0, 3 * BLOCK) == new(0, 3 * BLOCK));
}

#[test]
fn an_origin_that_refuses_everything_for_a_while_costs_nothing() {
    let mut survivor = survivor();
    let mut life = small(&survivor, 64);
    let mut client = life.client();
    client.put(0, &new(0, 8 * BLOCK)).unwrap();
    client.flush().unwrap();
    for kind in [Kind::Write, Kind::Flush] {
        survivor.origin.fault(Fault::new(kind, When::Always));
        for round in 0..30_u64 {
            let at = round % 8 * BLOCK as u64;
            client.put(at, &content(round, at, 1000)).unwrap();
            life.clock.advance(2 * AGE);
            client.flush().unwrap();
            if round % 10 == 9 {
                survivor.power_cut(life, vec![client]);
                life = small(&survivor, 64);
                client = life.client();
            }
        }
        survivor.origin.heal();
    }
    let mut expected = new(0, 8 * BLOCK);
    for round in 22..30 {
        let at = round as usize % 8 * BLOCK;
        expected[at..at + 1000].copy_from_slice(&content(round, at as u64, 1000));
    }
    assert!(client.get(0, 8 * BLOCK).unwrap() == expected);
    end(life, client);
    assert!(survivor.origin.disk().durable(0, 8 * BLOCK) == expected);
}
