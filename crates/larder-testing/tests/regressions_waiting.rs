//! Who waits for room where nearly all of the cache is dirty, or something is stuck: whom that may hold up, and how
//! busily they may wait.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::{CacheOnRead, Config, Connection, Volume};
use larder_testing::pace::SharedPace;
use larder_testing::rig::{Client, run, wait_until};
use larder_testing::{Fault, Kind, OriginDouble, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 4 << 10;
const IMAGE: u64 = 256 << 20;

/// Of 253 slots at 1 MiB.
fn rig(max: u64) -> Rig {
    let config = Config {
        max_size_bytes: Some(max),
        block_bytes: BLOCK,
        cache_on_read: CacheOnRead::Always,
        background: true,
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(IMAGE))
}

/// Makes every block of a cache of 1 MiB dirty.
fn fill(client: &Client) {
    for block in 0..253 {
        client.put(block * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
}

/// A volume of another origin in the same cache, and a connection to it.
fn stranger(rig: &Rig, name: &str) -> (OriginDouble, Arc<Volume>, Arc<Connection>) {
    let settings = OriginSettings::new(IMAGE);
    let origin = OriginDouble::new(settings, rig.violations.clone(), SharedPace::default());
    let volume = rig.cache.volume(name);
    let connection = volume.connect(origin.connect() as _).unwrap();
    (origin, volume, Arc::new(connection))
}

/// Lets the cache learn that the origin is quick.
fn learn(connection: &Connection) {
    for n in 0..8 {
        connection
            .write(IMAGE - (n + 1) * BLOCK, &[9; BLOCK as usize], false)
            .unwrap();
        connection.flush().unwrap();
    }
}

/// How often somebody begins to wait, as seen for a second: more is seen on a quicker machine, never on a slower one.
fn waits_in_a_second(rig: &Rig) -> u64 {
    let before = rig.cache.stats().room_waits;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        std::thread::yield_now();
    }
    rig.cache.stats().room_waits - before
}

#[test]
fn regression_a_volumes_flush_is_not_held_up_by_the_stuck_origin_of_another() {
    let rig = rig(1 << 20);
    let a = rig.client();
    fill(&a);
    assert_eq!(rig.cache.stats().slots_used, 253);
    let (origin, volume, b) = stranger(&rig, "b");
    let b2 = volume.connect(origin.connect() as _).unwrap();
    b2.read(0, &mut []).unwrap();
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let writing = {
        let b = Arc::clone(&b);
        run(move || b.write(0, &[2; BLOCK as usize], false))
    };
    hold.wait_for(1);
    let flush = run(move || b2.flush());
    flush.finish().unwrap();
    hold.release();
    writing.finish().unwrap();
}

#[test]
fn regression_who_waits_for_another_volumes_writeback_does_not_wake_itself() {
    let rig = rig(1 << 20);
    let a = rig.client();
    fill(&a);
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || a.flush());
    hold.wait_for(1);
    let (_origin, _volume, b) = stranger(&rig, "b");
    let writing = run(move || b.write(0, &[2; BLOCK as usize], false));
    wait_until("waits", || rig.cache.stats().room_waits > 0);
    let waits = waits_in_a_second(&rig);
    hold.release();
    flush.finish().unwrap();
    writing.finish().unwrap();
    assert!(waits < 50, "{waits}");
}

#[test]
fn regression_who_waits_for_fetches_does_not_wake_itself() {
    let rig = rig(1 << 20);
    let a = rig.client();
    let first = rig.client();
    first.get(0, 253 * BLOCK as usize).unwrap();
    let hold = rig.hold_origin(Kind::Read, Phase::Before);
    let reading = run(move || a.get(16 << 20, 253 * BLOCK as usize).unwrap());
    hold.wait_for(1);
    let other = rig.client();
    let waiting = run(move || other.get(32 << 20, BLOCK as usize).unwrap());
    let waits = waits_in_a_second(&rig);
    hold.release();
    reading.finish();
    waiting.finish();
    assert!(waits < 50, "{waits}");
}

#[test]
fn regression_clean_blocks_are_found_behind_another_volumes_stuck_dirty_ones() {
    let rig = rig(16 << 20);
    let (_origin, _volume, b) = stranger(&rig, "b");
    learn(&b);
    let a = rig.client();
    for block in 0..2000 {
        a.put(block * 2 * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
    let mut buffer = vec![0; BLOCK as usize];
    let mut block = 0;
    while rig.cache.stats().reclaimed == 0 && block < 1980 {
        b.read(block * BLOCK, &mut buffer).unwrap();
        block += 1;
    }
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || a.flush());
    hold.wait_for(16);
    for n in 0..200 {
        b.read((10_000 + n) * BLOCK, &mut buffer).unwrap();
    }
    // Each wait is for what is stuck, as long as one may wait.
    let waits = rig.cache.stats().room_waits;
    hold.release();
    flush.finish().unwrap();
    assert!(waits < 20, "{waits}");
}

#[test]
fn regression_a_bad_place_of_some_blocks_is_not_no_room_for_all() {
    let rig = rig(1 << 20);
    let a = rig.client();
    learn(&a.connection);
    for block in 0..20 {
        a.put(2 * block * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
    rig.origin
        .fault(Fault::new(Kind::Write, When::Meets(0, 40 * BLOCK)));
    for block in 20..253 {
        a.put(2 * block * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
    let filling = rig.cache.stats().no_room_writes;
    for block in 0..500 {
        a.put((1000 + 2 * block) * BLOCK, &[1; BLOCK as usize])
            .unwrap();
    }
    let past = rig.cache.stats().no_room_writes - filling;
    assert!(past < 50, "{past}");
}

#[test]
fn regression_what_another_volume_cannot_write_back_is_not_no_room_for_all() {
    let rig = rig(1 << 20);
    let a = rig.client();
    learn(&a.connection);
    let (orphan, _volume, owner) = stranger(&rig, "orphan");
    for block in 0..40 {
        owner
            .write(block * BLOCK, &[3; BLOCK as usize], false)
            .unwrap();
    }
    orphan.fault(Fault::new(Kind::Write, When::Always));
    owner.disconnect().unwrap_err();
    for block in 0..213 {
        a.put(2 * block * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
    let filling = rig.cache.stats().no_room_writes;
    for block in 0..500 {
        a.put((1000 + 2 * block) * BLOCK, &[1; BLOCK as usize])
            .unwrap();
    }
    let past = rig.cache.stats().no_room_writes - filling;
    assert!(past < 50, "{past}");
}

#[test]
fn regression_reads_go_on_beside_a_stuck_writeback_with_few_clean_blocks() {
    // 2 of 253 slots are clean: fewer than 1/64.
    let rig = rig(1 << 20);
    let a = rig.client();
    let reader = rig.client();
    reader.get(64 << 20, 2 * BLOCK as usize).unwrap();
    for block in 0..251 {
        a.put(block * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
    assert_eq!(rig.cache.stats().slots_used, 253);
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || a.flush());
    hold.wait_for(1);
    for n in 0..4 {
        reader.get((80 << 20) + n * BLOCK, BLOCK as usize).unwrap();
    }
    hold.release();
    flush.finish().unwrap();
}

#[test]
fn regression_what_is_being_fetched_does_not_count_as_dirty() {
    let rig = rig(1 << 20);
    let a = rig.client();
    let reader = rig.client();
    let other = rig.client();
    reader.get(64 << 20, 252 * BLOCK as usize).unwrap();
    a.put(0, &[1; BLOCK as usize]).unwrap();
    assert_eq!(rig.cache.stats().slots_used, 253);
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || a.flush());
    hold.wait_for(1);
    let reads =
        rig.hold(|stop| stop.is_origin(Kind::Read, Phase::Before) && stop.offset >= 128 << 20);
    let slow = run(move || reader.get(128 << 20, 127 * BLOCK as usize).map(|_| ()));
    reads.wait_for(1);
    other.get(80 << 20, BLOCK as usize).unwrap();
    hold.release();
    drop(reads);
    slow.finish().unwrap();
    flush.finish().unwrap();
}

#[test]
fn regression_the_last_writer_leaves_while_another_volumes_origin_is_stuck() {
    let rig = rig(1 << 20);
    let a = rig.client();
    fill(&a);
    let (origin, volume, b) = stranger(&rig, "b");
    b.write(0, &[2; BLOCK as usize], false).unwrap();
    assert!(volume.is_dirty());
    // Who makes room is a client that only reads.
    let reader = volume.connect(origin.connect_read_only() as _).unwrap();
    reader.read(0, &mut []).unwrap();
    for block in 300..340 {
        a.put(block * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
    b.write(0, &[2; BLOCK as usize], false).unwrap();
    while rig.cache.stats().dirty_bytes / BLOCK < 252 {
        let n = rig.cache.stats().writes;
        a.put((1000 + n) * BLOCK, &[1; BLOCK as usize]).unwrap();
    }
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let reading = run(move || {
        let mut x = vec![0; 3 * BLOCK as usize];
        reader.read(100 * BLOCK, &mut x)
    });
    hold.wait_for(1);
    let leaving = run(move || b.disconnect());
    leaving.finish().unwrap();
    hold.release();
    reading.finish().unwrap();
}

#[test]
fn regression_who_looks_past_a_writeback_takes_no_more_along_than_is_worth_a_pass() {
    let rig = rig(1 << 20);
    let a = rig.client();
    learn(&a.connection);
    let other = rig.client();
    fill(&a);
    let before = rig.cache.stats().reclaim_writebacks;
    let waits = rig.cache.stats().room_waits;
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || a.flush());
    hold.wait_for(1);
    let writing = run(move || other.put(64 << 20, &[2; BLOCK as usize]));
    wait_until("waits", || rig.cache.stats().room_waits > waits);
    // It has waited in vain by then, and looks for itself.
    std::thread::sleep(Duration::from_millis(200));
    hold.release();
    flush.finish().unwrap();
    writing.finish().unwrap();
    let taken = rig.cache.stats().reclaim_writebacks - before;
    assert!(taken < 100, "{taken}");
}

/// Each had taken some of the dirty blocks out of the other's sight, and found the other writing back whenever its own
/// writing back had failed.
fn two_who_cannot_write_back() {
    let rig = rig(1 << 20);
    let a = rig.client();
    fill(&a);
    let hold = rig.hold_origin(Kind::Write, Phase::Before);
    let flush = run(move || a.flush());
    hold.wait_for(1);
    let writers: Vec<_> = (0..3).map(|_| rig.client()).collect();
    let writing = writers.into_iter().enumerate().map(|(number, writer)| {
        let offset = (16 << 20) + number as u64 * (4 << 20);
        run(move || writer.put(offset, &[2; BLOCK as usize]))
    });
    let writing: Vec<_> = writing.collect();
    // Long enough to lose patience.
    for _ in 0..5 {
        writing.iter().for_each(|one| one.assert_waits());
    }
    rig.origin
        .fault(Fault::new(Kind::Write, When::Always).errno(5));
    hold.release();
    assert!(flush.finish().is_err());
    for one in writing {
        // Not into the cache, and past it the origin refuses it as well.
        assert!(one.finish().is_err());
    }
    rig.origin.heal();
}

#[test]
fn regression_two_who_cannot_write_back_do_not_wait_for_each_other_for_ever() {
    // It takes luck.
    (0..6).for_each(|_| two_who_cannot_write_back());
}
