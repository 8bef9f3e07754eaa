//! Plugins that can do less than all, and every thread model.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::thread;

use larder_e2e::{
    Client, EvalDisk, KIB, MIB, Nbdkit, PluginCall, Random, Scratch, assert_filled,
    assert_same_bytes, sparse_file, wait_until,
};

const EPERM: i32 = 1;

#[test]
fn read_only_servers_refuse_writes_and_serve_reads() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .flag("-r")
        .plugin("pattern", ["1M"])
        .parameter("cache-on-read=true")
        .start();
    let mut client = Client::connect(server.socket());
    assert!(client.export().is_read_only());
    let data = client.read(4096, 4096).unwrap();
    assert_eq!(data[..8], 4096_u64.to_be_bytes());
    let error = client.write(0, &[1; 4096]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EPERM), "{error}");
    assert_eq!(client.read(4096, 4096).unwrap(), data);
}

#[test]
fn plugins_without_write_are_read_only() {
    for mode in ["writeback", "writethrough", "unsafe"] {
        let scratch = Scratch::new();
        let disk = EvalDisk::read_only(&scratch, MIB);
        let server = Nbdkit::larder(&scratch)
            .plugin("eval", disk.parameters())
            .parameter(&format!("cache={mode}"))
            .parameter("cache-on-read=true")
            .start();
        let mut client = Client::connect(server.socket());
        assert!(client.export().is_read_only(), "{mode}");
        assert_filled(mode, &client.read(1000, 100_000).unwrap(), 0);
        client.cache(0, MIB).unwrap();
        let extents = client.extents_of(0, MIB).unwrap();
        assert_eq!(extents.iter().map(|e| e.length).sum::<u64>(), MIB);
        client.disconnect_and_wait();
        server.stop();
    }
}

/// A disk on which connections are writable only while the file `writable` exists.
fn sometimes_writable(scratch: &Scratch) -> EvalDisk {
    let switch = scratch.path("writable").display().to_string();
    EvalDisk::read_only(scratch, MIB)
        .writable()
        .flushable()
        .with("can_write", &format!("[ -e '{switch}' ] || exit 3"))
}

#[test]
fn a_read_only_connection_that_came_first_sees_later_writes() {
    let scratch = Scratch::new();
    let disk = sometimes_writable(&scratch);
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .parameter("cache-on-read=true")
        .start();
    let mut reader = Client::connect(server.socket());
    assert!(reader.export().is_read_only());
    assert_filled("before", &reader.read(0, MIB).unwrap(), 0);

    fs::write(scratch.path("writable"), "").unwrap();
    let mut writer = Client::connect(server.socket());
    assert!(!writer.export().is_read_only());
    let data = Random::new(1).bytes(100_000);
    writer.write(1001, &data).unwrap();
    let got = reader.read(1001, 100_000).unwrap();
    assert_same_bytes("what the reader sees", &got, &data);
    writer.disconnect();
    wait_until("the last writable client's data is durable", || {
        disk.durable().get(1001..101_001) == Some(&data[..])
    });
    let got = reader.read(1001, 100_000).unwrap();
    assert_same_bytes("what the reader still sees", &got, &data);
}

#[test]
fn a_read_only_connection_flushes_and_leaves_without_harm() {
    let scratch = Scratch::new();
    let disk = sometimes_writable(&scratch);
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let mut early = Client::connect(server.socket());
    fs::write(scratch.path("writable"), "").unwrap();
    let mut writer = Client::connect(server.socket());
    fs::remove_file(scratch.path("writable")).unwrap();
    let mut late = Client::connect(server.socket());
    writer.write(0, &[1; 4096]).unwrap();
    for reader in [&mut early, &mut late] {
        assert!(reader.export().is_read_only());
        if reader.export().can_flush() {
            reader.flush().unwrap();
        }
        assert_filled("a reader", &reader.read(0, 4096).unwrap(), 1);
    }
    late.disconnect_and_wait();
    early.disconnect_and_wait();
    writer.flush().unwrap();
    assert_filled("the disk", &disk.durable()[..4096], 1);
}

/// Writes, zeroes, trims, reads, flushes; the plugin must hold what was written.
fn exercise(disk: &EvalDisk, server: &larder_e2e::Server, what: &str) {
    let mut client = Client::connect(server.socket());
    let mut expected = disk.volatile();
    let data = Random::new(2).bytes(150_000);
    client.write(10_001, &data).unwrap();
    expected[10_001..160_001].copy_from_slice(&data);
    client.zero(50_000, 50_000).unwrap();
    expected[50_000..100_000].fill(0);
    if client.export().can_trim() {
        client.trim(256 * KIB, 64 * KIB).unwrap();
    }
    let got = client.read(0, disk.size()).unwrap();
    assert_same_bytes(what, &got, &expected);
    client.flush().unwrap();
    assert_same_bytes(what, &disk.volatile(), &expected);
    assert_filled(what, &client.read(256 * KIB, 64 * KIB).unwrap(), 0);
    client.write_fua(700_000, &data[..1000]).unwrap();
    assert_same_bytes(what, &disk.volatile()[700_000..701_000], &data[..1000]);
    client.disconnect_and_wait();
}

#[test]
fn plugins_without_flush_zero_trim_or_extents_are_served() {
    let zero = "dd if=/dev/zero of=\"$volatile\" seek=$4 count=$3 conv=notrunc \
                oflag=seek_bytes iflag=count_bytes bs=64K";
    let no_zero = "echo EOPNOTSUPP >&2; exit 1";
    let extents = "echo $4 $3";
    type Build = fn(EvalDisk, [&str; 3]) -> EvalDisk;
    let disks: [(&str, Build); 6] = [
        ("write only", |disk, _| disk),
        ("flush", |disk, _| disk.flushable()),
        ("zero", |disk, [zero, _, _]| disk.with("zero", zero)),
        ("refused zero", |disk, [_, no_zero, _]| {
            disk.with("zero", no_zero)
        }),
        ("trim", |disk, [zero, _, _]| disk.with("trim", zero)),
        ("extents", |disk, [_, _, extents]| {
            disk.with("extents", extents)
        }),
    ];
    for (what, build) in disks {
        for mode in ["writeback", "writethrough"] {
            let scratch = Scratch::new();
            let disk = EvalDisk::read_only(&scratch, MIB).writable();
            let disk = build(disk, [zero, no_zero, extents]);
            let server = Nbdkit::larder(&scratch)
                .plugin("eval", disk.parameters())
                .parameter(&format!("cache={mode}"))
                .start();
            let mut probe = Client::connect(server.socket());
            if !probe.export().can_flush() {
                assert_eq!(mode, "writethrough", "{what}");
                probe.write(0, &[0; 10]).unwrap();
                continue;
            }
            probe.disconnect_and_wait();
            exercise(&disk, &server, &format!("plugin with {what}, {mode}"));
        }
    }
}

#[test]
fn every_thread_model_is_served() {
    for model in [
        "serialize_connections",
        "serialize_all_requests",
        "serialize_requests",
        "parallel",
    ] {
        let scratch = Scratch::new();
        let disk = EvalDisk::read_only(&scratch, MIB)
            .writable()
            .flushable()
            .with("thread_model", &format!("echo {model}"));
        let server = Nbdkit::larder(&scratch)
            .plugin("eval", disk.parameters())
            .parameter("cache-max-size=1M")
            .start();
        exercise(&disk, &server, model);
    }
}

#[test]
fn a_limited_cache_in_every_thread_model_loses_nothing() {
    for serialize in ["connections", "all-requests", "requests"] {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        sparse_file(&image, 8 * MIB);
        let server = Nbdkit::larder(&scratch)
            .below("noparallel")
            .file(&image)
            .parameter(&format!("serialize={serialize}"))
            .parameter("cache-max-size=1M")
            .start();
        let data = Random::new(3).bytes(8 * MIB);
        let mut client = Client::connect(server.socket());
        for (number, piece) in data.chunks(100_000).enumerate() {
            client.write(number as u64 * 100_000, piece).unwrap();
        }
        let got = client.read(0, 8 * MIB).unwrap();
        assert_same_bytes(serialize, &got, &data);
        client.flush().unwrap();
        assert_same_bytes(serialize, &fs::read(&image).unwrap(), &data);
    }
}

/// What two nbdkits answer about block sizes over the same plugin: with the filter under test,
/// and with nbdkit's own.
fn block_size_answers(parameters: &[&str]) -> [Option<(u32, u32, u32)>; 2] {
    let scratch = Scratch::new();
    let build = |nbdkit: Nbdkit| {
        let server = nbdkit
            .below("blocksize-policy")
            .plugin("memory", ["1M"])
            .parameters(parameters)
            .start();
        Client::connect(server.socket()).export().block_size
    };
    [
        build(Nbdkit::larder(&scratch)),
        build(Nbdkit::bare(&scratch).below("cache")),
    ]
}

#[test]
fn block_size_answers_are_those_of_the_stock_filter() {
    for parameters in [
        &[][..],
        &["cache-min-block-size=4K"],
        &["cache-min-block-size=1M"],
        &["blocksize-minimum=512", "blocksize-preferred=4096"],
        &["blocksize-preferred=256K", "blocksize-maximum=1M"],
        &[
            "blocksize-minimum=4K",
            "blocksize-preferred=4K",
            "blocksize-maximum=32K",
        ],
        &["blocksize-preferred=4K", "blocksize-maximum=64K"],
    ] {
        let [ours, stock] = block_size_answers(parameters);
        assert!(stock.is_some(), "{parameters:?}");
        assert_eq!(ours, stock, "{parameters:?}");
    }
}

#[test]
fn without_a_constraint_any_request_is_allowed_and_a_block_preferred() {
    let [ours, _] = block_size_answers(&["cache-min-block-size=128K"]);
    assert_eq!(ours, Some((1, 128 << 10, u32::MAX)));
}

fn assert_within(calls: &[PluginCall], minimum: u64, maximum: u64, size: u64) {
    let with_data = |call: &&PluginCall| matches!(call.action.as_str(), "Read" | "Write");
    let calls: Vec<&PluginCall> = calls.iter().filter(with_data).collect();
    assert!(calls.len() > 2, "{calls:?}");
    for call in calls {
        let end = call.offset + call.count;
        let aligned = call.offset % minimum == 0 && (end % minimum == 0 || end == size);
        assert!(aligned && call.count <= maximum, "{call:?}");
    }
}

#[test]
fn requests_to_the_plugin_keep_within_its_minimum_and_maximum() {
    for (minimum, maximum) in [(4096, 32 << 10), (512, 100 << 10), (64 << 10, 1 << 20)] {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        let mut expected = Random::new(4).bytes(4 * MIB);
        fs::write(&image, &expected).unwrap();
        let server = Nbdkit::larder(&scratch)
            .logged()
            .below("blocksize-policy")
            .file(&image)
            .parameter("blocksize-error-policy=error")
            .parameter(&format!("blocksize-minimum={minimum}"))
            .parameter(&format!("blocksize-preferred={}", minimum.max(4096)))
            .parameter(&format!("blocksize-maximum={maximum}"))
            .start();
        let mut client = Client::connect(server.socket());
        let data = Random::new(5).bytes(MIB);
        client.write(777, &data).unwrap();
        expected[777..777 + (1 << 20)].copy_from_slice(&data);
        client.write(3 * MIB + 5, &data[..10]).unwrap();
        expected[(3 << 20) + 5..(3 << 20) + 15].copy_from_slice(&data[..10]);
        let got = client.read(1, 4 * MIB - 2).unwrap();
        assert_same_bytes("read", &got, &expected[1..(4 << 20) - 1]);
        client.flush().unwrap();
        assert_same_bytes("the file", &fs::read(&image).unwrap(), &expected);
        assert_within(&server.plugin_log().calls(), minimum, maximum, 4 * MIB);
    }
}

#[test]
fn writethrough_keeps_within_the_plugins_minimum_and_maximum() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let mut expected = Random::new(6).bytes(MIB);
    fs::write(&image, &expected).unwrap();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .below("blocksize-policy")
        .file(&image)
        .parameters(["cache=writethrough", "blocksize-error-policy=error"])
        .parameters(["blocksize-minimum=4096", "blocksize-maximum=64K"])
        .start();
    let mut client = Client::connect(server.socket());
    let data = Random::new(7).bytes(200_000);
    client.write(777, &data).unwrap();
    expected[777..200_777].copy_from_slice(&data);
    assert_same_bytes("the file", &fs::read(&image).unwrap(), &expected);
    assert_within(&server.plugin_log().calls(), 4096, 64 << 10, MIB);
}

#[test]
fn requests_as_large_as_nbdkit_takes_are_served() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["256M"]).start();
    let mut client = Client::connect(server.socket());
    let data = Random::new(8).bytes(64 * MIB);
    client.write(12_345, &data).unwrap();
    let got = client.read(12_345, 64 * MIB).unwrap();
    assert_same_bytes("64 MiB at once", &got, &data);
    client.zero(0, 256 * MIB).unwrap();
    let got = client.read(12_345, 64 * MIB).unwrap();
    assert_filled("after a zero request of all", &got, 0);
    client.flush().unwrap();
}

#[test]
fn clients_that_come_and_go_do_no_harm() {
    let scratch = Scratch::new();
    let mut server = Nbdkit::larder(&scratch)
        .plugin("memory", ["16M"])
        .parameter("cache-max-size=2M")
        .start();
    let workers: Vec<_> = (0..4_u64)
        .map(|worker| {
            let socket = server.socket().to_owned();
            thread::spawn(move || {
                for round in 0..25 {
                    let mut client = Client::connect(&socket);
                    let offset = worker * 4 * MIB + round * 150_000;
                    let data = Random::new(worker * 100 + round).bytes(150_000);
                    client.write(offset, &data).unwrap();
                    let got = client.read(offset, 150_000).unwrap();
                    assert_same_bytes("own data", &got, &data);
                    if round % 2 == 0 {
                        client.disconnect();
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(server.is_running());
    let mut client = Client::connect(server.socket());
    for worker in 0..4 {
        for round in 0..25 {
            let data = Random::new(worker * 100 + round).bytes(150_000);
            let got = client
                .read(worker * 4 * MIB + round * 150_000, 150_000)
                .unwrap();
            assert_same_bytes("everybody's data", &got, &data);
        }
    }
}
