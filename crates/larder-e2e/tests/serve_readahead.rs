//! What `larder serve` fetches ahead of readers, while they read.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::time::{Duration, Instant};

use larder_e2e::{
    Client, EvalDisk, KIB, Larder, MIB, Nbdkit, Random, Scratch, Server, assert_read_in_order,
    random_file, wait_until,
};

const BLOCK: u64 = 64 * KIB;
const GIB: u64 = 1024 * MIB;
/// The image ends within a sector.
const SIZE: u64 = 8 * MIB + 12_345;

/// A server over an nbdkit that tells what reaches it and takes its time.
fn start(scratch: &Scratch, parameters: &[&str]) -> (Server, Server, Vec<u8>) {
    let image = scratch.path("image");
    let content = random_file(&image, SIZE, 1);
    let origin = Nbdkit::bare(scratch)
        .below("delay")
        .logged()
        .file(&image)
        .parameter("rdelay=20ms")
        .start();
    let server = Larder::serve(scratch)
        .origin(origin.uri())
        .parameters(parameters)
        .verbose()
        .start();
    (server, origin, content)
}

#[test]
fn a_served_reader_in_order_is_fetched_ahead_of_by_default() {
    let scratch = Scratch::new();
    let (server, origin, content) = start(&scratch, &[]);
    assert_read_in_order(&server, &content, BLOCK);
    let reads = origin.plugin_log().calls_of("Read");
    let asked: u64 = reads.iter().map(|call| call.count).sum();
    assert_eq!(asked, SIZE, "each byte once");
    assert!(reads.len() <= 32, "{} requests for 128 blocks", reads.len());
    let stats = server.stop().stats();
    assert!(stats.value("readahead_bytes") > SIZE / 2);
    assert!(stats.value("hits") > stats.value("misses"));
}

#[test]
fn with_readahead_off_each_block_is_a_request() {
    let scratch = Scratch::new();
    let (server, origin, content) = start(&scratch, &["cache-readahead=off"]);
    assert_read_in_order(&server, &content, BLOCK);
    let reads = origin.plugin_log().calls_of("Read").len() as u64;
    assert_eq!(reads, SIZE.div_ceil(BLOCK));
}

#[test]
fn served_random_readers_cause_not_one_byte_more() {
    let scratch = Scratch::new();
    let origin = Nbdkit::bare(&scratch)
        .logged()
        .plugin("pattern", ["1G"])
        .start();
    let server = Larder::serve(&scratch)
        .origin(origin.uri())
        .flag("--read-only")
        .start();
    let mut client = Client::connect(server.socket());
    let mut random = Random::new(1);
    for _ in 0..300 {
        let offset = random.below(GIB / BLOCK) * BLOCK;
        let got = client.read(offset, 4096).unwrap();
        assert_eq!(got[..8], offset.to_be_bytes());
    }
    client.disconnect_and_wait();
    drop(server.stop());
    for read in origin.plugin_log().calls_of("Read") {
        assert_eq!(read.count, BLOCK);
    }
}

#[test]
fn a_client_that_leaves_does_not_wait_for_what_is_fetched_ahead_of_it_nor_does_the_servers_end() {
    const PATIENCE: Duration = Duration::from_secs(20);
    let scratch = Scratch::new();
    let (reached, gate) = (scratch.path("reached"), scratch.path("gate"));
    // Beyond the third block the origin is stuck, until the gate is there or the test is over and everything gone.
    let pread = format!(
        "if [ $(($4 + $3)) -gt {} ]; then
             touch {reached}
             while [ -e {reached} ] && [ ! -e {gate} ]; do sleep 0.1; done
         fi
         dd if=\"$volatile\" skip=$4 count=$3 iflag=count_bytes,skip_bytes bs=64K",
        3 * BLOCK,
        reached = reached.display(),
        gate = gate.display()
    );
    let disk = EvalDisk::read_only(&scratch, MIB).with("pread", &pread);
    let origin = Nbdkit::bare(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let server = Larder::serve(&scratch)
        .origin(origin.uri())
        .flag("--read-only")
        .start();
    let mut client = Client::connect(server.socket());
    for block in 0..3 {
        client.read(block * BLOCK, BLOCK).unwrap();
    }
    wait_until("the origin is stuck", || reached.exists());
    let began = Instant::now();
    client.disconnect_and_wait();
    let mut other = Client::connect(server.socket());
    other.read(0, BLOCK).unwrap();
    other.disconnect_and_wait();
    drop(server.stop());
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    fs::write(&gate, "").unwrap();
}
