//! Errors of the plugin: never cached, never forgotten, never fatal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io;
use std::path::PathBuf;

use larder_e2e::{
    Client, EvalDisk, Flags, KIB, MIB, Nbdkit, Random, Request, Scratch, Server, assert_filled,
    assert_same_bytes, read_file, sparse_file, write_at,
};

const SIZE: u64 = 8 * MIB;
const EIO: i32 = 5;

/// A server over a file of random bytes. While `fault` exists, requests of the named kinds fail.
struct Faulty {
    server: Server,
    image: PathBuf,
    fault: PathBuf,
    content: Vec<u8>,
    _scratch: Scratch,
}

impl Faulty {
    fn start(kinds: &[&str], parameters: &[&str]) -> Self {
        let scratch = Scratch::new();
        let (image, fault) = (scratch.path("image"), scratch.path("fault"));
        let content = Random::new(1).bytes(SIZE);
        sparse_file(&image, SIZE);
        write_at(&image, 0, &content);
        let rates = kinds.iter().map(|kind| format!("error-{kind}-rate=100%"));
        let file = format!("error-file={}", fault.display());
        let server = Nbdkit::larder(&scratch)
            .below("error")
            .file(&image)
            .parameters(rates)
            .parameter(&file)
            .parameters(parameters)
            .start();
        Self {
            server,
            image,
            fault,
            content,
            _scratch: scratch,
        }
    }

    fn connect(&self) -> Client {
        Client::connect(self.server.socket())
    }

    fn fail(&self) {
        fs::write(&self.fault, "").unwrap();
    }

    fn work(&self) {
        fs::remove_file(&self.fault).unwrap();
    }
}

fn assert_eio<T: std::fmt::Debug>(result: io::Result<T>) {
    let error = result.expect_err("the plugin failed");
    assert_eq!(error.raw_os_error(), Some(EIO), "{error}");
}

#[test]
fn read_error_is_not_cached() {
    let faulty = Faulty::start(&["pread"], &["cache-on-read=true"]);
    let mut client = faulty.connect();
    faulty.fail();
    assert_eio(client.read(MIB, 64 * KIB));
    assert_eio(client.read(MIB, 64 * KIB));
    assert_eio(client.cache(MIB, 64 * KIB));
    faulty.work();
    let got = client.read(MIB, 64 * KIB).unwrap();
    assert_same_bytes(
        "after the fault",
        &got,
        &faulty.content[1 << 20..][..64 << 10],
    );
}

#[test]
fn read_error_spares_what_is_cached() {
    let faulty = Faulty::start(&["pread"], &["cache-on-read=true"]);
    let mut client = faulty.connect();
    let warm = client.read(0, 64 * KIB).unwrap();
    faulty.fail();
    assert_eq!(client.read(0, 64 * KIB).unwrap(), warm);
    assert_eio(client.read(0, 65 * KIB));
}

#[test]
fn failed_read_of_an_edge_fails_the_write_and_changes_nothing() {
    let faulty = Faulty::start(&["pread"], &[]);
    let mut client = faulty.connect();
    faulty.fail();
    assert_eio(client.write(1001, &[0; 1000]));
    faulty.work();
    client.flush().unwrap();
    let got = client.read(0, SIZE).unwrap();
    assert_same_bytes(
        "outside of the write",
        &got[..1001],
        &faulty.content[..1001],
    );
    assert_same_bytes(
        "outside of the write",
        &got[2001..],
        &faulty.content[2001..],
    );
    assert_same_bytes("the plugin's file", &read_file(&faulty.image), &got);
}

#[test]
fn failed_writeback_keeps_data() {
    let mut faulty = Faulty::start(&["pwrite", "zero"], &[]);
    let mut client = faulty.connect();
    let before = faulty.content.clone();
    let data = Random::new(2).bytes(3 * MIB);
    client.write(MIB + 100, &data).unwrap();
    client.zero(5 * MIB, MIB).unwrap();
    faulty.content[(1 << 20) + 100..][..3 << 20].copy_from_slice(&data);
    faulty.content[5 << 20..6 << 20].fill(0);

    faulty.fail();
    assert_eio(client.flush());
    assert_eio(client.flush());
    assert_same_bytes("the plugin's file", &read_file(&faulty.image), &before);
    let got = client.read(0, SIZE).unwrap();
    assert_same_bytes("read while it fails", &got, &faulty.content);
    faulty.work();
    client.flush().unwrap();
    assert_same_bytes(
        "the plugin's file",
        &read_file(&faulty.image),
        &faulty.content,
    );
}

#[test]
fn failed_plugin_flush_is_retried() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB).writable().flushable();
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let mut client = Client::connect(server.socket());
    let data = Random::new(3).bytes(MIB);
    client.write(0, &data).unwrap();
    fs::write(disk.flush_fault(), "").unwrap();
    assert_eio(client.flush());
    assert_same_bytes("read while it fails", &client.read(0, MIB).unwrap(), &data);
    fs::remove_file(disk.flush_fault()).unwrap();
    assert_same_bytes("what the disk lost", &disk.volatile(), &vec![0; 1 << 20]);
    client.flush().unwrap();
    assert_same_bytes("the durable disk", &disk.durable(), &data);
    assert_same_bytes("read after it", &client.read(0, MIB).unwrap(), &data);
}

#[test]
fn what_reclaim_wrote_survives_a_failed_plugin_flush() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, 4 * MIB)
        .writable()
        .flushable();
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .parameter("cache-max-size=1M")
        .start();
    let mut client = Client::connect(server.socket());
    let data = Random::new(4).bytes(900 * KIB);
    client.write(0, &data).unwrap();
    fs::write(disk.flush_fault(), "").unwrap();
    assert_eio(client.flush());
    fs::remove_file(disk.flush_fault()).unwrap();
    let more = Random::new(5).bytes(3 * MIB);
    client.write(MIB, &more).unwrap();
    client.flush().unwrap();
    assert_same_bytes("early data", &disk.durable()[..900 << 10], &data);
    assert_same_bytes("later data", &disk.durable()[1 << 20..], &more);
}

#[test]
fn failed_writethrough_is_not_served() {
    let mut faulty = Faulty::start(&["pwrite", "zero"], &["cache=writethrough"]);
    let mut client = faulty.connect();
    let data = Random::new(6).bytes(100_000);
    client.write(0, &data).unwrap();
    faulty.content[..100_000].copy_from_slice(&data);
    faulty.fail();
    assert_eio(client.write(50_000, &[9; 100_000]));
    assert_eio(client.zero(200_000, 100_000));
    let got = client.read(0, SIZE).unwrap();
    assert_same_bytes("what is served", &got, &faulty.content);
    faulty.work();
    client.flush().unwrap();
    assert_same_bytes(
        "the plugin's file",
        &read_file(&faulty.image),
        &faulty.content,
    );
    client.write(50_000, &[9; 100_000]).unwrap();
    assert_filled("what is read", &client.read(50_000, 100_000).unwrap(), 9);
}

#[test]
fn failed_fua_is_not_served_as_durable() {
    let faulty = Faulty::start(&["pwrite", "zero"], &[]);
    let mut client = faulty.connect();
    faulty.fail();
    assert_eio(client.write_fua(64 * KIB, &[9; 64 << 10]));
    let served = client.read(0, SIZE).unwrap();
    faulty.work();
    client.flush().unwrap();
    assert_same_bytes("the plugin's file", &read_file(&faulty.image), &served);
    assert_same_bytes("read again", &client.read(0, SIZE).unwrap(), &served);
    client.write_fua(64 * KIB, &[8; 64 << 10]).unwrap();
    assert_filled(
        "the plugin's file",
        &read_file(&faulty.image)[64 << 10..128 << 10],
        8,
    );
}

#[test]
fn failed_trim_drops_nothing() {
    let faulty = Faulty::start(&["trim"], &[]);
    let mut client = faulty.connect();
    client.write(MIB, &[1; 1 << 20]).unwrap();
    faulty.fail();
    assert_eio(client.trim(MIB, MIB));
    assert_filled("what is read", &client.read(MIB, MIB).unwrap(), 1);
    client.flush().unwrap();
    assert_filled(
        "the plugin's file",
        &read_file(&faulty.image)[1 << 20..2 << 20],
        1,
    );
}

#[test]
fn failed_block_status_is_the_clients_error_and_passes() {
    let faulty = Faulty::start(&["extents"], &[]);
    let mut client = faulty.connect();
    faulty.fail();
    assert_eio(client.block_status(0, SIZE));
    faulty.work();
    let length: u64 = client
        .extents_of(0, SIZE)
        .unwrap()
        .iter()
        .map(|e| e.length)
        .sum();
    assert_eq!(length, SIZE);
}

#[test]
fn a_cache_full_of_data_the_plugin_refuses_refuses_new_writes_and_loses_none() {
    let mut faulty = Faulty::start(&["pwrite", "zero"], &["cache-max-size=1M"]);
    let mut client = faulty.connect();
    faulty.fail();
    let mut refused = 0;
    for block in 0..64_usize {
        let at = block * (64 << 10);
        let data = Random::new(100 + block as u64).bytes(64 * KIB);
        match client.write(at as u64, &data) {
            Ok(()) => faulty.content[at..at + data.len()].copy_from_slice(&data),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(EIO), "{error}");
                refused += 1;
            }
        }
    }
    assert!(
        refused > 32,
        "only {refused} of 64 writes of 64K into 1M refused"
    );
    assert!(
        refused < 60,
        "{refused} of 64 writes refused: the cache was not used"
    );
    let got = client.read(0, SIZE).unwrap();
    assert_same_bytes("what is served", &got, &faulty.content);
    faulty.work();
    client.write(7 * MIB, &[5; 4096]).unwrap();
    faulty.content[7 << 20..(7 << 20) + 4096].fill(5);
    client.flush().unwrap();
    assert_same_bytes(
        "the plugin's file",
        &read_file(&faulty.image),
        &faulty.content,
    );
}

#[test]
fn plugin_errors_never_kill_the_server() {
    let kinds = ["pread", "pwrite", "zero", "trim", "extents", "cache"];
    let mut faulty = Faulty::start(&kinds, &["cache-max-size=1M", "cache-on-read=true"]);
    let mut client = faulty.connect();
    let mut random = Random::new(7);
    let mut failures = 0;
    for round in 0..200 {
        match round % 20 {
            0 => faulty.fail(),
            10 => faulty.work(),
            _ => {}
        }
        let offset = random.below(SIZE - 100_000);
        let length = random.between(1, 100_000);
        let bytes = random.bytes(length);
        let request = match random.below(7) {
            0 => Request::read(offset, length),
            1 => Request::write(offset, &bytes, Flags::NONE),
            2 => Request::write(offset, &bytes, Flags::FUA),
            3 => Request::zero(offset, length, Flags::NONE),
            4 => Request::trim(offset, length, Flags::NONE),
            5 => Request::block_status(offset, length),
            _ => Request::flush(),
        };
        if let Err(error) = client.call(&request) {
            assert_eq!(error.raw_os_error(), Some(EIO), "{request:?}: {error}");
            failures += 1;
        }
    }
    assert!(
        failures > 10,
        "only {failures} failures: nothing was tested"
    );
    assert!(faulty.server.is_running());
    let mut another = faulty.connect();
    another.flush().unwrap();
    let served = another.read(0, SIZE).unwrap();
    assert_same_bytes("the plugin's file", &read_file(&faulty.image), &served);
}

#[test]
fn a_plugin_that_cannot_be_opened_is_one_clients_error() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB).with(
        "open",
        "if [ \"$3\" = bad ]; then echo EIO no >&2; exit 1; fi",
    );
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    assert!(Client::try_connect_to(server.socket(), "bad").is_err());
    let mut client = Client::connect_to(server.socket(), "good");
    assert_filled("what is read", &client.read(0, 4096).unwrap(), 0);
}
