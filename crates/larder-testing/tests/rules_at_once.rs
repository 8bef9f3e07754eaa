//! Rules about requests that are answered at once or not at all: they never ask the origin and wait for nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder::{CacheOnRead, CacheState, Config, ErrorKind, Mode, ZeroOptions};
use larder_testing::cache_file::EVERYWHERE;
use larder_testing::pace::{Side, Stop};
use larder_testing::random::content;
use larder_testing::rig::{Client, run};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 64 << 20;

fn rig_with(change: impl FnOnce(&mut Config)) -> Rig {
    let mut config = Config {
        cache_on_read: CacheOnRead::Always,
        // What maintenance does of itself is not to be seen here.
        background: true,
        ..Config::default()
    };
    change(&mut config);
    Rig::new(config, OriginSettings::new(IMAGE))
}

fn rig() -> Rig {
    rig_with(|_| {})
}

/// A client that has made its first request.
fn client(rig: &Rig) -> Arc<Client> {
    let client = rig.client();
    client.get(IMAGE - 512, 512).unwrap();
    client
}

fn zero(client: &Client, offset: u64, length: u64) {
    let zeroed = client.serve(|one| one.zero(offset, length, ZeroOptions::default()));
    zeroed.unwrap();
}

#[test]
fn try_read_gives_what_is_clean_dirty_or_zero() {
    let rig = rig();
    let client = client(&rig);
    let mut expected = rig.fill(1, 0, 3 * BLOCK as usize);
    client.get(0, expected.len()).unwrap();
    client.put(1000, &[5; 3000]).unwrap();
    expected[1000..4000].fill(5);
    zero(&client, 2 * BLOCK, 4096);
    expected[2 * BLOCK as usize..][..4096].fill(0);
    zero(&client, 20 * BLOCK, BLOCK);
    let hits = rig.cache.stats().hits;
    assert_eq!(
        client.try_get(0, expected.len()).unwrap().unwrap(),
        expected
    );
    assert_eq!(rig.cache.stats().hits, hits + 3);
    for (from, length) in [(1, 1), (700, 500), (65_000, 70_000), (131_000, 200)] {
        let found = client.try_get(from as u64, length).unwrap();
        assert_eq!(found.unwrap(), expected[from..from + length]);
    }
    assert_eq!(
        client.try_get(20 * BLOCK + 7, 99).unwrap().unwrap(),
        [0; 99]
    );
    assert_eq!(client.try_get(50, 0).unwrap().unwrap(), []);
}

#[test]
fn try_read_of_what_is_absent_is_false_and_changes_nothing() {
    let rig = rig();
    let client = client(&rig);
    let expected = rig.fill(1, 0, 4 * BLOCK as usize);
    client.get(0, BLOCK as usize).unwrap();
    client.put(2 * BLOCK, &[5; 512]).unwrap();
    rig.file.calls().clear();
    let before = rig.cache.stats();
    for (from, length) in [(BLOCK, 1), (0, 2 * BLOCK), (2 * BLOCK, 513), (0, 4 * BLOCK)] {
        assert_eq!(client.try_get(from, length as usize).unwrap(), None);
    }
    assert_eq!(rig.cache.stats(), before);
    assert_eq!(
        rig.file.calls().count(Kind::Read),
        0,
        "nothing is read in vain"
    );
    assert!(
        client.get(BLOCK, BLOCK as usize).unwrap() == expected[BLOCK as usize..][..BLOCK as usize]
    );
    assert!(client.try_get(BLOCK, BLOCK as usize).unwrap().is_some());
}

#[test]
fn try_read_waits_for_no_fetch_and_no_flush() {
    let rig = rig();
    let [client, other] = [client(&rig), client(&rig)];
    rig.fill(1, 0, 2 * BLOCK as usize);
    client.put(512, &[5; 512]).unwrap();
    let fetch = rig.hold_origin(Kind::Read, Phase::After);
    let reading = run({
        let other = Arc::clone(&other);
        move || other.get(0, 4096)
    });
    fetch.wait_for(1);
    // The block is pinned and being fetched.
    assert_eq!(client.try_get(512, 512).unwrap().unwrap(), [5; 512]);
    assert_eq!(client.try_get(0, 512).unwrap(), None);
    fetch.release();
    reading.finish().unwrap();
    let write = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || other.flush());
    write.wait_for(1);
    assert_eq!(client.try_get(512, 512).unwrap().unwrap(), [5; 512]);
    assert!(client.try_put(512, &[6; 512]).unwrap());
    write.release();
    flush.finish().unwrap();
    assert_eq!(client.try_get(512, 512).unwrap().unwrap(), [6; 512]);
}

#[test]
fn try_read_leaves_an_unreadable_slot_to_a_read_that_may_ask() {
    let rig = rig();
    let client = client(&rig);
    let expected = rig.fill(1, 0, 4096);
    client.get(0, 4096).unwrap();
    rig.file.fail_reads(&[EVERYWHERE]);
    assert_eq!(client.try_get(0, 4096).unwrap(), None);
    assert_eq!(client.get(0, 4096).unwrap(), expected);
}

#[test]
fn requests_at_once_are_checked_like_others() {
    let rig = rig();
    let fresh = rig.client();
    rig.fill(1, 0, 4096);
    assert_eq!(
        fresh.try_get(0, 512).unwrap(),
        None,
        "nobody has let it in yet"
    );
    assert!(!fresh.try_put(0, &[1; 512]).unwrap());
    let kind = |result: Result<bool, larder::Error>| result.unwrap_err().kind();
    let mut buffer = [0; 512];
    let past = fresh.connection.try_read(IMAGE - 1, &mut buffer);
    assert_eq!(kind(past), ErrorKind::OutOfRange);
    let past = fresh.connection.try_write(u64::MAX, &buffer, false);
    assert_eq!(kind(past), ErrorKind::OutOfRange);
    assert_eq!(kind(fresh.try_put(0, &[])), ErrorKind::OutOfRange);
    assert!(fresh.connection.can_write());
    let reader = rig.client_over(rig.origin.connect_read_only());
    assert!(!reader.connection.can_write());
    assert_eq!(kind(reader.try_put(0, &[1; 512])), ErrorKind::ReadOnly);
    fresh.leave().unwrap();
    assert_eq!(kind(fresh.try_put(0, &[1; 512])), ErrorKind::Origin);
    let client = client(&rig);
    rig.origin
        .fault(Fault::new(Kind::Read, When::Always).panic());
    client.get(0, 512).unwrap_err();
    assert_eq!(kind(client.try_put(0, &[1; 512])), ErrorKind::Poisoned);
    let read = client.connection.try_read(IMAGE - 512, &mut buffer);
    assert_eq!(kind(read), ErrorKind::Poisoned);
}

#[test]
fn requests_at_once_maintain_the_cache_where_nobody_else_does() {
    let rig = rig_with(|config| {
        config.background = false;
        config.dirty_age = Some(Duration::from_secs(10));
    });
    let client = client(&rig);
    client.put(0, &[5; 512]).unwrap();
    rig.clock.advance(Duration::from_secs(11));
    let mut buffer = [0; 512];
    let read = client.serve(|one| one.try_read(0, &mut buffer));
    assert!(read.unwrap());
    assert_eq!(rig.origin.calls().count(Kind::Write), 1);
}

#[test]
fn try_write_is_a_write_into_the_cache() {
    let rig = rig();
    let client = client(&rig);
    let new = content(2, 512, 3 * BLOCK as usize);
    assert!(client.try_put(512, &new).unwrap());
    assert_eq!(rig.cache.stats().writes, 4);
    assert_eq!(rig.cache.stats().dirty_bytes, 3 * BLOCK);
    assert!(client.try_get(512, new.len()).unwrap().unwrap() == new);
    client.flush().unwrap();
    assert!(rig.durable(512, new.len()) == new);
}

#[test]
fn try_write_merges_with_edges_that_are_here() {
    let rig = rig();
    let client = client(&rig);
    let mut expected = rig.fill(1, 0, 2 * BLOCK as usize);
    client.get(0, expected.len()).unwrap();
    zero(&client, BLOCK, 4096);
    expected[BLOCK as usize..][..4096].fill(0);
    assert!(client.try_put(100, &content(2, 100, 66_000)).unwrap());
    expected[100..66_100].copy_from_slice(&content(2, 100, 66_000));
    assert!(client.try_get(0, expected.len()).unwrap().unwrap() == expected);
    client.flush().unwrap();
    assert!(rig.durable(0, expected.len()) == expected);
}

#[test]
fn try_write_stores_nothing_if_an_edge_is_absent() {
    let rig = rig();
    let client = client(&rig);
    for (offset, length) in [(0, 3 * BLOCK as usize + 1), (511, 70_000), (3, 5)] {
        assert!(!client.try_put(offset, &vec![5; length]).unwrap());
    }
    assert_eq!(
        client.status(0, 4 * BLOCK),
        [(4 * BLOCK, CacheState::Absent)]
    );
    assert_eq!(rig.cache.stats().writes, 0);
}

#[test]
fn try_write_goes_through_nothing() {
    let rig = rig();
    let [writer, other] = [client(&rig), client(&rig)];
    let fua = |one: &larder::Connection| one.try_write(0, &[5; 512], true);
    assert!(!writer.serve(fua).unwrap());
    // A durable write of the range is under way.
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let writing = run(move || other.serve(|one| one.write(0, &[5; 4096], true)));
    hold.wait_for(1);
    assert!(writer.try_put(4096, &[6; 512]).unwrap());
    hold.release();
    writing.finish().unwrap();

    let rig = rig_with(|config| config.mode = Mode::Writethrough);
    let writer = client(&rig);
    writer.get(0, 4096).unwrap();
    assert!(!writer.try_put(0, &[5; 512]).unwrap());

    let rig = rig_with(|config| config.mode = Mode::Unsafe);
    assert!(client(&rig).serve(fua).unwrap());
}

#[test]
fn try_write_evicts_what_is_clean_and_waits_for_nothing_dirty() {
    let rig = rig_with(|config| config.max_size_bytes = Some(1 << 20));
    let client = client(&rig);
    for block in 0..40 {
        client.get(block * BLOCK, 512).unwrap();
    }
    let slots = rig.cache.stats().slots_used;
    let mut taken = 0;
    while client.try_put((100 + taken) * BLOCK, &[5; 512]).unwrap() {
        taken += 1;
        assert!(taken <= slots, "dirty data was given up");
    }
    assert_eq!(taken, slots, "everything that was clean made room");
    assert_eq!(rig.origin.calls().count(Kind::Write), 0);
    assert_eq!(client.try_get(100 * BLOCK, 512).unwrap().unwrap(), [5; 512]);
    // A block that has its slot needs no other; a write of two of which one has none stores nothing.
    assert!(client.try_put(100 * BLOCK, &[6; 512]).unwrap());
    let last = (100 + taken - 1) * BLOCK;
    assert!(!client.try_put(last, &vec![7; 2 * BLOCK as usize]).unwrap());
    assert_eq!(client.try_get(last, 512).unwrap().unwrap(), [5; 512]);
    client.put(90 * BLOCK, &[8; 512]).unwrap();
    client.flush().unwrap();
    assert_eq!(rig.durable(100 * BLOCK, 512), [6; 512]);
}

#[test]
fn try_write_stops_where_zeros_are_in_too_many_pieces() {
    let rig = rig();
    let client = client(&rig);
    zero(&client, 0, IMAGE - BLOCK);
    let most = (IMAGE - BLOCK) / 1024 - 1;
    let refused = (0..most).find(|piece| !client.try_put(piece * 1024 + 512, &[5; 512]).unwrap());
    assert_eq!(refused, Some(2 * 16384));
}

/// Cache file writes, before they have happened.
fn slot_write(stop: &Stop) -> bool {
    stop.side == Side::CacheFile && stop.kind == Kind::Write && stop.phase == Phase::Before
}

#[test]
fn try_write_that_has_begun_is_finished_and_not_written_twice() {
    let rig = rig();
    let [client, other] = [client(&rig), client(&rig)];
    let mut expected = rig.fill(1, 0, 3 * BLOCK as usize);
    client.get(0, expected.len()).unwrap();
    let slot_writes = AtomicUsize::new(0);
    let second =
        move |stop: &Stop| slot_write(stop) && slot_writes.fetch_add(1, Ordering::SeqCst) == 1;
    let hold = rig.hold(second);
    let length = 2 * BLOCK as usize + 100;
    let writing = run({
        let client = Arc::clone(&client);
        move || client.serve(|one| one.try_write(0, &vec![5; length], false))
    });
    hold.wait_for(1);
    // The first block is stored, and somebody else overwrites it.
    other.put(0, &[7; 4096]).unwrap();
    // The last sector is absent now, and must be asked for.
    rig.origin.fault(Fault::new(Kind::Write, When::Always));
    let refused = other.serve(|one| one.write(2 * BLOCK, &[6; 512], true));
    refused.unwrap_err();
    rig.origin.heal();
    let reads = rig.origin.calls().count(Kind::Read);
    hold.release();
    assert!(writing.finish().unwrap());
    assert_eq!(rig.origin.calls().count(Kind::Read), reads + 1);
    expected[..length].fill(5);
    expected[..4096].fill(7);
    assert!(client.get(0, expected.len()).unwrap() == expected);
    client.flush().unwrap();
    assert!(rig.durable(0, expected.len()) == expected);
}

#[test]
fn try_write_that_the_cache_file_refuses_is_written_past_it() {
    let rig = rig();
    let client = client(&rig);
    client.get(0, 4096).unwrap();
    rig.file.fail_writes(&[EVERYWHERE]);
    let written = client.serve(|one| one.try_write(0, &[5; 4096], false));
    assert!(written.unwrap());
    assert_eq!(rig.durable(0, 4096), [5; 4096]);
    assert_eq!(client.get(0, 4096).unwrap(), [5; 4096]);
}
