//! The clients that people have, on `larder serve`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use larder_e2e::{
    Client, KIB, Larder, MIB, Mount, Nbdkit, Plan, Scratch, Server, assert_filled,
    assert_same_bytes, output_of, random_file, read_at, read_file, run, run_expecting_failure,
    run_workload, sparse_file, write_at,
};

const SIZE: u64 = 8 * MIB;

/// A server over a file of random bytes.
fn start(scratch: &Scratch) -> (Server, PathBuf, Vec<u8>) {
    let image = scratch.path("image");
    let bytes = random_file(&image, SIZE, 1);
    let server = Larder::serve(scratch).file(&image).tcp().start();
    (server, image, bytes)
}

/// What `nbdinfo --map` says: offset, length and type.
fn map(server: &Server, context: &str) -> Vec<(u64, u64, u32)> {
    let printed = run("nbdinfo", [&format!("--map={context}"), &server.uri()]);
    let number = |word: Option<&str>| word.unwrap().parse::<u64>().unwrap();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (offset, length) = (number(words.next()), number(words.next()));
        (offset, length, number(words.next()) as u32)
    };
    printed.lines().map(line).collect()
}

/// Runs nbdsh in Debian's Python: only that has libnbd's module.
fn nbdsh(server: &Server, script: &str) {
    let shell = ["-m", "nbd", "-u", &server.uri(), "-c", script];
    run("/usr/bin/python3", shell);
}

/// The version that a program tells: the first word of numbers and dots.
fn version_of(program: &str) -> Vec<u32> {
    let told = run(program, ["--version"]);
    let number = |word: &str| {
        word.split('.')
            .map_while(|part| part.parse().ok())
            .collect()
    };
    let mut versions = told.split_whitespace().map(number);
    let version = versions.find(|version: &Vec<u32>| version.len() > 1);
    version.unwrap_or_else(|| panic!("{program} --version said {told:?}"))
}

#[test]
fn libnbds_clients_agree_on_the_longest_headers_that_they_know() {
    // From 1.18 on. Where tests are run to see that, they must know.
    let knows = version_of("nbdinfo") >= vec![1, 18];
    let is_expected = std::env::var_os("LARDER_EXPECT_EXTENDED_HEADERS").is_some();
    assert!(knows || !is_expected, "nbdinfo knows no extended headers");
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:8G").start();
    // In one extent, or in some that 32 bits can say. Before anybody has read something, as nbdinfo itself may.
    let expected = match knows {
        true => vec![(0, 8 << 30, 0)],
        false => map(&server, "larder:cache"),
    };
    assert_eq!(map(&server, "larder:cache"), expected);
    let total: u64 = expected.iter().map(|(_, length, _)| length).sum();
    assert_eq!(total, 8 << 30);
    let told = run("nbdinfo", [server.uri()]);
    let packets = match knows {
        true => "using extended packets",
        false => "using structured packets",
    };
    assert!(told.contains(packets), "{told}");
    server.stop();
}

#[test]
fn qemus_clients_agree_on_the_longest_headers_that_they_know() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:8G").start();
    let trace = ["--trace", "nbd_*", "-f", "raw"];
    // In one request, or not at all.
    let commands = ["-c", "write -z -n 0 6G", "-c", "map"];
    let uri = [&*server.uri()];
    let told = run("qemu-io", [&trace[..], &commands, &uri].concat());
    // From 8.2 on.
    let (option, chunk) = match version_of("qemu-io") >= vec![8, 2] {
        true => ("extended headers", "type = 6"),
        false => ("structured reply", "type = 5"),
    };
    let agreed = format!("({option}), type 1 (ack)");
    assert!(told.contains(&agreed), "{agreed}:\n{told}");
    assert!(told.contains(chunk), "{chunk}:\n{told}");
    if option == "extended headers" {
        assert!(told.contains(".len = 6442450944,"), "{told}");
        assert!(told.contains("wrote 6442450944/6442450944"), "{told}");
    }
    server.stop();
}

#[test]
fn nbdinfo_tells_what_is_served() {
    let scratch = Scratch::new();
    let (server, _, _) = start(&scratch);
    for uri in [server.uri(), server.tcp_uri()] {
        let told = run("nbdinfo", [&uri]);
        for line in [
            "protocol: newstyle-fixed without TLS",
            "export-size: 8388608",
            "is_read_only: false",
            "can_flush: true",
            "can_fua: true",
            "can_zero: true",
            "can_trim: true",
            "can_cache: true",
            "can_multi_conn: true",
            "base:allocation",
            "larder:cache",
        ] {
            assert!(told.contains(line), "{line}:\n{told}");
        }
        let told = run("nbdinfo", ["--json", &uri]);
        assert!(told.contains("\"export-size\": 8388608"), "{told}");
    }
}

#[test]
fn nbdinfo_lists_exports_with_their_descriptions() {
    let scratch = Scratch::new();
    let configuration = scratch.path("larder.toml");
    let text = "[[export]]\nname = \"first\"\norigin = \"memory:1M\"\ndescription = \"of two\"\n\
                [[export]]\nname = \"second\"\norigin = \"memory:2M\"\n";
    std::fs::write(&configuration, text).unwrap();
    let server = Larder::serve(&scratch)
        .parameter(&format!("config={}", configuration.display()))
        .start();
    let told = run("nbdinfo", ["--list", &server.uri()]);
    for line in [
        "export=\"first\"",
        "description: of two",
        "export=\"second\"",
        "export-size: 2097152",
    ] {
        assert!(told.contains(line), "{line}:\n{told}");
    }
    let names = Client::list_exports(server.socket()).unwrap();
    assert_eq!(names, ["first", "second"]);
    run("nbdinfo", [&server.uri_of("second")]);
    run_expecting_failure("nbdinfo", [&server.uri_of("third")]);
}

#[test]
fn nbdinfo_maps_what_is_allocated() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    write_at(&image, MIB, &[1; 1 << 20]);
    let server = Larder::serve(&scratch).file(&image).start();
    let expected = [(0, MIB, 3), (MIB, MIB, 0), (2 * MIB, SIZE - 2 * MIB, 3)];
    assert_eq!(map(&server, "base:allocation"), expected);
}

#[test]
fn nbdinfo_maps_what_is_cached_and_dirty() {
    let scratch = Scratch::new();
    let (server, _, _) = start(&scratch);
    // It stays, so that the last client has not left when nbdinfo leaves.
    let mut client = Client::connect(server.socket());
    assert_eq!(map(&server, "larder:cache"), [(0, SIZE, 0)]);
    client.read(64 * KIB, 64 * KIB).unwrap();
    let rest = |offset| (offset, SIZE - offset, 0);
    let clean = [(0, 64 * KIB, 0), (64 * KIB, 64 * KIB, 1), rest(128 * KIB)];
    assert_eq!(map(&server, "larder:cache"), clean);
    client.write(64 * KIB, &[1; 64 << 10]).unwrap();
    let dirty = [(0, 64 * KIB, 0), (64 * KIB, 64 * KIB, 3), rest(128 * KIB)];
    assert_eq!(map(&server, "larder:cache"), dirty);
    client.flush().unwrap();
    assert_eq!(map(&server, "larder:cache"), clean);
}

#[test]
fn nbdcopy_copies_both_ways() {
    let scratch = Scratch::new();
    let (server, image, bytes) = start(&scratch);
    let copy = scratch.path("copy");
    run("nbdcopy", [server.uri(), copy.display().to_string()]);
    assert_same_bytes("what was copied out", &read_file(&copy), &bytes);
    let other = random_file(&copy, SIZE, 2);
    let arguments = [
        "--flush".to_owned(),
        copy.display().to_string(),
        server.uri(),
    ];
    run("nbdcopy", arguments);
    assert_same_bytes("what was copied in", &read_file(&image), &other);
}

#[test]
fn nbdsh_has_one_request_at_a_time() {
    let scratch = Scratch::new();
    let (server, image, bytes) = start(&scratch);
    let script = "
b = bytes([7]) * 5000
h.pwrite(b, 1000)
assert h.pread(5000, 1000) == b
h.zero(3000, 1000)
assert h.pread(5000, 1000) == bytes(3000) + b[3000:]
h.trim(65536, 131072)
h.cache(1 << 20, 2 << 20)
h.flush()
try:
    h.pread(512, h.get_size())
    raise SystemExit('a read beyond the end was answered')
except nbd.Error as e:
    assert e.errno == 'EINVAL', e
";
    nbdsh(&server, script);
    assert_filled("zeroed", &read_at(&image, 1000, 3000), 0);
    assert_filled("written", &read_at(&image, 4000, 2000), 7);
    assert_same_bytes("the rest", &read_file(&image)[..1000], &bytes[..1000]);
}

#[test]
fn nbdsh_has_many_requests_in_flight() {
    let scratch = Scratch::new();
    let (server, image, bytes) = start(&scratch);
    // Each block of 4 KiB is read, and written at twice its place in the second half's mirror.
    let script = "
size, n = 4096, 512
reads = [nbd.Buffer(size) for _ in range(n)]
cookies = [h.aio_pread(reads[i], i * size) for i in range(n)]
while h.aio_in_flight(): h.poll(-1)
assert all(h.aio_command_completed(c) for c in cookies)
half = h.get_size() // 2
cookies = [h.aio_pwrite(reads[i], half + (n - 1 - i) * size) for i in range(n)]
while h.aio_in_flight(): h.poll(-1)
assert all(h.aio_command_completed(c) for c in cookies)
h.flush()
";
    nbdsh(&server, script);
    let written = read_at(&image, SIZE / 2, 512 * 4096);
    let turned: Vec<&[u8]> = bytes[..512 * 4096].chunks(4096).rev().collect();
    assert_same_bytes("what was written", &written, &turned.concat());
}

#[test]
fn qemu_io_reads_and_writes() {
    let scratch = Scratch::new();
    let (server, image, _) = start(&scratch);
    let uri = server.uri();
    let mut arguments = vec!["-f", "raw"];
    for command in [
        "write -P 1 0 1M",
        "read -P 1 0 1M",
        "write -z 64k 64k",
        "read -P 0 64k 64k",
        "write -f -P 2 2M 4k",
        "aio_write -P 3 3M 1M",
        "aio_write -P 4 4M 1M",
        "aio_flush",
        "read -P 4 4M 1M",
        "discard 5M 1M",
        "flush",
    ] {
        arguments.extend(["-c", command]);
    }
    arguments.push(&uri);
    let told = run("qemu-io", arguments);
    assert!(!told.contains("failed"), "{told}");
    assert_filled("the file", &read_at(&image, 3 * MIB, MIB), 3);
    assert_filled("the file", &read_at(&image, 2 * MIB, 4096), 2);
    assert_filled("the file", &read_at(&image, 64 * KIB, 64 * KIB), 0);
}

#[test]
fn qemu_img_converts_and_compares() {
    let scratch = Scratch::new();
    let (server, image, bytes) = start(&scratch);
    let (raw, qcow2) = (scratch.path("copy.raw"), scratch.path("copy.qcow2"));
    let (raw, qcow2) = (raw.display().to_string(), qcow2.display().to_string());
    let uri = server.uri();
    run(
        "qemu-img",
        ["convert", "-f", "raw", "-O", "raw", &uri, &raw],
    );
    assert_same_bytes("the raw copy", &read_file(Path::new(&raw)), &bytes);
    run(
        "qemu-img",
        ["convert", "-f", "raw", "-O", "qcow2", &uri, &qcow2],
    );
    run(
        "qemu-img",
        ["compare", "-f", "raw", "-F", "qcow2", &uri, &qcow2],
    );
    // Back, over something else.
    let mut client = Client::connect(server.socket());
    client.write(MIB, &[1; 1 << 20]).unwrap();
    run_expecting_failure(
        "qemu-img",
        ["compare", "-f", "raw", "-F", "qcow2", &uri, &qcow2],
    );
    run(
        "qemu-img",
        ["convert", "-n", "-f", "qcow2", "-O", "raw", &qcow2, &uri],
    );
    drop(client);
    server.stop();
    assert_same_bytes("the file", &read_file(&image), &bytes);
}

#[test]
fn fio_verifies_what_it_writes() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 64 * MIB);
    let server = Larder::serve(&scratch)
        .file(&image)
        .parameter("cache-max-size=8M")
        .start();
    let uri = format!("--uri={}", server.uri());
    let directory = format!("--aux-path={}", scratch.path("").display());
    for bs in ["--bsrange=512-128k", "--bs=4k"] {
        run(
            "fio",
            [
                "--name=verify",
                "--ioengine=nbd",
                &uri,
                &directory,
                "--rw=randwrite",
                bs,
                "--iodepth=16",
                "--size=64M",
                "--io_size=32M",
                "--verify=crc32c",
                "--verify_fatal=1",
                "--verify_state_save=0",
                "--randrepeat=1",
            ],
        );
    }
    server.stop();
}

#[test]
fn nbd_client_lists_exports() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch)
        .origin("one=memory:1M")
        .origin("two=memory:1M")
        .tcp()
        .start();
    let told = run("/usr/sbin/nbd-client", ["-l", "127.0.0.1", &server.port()]);
    assert!(told.contains("one\n") && told.contains("two\n"), "{told}");
}

#[test]
fn nbdkits_nbd_plugin_in_front_agrees_with_a_byte_array() {
    let scratch = Scratch::new();
    let (server, image, _) = start(&scratch);
    let socket = format!("socket={}", server.socket().display());
    let front = Nbdkit::bare(&scratch)
        .plugin("nbd", [&socket, "shared=true"])
        .start();
    let model = run_workload(front.socket(), &image, &Plan::moderate(2));
    front.stop();
    server.stop();
    model.check("the file at the end", 0, &read_file(&image));
}

#[test]
fn a_client_of_the_old_handshake_is_served() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let bytes = random_file(&image, SIZE, 1);
    let server = Larder::serve(&scratch)
        .origin(format!("disk={}", image.display()))
        .start();
    let mut client = Client::try_connect_by_name(server.socket(), "disk").unwrap();
    assert_eq!(client.export().size, SIZE);
    let got = client.read(1000, 300_000).unwrap();
    assert_same_bytes("what is read", &got, &bytes[1000..301_000]);
    client.write(1000, &[1; 5000]).unwrap();
    client.flush().unwrap();
    assert_filled("the file", &read_at(&image, 1000, 5000), 1);
    assert!(client.block_status(0, 4096).is_err());
    assert!(client.read(SIZE, 1).is_err());
    assert_filled("it goes on", &client.read(1000, 5000).unwrap(), 1);
    assert!(Client::try_connect_by_name(server.socket(), "other").is_err());
}

#[test]
#[ignore = "needs a kernel with the nbd module: cargo test -- --ignored kernel"]
fn the_kernels_client_carries_a_file_system() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 64 * MIB);
    let server = Larder::serve(&scratch).file(&image).start();
    run("modprobe", ["nbd"]);
    let device = Path::new("/dev/nbd0");
    let client = "/usr/sbin/nbd-client";
    let socket = server.socket().display().to_string();
    run(client, ["-unix", &socket, "-connections", "2", "/dev/nbd0"]);
    run("mke2fs", ["-q", "-t", "ext4", "/dev/nbd0"]);
    let directory = scratch.make_dir("mounted");
    let mount = Mount::device(device, &directory);
    let bytes = random_file(&directory.join("file"), 16 * MIB, 1);
    mount.unmount();
    let mount = Mount::device(device, &directory);
    assert_same_bytes("the file", &read_file(&directory.join("file")), &bytes);
    mount.unmount();
    run(client, ["-d", "/dev/nbd0"]);
    server.stop();
    let check = output_of(Command::new("e2fsck").args(["-f", "-n"]).arg(&image));
    assert!(check.status.success(), "{check:?}");
}
