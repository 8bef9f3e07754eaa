//! Overwriting what only the slots have of a flush's promise, with `cache-flush=cache`: the journal has the client's bytes before the slots get them.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Barrier};

use larder::{Config, HomeSizes};
use larder_testing::crash::{CallKind, MediumFault};
use larder_testing::flushing::{
    BLOCK, IMAGE, LOG_FAILURES, SECTOR, assert_old_or_new, calls, crashes, end, flip, new, newer,
    old, small, survivor, to_cache,
};
use larder_testing::random::content;
use larder_testing::rig::Client;
use larder_testing::surviving::{Life, Survivor};
use larder_testing::{Fault, Kind, OriginSettings, When};

/// So much is flushed by checksums, and so only the slots have it.
const LARGE: usize = 40 << 10;
/// What is overwritten of it, within a block.
const PIECE: (u64, usize) = (BLOCK as u64 + SECTOR as u64, 3 * SECTOR);

/// A client that has flushed [`LARGE`] bytes of [`new`], which only the slots have.
fn with_promises(life: &Life) -> Arc<Client> {
    let client = life.client();
    client.put(0, &new(0, LARGE)).unwrap();
    client.flush().unwrap();
    client
}

fn overwrite(client: &Client) -> Result<(), larder::Error> {
    client.put(PIECE.0, &newer(PIECE.0, PIECE.1))
}

/// [`LARGE`] bytes with the piece overwritten.
fn overwritten() -> Vec<u8> {
    let mut expected = new(0, LARGE);
    let start = PIECE.0 as usize;
    expected[start..start + PIECE.1].copy_from_slice(&newer(PIECE.0, PIECE.1));
    expected
}

#[test]
fn an_overwrite_and_the_flush_after_it_are_one_sync() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    // The frame, its sync, and then the slot.
    assert_eq!(calls(&survivor, || overwrite(&client).unwrap()), 3);
    assert_eq!(calls(&survivor, || client.flush().unwrap()), 0);
    // Now the journal has what was promised, and the slot is free to be written: the slot; the frame and its sync.
    assert_eq!(calls(&survivor, || overwrite(&client).unwrap()), 1);
    assert_eq!(calls(&survivor, || client.flush().unwrap()), 2);
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    assert!(client.get(0, LARGE).unwrap() == overwritten());
    end(life, client);
    assert!(survivor.origin.disk().durable(0, LARGE) == overwritten());
}

#[test]
fn one_with_fua_is_one_sync_too() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    let fua = newer(PIECE.0, PIECE.1);
    let write = || client.serve(|one| one.write(PIECE.0, &fua, true)).unwrap();
    assert_eq!(calls(&survivor, write), 3);
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    assert!(life.client().get(0, LARGE).unwrap() == overwritten());
}

#[test]
fn it_is_old_or_new_and_new_once_it_is_acknowledged() {
    let survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    let since = survivor.machine.position();
    overwrite(&client).unwrap();
    let until = survivor.machine.position();
    let found = crashes(&survivor, since, PIECE);
    let (first, second) = (new(PIECE.0, PIECE.1), newer(PIECE.0, PIECE.1));
    assert_old_or_new(&found, &first, &second, true);
    let found = crashes(&survivor, until, PIECE);
    assert_old_or_new(&found, &first, &second, false);
}

#[test]
fn a_request_over_many_blocks_is_told_of_at_once() {
    let mut survivor = survivor();
    let life = survivor.start(&to_cache());
    let client = life.client();
    // Every other block only: between them is what nothing was promised of.
    for at in (0..LARGE).step_by(2 * BLOCK) {
        client.put(at as u64, &new(at as u64, BLOCK)).unwrap();
    }
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = survivor.start(&to_cache());
    let client = life.client();
    client.get(0, LARGE).unwrap();
    let blocks = LARGE / BLOCK;
    let write = || client.put(0, &newer(0, LARGE)).unwrap();
    assert_eq!(
        calls(&survivor, write),
        2 + blocks,
        "a frame, a sync, slots"
    );
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = survivor.start(&to_cache());
    let client = life.client();
    assert!(client.get(0, LARGE).unwrap() == newer(0, LARGE));
    end(life, client);
    assert!(survivor.origin.disk().durable(0, LARGE) == newer(0, LARGE));
}

#[test]
fn what_has_no_slot_or_is_beside_it_is_written_along() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    // Blocks that nobody has asked for before, and a part of a sector at the end.
    let (at, length) = (LARGE - BLOCK, 3 * BLOCK + 100);
    client.put(at as u64, &newer(at as u64, length)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    assert!(client.get(0, at).unwrap() == new(0, at));
    assert!(client.get(at as u64, length).unwrap() == newer(at as u64, length));
    let after = (at + length) as u64;
    assert!(client.get(after, BLOCK).unwrap() == old(after, BLOCK));
}

/// Two write the same sectors, and two others of the same block.
#[test]
fn many_at_once_leave_what_one_of_them_wrote() {
    const CLIENTS: u64 = 4;
    let mut survivor = survivor();
    for round in 0..30 {
        let life = small(&survivor, 64);
        let client = with_promises(&life);
        let barrier = Barrier::new(CLIENTS as usize);
        let place = |number: u64| (number / 2 * PIECE.1 as u64, PIECE.1);
        let data = |number: u64| content(10 + number, place(number).0, PIECE.1);
        std::thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (client, barrier) = (&client, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    client.put(place(number).0, &data(number)).unwrap();
                    if number % 2 == round % 2 {
                        client.flush().unwrap();
                    }
                });
            }
        });
        let found = client.get(0, LARGE).unwrap();
        for pair in 0..CLIENTS / 2 {
            let (at, length) = place(2 * pair);
            let found = &found[at as usize..at as usize + length];
            assert!(found == data(2 * pair) || found == data(2 * pair + 1));
        }
        let rest = CLIENTS as usize / 2 * PIECE.1;
        assert!(found[rest..] == new(rest as u64, LARGE - rest));
        client.flush().unwrap();
        survivor.power_cut(life, vec![client]);
        let life = small(&survivor, 64);
        let client = life.client();
        assert!(client.get(0, LARGE).unwrap() == found);
        end(life, client);
    }
}

#[test]
fn where_the_slot_refuses_it_goes_past_the_cache() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    let fault = MediumFault::file("slots", CallKind::Write, When::Nth(1));
    survivor.machine.fail(fault.errno(libc::EIO));
    overwrite(&client).unwrap();
    survivor.machine.heal();
    let (start, length) = PIECE;
    assert!(survivor.origin.disk().durable(start, length) == newer(start, length));
    assert!(client.get(0, LARGE).unwrap() == overwritten());
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    assert!(client.get(0, LARGE).unwrap() == overwritten());
    end(life, client);
    assert!(survivor.origin.disk().durable(0, LARGE) == overwritten());
}

/// Neither the slot nor the origin takes it, and a checkpoint takes the frame that had it: what was clean beside the promise is the origin's again.
#[test]
fn what_nobody_takes_costs_nothing_that_the_origin_has() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = life.client();
    client.put(0, &new(0, SECTOR)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    client.get(0, BLOCK).unwrap();
    let fault = MediumFault::file("slots", CallKind::Write, When::Nth(1));
    survivor.machine.fail(fault.errno(libc::EIO));
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    assert!(client.put(0, &newer(0, BLOCK)).is_err());
    survivor.machine.heal();
    let elsewhere = IMAGE / 2;
    for round in 0..100 {
        let data = content(round, elsewhere, BLOCK);
        client.put(elsewhere, &data).unwrap();
        client
            .serve(|one| one.write(elsewhere, &data, true))
            .unwrap();
    }
    survivor.power_cut(life, vec![client]);
    survivor.origin.heal();
    let life = small(&survivor, 64);
    let client = life.client();
    let found = client.get(0, BLOCK).unwrap();
    for (sector, found) in found.chunks(SECTOR).enumerate() {
        let at = (sector * SECTOR) as u64;
        let before = if sector == 0 { new } else { old };
        assert!(found == before(at, SECTOR) || found == newer(at, SECTOR));
    }
    end(life, client);
}

#[test]
fn where_the_journal_fails_nothing_is_overwritten() {
    for (kind, errno) in LOG_FAILURES {
        let mut survivor = survivor();
        let life = small(&survivor, 64);
        let client = with_promises(&life);
        let fault = MediumFault::file("journal", kind, When::Nth(1));
        survivor.machine.fail(fault.errno(errno));
        let told = overwrite(&client).err().unwrap().to_string();
        assert!(
            told.contains("/cache") && told.contains("overwrite"),
            "{told}"
        );
        survivor.machine.heal();
        assert!(overwrite(&client).is_err(), "for good");
        assert!(client.get(0, LARGE).unwrap() == new(0, LARGE));
        survivor.power_cut(life, vec![client]);
        let life = small(&survivor, 64);
        let client = life.client();
        let found = client.get(0, LARGE).unwrap();
        let sectors = found.chunks(SECTOR).enumerate();
        for (sector, found) in sectors {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            assert!(found == &new(0, LARGE)[range.clone()] || found == &overwritten()[range]);
        }
        overwrite(&client).unwrap();
        end(life, client);
        assert!(survivor.origin.disk().durable(0, LARGE) == overwritten());
    }
}

/// Of one sector the journal has what was flushed, and the slot something newer that cannot be read: flushes fail.
fn make_unreadable(survivor: &Survivor, client: &Client) {
    client.put(BESIDE, &old(BESIDE, SECTOR)).unwrap();
    client.put(BESIDE, &newer(BESIDE, SECTOR)).unwrap();
    let fault = MediumFault::file("slots", CallKind::Read, When::Always);
    survivor.machine.fail(fault.errno(libc::EIO));
    assert!(client.flush().is_err());
}

/// A sector of the piece's block, and behind it.
const BESIDE: u64 = BLOCK as u64 + 4 * SECTOR as u64;

#[test]
fn it_needs_nothing_of_a_slot_that_cannot_be_read() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    make_unreadable(&survivor, &client);
    overwrite(&client).unwrap();
    assert!(client.flush().is_err(), "what is beside it is not recorded");
    survivor.machine.heal();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let mut expected = overwritten();
    let at = BESIDE as usize;
    expected[at..at + SECTOR].copy_from_slice(&newer(BESIDE, SECTOR));
    assert!(life.client().get(0, LARGE).unwrap() == expected);
}

#[test]
fn what_cannot_be_read_and_is_overwritten_fails_no_flush_any_more() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    make_unreadable(&survivor, &client);
    let length = 3 * SECTOR;
    client.put(BESIDE, &content(9, BESIDE, length)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let found = life.client().get(BESIDE, length).unwrap();
    assert!(found == content(9, BESIDE, length));
}

#[test]
fn the_ragged_end_of_a_volume_is_overwritten_as_a_whole() {
    let size = IMAGE + 700;
    let mut survivor = Survivor::new(OriginSettings::new(size));
    let life = small(&survivor, 64);
    let client = life.client();
    let at = IMAGE - LARGE as u64;
    let length = LARGE + 700;
    client.put(at, &new(at, length)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    // What was in the journal is only in slots now.
    let life = small(&survivor, 64);
    let client = life.client();
    let last = (IMAGE, 700);
    assert!(client.get(last.0, last.1).unwrap() == new(last.0, last.1));
    // The first that is said in a life brings more with it.
    client.put(0, &new(0, SECTOR)).unwrap();
    client.flush().unwrap();
    let write = || client.put(last.0, &newer(last.0, last.1)).unwrap();
    assert_eq!(calls(&survivor, write), 3);
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    assert!(client.get(last.0, last.1).unwrap() == newer(last.0, last.1));
    end(life, client);
    assert!(survivor.origin.disk().durable(last.0, last.1) == newer(last.0, last.1));
}

/// A life with blocks of so many bytes, and a journal with room for several.
fn with_blocks_of(survivor: &Survivor, block_bytes: usize) -> Life {
    let config = Config {
        block_bytes: block_bytes as u64,
        max_size_bytes: Some(1 << 30),
        ..to_cache()
    };
    let sizes = HomeSizes {
        slots: 4,
        journal_bytes: 64 << 20,
        queue_bytes: 64 << 10,
    };
    survivor.try_start_with(config, true, Some(sizes)).unwrap()
}

#[test]
fn few_promises_under_a_large_write_are_taken_out_of_its_way_if_they_can_be_read() {
    const BYTES: usize = 64 << 10;
    for is_readable in [true, false] {
        let mut survivor = survivor();
        let life = with_blocks_of(&survivor, BYTES);
        let client = life.client();
        client.put(0, &new(0, 4 * SECTOR)).unwrap();
        client.flush().unwrap();
        survivor.power_cut(life, vec![client]);
        let life = with_blocks_of(&survivor, BYTES);
        let client = life.client();
        assert!(client.get(0, 4 * SECTOR).unwrap() == new(0, 4 * SECTOR));
        if !is_readable {
            let fault = MediumFault::file("slots", CallKind::Read, When::Always);
            survivor.machine.fail(fault.errno(libc::EIO));
        }
        client.put(0, &newer(0, BYTES)).unwrap();
        survivor.machine.heal();
        client.flush().unwrap();
        survivor.power_cut(life, vec![client]);
        let life = with_blocks_of(&survivor, BYTES);
        assert!(life.client().get(0, BYTES).unwrap() == newer(0, BYTES));
    }
}

/// Longer than an op can be.
#[test]
fn large_blocks_are_overwritten_part_by_part() {
    const LARGE_BLOCK: usize = 4 << 20;
    let mut survivor = Survivor::new(OriginSettings::new(4 * LARGE_BLOCK as u64));
    let start = |survivor: &Survivor| with_blocks_of(survivor, LARGE_BLOCK);
    let life = start(&survivor);
    let client = life.client();
    client.put(0, &new(0, LARGE_BLOCK)).unwrap();
    client.flush().unwrap();
    let (at, length) = (1 << 19, 3 << 20);
    client.put(at, &newer(at, length)).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = start(&survivor);
    let mut expected = new(0, LARGE_BLOCK);
    expected[at as usize..at as usize + length].copy_from_slice(&newer(at, length));
    assert!(life.client().get(0, LARGE_BLOCK).unwrap() == expected);
}

#[test]
fn a_lost_sector_beside_it_is_healed() {
    let mut survivor = survivor();
    let life = small(&survivor, 64);
    let client = with_promises(&life);
    survivor.power_cut(life, vec![client]);
    let life = survivor.start(&to_cache());
    survivor.power_cut(life, Vec::new());
    flip(&survivor, &new(PIECE.0, SECTOR));
    let life = small(&survivor, 64);
    let client = life.client();
    assert!(client.get(PIECE.0, SECTOR).is_err());
    overwrite(&client).unwrap();
    client.flush().unwrap();
    survivor.power_cut(life, vec![client]);
    let life = small(&survivor, 64);
    let client = life.client();
    assert!(client.get(0, LARGE).unwrap() == overwritten());
    end(life, client);
}
