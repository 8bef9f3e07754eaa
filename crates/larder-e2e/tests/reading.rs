//! What is kept of what was read, proven by changing the plugin's file behind the cache.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use larder_e2e::{
    Client, KIB, MIB, Nbdkit, Random, Scratch, Server, assert_filled, assert_same_bytes,
    sparse_file, write_at,
};

const SIZE: u64 = 8 * MIB;
const BLOCK: u64 = 64 * KIB;

/// A disk whose first megabytes are filled with ones.
fn start(scratch: &Scratch, parameters: &[&str]) -> (Server, PathBuf) {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    write_at(&image, 0, &[1; 4 << 20]);
    let server = Nbdkit::larder(scratch)
        .logged()
        .file(&image)
        .parameters(parameters)
        .start();
    (server, image)
}

/// Reads a block, fills it with twos behind the cache, reads again: what does the second tell?
fn second_read(client: &mut Client, image: &Path, block: u64) -> Vec<u8> {
    let first = client.read(block * BLOCK, BLOCK).unwrap();
    assert_filled("the first read", &first, 1);
    write_at(image, block * BLOCK, &[2; BLOCK as usize]);
    client.read(block * BLOCK, BLOCK).unwrap()
}

#[test]
fn cache_on_read_keeps_what_was_read() {
    for yes in ["true", "1", "yes", "on"] {
        let scratch = Scratch::new();
        let (server, image) = start(&scratch, &[&format!("cache-on-read={yes}")]);
        let mut client = Client::connect(server.socket());
        assert_filled("a hit", &second_read(&mut client, &image, 0), 1);
    }
}

#[test]
fn without_cache_on_read_misses_pass_through() {
    for parameters in [&[][..], &["cache-on-read=false"], &["cache-on-read=off"]] {
        let scratch = Scratch::new();
        let (server, image) = start(&scratch, parameters);
        let mut client = Client::connect(server.socket());
        assert_filled("a miss", &second_read(&mut client, &image, 0), 2);
    }
}

#[test]
fn a_miss_that_passes_through_asks_only_for_what_was_asked() {
    let scratch = Scratch::new();
    let (server, _) = start(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    client.read(BLOCK + 4096, 8192).unwrap();
    let reads = server.plugin_log().calls_of("Read");
    let asked: u64 = reads.iter().map(|call| call.count).sum();
    assert_eq!(asked, 8192, "{reads:?}");
}

#[test]
fn a_stored_miss_fetches_the_block() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache-on-read=true"]);
    let mut client = Client::connect(server.socket());
    client.read(BLOCK + 4096, 1).unwrap();
    write_at(&image, BLOCK, &[2; BLOCK as usize]);
    assert_filled("the block", &client.read(BLOCK, BLOCK).unwrap(), 1);
    assert_eq!(server.plugin_log().calls_of("Read").len(), 1);
}

#[test]
fn dirty_data_lies_over_what_passes_through() {
    let scratch = Scratch::new();
    let (server, _) = start(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    client.write(BLOCK - 1000, &[3; 2000]).unwrap();
    let mut expected = vec![1; 2 * BLOCK as usize];
    expected[BLOCK as usize - 1000..BLOCK as usize + 1000].fill(3);
    let got = client.read(0, 2 * BLOCK).unwrap();
    assert_same_bytes("both", &got, &expected);
}

#[test]
fn cache_on_read_follows_a_path() {
    let scratch = Scratch::new();
    let switch = scratch.path("switch");
    let parameter = format!("cache-on-read={}", switch.display());
    let (server, image) = start(&scratch, &[&parameter]);
    let mut client = Client::connect(server.socket());
    assert_filled("off", &second_read(&mut client, &image, 0), 2);
    fs::write(&switch, "").unwrap();
    assert_filled("on", &second_read(&mut client, &image, 1), 1);
    fs::remove_file(&switch).unwrap();
    assert_filled("off again", &second_read(&mut client, &image, 2), 2);
    let kept = client.read(BLOCK, BLOCK).unwrap();
    assert_filled("what was kept while on", &kept, 1);
}

#[test]
fn the_cache_request_fetches() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    assert!(client.export().can_cache());
    client.cache(BLOCK + 5, 2 * BLOCK).unwrap();
    write_at(&image, 0, &[2; 4 << 20]);
    let got = client.read(BLOCK + 5, 2 * BLOCK).unwrap();
    assert_filled("what was fetched", &got, 1);
    assert_filled("the rest", &client.read(8 * BLOCK, BLOCK).unwrap(), 2);
}

#[test]
fn writes_are_kept_over_a_flush() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    let data = Random::new(1).bytes(3 * BLOCK);
    client.write(BLOCK, &data).unwrap();
    client.flush().unwrap();
    write_at(&image, 0, &[2; 4 << 20]);
    let got = client.read(BLOCK, 3 * BLOCK).unwrap();
    assert_same_bytes("a hit", &got, &data);
}

#[test]
fn connections_share_the_cache() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache-on-read=true"]);
    let mut first = Client::connect(server.socket());
    let mut second = Client::connect(server.socket());
    first.read(0, BLOCK).unwrap();
    write_at(&image, 0, &[2; BLOCK as usize]);
    assert_filled("a hit", &second.read(0, BLOCK).unwrap(), 1);
    first.write(0, &[3; 4096]).unwrap();
    assert_filled("a write", &second.read(0, 4096).unwrap(), 3);
}

#[test]
fn the_cache_outlives_connections() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache-on-read=true"]);
    let mut client = Client::connect(server.socket());
    client.read(0, BLOCK).unwrap();
    client.disconnect_and_wait();
    write_at(&image, 0, &[2; BLOCK as usize]);
    let mut client = Client::connect(server.socket());
    assert_filled("a hit", &client.read(0, BLOCK).unwrap(), 1);
}

#[test]
fn what_is_used_stays_in_a_limited_cache() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache-on-read=true", "cache-max-size=2M"]);
    let mut client = Client::connect(server.socket());
    client.read(0, BLOCK).unwrap();
    for block in 1..48 {
        client.read(block * BLOCK, BLOCK).unwrap();
        client.read(0, BLOCK).unwrap();
    }
    write_at(&image, 0, &[2; BLOCK as usize]);
    assert_filled("a hit", &client.read(0, BLOCK).unwrap(), 1);
}

#[test]
fn the_tail_of_an_odd_image_is_served() {
    for size in [1, 511, 513, 4097, 65_535, 65_537, 1_000_001] {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        let mut expected = Random::new(size).bytes(size);
        fs::write(&image, &expected).unwrap();
        let server = Nbdkit::larder(&scratch)
            .file(&image)
            .parameter("cache-on-read=true")
            .start();
        let mut client = Client::connect(server.socket());
        assert_eq!(client.export().size, size);
        let got = client.read(0, size).unwrap();
        assert_same_bytes("the image", &got, &expected);
        client.write(size - 1, &[9]).unwrap();
        expected[size as usize - 1] = 9;
        assert_same_bytes("the image", &client.read(0, size).unwrap(), &expected);
        client.flush().unwrap();
        assert_same_bytes("the file", &fs::read(&image).unwrap(), &expected);
        client.zero(0, size).unwrap();
        client.flush().unwrap();
        assert_filled("the zeroed file", &fs::read(&image).unwrap(), 0);
        assert_eq!(fs::metadata(&image).unwrap().len(), size);
    }
}

#[test]
fn an_empty_image_is_served() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 0);
    let server = Nbdkit::larder(&scratch).file(&image).start();
    let mut client = Client::connect(server.socket());
    assert_eq!(client.export().size, 0);
    client.flush().unwrap();
}
