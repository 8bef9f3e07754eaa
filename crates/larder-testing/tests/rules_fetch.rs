//! Rules about reading: who asks the origin for what, who waits, and what may be kept.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{CacheOnRead, Config, ErrorKind, Mode, RequestLimits};
use larder_testing::cache_file::EVERYWHERE;
use larder_testing::fault::Happens;
use larder_testing::holds::only_first;
use larder_testing::random::content;
use larder_testing::rig::{Client, run, wait_until};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn config(cache_on_read: CacheOnRead) -> Config {
    Config {
        cache_on_read,
        max_size_bytes: Some(1 << 20),
        ..Config::default()
    }
}

fn rig(cache_on_read: CacheOnRead) -> Rig {
    Rig::new(config(cache_on_read), OriginSettings::new(IMAGE))
}

/// Fills the cache twice over, so that whatever may be evicted is gone.
fn press(client: &Client) {
    for block in 100..140 {
        let offset = block * BLOCK;
        client
            .put(offset, &content(99, offset, BLOCK as usize))
            .unwrap();
    }
    client.flush().unwrap();
}

fn miss_beside_write_writeback_and_pressure(cache_on_read: CacheOnRead) {
    let rig = rig(cache_on_read);
    rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    let new = content(2, 0, BLOCK as usize);
    writer.put(0, &new).unwrap();
    writer.flush().unwrap();
    press(&writer);
    hold.release();
    reading.finish().unwrap();
    assert!(reader.get(0, BLOCK as usize).unwrap() == new);
}

#[test]
fn a_miss_pins_its_block_before_reading() {
    miss_beside_write_writeback_and_pressure(CacheOnRead::Always);
}

#[test]
fn a_pass_through_pins_its_block_before_reading() {
    miss_beside_write_writeback_and_pressure(CacheOnRead::Never);
}

#[test]
fn a_pass_through_never_answers_what_was_replaced_before_it_began() {
    let rig = rig(CacheOnRead::Never);
    rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let new = content(2, 512, 512);
    writer.put(512, &new).unwrap();
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run(move || reader.get(0, 4096));
    hold.wait_for(1);
    writer.flush().unwrap();
    press(&writer);
    hold.release();
    assert!(reading.finish().unwrap()[512..1024] == new);
}

#[test]
fn stale_fetch_is_not_committed() {
    let rig = rig(CacheOnRead::Always);
    let mut expected = rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    let new = content(2, 8192, 4096);
    writer.put(8192, &new).unwrap();
    expected[8192..12288].copy_from_slice(&new);
    hold.release();
    reading.finish().unwrap();
    assert!(reader.get(0, BLOCK as usize).unwrap() == expected);
    writer.flush().unwrap();
    assert!(rig.durable(0, BLOCK as usize) == expected);
}

#[test]
fn a_zero_makes_a_fetch_stale() {
    let rig = rig(CacheOnRead::Always);
    let mut expected = rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    let zeroed = writer.serve(|connection| connection.zero(4096, 4096, Default::default()));
    zeroed.unwrap();
    expected[4096..8192].fill(0);
    hold.release();
    reading.finish().unwrap();
    assert!(reader.get(0, BLOCK as usize).unwrap() == expected);
}

#[test]
fn a_zero_makes_a_fetch_stale_also_when_it_is_on_the_origin_already() {
    let rig = rig(CacheOnRead::Always);
    let mut expected = rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    let zeroed = writer.serve(|connection| connection.zero(4096, 4096, Default::default()));
    zeroed.unwrap();
    writer.flush().unwrap();
    expected[4096..8192].fill(0);
    hold.release();
    reading.finish().unwrap();
    assert!(reader.get(0, BLOCK as usize).unwrap() == expected);
}

#[test]
fn a_write_makes_a_fetch_stale_also_when_the_cache_file_lost_it() {
    let rig = rig(CacheOnRead::Always);
    rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    writer.put(8192, &[5; 4096]).unwrap();
    writer.flush().unwrap();
    // Clean by now: what cannot be read is dropped, and must not be filled with what was before.
    rig.file.fail_reads(&[EVERYWHERE]);
    let beside = run(move || writer.get(8192, 4096));
    beside.give_a_chance();
    rig.file.fail_reads(&[]);
    hold.release();
    reading.finish().unwrap();
    assert!(beside.finish().unwrap() == [5; 4096]);
    assert!(reader.get(8192, 4096).unwrap() == [5; 4096]);
}

#[test]
fn a_failed_write_makes_a_fetch_stale() {
    let rig = Rig::new(
        Config {
            mode: Mode::Writethrough,
            ..config(CacheOnRead::Always)
        },
        OriginSettings::new(IMAGE),
    );
    rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    rig.origin
        .fault(Fault::new(Kind::Write, When::Nth(1)).happens(Happens::Everything));
    assert!(writer.put(0, &content(2, 0, 4096)).is_err());
    hold.release();
    reading.finish().unwrap();
    assert!(reader.get(0, 4096).unwrap() == rig.on_origin(0, 4096));
}

#[test]
fn a_trim_makes_a_fetch_stale() {
    let rig = rig(CacheOnRead::Always);
    rig.fill(1, 0, BLOCK as usize);
    let (reader, writer) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || reader.get(0, 4096)
    });
    hold.wait_for(1);
    let trimmed = writer.serve(|connection| connection.trim(0, BLOCK, false));
    trimmed.unwrap();
    hold.release();
    reading.finish().unwrap();
    rig.origin.calls().clear();
    assert!(reader.get(0, 4096).unwrap() == rig.on_origin(0, 4096));
}

#[test]
fn one_fetch_per_block() {
    let rig = rig(CacheOnRead::Always);
    let expected = rig.fill(1, 0, BLOCK as usize);
    let hold = rig.hold_origin(Kind::Read, Phase::Before);
    let readers: Vec<_> = (0..8)
        .map(|part| {
            let client = rig.client();
            run(move || client.get(part * 4096, 4096))
        })
        .collect();
    hold.wait_for(1);
    wait_until("seven readers wait", || rig.cache.stats().fetch_waits >= 7);
    hold.release();
    for (part, reader) in readers.into_iter().enumerate() {
        let from = part * 4096;
        assert!(reader.finish().unwrap() == expected[from..from + 4096]);
    }
    assert_eq!(rig.origin.calls().ranges(Kind::Read), [(0, BLOCK)]);
}

#[test]
fn misses_of_different_blocks_overlap() {
    let rig = rig(CacheOnRead::Always);
    let hold = rig.hold_origin(Kind::Read, Phase::Before);
    let readers: Vec<_> = (0..8)
        .map(|block| {
            let client = rig.client();
            run(move || client.get(block * BLOCK, 4096))
        })
        .collect();
    hold.wait_for(8);
    hold.release();
    for reader in readers {
        reader.finish().unwrap();
    }
}

#[test]
fn pass_through_readers_never_wait() {
    let rig = rig(CacheOnRead::Never);
    let expected = rig.fill(1, 0, 4096);
    let (first, second) = (rig.client(), rig.client());
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::Before)));
    let held = run(move || first.get(0, 4096));
    hold.wait_for(1);
    let other = run(move || second.get(0, 4096));
    assert!(other.finish().unwrap() == expected);
    hold.release();
    assert!(held.finish().unwrap() == expected);
}

#[test]
fn failed_fetch_each_waiter_retries_on_its_own_connection() {
    let rig = rig(CacheOnRead::Always);
    let expected = rig.fill(1, 0, 4096);
    let (first, second, third) = (rig.client(), rig.client(), rig.client());
    let bad = first.origin.number();
    rig.origin
        .fault(Fault::new(Kind::Read, When::Connection(bad)).errno(libc::EREMOTEIO));
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::Before)));
    let failing = run({
        let first = Arc::clone(&first);
        move || first.get(0, 4096)
    });
    hold.wait_for(1);
    let others = [second, third].map(|client| run(move || client.get(0, 4096)));
    wait_until("two readers wait", || rig.cache.stats().fetch_waits >= 2);
    hold.release();
    let error = failing.finish().unwrap_err();
    assert_eq!(
        (error.kind(), error.errno()),
        (ErrorKind::Origin, libc::EREMOTEIO)
    );
    for other in others {
        assert!(other.finish().unwrap() == expected);
    }
    rig.origin.heal();
    assert!(first.get(0, 4096).unwrap() == expected);
}

#[test]
fn readers_that_wait_behind_a_silent_origin_fail_together() {
    let rig = rig(CacheOnRead::Always);
    let expected = rig.fill(1, 0, 4096);
    rig.origin
        .fault(Fault::new(Kind::Read, When::Always).silence());
    let clients = [(); 9].map(|()| rig.client());
    let reads = rig.hold_origin(Kind::Read, Phase::Before);
    let mut readers = clients.iter().map(|client| {
        let client = Arc::clone(client);
        run(move || client.get(0, 4096))
    });
    let first = readers.next().unwrap();
    reads.wait_for(1);
    let others: Vec<_> = readers.collect();
    wait_until("all others wait", || rig.cache.stats().fetch_waits >= 8);
    let seconds = rig.hold_origin(Kind::Read, Phase::Before);
    reads.release();
    assert_eq!(first.finish().unwrap_err().errno(), libc::EIO);
    // One of them asks for all.
    wait_until("all others wait for it", || {
        rig.cache.stats().fetch_waits >= 8 + 7
    });
    seconds.release();
    for other in others {
        assert_eq!(other.finish().unwrap_err().errno(), libc::EIO);
    }
    assert_eq!(rig.origin.calls().count(Kind::Read), 2);
    rig.origin.heal();
    assert!(clients[8].get(0, 4096).unwrap() == expected);
}

#[test]
fn what_is_written_behind_a_silent_origin_is_read() {
    let rig = rig(CacheOnRead::Always);
    rig.origin
        .fault(Fault::new(Kind::Read, When::Always).silence());
    let clients = [(); 5].map(|()| rig.client());
    let reads = rig.hold_origin(Kind::Read, Phase::Before);
    let mut readers = clients.iter().map(|client| {
        let client = Arc::clone(client);
        run(move || client.get(0, 4096))
    });
    let first = readers.next().unwrap();
    reads.wait_for(1);
    let others: Vec<_> = readers.collect();
    wait_until("all others wait", || rig.cache.stats().fetch_waits >= 4);
    let seconds = rig.hold_origin(Kind::Read, Phase::Before);
    reads.release();
    first.finish().unwrap_err();
    wait_until("all others wait for one of them", || {
        rig.cache.stats().fetch_waits >= 4 + 3
    });
    let new = content(2, 0, 4096);
    rig.client().put(0, &new).unwrap();
    seconds.release();
    let results: Vec<_> = others.into_iter().map(|other| other.finish()).collect();
    // The one that asked has waited in vain.
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    for read in results.into_iter().flatten() {
        assert!(read == new);
    }
}

#[test]
fn a_silent_origin_is_not_asked_for_less() {
    let rig = rig(CacheOnRead::Always);
    let blocks = 8;
    let expected = rig.fill(1, 0, (blocks * BLOCK) as usize);
    let client = rig.client();
    // In order, so that the next read fetches ahead as well.
    for number in 0..blocks - 4 {
        client.get(number * BLOCK, BLOCK as usize).unwrap();
    }
    rig.origin
        .fault(Fault::new(Kind::Read, When::Always).silence());
    let before = rig.origin.calls().count(Kind::Read);
    let offset = (blocks - 1) * BLOCK + 512;
    client.get(offset, 512).unwrap_err();
    assert_eq!(rig.origin.calls().count(Kind::Read), before + 1);
    rig.origin.heal();
    assert!(client.get(offset, 512).unwrap() == expected[offset as usize..][..512]);
}

#[test]
fn an_error_is_never_cached() {
    let rig = rig(CacheOnRead::Always);
    let expected = rig.fill(1, 0, 4096);
    let client = rig.client();
    rig.origin.fault(Fault::new(Kind::Read, When::Always));
    assert!(client.get(0, 4096).is_err());
    rig.origin.heal();
    assert!(client.get(0, 4096).unwrap() == expected);
}

#[test]
fn a_stored_miss_fetches_the_whole_block_and_is_a_hit_afterwards() {
    let rig = rig(CacheOnRead::Always);
    let expected = rig.fill(1, 0, 3 * BLOCK as usize);
    let client = rig.client();
    client.get(BLOCK + 700, 10).unwrap();
    assert_eq!(rig.origin.calls().ranges(Kind::Read), [(BLOCK, BLOCK)]);
    rig.origin.disk().fill(BLOCK, &[0; 4096]);
    let again = client.get(BLOCK, BLOCK as usize).unwrap();
    assert!(again == expected[BLOCK as usize..2 * BLOCK as usize]);
    assert_eq!(rig.origin.calls().count(Kind::Read), 1);
    assert_eq!(rig.cache.stats().misses, 1);
    assert!(rig.cache.stats().hits >= 1);
}

#[test]
fn a_stored_miss_fetches_only_the_invalid_part() {
    let rig = rig(CacheOnRead::Always);
    let client = rig.client();
    client.put(0, &content(2, 0, 16384)).unwrap();
    client.get(20000, 100).unwrap();
    for (offset, _) in rig.origin.calls().ranges(Kind::Read) {
        assert!(offset >= 16384, "fetched what was written: {offset}");
    }
    assert!(client.get(0, 16384).unwrap() == content(2, 0, 16384));
}

#[test]
fn a_pass_through_fetches_only_what_was_asked_for() {
    let rig = rig(CacheOnRead::Never);
    let expected = rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    for _ in 0..2 {
        assert!(client.get(1000, 3000).unwrap() == expected[1000..4000]);
    }
    let read: u64 = rig
        .origin
        .calls()
        .ranges(Kind::Read)
        .iter()
        .map(|range| range.1)
        .sum();
    assert!(read <= 2 * 4096, "{read} bytes read for twice 3000");
    assert_eq!(rig.cache.stats().misses, 0);
    assert_eq!(rig.cache.stats().pass_through_reads, 2);
}

#[test]
fn a_pass_through_has_dirty_sectors_laid_over_it() {
    let rig = rig(CacheOnRead::Never);
    let mut expected = rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    for offset in [512, 9_000, 40_000] {
        let new = content(2, offset, 777);
        client.put(offset, &new).unwrap();
        expected[offset as usize..offset as usize + 777].copy_from_slice(&new);
    }
    assert!(client.get(0, BLOCK as usize).unwrap() == expected);
}

#[test]
fn aligned_write_reads_nothing() {
    for block_bytes in [4 << 10, 64 << 10, 512 << 10] {
        let rig = Rig::new(
            Config {
                block_bytes,
                ..Config::default()
            },
            OriginSettings::new(IMAGE),
        );
        let client = rig.client();
        client.put(8 << 20, &content(2, 8 << 20, 4096)).unwrap();
        client.put((9 << 20) + 4096, &content(2, 0, 4096)).unwrap();
        client.flush().unwrap();
        assert_eq!(
            rig.origin.calls().count(Kind::Read),
            0,
            "block {block_bytes}"
        );
    }
}

#[test]
fn unaligned_write_fetches_only_edge_sectors() {
    for (minimum, sector) in [(1, 512), (4096, 4096)] {
        let mut settings = OriginSettings::new(IMAGE);
        settings.limits = RequestLimits {
            minimum,
            ..settings.limits
        };
        let rig = Rig::new(Config::default(), settings);
        let mut expected = rig.fill(1, 0, BLOCK as usize);
        let client = rig.client();
        let new = content(2, 5000, 20_000);
        client.put(5000, &new).unwrap();
        expected[5000..25_000].copy_from_slice(&new);
        let first = 5000 / sector;
        let last = 25_000 / sector;
        for (offset, length) in rig.origin.calls().ranges(Kind::Read) {
            let sectors = offset / sector..(offset + length).div_ceil(sector);
            assert!(
                sectors == (first..first + 1) || sectors == (last..last + 1),
                "fetched {offset}+{length}"
            );
        }
        assert!(client.get(0, BLOCK as usize).unwrap() == expected);
        client.flush().unwrap();
        assert!(rig.durable(0, BLOCK as usize) == expected);
    }
}

#[test]
fn cache_on_read_path_switch() {
    let path = std::env::temp_dir().join(format!("larder-switch-{}", std::process::id()));
    let rig = rig(CacheOnRead::WhileExists(path.clone()));
    let client = rig.client();
    client.get(0, 4096).unwrap();
    client.get(0, 4096).unwrap();
    assert_eq!(rig.origin.calls().count(Kind::Read), 2);
    std::fs::write(&path, b"").unwrap();
    client.get(0, 4096).unwrap();
    client.get(0, 4096).unwrap();
    assert_eq!(rig.origin.calls().count(Kind::Read), 3);
    std::fs::remove_file(&path).unwrap();
    client.get(BLOCK, 4096).unwrap();
    client.get(BLOCK, 4096).unwrap();
    assert_eq!(rig.origin.calls().count(Kind::Read), 5);
}

#[test]
fn a_cache_request_fetches_without_returning() {
    let rig = rig(CacheOnRead::Never);
    let expected = rig.fill(1, 0, 3 * BLOCK as usize);
    let client = rig.client();
    let cached = client.serve(|connection| connection.cache(100, 2 * BLOCK));
    cached.unwrap();
    let fetched = rig.origin.calls().count(Kind::Read);
    assert!(fetched > 0);
    let bytes = client.get(100, 2 * BLOCK as usize).unwrap();
    assert!(bytes == expected[100..100 + 2 * BLOCK as usize]);
    assert_eq!(rig.origin.calls().count(Kind::Read), fetched);
}
