//! What was acknowledged reaches the plugin when clients leave and when the server ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use larder_e2e::{
    Client, EvalDisk, KIB, MIB, Nbdkit, Random, Scratch, Server, assert_filled, assert_same_bytes,
    read_file, sparse_file, wait_until,
};

const SIZE: u64 = 8 * MIB;

/// A server over a file, with the parameters and filters that `build` adds.
fn start(scratch: &Scratch, build: impl FnOnce(Nbdkit) -> Nbdkit) -> (Server, PathBuf) {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let server = build(Nbdkit::larder(scratch).file(&image)).start();
    (server, image)
}

/// Writes to odd places without a flush; returns what the disk must hold then.
fn write_unflushed(client: &mut Client) -> Vec<u8> {
    let mut expected = vec![0; client.export().size as usize];
    let mut random = Random::new(1);
    for (offset, length) in [
        (0, 4096),
        (100_001, 70_003),
        (3 * MIB, MIB),
        (SIZE - 513, 513),
    ] {
        let bytes = random.bytes(length);
        client.write(offset, &bytes).unwrap();
        expected[offset as usize..(offset + length) as usize].copy_from_slice(&bytes);
    }
    expected
}

fn wait_for(image: &Path, expected: &[u8]) {
    wait_until("the plugin's file has all", || read_file(image) == expected);
}

#[test]
fn disconnect_writes_back() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit);
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    assert_ne!(read_file(&image), expected, "it is not flushed");
    client.disconnect();
    wait_for(&image, &expected);
}

#[test]
fn disconnect_writes_back_over_the_delay_filter() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| {
        nbdkit.below("delay").parameter("wdelay=50ms")
    });
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    client.disconnect();
    wait_for(&image, &expected);
}

#[test]
fn disconnect_writes_back_over_the_retry_filter() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit.below("retry"));
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    client.disconnect();
    wait_for(&image, &expected);
}

#[test]
fn a_client_that_vanishes_is_a_disconnect() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit);
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    drop(client);
    wait_for(&image, &expected);
}

#[test]
fn the_last_of_two_clients_writes_back() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit);
    let mut first = Client::connect(server.socket());
    let mut second = Client::connect(server.socket());
    let mut expected = write_unflushed(&mut first);
    first.disconnect_and_wait();
    second.write(MIB, b"second").unwrap();
    expected[1 << 20..(1 << 20) + 6].copy_from_slice(b"second");
    let got = second.read(0, SIZE).unwrap();
    assert_same_bytes("what the second reads", &got, &expected);
    second.disconnect_and_wait();
    wait_for(&image, &expected);
}

#[test]
fn disconnect_writes_back_where_requests_are_serialised() {
    for serialize in ["connections", "all-requests", "requests"] {
        let scratch = Scratch::new();
        let (server, image) = start(&scratch, |nbdkit| {
            let parameter = format!("serialize={serialize}");
            nbdkit.below("noparallel").parameter(&parameter)
        });
        let mut client = Client::connect(server.socket());
        let expected = write_unflushed(&mut client);
        client.disconnect();
        wait_for(&image, &expected);
    }
}

#[test]
fn a_plugin_without_flush_gets_all_at_a_flush_and_at_the_end() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, SIZE).writable();
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let mut client = Client::connect(server.socket());
    assert!(client.export().can_flush(), "flush means written back");
    let mut expected = write_unflushed(&mut client);
    client.flush().unwrap();
    assert_same_bytes("after the flush", &disk.volatile(), &expected);
    client.write(5, b"later").unwrap();
    expected[5..10].copy_from_slice(b"later");
    client.disconnect();
    wait_until("the rest is written", || disk.volatile() == expected);
}

#[test]
fn what_is_written_back_at_a_disconnect_is_flushed() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, SIZE).writable().flushable();
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    client.disconnect();
    wait_until("it is durable", || disk.durable() == expected);
}

#[test]
fn sigterm_then_leave_writes_back() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit);
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    server.terminate();
    client.disconnect();
    assert_eq!(server.wait_for_exit().code, 0);
    assert_same_bytes("the plugin's file", &read_file(&image), &expected);
}

#[test]
fn after_sigterm_over_the_delay_filter_all_is_written_or_named() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| {
        nbdkit.below("delay").parameter("wdelay=50ms")
    });
    let mut client = Client::connect(server.socket());
    client.write(3 * MIB, &[1; 64 << 10]).unwrap();
    server.terminate();
    client.disconnect();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 0, "{}", exit.output);
    let written = read_file(&image)[3 << 20..(3 << 20) + (64 << 10)] == [1; 64 << 10];
    let named = names_offset(&exit.output, 3 * MIB);
    assert!(
        written || named,
        "neither written nor named:\n{}",
        exit.output
    );
}

#[test]
fn a_captive_nbdkit_writes_back_before_it_ends() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let client = env!("CARGO_BIN_EXE_write-without-flush");
    let output = Nbdkit::larder(&scratch)
        .file(&image)
        .run_captive(&format!("'{client}' \"$unixsocket\""));
    assert!(output.status.success(), "{output:?}");
    let in_file = &read_file(&image)[..64 << 10];
    assert_filled("the plugin's file", in_file, 7);
}

#[test]
fn leave_then_sigterm_writes_back() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit);
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    client.disconnect_and_wait();
    server.stop();
    assert_same_bytes("the plugin's file", &read_file(&image), &expected);
}

#[test]
fn what_cannot_be_written_is_reported_by_range() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| {
        nbdkit
            .below("error")
            .parameters(["error-pwrite-rate=100%", "error-zero-rate=100%"])
    });
    let mut client = Client::connect(server.socket());
    client.write(3 * MIB, &[1; 2 << 20]).unwrap();
    client.disconnect_and_wait();
    let output = server.stop().output;
    assert_filled("the plugin's file", &read_file(&image), 0);
    assert!(names_offset(&output, 3 * MIB), "{output}");
}

/// Whether a server's output names an offset, in one of the usual spellings.
fn names_offset(output: &str, offset: u64) -> bool {
    output.contains(&format!("{offset}")) || output.contains(&format!("{offset:#x}"))
}

/// A server whose plugin fails to write while the file `fault` exists, as it does now.
fn start_failing(scratch: &Scratch) -> (Server, PathBuf) {
    let fault = scratch.path("fault");
    fs::write(&fault, "").unwrap();
    start(scratch, |nbdkit| {
        nbdkit.below("error").parameters([
            "error-pwrite-rate=100%",
            &format!("error-pwrite-file={}", fault.display()),
        ])
    })
}

#[test]
fn data_kept_over_a_disconnect_is_written_back_by_the_next_client() {
    let scratch = Scratch::new();
    let (server, image) = start_failing(&scratch);
    let mut client = Client::connect(server.socket());
    let expected = write_unflushed(&mut client);
    client.disconnect();
    wait_until("the failure is reported", || {
        names_offset(&server.output(), 3 * MIB)
    });
    fs::remove_file(scratch.path("fault")).unwrap();
    let mut next = Client::connect(server.socket());
    let got = next.read(0, SIZE).unwrap();
    assert_same_bytes("what the next client reads", &got, &expected);
    next.flush().unwrap();
    assert_same_bytes("the plugin's file", &read_file(&image), &expected);
}

fn shrink(image: &Path, size: u64) {
    let file = fs::OpenOptions::new().write(true).open(image).unwrap();
    file.set_len(size).unwrap();
}

#[test]
fn data_beyond_a_shrunken_end_is_reported_by_range() {
    let scratch = Scratch::new();
    let (server, image) = start_failing(&scratch);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    client.write(6 * MIB, &[2; 64 << 10]).unwrap();
    client.disconnect();
    wait_until("the failure is reported", || {
        names_offset(&server.output(), 6 * MIB)
    });
    shrink(&image, 4 * MIB);
    fs::remove_file(scratch.path("fault")).unwrap();
    let told_before = server.output().len();

    let mut client = Client::connect(server.socket());
    assert_eq!(client.export().size, 4 * MIB);
    let kept = client.read(0, 4096).unwrap();
    assert_filled("what is within", &kept, 1);
    client.flush().unwrap();
    client.disconnect_and_wait();
    let output = server.stop().output;
    let told = &output[told_before..];
    assert_filled("the plugin's file", &read_file(&image)[..4096], 1);
    assert!(names_offset(told, 6 * MIB), "nothing names 6 MiB:\n{told}");
}

#[test]
fn a_disk_that_shrinks_under_a_client_takes_nothing_from_it() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit);
    let mut early = Client::connect(server.socket());
    early.write(MIB, &[1; 64 << 10]).unwrap();
    shrink(&image, 4 * MIB);
    // A second client is refused, or is told the new size; the first is served in any case.
    if let Ok(late) = Client::try_connect_to(server.socket(), "") {
        assert_eq!(late.export().size, 4 * MIB);
    }
    assert_filled("read back", &early.read(MIB, 64 * KIB).unwrap(), 1);
    early.flush().unwrap();
    let in_file = &read_file(&image)[1 << 20..(1 << 20) + (64 << 10)];
    assert_filled("the plugin's file", in_file, 1);
}

#[test]
fn a_disk_that_grows_between_connections_is_served_whole() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, |nbdkit| nbdkit.parameter("cache-on-read=true"));
    let mut client = Client::connect(server.socket());
    let mut expected = write_unflushed(&mut client);
    client.read(0, SIZE).unwrap();
    client.disconnect_and_wait();
    wait_for(&image, &expected);
    let mut random = Random::new(9);
    expected.extend(random.bytes(100 * KIB + 77));
    fs::write(&image, &expected).unwrap();

    let mut client = Client::connect(server.socket());
    assert_eq!(client.export().size, SIZE + 100 * KIB + 77);
    let got = client.read(0, client.export().size).unwrap();
    assert_same_bytes("the grown disk", &got, &expected);
    let tail = random.bytes(500);
    client.write(SIZE + 100 * KIB - 450, &tail).unwrap();
    let at = (SIZE + 100 * KIB - 450) as usize;
    expected[at..at + 500].copy_from_slice(&tail);
    client.flush().unwrap();
    assert_same_bytes("the plugin's file", &read_file(&image), &expected);
}
