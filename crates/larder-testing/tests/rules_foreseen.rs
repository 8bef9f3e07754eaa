//! Flushes that are foreseen, with `cache-flush=cache`: what they would say is in the journal before they come, and promises nothing until then.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use larder::{Medium, ZeroOptions};
use larder_testing::crash::MediumFault;
use larder_testing::flushing::{
    BLOCK, IMAGE, LOG_FAILURES, SECTOR, assert_old_or_new, calls, crashes, end, new, newer, old,
    small, survivor, to_cache,
};
use larder_testing::random::content;
use larder_testing::rig::Client;
use larder_testing::surviving::{Life, Survivor};
use larder_testing::{Fault, Kind, When};

/// Where the client writes before each flush while it gets used to that, and then no more.
const USUAL: u64 = 400 << 10;

/// A client that has flushed after each write so often that it will be taken to do so again. What it writes next at the beginning has its slots.
fn used_to_flushes(life: &Life) -> Arc<Client> {
    let client = life.client();
    client.get(0, 4 * BLOCK).unwrap();
    for round in 0..5 {
        client.put(USUAL, &content(round, USUAL, SECTOR)).unwrap();
        client.flush().unwrap();
    }
    client
}

fn length_of(survivor: &Survivor, name: &str) -> u64 {
    survivor
        .machine
        .medium()
        .open(name)
        .unwrap()
        .length()
        .unwrap()
}

#[test]
fn the_flush_has_nothing_left_to_do_but_to_sync() {
    let survivor = survivor();
    let life = survivor.start(&to_cache());
    let client = life.client();
    let put = |at| calls(&survivor, || client.put(at, &new(at, SECTOR)).unwrap());
    let flush = || calls(&survivor, || client.flush().unwrap());
    // Everything has its slot.
    client.get(0, IMAGE as usize).unwrap();
    for round in 0..12 {
        // Bytes into the slot, and then the frame; the frame, and the sync, then only that.
        let expected = if round < 4 { (1, 2) } else { (2, 1) };
        assert_eq!((put(round * 8192), flush()), expected, "round {round}");
    }
    // One write more than usual: the flush adds only what was not said ahead.
    assert_eq!((put(100_000), put(200_000), flush()), (2, 1, 2));
    assert_eq!((put(300_000), flush()), (1, 2), "foreseen no more");
    end(life, client);
    for at in [8192, 100_000, 200_000, 300_000] {
        assert!(survivor.origin.disk().durable(at, SECTOR) == new(at, SECTOR));
    }
}

#[test]
fn what_was_said_ahead_is_promised_by_the_flush_alone() {
    let survivor = survivor();
    let life = small(&survivor, 64);
    let client = used_to_flushes(&life);
    let length = 3 * SECTOR;
    let since = survivor.machine.position();
    client.put(8192, &new(8192, length)).unwrap();
    let found = crashes(&survivor, since, (8192, length));
    assert_old_or_new(&found, &old(8192, length), &new(8192, length), true);
    client.flush().unwrap();
    let found = crashes(&survivor, survivor.machine.position(), (8192, length));
    assert!(found.iter().all(|found| *found == new(8192, length)));
}

#[test]
fn what_is_written_over_it_before_the_flush_is_promised_too() {
    let survivor = survivor();
    let life = small(&survivor, 64);
    let client = used_to_flushes(&life);
    let length = 3 * SECTOR;
    let written = calls(&survivor, || client.put(8192, &new(8192, length)).unwrap());
    assert_eq!(written, 2, "foreseen");
    client
        .put(8192 + SECTOR as u64, &newer(8192 + SECTOR as u64, SECTOR))
        .unwrap();
    // A checkpoint takes it before it was flushed.
    let taken = calls(&survivor, || {
        assert!(life.cache.maintain_medium(Duration::ZERO));
    });
    assert!(taken > 4, "no checkpoint: {taken}");
    client.flush().unwrap();
    let found = crashes(&survivor, survivor.machine.position(), (8192, length));
    let mut expected = new(8192, length);
    expected[SECTOR..2 * SECTOR].copy_from_slice(&newer(8192 + SECTOR as u64, SECTOR));
    assert!(found.iter().all(|found| *found == expected));
}

/// The block is listed as clean until the frame that calls it dirty is durable: a sector beside the dirty one that changes on the origin
/// must not come back from that list.
#[test]
fn the_clean_rest_of_its_block_does_not_come_back() {
    let survivor = survivor();
    let life = small(&survivor, 64);
    let client = life.client();
    client.get(0, BLOCK).unwrap();
    for _ in 0..4 {
        assert!(life.cache.maintain_medium(Duration::ZERO));
    }
    let zero = |client: &Client, at: u64| {
        let options = ZeroOptions {
            fua: true,
            ..ZeroOptions::default()
        };
        client.serve(|one| one.zero(at, SECTOR as u64, options))
    };
    // The directory knows by now that the origin changes.
    zero(&client, 100 << 10).unwrap();
    let client = used_to_flushes(&life);
    let written = calls(&survivor, || client.put(0, &new(0, SECTOR)).unwrap());
    assert_eq!(written, 2, "foreseen");
    let at = 2 * SECTOR as u64;
    // Before the origin is asked, the frame is durable: nothing else was to be said.
    survivor.origin.fault(Fault::new(Kind::Zero, When::Always));
    let asked = calls(&survivor, || assert!(zero(&client, at).is_err()));
    assert_eq!(asked, 1, "a sync of the journal");
    survivor.origin.heal();
    zero(&client, at).unwrap();
    let found = crashes(&survivor, survivor.machine.position(), (at, SECTOR));
    assert!(found.iter().all(|found| *found == [0; SECTOR]));
}

#[test]
fn where_it_cannot_be_said_the_write_is_done_and_the_flush_tells() {
    for (kind, errno) in LOG_FAILURES {
        let mut survivor = survivor();
        let life = survivor.start(&to_cache());
        let client = used_to_flushes(&life);
        let fault = MediumFault::file("journal", kind, When::Nth(1));
        survivor.machine.fail(fault.errno(errno));
        let written = calls(&survivor, || client.put(8192, &new(8192, BLOCK)).unwrap());
        assert_eq!(written, 2, "foreseen");
        assert!(client.flush().is_err());
        survivor.machine.heal();
        assert!(client.flush().is_err(), "for good");
        assert!(client.get(8192, BLOCK).unwrap() == new(8192, BLOCK));
        survivor.power_cut(life, vec![client]);
        let life = survivor.start(&to_cache());
        let client = life.client();
        assert!(client.get(USUAL, SECTOR).unwrap() == content(4, USUAL, SECTOR));
        end(life, client);
    }
}

#[test]
fn the_journal_goes_round_under_it() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = life.client();
    assert_eq!(length_of(&survivor, "journal"), (64 << 10) + 4096);
    for round in 0..300_u64 {
        let at = round % 40 * 8192;
        client.put(at, &content(round, at, 2 * SECTOR)).unwrap();
        client.flush().unwrap();
        if round % 9 == 0 {
            assert!(life.cache.maintain_medium(Duration::ZERO));
        }
    }
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    for round in 260..300_u64 {
        let at = round % 40 * 8192;
        assert!(client.get(at, 2 * SECTOR).unwrap() == content(round, at, 2 * SECTOR));
    }
    end(life, client);
}
