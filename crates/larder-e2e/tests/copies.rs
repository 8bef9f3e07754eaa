//! Other people's tools copy a disk out exactly, and virt-v2v's chain works.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use larder_e2e::{
    Client, KIB, MIB, Nbdkit, Random, Scratch, Server, WebServer, assert_same_bytes, output_of,
    read_file, run, sparse_file, write_at,
};

const SIZE: u64 = 32 * MIB;

/// A server over a file that is half holes, with unflushed data over data and over holes, and
/// with unflushed zeros over data. Returns what a copy must be, and a client that stays, so that
/// nothing is written back.
fn dirty_disk(scratch: &Scratch, parameters: &[&str]) -> (Server, Client, Vec<u8>) {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let mut random = Random::new(1);
    for offset in (0..SIZE).step_by(4 << 20) {
        write_at(&image, offset, &random.bytes(MIB));
    }
    let mut expected = read_file(&image);
    let original = expected.clone();
    let server = Nbdkit::larder(scratch)
        .file(&image)
        .parameters(parameters)
        .start();
    let mut client = Client::connect(server.socket());
    for offset in (0..SIZE).step_by(3 << 20) {
        let bytes = random.bytes(100_000);
        client.write(offset + 777, &bytes).unwrap();
        let at = offset as usize + 777;
        expected[at..at + 100_000].copy_from_slice(&bytes);
    }
    client.zero(8 * MIB, MIB / 2).unwrap();
    expected[8 << 20..(8 << 20) + (512 << 10)].fill(0);
    if parameters.is_empty() {
        assert!(read_file(&image) == original, "the data is unflushed");
    }
    (server, client, expected)
}

fn qemu_img_convert(server: &Server, copy: &Path) {
    let (source, copy) = (server.uri(), copy.display().to_string());
    run(
        "qemu-img",
        ["convert", "-f", "raw", "-O", "raw", &source, &copy],
    );
}

fn nbdcopy(server: &Server, copy: &Path) {
    run("nbdcopy", [server.uri(), copy.display().to_string()]);
}

#[test]
fn qemu_img_convert_copies_unflushed_data_exactly() {
    let scratch = Scratch::new();
    let (server, _client, expected) = dirty_disk(&scratch, &[]);
    let copy = scratch.path("copy");
    qemu_img_convert(&server, &copy);
    assert_same_bytes("the copy", &read_file(&copy), &expected);
}

#[test]
fn nbdcopy_copies_unflushed_data_exactly() {
    let scratch = Scratch::new();
    let (server, _client, expected) = dirty_disk(&scratch, &[]);
    let copy = scratch.path("copy");
    nbdcopy(&server, &copy);
    assert_same_bytes("the copy", &read_file(&copy), &expected);
}

#[test]
fn copies_through_a_small_cache_are_exact() {
    let scratch = Scratch::new();
    let parameters = ["cache-max-size=2M", "cache-on-read=true"];
    let (server, _client, expected) = dirty_disk(&scratch, &parameters);
    for (name, copy_with) in [
        ("qemu-img", qemu_img_convert as fn(&Server, &Path)),
        ("nbdcopy", nbdcopy),
    ] {
        let copy = scratch.path(name);
        copy_with(&server, &copy);
        assert_same_bytes(name, &read_file(&copy), &expected);
    }
}

#[test]
fn copies_into_the_cache_reach_the_plugin() {
    let scratch = Scratch::new();
    let (source, image) = (scratch.path("source"), scratch.path("image"));
    sparse_file(&source, SIZE);
    let mut random = Random::new(2);
    for offset in (0..SIZE).step_by(5 << 20) {
        write_at(&source, offset + 5, &random.bytes(MIB));
    }
    for tool in ["nbdcopy", "qemu-img"] {
        sparse_file(&image, SIZE);
        let server = Nbdkit::larder(&scratch)
            .file(&image)
            .parameter("cache-max-size=2M")
            .start();
        let (from, to) = (source.display().to_string(), server.uri());
        if tool == "nbdcopy" {
            run(tool, ["--flush", &from, &to]);
        } else {
            run(
                tool,
                ["convert", "-n", "-f", "raw", "-O", "raw", &from, &to],
            );
        }
        server.stop();
        assert_same_bytes(tool, &read_file(&image), &read_file(&source));
    }
}

/// Serves an image over HTTP and copies it through virt-v2v's chain.
fn copy_over_http(scratch: &Scratch, parameters: &[&str]) -> Chain {
    let directory = scratch.make_dir("www");
    let image = directory.join("disk.img");
    sparse_file(&image, SIZE + 512);
    let mut random = Random::new(3);
    for offset in (0..SIZE).step_by(3 << 20) {
        write_at(&image, offset, &random.bytes(MIB + 300));
    }
    let web = WebServer::start(scratch, &directory);
    let server = Nbdkit::larder(scratch)
        .below("cacheextents")
        .below("retry")
        .plugin("curl", web.curl_parameters("disk.img"))
        .parameters(parameters)
        .start();
    let copy = scratch.path("copy");
    qemu_img_convert(&server, &copy);
    Chain {
        server,
        web,
        image,
        copy,
    }
}

struct Chain {
    server: Server,
    web: WebServer,
    image: PathBuf,
    copy: PathBuf,
}

#[test]
fn virt_v2vs_chain_copies_exactly() {
    for parameters in [
        &[][..],
        &["cache-on-read=true", "cache-max-size=4M"],
        &["cache-min-block-size=4K", "cache-on-read=true"],
    ] {
        let scratch = Scratch::new();
        let chain = copy_over_http(&scratch, parameters);
        let (got, expected) = (read_file(&chain.copy), read_file(&chain.image));
        assert_same_bytes("the copy", &got, &expected);
    }
}

#[test]
fn virt_v2vs_chain_keeps_what_it_read() {
    let scratch = Scratch::new();
    let parameters = ["cache-on-read=true", "retries=0"];
    let chain = copy_over_http(&scratch, &parameters);
    let mut client = Client::connect(chain.server.socket());
    drop(chain.web);
    // What is read without a web server can only come from the cache.
    let got = client.read(64 * KIB, MIB).unwrap();
    let expected = &read_file(&chain.image)[64 << 10..(64 << 10) + (1 << 20)];
    assert_same_bytes("from the cache", &got, expected);
}

#[test]
fn qemu_io_agrees_with_what_was_written() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let server = Nbdkit::larder(&scratch).file(&image).start();
    let commands = [
        "write -P 0x11 1000 70000",
        "write -z 65536 4096",
        "read -P 0x11 1000 64536",
        "read -P 0 65536 4096",
        "flush",
        "read -P 0x11 69632 1368",
    ];
    let mut command = Command::new("qemu-io");
    command.args(["-f", "raw"]);
    command.args(commands.iter().flat_map(|c| ["-c", c]));
    let output = output_of(command.arg(server.uri()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("verification failed"), "{said}");
}
