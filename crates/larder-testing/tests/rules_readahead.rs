//! Rules about what is fetched ahead of sequential readers: whom it serves, and what it never does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use larder::{CacheOnRead, Config, ZeroOptions};
use larder_testing::holds::only_first;
use larder_testing::random::{Random, content, mix};
use larder_testing::rig::{Client, run, wait_until};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
/// The end is within a sector.
const IMAGE: u64 = (24 << 20) + 12_345;
const AHEAD: u64 = 1 << 20;

fn config() -> Config {
    Config {
        cache_on_read: CacheOnRead::Always,
        readahead_bytes: AHEAD,
        // What maintenance does of itself is not to be seen here.
        background: true,
        ..Config::default()
    }
}

fn rig_with(change: impl FnOnce(&mut Config, &mut OriginSettings)) -> Rig {
    let (mut config, mut settings) = (config(), OriginSettings::new(IMAGE));
    change(&mut config, &mut settings);
    Rig::new(config, settings)
}

/// Reads make their own requests longer.
fn growing() -> Rig {
    rig_with(|_, _| {})
}

/// Windows are fetched when [`fetch_ahead`] is called.
fn in_background() -> Rig {
    rig_with(|config, _| config.readahead_in_background = true)
}

/// Waits for a window and fetches it.
fn fetch_window(connection: &larder::Connection) -> bool {
    connection.fetch_ahead(Duration::MAX, |_| Some(()))
}

/// Fetches what is due, as a thread beside the reader would.
fn fetch_ahead(client: &Client) {
    while client.connection.is_ahead_due() {
        assert!(client.serve(fetch_window));
    }
}

fn read_block(client: &Client, block: u64) -> Vec<u8> {
    let offset = block * BLOCK;
    client
        .get(offset, BLOCK.min(IMAGE - offset) as usize)
        .unwrap()
}

/// Reads blocks in order and compares them with what the origin has.
fn read_in_order(rig: &Rig, client: &Client, blocks: impl IntoIterator<Item = u64>) {
    for block in blocks {
        let found = read_block(client, block);
        assert!(
            found == rig.on_origin(block * BLOCK, found.len()),
            "block {block}"
        );
        fetch_ahead(client);
    }
}

fn bytes_read(rig: &Rig) -> u64 {
    let ranges = rig.origin.calls().ranges(Kind::Read);
    ranges.iter().map(|(_, length)| length).sum()
}

fn end_of_reads(rig: &Rig) -> u64 {
    let ranges = rig.origin.calls().ranges(Kind::Read);
    let ends = ranges.iter().map(|(offset, length)| offset + length);
    ends.max().unwrap_or(0)
}

#[test]
fn sequential_misses_ask_for_more_and_more() {
    let rig = growing();
    rig.fill(1, 0, IMAGE as usize);
    let client = rig.client();
    read_in_order(&rig, &client, 0..=IMAGE / BLOCK);
    let ranges = rig.origin.calls().ranges(Kind::Read);
    let lengths: Vec<u64> = ranges.iter().map(|(_, length)| length / BLOCK).collect();
    assert_eq!(lengths[..7], [1, 1, 1 + 2, 1 + 4, 1 + 8, 1 + 16, 1 + 16]);
    assert!(
        lengths.len() <= 6 + (IMAGE / (AHEAD + BLOCK)) as usize,
        "{lengths:?}"
    );
    assert_eq!(bytes_read(&rig), IMAGE, "each byte once");
    let stats = rig.cache.stats();
    assert_eq!(stats.misses, ranges.len() as u64);
    assert_eq!(stats.hits, IMAGE / BLOCK + 1 - stats.misses);
    let ahead = stats.readahead_bytes.div_ceil(BLOCK);
    assert_eq!(ahead, stats.hits);
    assert_eq!(stats.readahead_used_bytes / BLOCK, ahead);
}

#[test]
fn a_reader_of_small_pieces_is_sequential_too() {
    for length in [4096, 5000] {
        let rig = growing();
        let expected = rig.fill(1, 0, 64 * BLOCK as usize);
        let client = rig.client();
        for offset in (0..60 * BLOCK).step_by(length) {
            let found = client.get(offset, length).unwrap();
            assert!(found == expected[offset as usize..][..length]);
        }
        let requests = rig.origin.calls().count(Kind::Read);
        assert!(requests <= 10, "{requests} requests in pieces of {length}");
    }
}

#[test]
fn random_reads_fetch_not_one_byte_more() {
    for rig in [growing(), in_background()] {
        let client = rig.client();
        let mut blocks: Vec<u64> = (0..IMAGE / BLOCK).collect();
        blocks.sort_by_key(|block| mix(1, *block));
        for (count, block) in blocks.into_iter().enumerate() {
            if client.try_get(block * BLOCK, 4096).unwrap().is_none() {
                client.get(block * BLOCK, 4096).unwrap();
            }
            assert!(!client.connection.is_ahead_due());
            assert_eq!(bytes_read(&rig), (count as u64 + 1) * BLOCK);
        }
        assert_eq!(rig.cache.stats().readahead_bytes, 0);
    }
}

#[test]
fn without_readahead_nothing_is_fetched_ahead() {
    let rig = rig_with(|config, _| config.readahead_bytes = 0);
    let client = rig.client();
    for block in 0..20 {
        read_block(&client, block);
        assert_eq!(end_of_reads(&rig), (block + 1) * BLOCK);
    }
}

#[test]
fn windows_are_fetched_while_the_reader_reads() {
    let rig = in_background();
    rig.fill(1, 0, IMAGE as usize);
    let client = rig.client();
    for block in 0..=IMAGE / BLOCK {
        let found = read_block(&client, block);
        assert!(found == rig.on_origin(block * BLOCK, found.len()));
        fetch_ahead(&client);
        let ahead = end_of_reads(&rig) - (block * BLOCK + found.len() as u64);
        assert!(ahead <= AHEAD, "{ahead} bytes ahead at block {block}");
    }
    let stats = rig.cache.stats();
    assert_eq!(stats.misses, 3, "those that made it a stream");
    assert_eq!(bytes_read(&rig), IMAGE, "each byte once");
    let requests = rig.origin.calls().count(Kind::Read) as u64;
    assert!(requests <= 8 + IMAGE / (AHEAD / 2), "{requests} requests");
}

#[test]
fn what_is_read_at_once_reaches_the_marker_too() {
    let rig = in_background();
    let client = rig.client();
    let mut tried = 0;
    for block in 0..100 {
        if client
            .try_get(block * BLOCK, BLOCK as usize)
            .unwrap()
            .is_some()
        {
            tried += 1;
        } else {
            read_block(&client, block);
        }
        fetch_ahead(&client);
    }
    assert_eq!(tried, 97);
}

#[test]
fn an_origin_that_takes_no_calls_beside_the_reads_gets_longer_reads() {
    let rig = rig_with(|config, settings| {
        config.readahead_in_background = true;
        settings.capabilities.parallel = false;
    });
    let client = rig.client();
    read_in_order(&rig, &client, 0..100);
    assert!(rig.origin.calls().count(Kind::Read) <= 12);
}

#[test]
fn a_reader_that_asks_for_much_at_once_is_left_alone() {
    let rig = in_background();
    let client = rig.client();
    let hold = rig.hold_origin(Kind::Read, Phase::Before);
    // As the thread that receives requests does: all are noticed in order, and wait at once.
    let reads: Vec<_> = (0..16)
        .map(|part| {
            let offset = part * 4 * BLOCK;
            assert_eq!(client.try_get(offset, 4 * BLOCK as usize).unwrap(), None);
            let client = Arc::clone(&client);
            let read = run(move || client.get(offset, 4 * BLOCK as usize).map(drop));
            hold.wait_for(part as usize + 1);
            read
        })
        .collect();
    hold.release();
    for read in reads {
        read.finish().unwrap();
    }
    fetch_ahead(&client);
    let ahead = end_of_reads(&rig) - 64 * BLOCK;
    assert_eq!(ahead, 0, "bytes ahead of what was asked for at once");
}

#[test]
fn nothing_is_fetched_ahead_where_misses_are_not_stored() {
    let scratch = std::env::temp_dir().join(format!("larder-readahead-{}", std::process::id()));
    let switched = CacheOnRead::WhileExists(scratch);
    for cache_on_read in [CacheOnRead::Never, switched] {
        for background in [false, true] {
            let rig = rig_with(|config, _| {
                config.cache_on_read = cache_on_read.clone();
                config.readahead_in_background = background;
            });
            let client = rig.client();
            for block in 0..20 {
                client.try_get(block * BLOCK, BLOCK as usize).unwrap();
                read_block(&client, block);
                fetch_ahead(&client);
                assert_eq!(end_of_reads(&rig), (block + 1) * BLOCK);
            }
        }
    }
}

#[test]
fn an_error_ahead_is_nobodys_and_its_bytes_are_never_remembered() {
    for background in [false, true] {
        let rig = rig_with(|config, _| config.readahead_in_background = background);
        rig.fill(1, 0, IMAGE as usize);
        let client = rig.client();
        rig.origin
            .fault(Fault::new(Kind::Read, When::Meets(9 * BLOCK + 512, 512)));
        read_in_order(&rig, &client, 0..9);
        rig.origin.calls().clear();
        read_in_order(&rig, &client, 0..9);
        assert_eq!(bytes_read(&rig), 0, "what was asked for is kept");
        client.get(9 * BLOCK, BLOCK as usize).unwrap_err();
        rig.origin.heal();
        read_in_order(&rig, &client, 0..40);
    }
}

/// Holds the request for a window, lets `meanwhile` change it, and reads it all.
fn change_during_readahead(background: bool, meanwhile: impl Fn(&Client, &mut [u8])) {
    let rig = rig_with(|config, _| config.readahead_in_background = background);
    let mut expected = rig.fill(1, 0, 32 * BLOCK as usize);
    let [reader, writer] = [rig.client(), rig.client()];
    reader.get(0, BLOCK as usize).unwrap();
    reader.get(BLOCK, BLOCK as usize).unwrap();
    let is_ahead = |stop: &larder_testing::pace::Stop| {
        stop.is_origin(Kind::Read, Phase::After) && stop.meets(3 * BLOCK, 2 * BLOCK)
    };
    let hold = rig.hold(only_first(is_ahead));
    let reading = run({
        let reader = Arc::clone(&reader);
        move || {
            read_block(&reader, 2);
            fetch_ahead(&reader);
        }
    });
    assert_eq!(
        hold.wait_for(1)[0].offset + hold.wait_for(1)[0].length,
        5 * BLOCK
    );
    meanwhile(&writer, &mut expected);
    hold.release();
    reading.finish();
    assert!(reader.get(0, expected.len()).unwrap() == expected);
    writer.flush().unwrap();
    assert!(rig.durable(0, expected.len()) == expected);
    assert!(reader.get(0, expected.len()).unwrap() == expected);
}

#[test]
fn what_is_written_meanwhile_is_not_overwritten() {
    for background in [false, true] {
        change_during_readahead(background, |writer, expected| {
            let from = 3 * BLOCK + 700;
            let bytes = content(2, from, 40_000);
            writer.put(from, &bytes).unwrap();
            expected[from as usize..][..bytes.len()].copy_from_slice(&bytes);
        });
        change_during_readahead(background, |writer, expected| {
            let from = 4 * BLOCK;
            let bytes = content(2, from, BLOCK as usize);
            writer.put(from, &bytes).unwrap();
            writer.flush().unwrap();
            expected[from as usize..][..bytes.len()].copy_from_slice(&bytes);
        });
    }
}

#[test]
fn what_is_zeroed_or_trimmed_meanwhile_stays_so() {
    for background in [false, true] {
        change_during_readahead(background, |writer, expected| {
            let (from, length) = (3 * BLOCK + 4096, BLOCK);
            let zeroed = writer.serve(|one| one.zero(from, length, ZeroOptions::default()));
            zeroed.unwrap();
            expected[from as usize..][..length as usize].fill(0);
        });
        change_during_readahead(background, |writer, expected| {
            let (from, length) = (3 * BLOCK, 2 * BLOCK);
            writer.serve(|one| one.trim(from, length, false)).unwrap();
            // This origin leaves zeros.
            expected[from as usize..][..length as usize].fill(0);
        });
    }
}

#[test]
fn dirty_sectors_and_zeros_in_the_window_stay_and_are_not_fetched() {
    for background in [false, true] {
        let rig = rig_with(|config, _| config.readahead_in_background = background);
        let mut expected = rig.fill(1, 0, 64 * BLOCK as usize);
        let client = rig.client();
        let zeros = (20 * BLOCK, 8 * BLOCK);
        client
            .serve(|one| one.zero(zeros.0, zeros.1, ZeroOptions::default()))
            .unwrap();
        expected[zeros.0 as usize..][..zeros.1 as usize].fill(0);
        let whole = content(2, 10 * BLOCK, 2 * BLOCK as usize);
        client.put(10 * BLOCK, &whole).unwrap();
        expected[10 * BLOCK as usize..][..whole.len()].copy_from_slice(&whole);
        for block in [6, 15, 40] {
            client.put(block * BLOCK + 512, &[7; 1024]).unwrap();
            expected[(block * BLOCK) as usize + 512..][..1024].fill(7);
        }
        rig.origin.calls().clear();
        for block in 0..64 {
            let found = read_block(&client, block);
            assert!(found == expected[(block * BLOCK) as usize..][..BLOCK as usize]);
            fetch_ahead(&client);
        }
        for (offset, length) in rig.origin.calls().ranges(Kind::Read) {
            for (from, long) in [zeros, (10 * BLOCK, 2 * BLOCK)] {
                let meets = offset < from + long && from < offset + length;
                assert!(!meets, "{length} bytes at {offset} were known");
            }
        }
        let requests = rig.origin.calls().count(Kind::Read);
        assert!(requests < 25, "{requests} requests");
        assert!(client.get(0, expected.len()).unwrap() == expected);
    }
}

#[test]
fn who_wants_what_is_being_fetched_ahead_waits_for_it() {
    for background in [false, true] {
        let rig = rig_with(|config, _| config.readahead_in_background = background);
        rig.fill(1, 0, 32 * BLOCK as usize);
        let [reader, other] = [rig.client(), rig.client()];
        read_block(&reader, 0);
        read_block(&reader, 1);
        let ahead = rig
            .hold(|stop| stop.is_origin(Kind::Read, Phase::Before) && stop.meets(3 * BLOCK, BLOCK));
        let reading = run({
            let reader = Arc::clone(&reader);
            move || {
                read_block(&reader, 2);
                fetch_ahead(&reader);
            }
        });
        ahead.wait_for(1);
        let waiting = run(move || read_block(&other, 4));
        wait_until("the other waits", || rig.cache.stats().fetch_waits == 1);
        ahead.release();
        reading.finish();
        assert!(waiting.finish() == rig.on_origin(4 * BLOCK, BLOCK as usize));
        assert_eq!(bytes_read(&rig), 5 * BLOCK, "each byte once");
    }
}

#[test]
fn readahead_keeps_to_the_origins_requests() {
    for background in [false, true] {
        for maximum in [8 << 10, 64 << 10, 192 << 10] {
            let rig = rig_with(|config, settings| {
                config.readahead_in_background = background;
                settings.limits.maximum = maximum;
                settings.limits.minimum = 4096;
                settings.size = IMAGE / 4096 * 4096;
            });
            rig.fill(1, 0, 100 * BLOCK as usize);
            let client = rig.client();
            // A longer request is a violation, which the rig tells.
            read_in_order(&rig, &client, 0..100);
        }
    }
}

#[test]
fn readahead_writes_nothing_back_and_waits_for_no_room() {
    for background in [false, true] {
        // 63 blocks, of which 60 may be used before reclaim begins, which requests do here.
        let rig = rig_with(|config, _| {
            config.readahead_in_background = background;
            config.max_size_bytes = Some(4 << 20);
            config.background = false;
        });
        let client = rig.client();
        for block in 300..356 {
            client.put(block * BLOCK, &[5; BLOCK as usize]).unwrap();
        }
        let dirty_bytes = rig.cache.stats().dirty_bytes;
        // These alone do not make it begin.
        read_in_order(&rig, &client, 0..3);
        let stats = rig.cache.stats();
        assert!(stats.readahead_bytes > 0);
        assert_eq!((stats.dirty_bytes, stats.room_waits), (dirty_bytes, 0));
        assert_eq!(rig.origin.calls().count(Kind::Write), 0);
        assert_eq!(stats.slots_used, 60);
    }
}

#[test]
fn readahead_takes_at_most_an_eighth_of_the_cache() {
    for background in [false, true] {
        for max_size in [1 << 20, 2 << 20, 4 << 20] {
            let rig = rig_with(|config, _| {
                config.readahead_in_background = background;
                config.max_size_bytes = Some(max_size);
            });
            let client = rig.client();
            for block in 0..100 {
                read_block(&client, block);
                fetch_ahead(&client);
                let ahead = end_of_reads(&rig) - (block + 1) * BLOCK;
                assert!(ahead <= max_size / 8, "{ahead} bytes of {max_size}");
            }
            assert!(rig.cache.stats().readahead_bytes > 0);
        }
    }
}

#[test]
fn a_stream_does_not_push_out_what_is_used() {
    let mut without = 0;
    for (background, readahead) in [(false, 0), (false, AHEAD), (true, AHEAD)] {
        let rig = rig_with(|config, _| {
            config.readahead_in_background = background;
            config.readahead_bytes = readahead;
            config.max_size_bytes = Some(8 << 20);
        });
        let [reader, hot] = [rig.client(), rig.client()];
        let mut random = Random::new(1);
        let used: Vec<u64> = (0..100).map(|index| 281 + index).collect();
        let mut hits = 0;
        for round in 0..1000 {
            let before = rig.cache.stats().hits;
            hot.get(random.pick(&used) * BLOCK, 4096).unwrap();
            hits += rig.cache.stats().hits - before;
            if round >= 500 {
                read_block(&reader, round - 500 - 250 * (round / 750));
                fetch_ahead(&reader);
            }
        }
        without = without.max(hits);
        assert!(hits + without / 20 >= without, "{hits} hits of {without}");
    }
}

#[test]
fn what_the_front_end_has_no_memory_for_is_not_fetched_ahead() {
    let rig = in_background();
    rig.fill(1, 0, IMAGE as usize);
    let client = rig.client();
    (0..3).for_each(|block| drop(read_block(&client, block)));
    assert!(client.connection.is_ahead_due());
    let asked = bytes_read(&rig);
    let mut wanted = 0;
    let refuse = |bytes| {
        wanted = bytes;
        None::<()>
    };
    assert!(client.connection.fetch_ahead(Duration::MAX, refuse));
    assert!(wanted >= BLOCK && wanted % BLOCK == 0, "{wanted}");
    assert_eq!(bytes_read(&rig), asked);
    assert!(!client.connection.is_ahead_due());
    // Who goes on in order is fetched ahead of as soon as there is memory.
    let mut longest = 0;
    for block in 3..12 {
        read_block(&client, block);
        while client.connection.is_ahead_due() {
            let before = bytes_read(&rig);
            let give = |bytes| {
                longest = longest.max(bytes);
                Some(())
            };
            assert!(client.connection.fetch_ahead(Duration::MAX, give));
            assert!(bytes_read(&rig) - before <= longest);
        }
    }
    assert!(longest >= BLOCK);
    assert!(bytes_read(&rig) > 12 * BLOCK);
}

#[test]
fn who_waits_for_nothing_to_fetch_is_let_go() {
    let rig = in_background();
    let client = rig.client();
    let idle = Duration::from_millis(1);
    assert!(!client.connection.fetch_ahead(idle, |_| Some(())));
    (0..3).for_each(|block| drop(read_block(&client, block)));
    assert!(client.connection.fetch_ahead(idle, |_| Some(())));
    assert!(!client.connection.fetch_ahead(idle, |_| Some(())));
}

#[test]
fn a_connection_that_leaves_ends_its_readahead_without_waiting_for_it() {
    let rig = in_background();
    rig.fill(1, 0, IMAGE as usize);
    let client = rig.client();
    (0..3).for_each(|block| drop(read_block(&client, block)));
    let hold = rig.hold_origin(Kind::Read, Phase::Before);
    let ahead = run({
        let client = Arc::clone(&client);
        move || while fetch_window(&client.connection) {}
    });
    hold.wait_for(1);
    run({
        let client = Arc::clone(&client);
        move || client.serve(larder::Connection::disconnect)
    })
    .finish()
    .unwrap();
    hold.release();
    ahead.finish();
    assert!(!fetch_window(&client.connection));
    let other = rig.client();
    read_in_order(&rig, &other, 0..20);
}

#[test]
fn readahead_that_outlives_its_connection_stores_nothing_that_a_new_size_has_changed() {
    let small = 4 * BLOCK + 700;
    let rig = in_background();
    rig.fill(1, 0, 8 * BLOCK as usize);
    let client = rig.client_over(rig.origin.connect_as(|terms| terms.size = small));
    (0..3).for_each(|block| drop(client.get(block * BLOCK, BLOCK as usize).unwrap()));
    let hold = rig.hold_origin(Kind::Read, Phase::After);
    let ahead = run({
        let client = Arc::clone(&client);
        move || while fetch_window(&client.connection) {}
    });
    hold.wait_for(1);
    client.serve(larder::Connection::disconnect).unwrap();
    let other = rig.client();
    other.put(4 * BLOCK + 1024, &[5; 512]).unwrap();
    hold.release();
    ahead.finish();
    other.flush().unwrap();
    assert!(other.get(0, 8 * BLOCK as usize).unwrap() == rig.on_origin(0, 8 * BLOCK as usize));
}

#[test]
fn a_panic_ahead_poisons_and_nobody_hangs() {
    for background in [false, true] {
        let rig = rig_with(|config, _| config.readahead_in_background = background);
        let client = rig.client();
        read_block(&client, 0);
        read_block(&client, 1);
        rig.origin
            .fault(Fault::new(Kind::Read, When::Meets(3 * BLOCK, BLOCK)).panic());
        let read = client.get(2 * BLOCK, BLOCK as usize);
        assert_eq!(read.is_ok(), background);
        if background {
            assert!(client.connection.is_ahead_due());
            assert!(!client.serve(fetch_window));
        }
        client.get(0, 512).unwrap_err();
    }
}
