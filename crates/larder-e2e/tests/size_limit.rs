//! The size of the cache: a hard limit that loses nothing, and no limit on what is cached.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use larder_e2e::{
    Client, Flags, KIB, MIB, Mount, Nbdkit, Random, Request, Scratch, Server, UsageSampler,
    assert_filled, assert_same_bytes, read_file, sparse_file,
};

const PIECE: u64 = 64 * KIB;

fn write_all(client: &mut Client, data: &[u8]) {
    for (number, piece) in data.chunks(PIECE as usize).enumerate() {
        client.write(number as u64 * PIECE, piece).unwrap();
    }
}

fn read_all(client: &mut Client, size: u64) -> Vec<u8> {
    let pieces = (0..size.div_ceil(PIECE)).map(|number| {
        let offset = number * PIECE;
        client.read(offset, PIECE.min(size - offset)).unwrap()
    });
    pieces.collect::<Vec<_>>().concat()
}

/// 40 MiB through a cache of 4 MiB.
fn forty_through_four(mode: &str, block_size: &str) {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 40 * MIB);
    let server = Nbdkit::larder(&scratch)
        .file(&image)
        .parameter(&format!("cache={mode}"))
        .parameter(&format!("cache-min-block-size={block_size}"))
        .parameter("cache-max-size=4M")
        .verbose()
        .start();
    let mut client = Client::connect(server.socket());
    let data = Random::new(1).bytes(40 * MIB);

    write_all(&mut client, &data);
    let before = read_all(&mut client, 40 * MIB);
    assert_same_bytes("read before the flush", &before, &data);
    client.flush().unwrap();
    if mode == "writeback" {
        assert_same_bytes("the plugin's file", &read_file(&image), &data);
    }
    let after = read_all(&mut client, 40 * MIB);
    assert_same_bytes("read after the flush", &after, &data);
    drop(client);
    server.stop().assert_few_pass_throughs();
}

#[test]
fn limited_cache_loses_no_block() {
    forty_through_four("writeback", "64K");
}

#[test]
fn limited_cache_of_small_blocks_loses_no_block() {
    forty_through_four("writeback", "4K");
}

#[test]
fn limited_cache_of_large_blocks_loses_no_block() {
    forty_through_four("writeback", "1M");
}

#[test]
fn limited_unsafe_cache_loses_no_block() {
    forty_through_four("unsafe", "64K");
}

/// What the block with this number holds, whoever writes it.
fn content_of(block: u64) -> Vec<u8> {
    Random::new(block).bytes(PIECE)
}

/// Writes random blocks of the disk on four connections, and returns their numbers.
fn write_on_four_connections(server: &Server, blocks_each: u64, disk_blocks: u64) -> Vec<u64> {
    let writers = (0..4).map(|number| {
        let socket = server.socket().to_owned();
        thread::spawn(move || {
            let mut client = Client::connect(&socket);
            let mut random = Random::new(number);
            let blocks: Vec<u64> = (0..blocks_each)
                .map(|_| random.below(disk_blocks))
                .collect();
            for sixteen in blocks.chunks(16) {
                let submitted = sixteen.iter().map(|block| {
                    let content = content_of(*block);
                    let request = Request::write(block * PIECE, &content, Flags::NONE);
                    client.submit(&request).unwrap()
                });
                for cookie in submitted.collect::<Vec<_>>() {
                    client.wait(cookie).unwrap();
                }
            }
            blocks
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut blocks: Vec<u64> = writers
        .into_iter()
        .flat_map(|writer| writer.join().unwrap())
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

fn allocated_bytes_stay_under_limit(block_size: &str) {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["256M"])
        .parameter(&format!("cache-min-block-size={block_size}"))
        .parameter("cache-max-size=16M")
        .verbose()
        .start();
    // One that stays, so that the writers' leaving writes nothing back.
    let mut witness = Client::connect(server.socket());
    let sampler = UsageSampler::start(server.cache_files());
    let blocks = write_on_four_connections(&server, 500, 4096);
    let samples = sampler.finish();

    let largest = *samples.iter().max().unwrap();
    assert!(samples.len() >= 5, "too quick to be seen: {samples:?}");
    assert!(largest > 8 * MIB, "the cache was not used: {samples:?}");
    assert!(
        largest <= 16 * MIB,
        "{largest} bytes of 16 MiB: {samples:?}"
    );
    for block in blocks {
        let got = witness.read(block * PIECE, PIECE).unwrap();
        assert_same_bytes(&format!("block {block}"), &got, &content_of(block));
    }
    drop(witness);
    server.stop().assert_few_pass_throughs();
}

#[test]
fn allocated_bytes_stay_under_limit_with_64k_blocks() {
    allocated_bytes_stay_under_limit("64K");
}

#[test]
fn allocated_bytes_stay_under_limit_with_4k_blocks() {
    allocated_bytes_stay_under_limit("4K");
}

/// Requests of many blocks, at odd places, reading and writing at the same time.
fn large_requests_keep_to_the_limit(block_size: &str) {
    const LARGE: u64 = 4 * MIB;
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["256M"])
        .parameter(&format!("cache-min-block-size={block_size}"))
        .parameters(["cache-max-size=16M", "cache-on-read=true"])
        .start();
    let sampler = UsageSampler::start(server.cache_files());
    let clients = (0..4).map(|number| {
        let mut client = Client::connect(server.socket());
        thread::spawn(move || {
            let mut random = Random::new(number);
            let data = random.bytes(LARGE);
            for _ in 0..30 {
                let offset = random.below(256 * MIB - LARGE);
                if number % 2 == 0 {
                    client.write(offset, &data).unwrap();
                } else {
                    client.read(offset, LARGE).unwrap();
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().unwrap();
    }
    let samples = sampler.finish();
    let largest = *samples.iter().max().unwrap();
    assert!(largest > 8 * MIB, "the cache was not used: {samples:?}");
    assert!(
        largest <= 16 * MIB,
        "{largest} bytes of 16 MiB: {samples:?}"
    );
}

#[test]
fn allocated_bytes_stay_under_limit_with_large_requests() {
    large_requests_keep_to_the_limit("64K");
}

#[test]
fn allocated_bytes_stay_under_limit_with_large_requests_and_4k_blocks() {
    large_requests_keep_to_the_limit("4K");
}

#[test]
fn reads_keep_to_the_limit_too() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("pattern", ["64M"])
        .parameters(["cache-on-read=true", "cache-max-size=8M"])
        .start();
    let sampler = UsageSampler::start(server.cache_files());
    let mut client = Client::connect(server.socket());
    for offset in (0..64 * MIB).step_by(MIB as usize) {
        let data = client.read(offset, MIB).unwrap();
        assert_eq!(data[8..16], (offset + 8).to_be_bytes(), "at {offset}");
    }
    let samples = sampler.finish();
    let largest = *samples.iter().max().unwrap();
    assert!(largest > 2 * MIB, "the cache was not used: {samples:?}");
    assert!(largest <= 8 * MIB, "{largest} bytes of 8 MiB: {samples:?}");
}

#[test]
fn full_tmpdir_is_not_the_clients_error() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 40 * MIB);
    let small = scratch.make_dir("small");
    let mount = Mount::tmpfs(&small, 8 * MIB);
    let server = Nbdkit::larder(&scratch)
        .file(&image)
        .parameter("cache-on-read=true")
        .tmpdir(&small)
        .verbose()
        .start();
    let mut client = Client::connect(server.socket());
    let data = Random::new(2).bytes(40 * MIB);
    write_all(&mut client, &data);
    let got = read_all(&mut client, 40 * MIB);
    assert_same_bytes("read back", &got, &data);
    client.flush().unwrap();
    assert_same_bytes("the plugin's file", &read_file(&image), &data);
    drop(client);
    server.stop().assert_few_pass_throughs();
    mount.unmount();
}

/// A disk of 64 MiB whose cache lives on a tmpfs of 8 MiB.
fn on_a_small_tmpfs(scratch: &Scratch) -> (PathBuf, Mount, Server) {
    let small = scratch.make_dir("small");
    let mount = Mount::tmpfs(&small, 8 * MIB);
    let server = Nbdkit::larder(scratch)
        .plugin("memory", ["64M"])
        .tmpdir(&small)
        .start();
    (small, mount, server)
}

/// Others take what is left of it.
fn take_all_of(small: &Path) {
    let error = fs::write(small.join("other"), vec![1; 8 << 20]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_tmpdir_that_others_fill_is_not_the_clients_error() {
    let scratch = Scratch::new();
    let (small, mount, server) = on_a_small_tmpfs(&scratch);
    let mut client = Client::connect(server.socket());
    let data = Random::new(3).bytes(2 * MIB);
    write_all(&mut client, &data);
    take_all_of(&small);

    client.write(32 * MIB, &data).unwrap();
    let got = client.read(32 * MIB, 2 * MIB).unwrap();
    assert_same_bytes("written when full", &got, &data);
    let got = client.read(0, 2 * MIB).unwrap();
    assert_same_bytes("written before", &got, &data);
    client.flush().unwrap();
    drop(client);
    server.stop();
    mount.unmount();
}

#[test]
fn what_was_promised_and_others_took_is_not_the_clients_error() {
    let scratch = Scratch::new();
    let (small, mount, server) = on_a_small_tmpfs(&scratch);
    let mut client = Client::connect(server.socket());
    let data = Random::new(5).bytes(2 * MIB);
    // A page of each block: the cache counts on the rest.
    for offset in (0..2 * MIB).step_by(65_536) {
        let page = &data[offset as usize..][..4096];
        client.write(offset, page).unwrap();
    }
    take_all_of(&small);

    write_all(&mut client, &data);
    let got = client.read(0, 2 * MIB).unwrap();
    assert_same_bytes("written when full", &got, &data);
    client.flush().unwrap();
    let got = client.read(0, 2 * MIB).unwrap();
    assert_same_bytes("flushed", &got, &data);
    drop(client);
    server.stop();
    mount.unmount();
}

#[test]
fn exabyte_origin() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("null", ["size=4E"])
        .parameter("cache-on-read=true")
        .start();
    let mut client = Client::connect(server.socket());
    assert_eq!(client.export().size, 4 << 60);
    let data = Random::new(4).bytes(100_000);
    for offset in [0, (2 << 60) + 12345, (4 << 60) - 100_000] {
        assert_filled("what is read", &client.read(offset, 100_000).unwrap(), 0);
        client.write(offset, &data).unwrap();
        let got = client.read(offset, 100_000).unwrap();
        assert_same_bytes(&format!("at {offset}"), &got, &data);
    }
    client.flush().unwrap();
    drop(client);
    server.stop();
}

#[test]
fn freed_slots_are_used_again() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["64M"])
        .parameter("cache-max-size=4M")
        .start();
    let mut client = Client::connect(server.socket());
    let mut largest = 0;
    for round in 0..4 {
        for block in 0..512 {
            let content = Random::new(round * 1000 + block).bytes(PIECE);
            client.write(block * PIECE, &content).unwrap();
        }
        let files = server.cache_files();
        assert!(!files.is_empty(), "the server has no cache file open");
        let allocated: u64 = files
            .iter()
            .map(larder_e2e::CacheFile::allocated_bytes)
            .sum();
        largest = largest.max(allocated);
    }
    assert!(largest <= 4 * MIB, "{largest} bytes of 4 MiB");
    for block in 0..512 {
        let expected = Random::new(3000 + block).bytes(PIECE);
        let got = client.read(block * PIECE, PIECE).unwrap();
        assert_same_bytes(&format!("block {block}"), &got, &expected);
    }
    client.flush().unwrap();
}
