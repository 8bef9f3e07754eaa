//! Faults that there were where flushes end in the cache's directory.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{Config, Error, ZeroOptions};
use larder_testing::crash::{CallKind, Machine, MediumFault};
use larder_testing::flushing::{
    AGE, BLOCK, IMAGE, SECTOR, age, end, few, new, newer, old, small, survivor, survivor_beside,
    to_cache, to_origin,
};
use larder_testing::log::Level;
use larder_testing::random::content;
use larder_testing::rig::{Client, run};
use larder_testing::surviving::{Life, Survivor};
use larder_testing::{Fault, Kind, OriginSettings, When};

const SLOTS: u32 = 64;
/// Where the first block that is written has its slot.
const FIRST_SLOT: u64 = 1 << 20;
/// A block that no test has dirty data of its own in.
const ELSEWHERE: u64 = IMAGE / 2;

fn start(survivor: &Survivor) -> Life {
    small(survivor, SLOTS)
}

/// A client's first block is flushed.
fn flush_first(client: &Client) {
    client.put(0, &new(0, BLOCK)).unwrap();
    client.flush().unwrap();
}

/// A request for zeros in the first block, without FUA.
fn zero_first(client: &Client) -> Result<(), Error> {
    client.serve(|one| one.zero(0, BLOCK as u64, ZeroOptions::default()))
}

fn assert_zeros(client: &Client) {
    assert!(client.get(0, BLOCK).unwrap() == [0; BLOCK]);
}

/// More than the journal takes, so that it must let go of what is in it.
fn fill_the_journal(client: &Client) {
    for round in 0..200 {
        client.put(ELSEWHERE, &content(round, 0, BLOCK)).unwrap();
        let flushed = client.flush();
        assert!(flushed.is_ok(), "round {round}: {flushed:?}");
    }
}

/// The first zero failed, the second not: what had been flushed before came back with the next start.
#[test]
fn regression_a_zero_that_is_tried_again_stays() {
    for is_clean in [false, true] {
        let mut survivor = survivor();
        let life = start(&survivor);
        let client = life.client();
        flush_first(&client);
        survivor.origin.fault(Fault::new(Kind::Zero, When::Nth(1)));
        assert!(zero_first(&client).is_err());
        zero_first(&client).unwrap();
        client.flush().unwrap();
        assert_zeros(&client);
        match is_clean {
            true => end(life, client),
            false => survivor.power_cut(life, vec![client]),
        }
        let life = start(&survivor);
        assert_zeros(&life.client());
    }
}

/// Who joined after the zero covered it with no flush, and said yes.
#[test]
fn regression_a_flush_of_who_joined_after_a_zero_covers_it() {
    let survivor = survivor();
    let life = start(&survivor);
    let first = life.client();
    flush_first(&first);
    zero_first(&first).unwrap();
    let second = life.client();
    second.get(0, SECTOR).unwrap();
    second.flush().unwrap();
    assert_zeros(&second);
    first.leave().unwrap();
    second.flush().unwrap();
    drop(first);
    end(life, second);
    let life = start(&survivor);
    assert_zeros(&life.client());
}

/// After it the range read as before everything that had been flushed.
#[test]
fn regression_a_zero_outlives_the_loss_of_the_origins_connection() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    flush_first(&client);
    zero_first(&client).unwrap();
    survivor.origin.lose_connection(None);
    client.flush().unwrap();
    assert_zeros(&client);
    survivor.power_cut(life, vec![client]);
    let life = start(&survivor);
    assert_zeros(&life.client());
}

/// The pass made up for what it had written, and counted the zero too.
#[test]
fn regression_a_zero_outlives_what_a_pass_hears_of() {
    for is_refused in [false, true] {
        let mut survivor = survivor();
        let life = start(&survivor);
        let client = life.client();
        flush_first(&client);
        client.put(ELSEWHERE, &new(ELSEWHERE, BLOCK)).unwrap();
        zero_first(&client).unwrap();
        if is_refused {
            survivor.origin.disk().lose_unflushed(None);
            let refused = Fault::new(Kind::Flush, When::Nth(1));
            survivor.origin.fault(refused);
        } else {
            survivor.origin.lose_connection(None);
        }
        life.clock.advance(2 * AGE);
        client.get(IMAGE - 512, 512).unwrap();
        client.flush().unwrap();
        assert_zeros(&client);
        survivor.power_cut(life, vec![client]);
        let life = start(&survivor);
        let client = life.client();
        assert_zeros(&client);
        let found = client.get(ELSEWHERE, BLOCK).unwrap();
        assert!(found == new(ELSEWHERE, BLOCK));
    }
}

/// The refused origin's size was taken for the volume's: asking what the origin does not have panicked.
#[test]
fn regression_a_refused_origin_changes_nothing_of_what_was_found() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    let length = 3 * BLOCK;
    client.put(0, &new(0, length)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let other = Config {
        cache_id: Some("another".to_owned()),
        ..to_cache()
    };
    let life = survivor
        .try_start_with(other, true, Some(few(SLOTS)))
        .unwrap();
    let refused = life.volume.connect(survivor.origin.connect());
    let told = refused.err().unwrap().to_string();
    assert!(
        told.contains("volume") && told.contains("another"),
        "{told}"
    );
    let leftovers = life.cache.leftovers();
    assert_eq!(leftovers.len(), 1);
    assert_eq!(leftovers[0].ranges, [(0, length as u64)]);
    assert!(life.log.messages(Level::Error).is_empty());
    survivor.power_cut(life, Vec::new());
    let life = start(&survivor);
    assert!(life.client().get(0, length).unwrap() == new(0, length));
}

/// The journal could not let go of its block, so that soon nobody could flush.
#[test]
fn regression_a_volume_that_answers_nothing_stops_no_other() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let poisoned = life.client_of(&life.cache.volume("other"));
    flush_first(&poisoned);
    let panics = Fault::new(Kind::Read, When::Nth(1)).panic();
    survivor.origin.fault(panics);
    assert!(poisoned.get(ELSEWHERE, 512).is_err());
    survivor.origin.heal();
    assert!(poisoned.get(0, 512).is_err(), "for good");
    let client = life.client();
    fill_the_journal(&client);
    survivor.power_cut(life, vec![client, poisoned]);
    let life = start(&survivor);
    let found = life.client().get(ELSEWHERE, BLOCK).unwrap();
    assert!(found == content(199, 0, BLOCK));
    let other = life.client_of(&life.cache.volume("other"));
    assert!(other.get(0, BLOCK).unwrap() == new(0, BLOCK));
}

/// The same with a slot of which the medium has lost everything.
#[test]
fn regression_a_slot_that_cannot_be_read_stops_no_other_volume() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let unlucky = life.client_of(&life.cache.volume("other"));
    flush_first(&unlucky);
    unlucky.put(0, &newer(0, BLOCK)).unwrap();
    let meets = When::Meets(FIRST_SLOT, BLOCK as u64);
    let unreadable = MediumFault::file("slots", CallKind::Read, meets);
    survivor.machine.fail(unreadable);
    assert!(unlucky.get(0, BLOCK).is_err());
    assert!(unlucky.flush().is_err());
    let client = life.client();
    fill_the_journal(&client);
    survivor.power_cut(life, vec![client, unlucky]);
}

/// One sector that could not be read made all that lay beside it unreadable.
#[test]
fn regression_the_neighbours_of_a_lost_sector_are_there() {
    const LOST: usize = 3;
    let mut survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    flush_first(&client);
    survivor.power_cut(life, vec![client]);
    let life = start(&survivor);
    let lost = FIRST_SLOT + (LOST * SECTOR) as u64;
    let meets = When::Meets(lost, SECTOR as u64);
    let unreadable = MediumFault::file("slots", CallKind::Read, meets);
    survivor.machine.fail(unreadable);
    let client = life.client();
    let expected = new(0, BLOCK);
    for (number, expected) in expected.chunks(SECTOR).enumerate() {
        let found = client.get((number * SECTOR) as u64, SECTOR);
        match number {
            LOST => assert!(found.is_err()),
            _ => assert!(found.unwrap() == expected, "sector {number}"),
        }
    }
    // It is what is written back, too.
    assert!(client.leave().is_err());
    let mut written = expected;
    let lost = LOST * SECTOR..(LOST + 1) * SECTOR;
    written[lost].copy_from_slice(&old((LOST * SECTOR) as u64, SECTOR));
    assert!(survivor.origin.disk().durable(0, BLOCK) == written);
}

/// Those that had to be said at once were more than the journal had room for, and it was dead.
#[test]
fn regression_any_number_of_long_names_fits_into_the_journal() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    flush_first(&client);
    let mut clients = Vec::new();
    for number in 0..30 {
        let name = format!("{number}-{}", "x".repeat(4000));
        clients.push(life.client_of(&life.cache.volume(&name)));
    }
    client.put(0, &newer(0, BLOCK)).unwrap();
    client.flush().unwrap();
    clients.push(client);
    survivor.power_cut(life, clients);
    let life = start(&survivor);
    assert!(life.client().get(0, BLOCK).unwrap() == newer(0, BLOCK));
}

/// The volume was dropped, and the next commit said that it was no more.
#[test]
fn regression_a_volume_that_is_dropped_first_keeps_what_was_flushed() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let first = life.client();
    flush_first(&first);
    let second = life.client_of(&life.cache.volume("other"));
    second.put(0, &newer(0, BLOCK)).unwrap();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    assert!(first.leave().is_err());
    drop((first, life));
    second.flush().unwrap();
    survivor.origin.heal();
    // The power fails without the life that is no more.
    survivor.origin.disk().crash(None);
    let left = survivor.machine.durable();
    survivor.machine.kill();
    drop(second);
    survivor.origin.disk().restart();
    survivor.machine = Machine::new(left, 1);
    let life = start(&survivor);
    assert!(life.client().get(0, BLOCK).unwrap() == new(0, BLOCK));
    let other = life.client_of(&life.cache.volume("other"));
    assert!(other.get(0, BLOCK).unwrap() == newer(0, BLOCK));
}

/// After so many that nobody could tell any more which they were, each flush asked the origin, and no block left the record.
#[test]
fn regression_many_trims_keep_neither_flushes_nor_blocks() {
    let mut settings = OriginSettings::new(IMAGE);
    settings.capabilities.multi_conn = false;
    let survivor = survivor_beside(settings);
    let life = start(&survivor);
    let client = life.client();
    for number in 0..5000_u64 {
        let at = ELSEWHERE + number % 2 * BLOCK as u64;
        let trimmed = client.serve(|one| one.trim(at, SECTOR as u64, false));
        trimmed.unwrap();
    }
    client.flush().unwrap();
    let flushes = || survivor.origin.calls().count(Kind::Flush);
    let before = flushes();
    client.put(0, &new(0, BLOCK)).unwrap();
    for _ in 0..10 {
        client.flush().unwrap();
    }
    assert_eq!(flushes(), before);
    // More blocks than slots.
    for block in 0..200_u64 {
        client.put(block * BLOCK as u64, &new(0, BLOCK)).unwrap();
        client.flush().unwrap();
    }
    assert_eq!(life.cache.stats().no_room_writes, 0);
    end(life, client);
    let started = survivor.try_start_with(to_origin(), true, Some(few(SLOTS)));
    let last = 199 * BLOCK as u64;
    assert!(started.unwrap().client().get(last, BLOCK).unwrap() == new(0, BLOCK));
}

/// The trim waits for a flush that cannot come. What was written is kept.
#[test]
fn regression_an_end_without_an_origin_after_a_trim_keeps_what_was_written() {
    let survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, BLOCK)).unwrap();
    let trimmed = client.serve(|one| one.trim(ELSEWHERE, SECTOR as u64, false));
    trimmed.unwrap();
    for kind in [Kind::Write, Kind::Flush] {
        survivor.origin.fault(Fault::new(kind, When::Always));
    }
    assert!(client.leave().is_err());
    assert_eq!(life.cache.leftovers()[0].ranges, [(0, BLOCK as u64)]);
    drop(client);
    life.end();
    survivor.origin.heal();
    let life = start(&survivor);
    assert!(life.client().get(0, BLOCK).unwrap() == new(0, BLOCK));
}

/// The write waited for what it could never have, at full speed.
#[test]
fn regression_a_write_over_a_part_of_what_cannot_be_read_is_an_error_and_no_endless_loop() {
    const LENGTH: usize = 10 * BLOCK;
    let mut survivor = survivor();
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, LENGTH)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = start(&survivor);
    let client = life.client();
    assert!(client.get(0, LENGTH).unwrap() == new(0, LENGTH));
    let unreadable = MediumFault::file("slots", CallKind::Read, When::Always);
    survivor.machine.fail(unreadable);
    let (at, length) = (8 * BLOCK as u64 + 100, 1000);
    let writing = run({
        let client = Arc::clone(&client);
        move || client.put(at, &newer(at, length))
    });
    assert!(writing.finish().is_err());
    survivor.machine.heal();
    client.put(at, &newer(at, length)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = start(&survivor);
    let mut expected = new(0, LENGTH);
    expected[at as usize..][..length].copy_from_slice(&newer(at, length));
    assert!(life.client().get(0, LENGTH).unwrap() == expected);
}

/// The end tells of the first; the other was recorded when its last client left.
#[test]
fn regression_one_volume_that_cannot_be_recorded_at_the_end_costs_no_other() {
    let mut survivor = survivor();
    let life = start(&survivor);
    let unlucky = life.client();
    unlucky.put(0, &newer(0, BLOCK)).unwrap();
    let other = life.cache.volume("other");
    let lucky = life.client_of(&other);
    lucky.put(0, &new(0, BLOCK)).unwrap();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    let meets = When::Meets(FIRST_SLOT, BLOCK as u64);
    let unreadable = MediumFault::file("slots", CallKind::Read, meets);
    survivor.machine.fail(unreadable);
    assert!(unlucky.leave().is_err());
    assert!(lucky.leave().is_err());
    drop((unlucky, lucky, other));
    life.cache.stop();
    let told = life.cache.close().err().unwrap().to_string();
    assert!(told.contains("/cache"), "{told}");
    survivor.machine.heal();
    survivor.origin.heal();
    survivor.power_cut(life, Vec::new());
    let life = start(&survivor);
    let lucky = life.client_of(&life.cache.volume("other"));
    assert!(lucky.get(0, BLOCK).unwrap() == new(0, BLOCK));
}

/// Each connection to such an origin flushes only what it has sent itself. What one had trimmed there kept what another wrote later in the directory,
/// though the origin had it, and flushes were refused.
#[test]
fn regression_a_trim_of_another_connection_before_a_write_fails_no_flush() {
    let mut settings = OriginSettings::new(IMAGE);
    settings.capabilities.multi_conn = false;
    let survivor = survivor_beside(settings);
    let life = start(&survivor);
    let (first, second) = (life.client(), life.client());
    first.serve(|one| one.trim(0, BLOCK as u64, false)).unwrap();
    second.put(0, &new(0, BLOCK)).unwrap();
    second.flush().unwrap();
    age(&life, &second);
    second.flush().unwrap();
    assert!(survivor.origin.disk().durable(0, BLOCK) == new(0, BLOCK));
    first.leave().unwrap();
    drop(first);
    end(life, second);
}
