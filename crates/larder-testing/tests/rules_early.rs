//! Rules about reads that are given away before what they fetched is stored.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use larder::{CacheOnRead, Config, Error};
use larder_testing::log::Level;
use larder_testing::pace::{Side, Stop};
use larder_testing::rig::{Client, run};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 64 << 20;
/// Long enough on any machine.
const LONG: Duration = Duration::from_secs(60);

fn rig() -> Rig {
    let config = Config {
        cache_on_read: CacheOnRead::Always,
        background: true,
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(IMAGE))
}

/// Reads, and gives what the taker was given, each time that it was called.
fn get_for(client: &Client, offset: u64, length: usize) -> (Result<(), Error>, Vec<Vec<u8>>) {
    let mut taken = Vec::new();
    let mut bytes = vec![0x77; length];
    let read =
        client.serve(|one| one.read_for(offset, &mut bytes, &mut |data| taken.push(data.to_vec())));
    (read, taken)
}

fn is_store(stop: &Stop) -> bool {
    stop.side == Side::CacheFile && stop.kind == Kind::Write && stop.phase == Phase::Before
}

#[test]
fn what_was_fetched_is_given_before_it_is_stored_and_stored_then() {
    let rig = rig();
    let client = rig.client();
    let expected = rig.fill(1, 0, BLOCK as usize);
    let storing = rig.hold(is_store);
    let (give, taken) = channel();
    let reading = run({
        let client = Arc::clone(&client);
        move || {
            let mut bytes = vec![0; 4096];
            client.serve(|one| {
                one.read_for(8192, &mut bytes, &mut |data| {
                    give.send(data.to_vec()).unwrap()
                })
            })
        }
    });
    // The store is held: this would never come if it were given afterwards.
    assert!(taken.recv_timeout(LONG).unwrap() == expected[8192..][..4096]);
    storing.release();
    reading.finish().unwrap();
    assert!(client.try_get(0, BLOCK as usize).unwrap().unwrap() == expected);
}

#[test]
fn what_is_written_in_between_is_not_overwritten_by_what_was_fetched() {
    let rig = rig();
    let client = rig.client();
    let mut expected = rig.fill(1, 0, BLOCK as usize);
    let mut bytes = vec![0; 512];
    let read = client.serve(|one| {
        one.read_for(0, &mut bytes, &mut |_| {
            one.write(4096, &[9; 4096], false).unwrap();
        })
    });
    read.unwrap();
    expected[4096..8192].fill(9);
    assert!(client.get(0, BLOCK as usize).unwrap() == expected);
    client.flush().unwrap();
    assert!(rig.origin.disk().durable(0, BLOCK as usize) == expected);
}

#[test]
fn it_is_given_once_and_whole_however_many_fetches_it_took() {
    let rig = rig();
    let client = rig.client();
    let expected = rig.fill(1, 0, 4 * BLOCK as usize);
    client.get(BLOCK, 512).unwrap();
    // Two fetches around a hit.
    let (read, taken) = get_for(&client, 100, 3 * BLOCK as usize - 200);
    read.unwrap();
    assert!(taken == [&expected[100..3 * BLOCK as usize - 100]]);
    // A hit.
    let (read, taken) = get_for(&client, 0, 4096);
    read.unwrap();
    assert!(taken == [&expected[..4096]]);
    // Somebody else's fetch.
    let fetch = rig.hold_origin(Kind::Read, Phase::After);
    let other = run({
        let client = Arc::clone(&client);
        move || client.get(3 * BLOCK, 512)
    });
    fetch.wait_for(1);
    let reading = run(move || get_for(&client, 3 * BLOCK + 512, 512));
    fetch.release();
    other.finish().unwrap();
    let (read, taken) = reading.finish();
    read.unwrap();
    assert!(taken == [&expected[3 * BLOCK as usize + 512..][..512]]);
}

#[test]
fn what_cannot_be_read_is_not_given() {
    let rig = rig();
    let client = rig.client();
    rig.origin.fault(Fault::new(Kind::Read, When::Always));
    let (read, taken) = get_for(&client, 0, 4096);
    assert!(read.is_err() && taken.is_empty());
    rig.origin.heal();
    let (read, taken) = get_for(&client, 0, 4096);
    assert!(read.is_ok() && taken.len() == 1);
}

#[test]
fn slots_are_made_ready_as_far_as_there_is_room_and_nobody_is_told_if_not() {
    let rig = rig();
    let client = rig.client();
    let expected = rig.fill(1, 0, 4 * BLOCK as usize);
    rig.file.set_capacity_bytes(Some(2 * BLOCK));
    let (read, taken) = get_for(&client, 0, 4096);
    read.unwrap();
    assert!(taken == [&expected[..4096]]);
    // The one that was needed, and one more.
    assert_eq!(rig.file.allocated_bytes(), 2 * BLOCK);
    assert!(rig.log.messages(Level::Error).is_empty());
    for block in 0..4 {
        let at = (block * BLOCK) as usize;
        let (read, taken) = get_for(&client, at as u64, 512);
        read.unwrap();
        assert!(taken == [&expected[at..at + 512]]);
    }
    assert_eq!(rig.file.allocated_bytes(), 2 * BLOCK);
}
