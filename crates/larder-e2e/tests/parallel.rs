//! Requests do not wait for each other where they need not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::thread;
use std::time::{Duration, Instant};

use larder_e2e::{
    Client, EvalDisk, KIB, MIB, Nbdkit, Request, Scratch, Server, assert_filled, best_of,
    wait_until,
};

const BLOCK: u64 = 64 * KIB;
const QUICK: Duration = Duration::from_millis(20);
const ATTEMPTS: u64 = 5;

/// A server over a disk whose byte at `n` tells `n`, with a delay before each plugin read.
fn slow_to_read(scratch: &Scratch, delay: &str, cache_on_read: bool) -> Server {
    Nbdkit::larder(scratch)
        .logged()
        .below("delay")
        .plugin("pattern", ["256M"])
        .parameter(&format!("rdelay={delay}"))
        .parameter(&format!("cache-on-read={cache_on_read}"))
        .start()
}

fn sixteen_misses_overlap(cache_on_read: bool) {
    let scratch = Scratch::new();
    let server = slow_to_read(&scratch, "20ms", cache_on_read);
    let mut client = Client::connect(server.socket());
    let bound = Duration::from_millis(60);
    best_of(ATTEMPTS, bound, "16 misses of 20 ms", |attempt| {
        let begin = Instant::now();
        let offsets = (0..16).map(|number| (attempt * 16 + number) * BLOCK);
        let requests: Vec<_> = offsets
            .map(|offset| {
                let request = Request::read(offset, 4096);
                (offset, client.submit(&request).unwrap())
            })
            .collect();
        for (offset, cookie) in requests {
            let data = client.wait(cookie).unwrap().data;
            assert_eq!(data[..8], offset.to_be_bytes());
        }
        begin.elapsed()
    });
}

#[test]
fn sixteen_misses_overlap_when_they_pass_through() {
    sixteen_misses_overlap(false);
}

#[test]
fn sixteen_misses_overlap_when_they_are_stored() {
    sixteen_misses_overlap(true);
}

#[test]
fn eight_readers_of_one_block_cause_one_plugin_read() {
    let scratch = Scratch::new();
    let server = slow_to_read(&scratch, "200ms", true);
    let readers: Vec<_> = (0..8)
        .map(|reader| {
            let mut client = Client::connect(server.socket());
            thread::spawn(move || {
                let offset = BLOCK + reader * 4096;
                let data = client.read(offset, 4096).unwrap();
                assert_eq!(data[..8], offset.to_be_bytes());
            })
        })
        .collect();
    for reader in readers {
        reader.join().unwrap();
    }
    let reads = server.plugin_log().calls_of("Read");
    assert_eq!(reads.len(), 1, "{reads:?}");
}

#[test]
fn hit_is_not_held_up_by_a_miss() {
    let scratch = Scratch::new();
    let server = slow_to_read(&scratch, "200ms", true);
    let mut hitting = Client::connect(server.socket());
    let mut missing = Client::connect(server.socket());
    let warm = hitting.read(0, BLOCK).unwrap();
    best_of(ATTEMPTS, QUICK, "a hit beside a miss", |attempt| {
        let begin = Instant::now();
        let miss = Request::read((attempt + 1) * BLOCK, BLOCK);
        let miss = missing.submit(&miss).unwrap();
        wait_until("the plugin is asked", || {
            server.plugin_log().calls_of("Read").len() as u64 == attempt + 2
        });
        let hit_begin = Instant::now();
        assert_eq!(hitting.read(0, BLOCK).unwrap(), warm);
        let hit_time = hit_begin.elapsed();
        missing.wait(miss).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(200), "no miss");
        hit_time
    });
}

#[test]
fn hit_is_not_held_up_by_a_miss_of_its_own_connection() {
    let scratch = Scratch::new();
    let server = slow_to_read(&scratch, "200ms", true);
    let mut client = Client::connect(server.socket());
    let warm = client.read(0, BLOCK).unwrap();
    best_of(ATTEMPTS, QUICK, "a hit beside a miss", |attempt| {
        let begin = Instant::now();
        let miss = Request::read((attempt + 1) * BLOCK, BLOCK);
        let miss = client.submit(&miss).unwrap();
        wait_until("the plugin is asked", || {
            server.plugin_log().calls_of("Read").len() as u64 == attempt + 2
        });
        let hit_begin = Instant::now();
        assert_eq!(client.read(0, BLOCK).unwrap(), warm);
        let hit_time = hit_begin.elapsed();
        client.wait(miss).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(200), "no miss");
        hit_time
    });
}

/// While a flush of about two seconds is under way on another connection, does `work` again and
/// again; asserts that the quickest stays under 20 ms, and that the flush was still under way.
/// The flush is under way once the plugin has been asked for `asked`.
fn beside_a_slow_flush(
    server: &Server,
    asked: &str,
    what: &str,
    mut work: impl FnMut(&mut Client),
) {
    let mut flushing = Client::connect(server.socket());
    let mut working = Client::connect(server.socket());
    flushing.write(0, &[1; BLOCK as usize]).unwrap();
    work(&mut working);
    flushing.write(MIB, &[2; BLOCK as usize]).unwrap();
    let begin = Instant::now();
    let flush = flushing.submit(&Request::flush()).unwrap();
    wait_until("the plugin is asked", || {
        !server.plugin_log().calls_of(asked).is_empty()
    });
    best_of(ATTEMPTS, QUICK, what, |_| {
        let begin = Instant::now();
        work(&mut working);
        begin.elapsed()
    });
    assert!(begin.elapsed() < Duration::from_millis(1900), "too late");
    flushing.wait(flush).unwrap();
    let flushed = begin.elapsed();
    assert!(flushed >= Duration::from_millis(1900), "{flushed:?}");
}

fn read_the_first_block(client: &mut Client) {
    assert_filled("what is read", &client.read(0, BLOCK).unwrap(), 1);
}

fn slow_to_write(scratch: &Scratch) -> Server {
    Nbdkit::larder(scratch)
        .logged()
        .below("delay")
        .plugin("memory", ["16M"])
        .parameter("wdelay=2")
        .start()
}

fn slow_to_flush(scratch: &Scratch) -> Server {
    let disk = EvalDisk::read_only(scratch, 16 * MIB)
        .writable()
        .with("flush", "sleep 2");
    Nbdkit::larder(scratch)
        .logged()
        .plugin("eval", disk.parameters())
        .start()
}

#[test]
fn hit_is_not_held_up_by_a_flush_that_writes_back() {
    let scratch = Scratch::new();
    let server = slow_to_write(&scratch);
    beside_a_slow_flush(
        &server,
        "Write",
        "a hit beside a flush",
        read_the_first_block,
    );
}

#[test]
fn hit_is_not_held_up_by_a_slow_plugin_flush() {
    let scratch = Scratch::new();
    let server = slow_to_flush(&scratch);
    beside_a_slow_flush(
        &server,
        "Flush",
        "a hit beside a flush",
        read_the_first_block,
    );
}

#[test]
fn write_is_not_held_up_by_a_flush() {
    let scratch = Scratch::new();
    let server = slow_to_write(&scratch);
    beside_a_slow_flush(&server, "Write", "a write beside a flush", |client| {
        client.write(8 * MIB, &[3; 4096]).unwrap();
        assert_filled("what is read", &client.read(8 * MIB, 4096).unwrap(), 3);
    });
}
