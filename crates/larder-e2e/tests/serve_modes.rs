//! The modes over `larder serve`: when a write is acknowledged, what a flush and FUA mean, and how much
//! the cache takes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use larder_e2e::{
    CacheFile, Client, Flags, KIB, Larder, MIB, Mount, Nbdkit, Random, Request, Scratch, Server,
    UsageSampler, assert_filled, assert_same_bytes, random_file, read_at, read_file, sparse_file,
    wait_until, wait_within, write_at,
};

const SIZE: u64 = 8 * MIB;
const EPERM: i32 = 1;
const EIO: i32 = 5;

fn start(scratch: &Scratch, parameters: &[&str]) -> (Server, PathBuf) {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let server = Larder::serve(scratch)
        .file(&image)
        .parameters(parameters)
        .start();
    (server, image)
}

/// A server over an nbdkit that tells what reaches it.
fn start_over_nbdkit(scratch: &Scratch, parameters: &[&str]) -> (Server, Server, PathBuf) {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let origin = Nbdkit::bare(scratch).logged().file(&image).start();
    let server = Larder::serve(scratch)
        .origin(origin.uri())
        .parameters(parameters)
        .start();
    (server, origin, image)
}

#[test]
fn served_writeback_is_the_default_and_waits_for_a_flush() {
    for parameters in [&[][..], &["cache=writeback"]] {
        let scratch = Scratch::new();
        let (server, origin, image) = start_over_nbdkit(&scratch, parameters);
        let mut client = Client::connect(server.socket());
        client.write(1000, &[1; 5000]).unwrap();
        assert_filled("the origin's file", &read_file(&image), 0);
        client.flush().unwrap();
        assert_filled("the origin's file", &read_at(&image, 1000, 5000), 1);
        assert!(!origin.plugin_log().calls_of("Flush").is_empty());
    }
}

#[test]
fn a_served_flush_covers_what_other_connections_wrote() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let mut writer = Client::connect(server.socket());
    let mut flusher = Client::connect(server.socket());
    assert!(flusher.export().can_multi_conn());
    writer.write(1000, &[1; 5000]).unwrap();
    flusher.flush().unwrap();
    assert_filled("the origin's file", &read_at(&image, 1000, 5000), 1);
}

#[test]
fn served_writethrough_reaches_the_origin_at_once() {
    let scratch = Scratch::new();
    let (server, origin, image) = start_over_nbdkit(&scratch, &["cache=writethrough"]);
    let mut client = Client::connect(server.socket());
    client.write(1000, &[1; 5000]).unwrap();
    assert_filled("the origin's file", &read_at(&image, 1000, 5000), 1);
    client.zero(2000, 1000).unwrap();
    assert_filled("the origin's file", &read_at(&image, 2000, 1000), 0);
    assert!(origin.plugin_log().calls_of("Flush").is_empty());
    client.flush().unwrap();
    assert_eq!(origin.plugin_log().calls_of("Flush").len(), 1);
}

#[test]
fn served_unsafe_ignores_flush_and_fua_and_tells_what_it_discards() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache=unsafe"]);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 64 << 10]).unwrap();
    client.flush().unwrap();
    client.write_fua(MIB, &[2; 64 << 10]).unwrap();
    client.disconnect_and_wait();
    let mut client = Client::connect(server.socket());
    assert_filled("what is read", &client.read(0, 64 * KIB).unwrap(), 1);
    drop(client);
    let output = server.stop().output;
    let is_told = |line: &str| line.contains("131072 bytes") && line.contains("discarded");
    assert!(output.lines().any(is_told), "{output}");
    assert_filled("the origin's file", &read_file(&image), 0);
}

#[test]
fn served_fua_is_durable_before_it_is_answered_and_writes_its_own_range_only() {
    let scratch = Scratch::new();
    let (server, origin, image) = start_over_nbdkit(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    client.write_fua(64 * KIB, &[2; 4096]).unwrap();
    assert_filled("the origin's file", &read_at(&image, 64 * KIB, 4096), 2);
    assert_filled("not asked for", &read_at(&image, 0, 4096), 0);
    let writes = origin.plugin_log().calls_of("Write");
    let flushes = origin.plugin_log().calls_of("Flush");
    let is_durable = writes.iter().any(|call| call.fua) || !flushes.is_empty();
    assert!(is_durable, "{writes:?}");
}

#[test]
fn the_last_writable_client_that_leaves_has_everything_written_back() {
    let scratch = Scratch::new();
    let (server, origin, image) = start_over_nbdkit(&scratch, &[]);
    let mut first = Client::connect(server.socket());
    let second = Client::connect(server.socket());
    first.write(1000, &[1; 5000]).unwrap();
    first.disconnect_and_wait();
    assert_filled("one is still there", &read_file(&image), 0);
    second.disconnect_and_wait();
    wait_until("it is written back", || {
        read_at(&image, 1000, 5000) == [1; 5000]
    });
    wait_until("it is flushed", || {
        !origin.plugin_log().calls_of("Flush").is_empty()
    });
    // What it wrote is still there to be read.
    let mut next = Client::connect(server.socket());
    write_at(&image, 1000, &[2; 5000]);
    assert_filled("from the cache", &next.read(1000, 5000).unwrap(), 1);
}

#[test]
fn a_client_that_vanishes_leaves_as_one_that_says_goodbye() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    client.write(1000, &[1; 5000]).unwrap();
    drop(client);
    wait_until("it is written back", || {
        read_at(&image, 1000, 5000) == [1; 5000]
    });
}

#[test]
fn a_dirty_age_writes_back_without_a_flush() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache-dirty-age=1"]);
    let mut client = Client::connect(server.socket());
    client.write(1000, &[1; 5000]).unwrap();
    wait_until("it is written back", || {
        read_at(&image, 1000, 5000) == [1; 5000]
    });
}

#[test]
fn the_dirty_age_is_30_seconds_unless_it_is_off() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let other = Scratch::new();
    let (ageless, untouched) = start(&other, &["cache-dirty-age=off"]);
    let mut clients = [&server, &ageless].map(|server| Client::connect(server.socket()));
    for client in &mut clients {
        client.write(1000, &[1; 5000]).unwrap();
    }
    assert_filled("at first", &read_file(&image), 0);
    let written = Instant::now();
    wait_within(Duration::from_secs(60), "it is written back", || {
        read_at(&image, 1000, 5000) == [1; 5000]
    });
    assert!(written.elapsed() >= Duration::from_secs(25), "too soon");
    assert_filled("without an age", &read_file(&untouched), 0);
}

#[test]
fn what_is_read_is_kept_unless_told_otherwise() {
    for (parameters, expected) in [(&[][..], 0), (&["cache-on-read=false"], 2)] {
        let scratch = Scratch::new();
        let (server, image) = start(&scratch, parameters);
        let mut client = Client::connect(server.socket());
        assert_filled("at first", &client.read(0, MIB).unwrap(), 0);
        write_at(&image, 0, &[2; 1 << 20]);
        assert_filled("read again", &client.read(0, MIB).unwrap(), expected);
    }
}

/// Writes and reads 48 MiB through the cache; returns the most that the cache file took.
fn most_allocated(server: &Server) -> u64 {
    let sampler = UsageSampler::start(server.cache_files());
    let mut client = Client::connect(server.socket());
    let mut random = Random::new(1);
    let bytes = random.bytes(MIB);
    for index in 0..48 {
        client.write(index * MIB, &bytes).unwrap();
        let got = client.read(random.below(index + 1) * MIB, MIB).unwrap();
        assert_same_bytes("what is read", &got, &bytes);
    }
    drop(client);
    sampler.finish().into_iter().max().unwrap()
}

#[test]
fn the_served_cache_keeps_to_its_maximum_size() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 48 * MIB);
    let server = Larder::serve(&scratch)
        .file(&image)
        .parameter("cache-max-size=8M")
        .verbose()
        .start();
    let most = most_allocated(&server);
    assert!(most <= 8 * MIB && most > 4 * MIB, "{most}");
    server.stop().assert_few_pass_throughs();
    let file = read_file(&image);
    assert_same_bytes("the file", &file[..1 << 20], &file[47 << 20..]);
}

/// Writes and reads 48 MiB on eight connections, each of which has eight requests under way in a part of its own;
/// returns the most that the cache file took.
fn most_allocated_by_eight(server: &Server) -> u64 {
    const EACH: u64 = 6 * MIB;
    const PIECE: u64 = 64 * KIB;
    let sampler = UsageSampler::start(server.cache_files());
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut client = Client::connect(server.socket());
                let mut random = Random::new(number);
                let start = number * EACH;
                for _ in 0..3 {
                    let content = random.bytes(EACH);
                    for (eight, pieces) in content.chunks(8 * PIECE as usize).enumerate() {
                        let start = start + eight as u64 * 8 * PIECE;
                        let pieces = pieces
                            .chunks(PIECE as usize)
                            .zip((start..).step_by(1 << 16));
                        let write = |(bytes, offset): (&[u8], u64)| {
                            let request = Request::write(offset, bytes, Flags::NONE);
                            client.submit(&request).unwrap()
                        };
                        let written: Vec<_> = pieces.map(write).collect();
                        for cookie in written {
                            client.wait(cookie).unwrap();
                        }
                    }
                    let got = client.read(start, EACH).unwrap();
                    assert_same_bytes("what is read", &got, &content);
                }
            });
        }
    });
    sampler.finish().into_iter().max().unwrap()
}

#[test]
fn the_served_cache_keeps_to_its_maximum_size_under_eight_clients() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    for block_size in ["4K", "64K", "1M"] {
        let scratch = Scratch::under(&scratch.make_dir(block_size));
        sparse_file(&image, 48 * MIB);
        let server = Larder::serve(&scratch)
            .file(&image)
            .parameters(["cache-max-size=8M", "cache-readahead=8M"])
            .parameter(&format!("cache-min-block-size={block_size}"))
            .start();
        let most = most_allocated_by_eight(&server);
        assert!(most <= 8 * MIB && most > 4 * MIB, "{block_size}: {most}");
        server.stop();
    }
}

#[test]
fn without_a_maximum_size_half_of_what_is_free_is_the_limit() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 48 * MIB);
    let larder = Larder::serve(&scratch).file(&image);
    let mount = Mount::tmpfs(larder.tmpdir(), 32 * MIB);
    let server = larder.start();
    let told = server.output();
    assert!(
        told.contains("cache at most 16.00 MiB: half of what is free in"),
        "{told}"
    );
    let most = most_allocated(&server);
    assert!(most <= 16 * MIB && most > 8 * MIB, "{most}");
    server.stop();
    mount.unmount();
}

#[test]
fn regression_where_half_of_what_is_free_is_too_little_the_start_is_refused() {
    let scratch = Scratch::new();
    let larder = Larder::serve(&scratch).origin("memory:8M");
    let mount = Mount::tmpfs(larder.tmpdir(), MIB);
    let place = larder.tmpdir().display().to_string();
    let line = larder.clone().refusal();
    assert_eq!(
        line,
        format!(
            "1.00 MiB is free in {place}, and a cache that takes at most half of it needs at least 1.00 MiB; \
             cache-max-size=SIZE says how much to use"
        )
    );
    larder.parameter("cache-max-size=1M").start().stop();
    mount.unmount();
}

#[test]
fn a_read_only_server_refuses_writes() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let bytes = random_file(&image, SIZE, 1);
    let server = Larder::serve(&scratch).file(&image).flag("-r").start();
    assert!(server.output().contains("read-only"), "{}", server.output());
    let mut client = Client::connect(server.socket());
    assert!(client.export().is_read_only());
    let error = client.write(0, &[1; 512]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EPERM), "{error}");
    let error = client.trim(0, 512).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EPERM), "{error}");
    assert_same_bytes("what is read", &client.read(0, SIZE).unwrap(), &bytes);
}

/// A page of the cache file that cannot be had must not be a signal that ends the server, wherever the file lives.
#[test]
fn what_the_cache_file_lost_is_fetched_again_or_an_error() {
    for place in ["/dev/shm", "/var/tmp"] {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        let content = random_file(&image, SIZE, 7);
        let mut server = Larder::serve(&scratch)
            .file(&image)
            .environment("TMPDIR", place)
            .start();
        let mut client = Client::connect(server.socket());
        for at in (0..SIZE - MIB).step_by(4 * KIB as usize) {
            client.read(at, 4 * KIB).unwrap();
        }
        client.write(SIZE - MIB, &[1; 4096]).unwrap();
        for file in CacheFile::of_process(server.pid(), Path::new(place)) {
            file.cut_to(64 * KIB);
        }
        let lost = client.read(SIZE - MIB, 4096).map(|_| ()).unwrap_err();
        assert_eq!(lost.raw_os_error(), Some(EIO));
        let clean = client.read(0, 4 * KIB).unwrap();
        assert_same_bytes("a short read", &clean, &content[..4 * KIB as usize]);
        let clean = client.read(0, SIZE - MIB).unwrap();
        assert_same_bytes("a long read", &clean, &content[..(SIZE - MIB) as usize]);
        assert!(server.is_running());
    }
}
