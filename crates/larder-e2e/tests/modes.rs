//! The three modes: when a write is acknowledged, and what a flush and FUA mean.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;

use larder_e2e::{
    Client, EvalDisk, Flags, KIB, MIB, Nbdkit, Random, Request, Scratch, Server, assert_filled,
    assert_same_bytes, read_at, read_file, sparse_file, write_at,
};

const SIZE: u64 = 8 * MIB;
const ENOTSUP: i32 = 95;

fn start(scratch: &Scratch, parameters: &[&str]) -> (Server, PathBuf) {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let server = Nbdkit::larder(scratch)
        .logged()
        .file(&image)
        .parameters(parameters)
        .start();
    (server, image)
}

#[test]
fn writeback_is_the_default_and_waits_for_a_flush() {
    for parameters in [&[][..], &["cache=writeback"]] {
        let scratch = Scratch::new();
        let (server, image) = start(&scratch, parameters);
        let mut client = Client::connect(server.socket());
        client.write(1000, &[1; 5000]).unwrap();
        assert_filled("the plugin's file", &read_file(&image), 0);
        client.flush().unwrap();
        assert_filled("the plugin's file", &read_at(&image, 1000, 5000), 1);
    }
}

#[test]
fn a_flush_covers_what_other_connections_wrote() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let mut writer = Client::connect(server.socket());
    let mut flusher = Client::connect(server.socket());
    writer.write(1000, &[1; 5000]).unwrap();
    flusher.flush().unwrap();
    assert_filled("the plugin's file", &read_at(&image, 1000, 5000), 1);
}

#[test]
fn writethrough_reaches_the_plugin_at_once() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache=writethrough"]);
    let mut client = Client::connect(server.socket());
    client.write(1000, &[1; 5000]).unwrap();
    assert_filled("the plugin's file", &read_at(&image, 1000, 5000), 1);
    client.zero(2000, 1000).unwrap();
    assert_filled("the plugin's file", &read_at(&image, 2000, 1000), 0);
    assert!(server.plugin_log().calls_of("Flush").is_empty());
    client.flush().unwrap();
    assert_eq!(server.plugin_log().calls_of("Flush").len(), 1);
}

#[test]
fn writethrough_keeps_what_it_wrote_for_reading() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache=writethrough"]);
    let mut client = Client::connect(server.socket());
    client.write(64 * KIB, &[1; 64 << 10]).unwrap();
    write_at(&image, 64 * KIB, &[2; 64 << 10]);
    assert_filled("what is read", &client.read(64 * KIB, 64 * KIB).unwrap(), 1);
}

#[test]
fn unsafe_ignores_flush_and_fua() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache=unsafe"]);
    let mut client = Client::connect(server.socket());
    client.write(1000, &[1; 5000]).unwrap();
    client.flush().unwrap();
    assert!(client.export().can_fua());
    client.write_fua(MIB, &[2; 5000]).unwrap();
    client.disconnect_and_wait();
    let mut client = Client::connect(server.socket());
    assert_filled("what is read", &client.read(1000, 5000).unwrap(), 1);
    assert_filled("what is read", &client.read(MIB, 5000).unwrap(), 2);
    drop(client);
    server.stop();
    assert_filled("the plugin's file", &read_file(&image), 0);
}

#[test]
fn unsafe_tells_how_much_it_discards() {
    let scratch = Scratch::new();
    let (server, _) = start(&scratch, &["cache=unsafe"]);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 192 << 10]).unwrap();
    client.disconnect_and_wait();
    let output = server.stop().output;
    let told = output
        .lines()
        .any(|line| line.contains("discard") && line.contains("196608"));
    assert!(told, "196608 discarded bytes are not mentioned:\n{output}");
}

#[test]
fn unsafe_trim_is_a_zero_in_the_cache() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &["cache=unsafe"]);
    write_at(&image, 0, &[7; 1 << 20]);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 64 << 10]).unwrap();
    client.trim(0, MIB).unwrap();
    assert_filled("what is read", &client.read(0, MIB).unwrap(), 0);
    assert!(server.plugin_log().calls_of("Trim").is_empty());
    assert_filled("the plugin's file", &read_at(&image, 0, MIB), 7);
}

#[test]
fn trim_reaches_the_plugin_and_drops_what_is_cached() {
    for mode in ["writeback", "writethrough"] {
        let scratch = Scratch::new();
        let (server, image) = start(&scratch, &[&format!("cache={mode}"), "cache-on-read=true"]);
        let mut client = Client::connect(server.socket());
        let data = Random::new(1).bytes(MIB);
        client.write(0, &data).unwrap();
        client.flush().unwrap();
        client.trim(64 * KIB, 128 * KIB).unwrap();
        let trims = server.plugin_log().calls_of("Trim");
        let trimmed: u64 = trims.iter().map(|call| call.count).sum();
        assert_eq!(trimmed, 128 * KIB, "{mode}: {trims:?}");
        // Reading now asks the plugin, whose file has changed meanwhile.
        write_at(&image, 64 * KIB, &[3; 128 << 10]);
        let got = client.read(64 * KIB, 128 * KIB).unwrap();
        assert_same_bytes(mode, &got, &[3; 128 << 10]);
        let got = client.read(0, 64 * KIB).unwrap();
        assert_same_bytes("what was not trimmed", &got, &data[..64 << 10]);
    }
}

#[test]
fn trimmed_dirty_data_is_not_written_back_afterwards() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 256 << 10]).unwrap();
    client.trim(64 * KIB, 64 * KIB).unwrap();
    client.flush().unwrap();
    let expected = [[1; 64 << 10], [0; 64 << 10], [1; 64 << 10]].concat();
    assert_same_bytes("the file", &read_at(&image, 0, 192 * KIB), &expected);
    assert_same_bytes("the disk", &client.read(0, 192 * KIB).unwrap(), &expected);
}

#[test]
fn fua_is_durable_before_it_is_answered() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB).writable().flushable();
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let mut client = Client::connect(server.socket());
    assert!(client.export().can_fua());
    client.write_fua(64 * KIB, &[2; 4096]).unwrap();
    assert_filled("the durable disk", &disk.durable()[64 << 10..68 << 10], 2);
    client
        .call(&Request::zero(64 * KIB, 1024, Flags::FUA))
        .unwrap();
    assert_filled("the durable disk", &disk.durable()[64 << 10..65 << 10], 0);
    assert_filled("the durable disk", &disk.durable()[65 << 10..68 << 10], 2);
}

#[test]
fn fua_writes_its_own_range_only() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    client.write_fua(64 * KIB, &[2; 4096]).unwrap();
    assert_filled("the plugin's file", &read_at(&image, 64 * KIB, 4096), 2);
    assert_filled("not asked for", &read_at(&image, 0, 4096), 0);
    let writes = server.plugin_log().calls_of("Write");
    assert!(
        writes.iter().any(|call| call.fua) || !server.plugin_log().calls_of("Flush").is_empty(),
        "{writes:?}"
    );
}

#[test]
fn writethrough_passes_fua_on() {
    let scratch = Scratch::new();
    let (server, _) = start(&scratch, &["cache=writethrough"]);
    let mut client = Client::connect(server.socket());
    client.write_fua(64 * KIB, &[2; 4096]).unwrap();
    client.write(0, &[1; 4096]).unwrap();
    let writes = server.plugin_log().calls_of("Write");
    let fua: Vec<bool> = writes.iter().map(|call| call.fua).collect();
    assert_eq!(fua, [true, false]);
}

#[test]
fn fast_zero_is_refused_only_where_it_is_not_fast() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch, &[]);
    write_at(&image, 0, &[7; 1 << 20]);
    let mut client = Client::connect(server.socket());
    assert!(client.export().can_fast_zero());
    client
        .call(&Request::zero(64 * KIB, 64 * KIB, Flags::FAST_ZERO))
        .unwrap();
    client
        .call(&Request::zero(512, 512, Flags::FAST_ZERO))
        .unwrap();
    let partial = Request::zero(4096 + 1, 100, Flags::FAST_ZERO);
    let error = client.call(&partial).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENOTSUP), "{error}");
    let mut expected = vec![7; 128 << 10];
    expected[512..1024].fill(0);
    expected[64 << 10..].fill(0);
    let got = client.read(0, 128 * KIB).unwrap();
    assert_same_bytes("after them", &got, &expected);
}

#[test]
fn the_modes_advertise_what_they_can() {
    for (mode, fast_zero) in [("writeback", true), ("unsafe", true)] {
        let scratch = Scratch::new();
        let disk = EvalDisk::read_only(&scratch, MIB).writable();
        let server = Nbdkit::larder(&scratch)
            .plugin("eval", disk.parameters())
            .parameter(&format!("cache={mode}"))
            .start();
        let client = Client::connect(server.socket());
        let export = client.export();
        assert!(!export.is_read_only(), "{mode}");
        assert!(export.can_flush(), "{mode}");
        assert!(export.can_zero(), "{mode}");
        assert!(export.can_cache(), "{mode}");
        assert_eq!(export.can_fast_zero(), fast_zero, "{mode}");
    }
}

#[test]
fn writethrough_has_a_flush_only_if_the_plugin_has() {
    for has_flush in [false, true] {
        let scratch = Scratch::new();
        let mut disk = EvalDisk::read_only(&scratch, MIB).writable();
        if has_flush {
            disk = disk.flushable();
        }
        let server = Nbdkit::larder(&scratch)
            .plugin("eval", disk.parameters())
            .parameter("cache=writethrough")
            .start();
        let mut client = Client::connect(server.socket());
        assert_eq!(client.export().can_flush(), has_flush);
        client.write(0, &[1; 4096]).unwrap();
        assert_filled("the volatile disk", &disk.volatile()[..4096], 1);
    }
}

#[test]
fn multi_conn_is_advertised_where_one_flush_covers_all() {
    // The file plugin says multi-conn; the eval plugin does so only when told to.
    for (mode, plugin_says, expected) in [
        ("writeback", true, true),
        ("writethrough", true, true),
        ("unsafe", true, true),
        ("writethrough", false, false),
    ] {
        let scratch = Scratch::new();
        let answer = if plugin_says { "exit 0" } else { "exit 3" };
        let disk = EvalDisk::read_only(&scratch, MIB)
            .writable()
            .flushable()
            .with("can_multi_conn", answer);
        let server = Nbdkit::larder(&scratch)
            .plugin("eval", disk.parameters())
            .parameter(&format!("cache={mode}"))
            .start();
        let client = Client::connect(server.socket());
        let got = client.export().can_multi_conn();
        assert_eq!(got, expected, "{mode}, plugin {plugin_says}");
    }
}

/// A plugin whose flush makes durable only what came on the same connection.
fn disk_with_private_flushes(scratch: &Scratch) -> EvalDisk {
    EvalDisk::read_only(scratch, 4 * MIB)
        .with("can_multi_conn", "exit 3")
        .with("open", "mktemp -d \"$tmpdir/handle-XXXXXX\"")
        .with(
            "pwrite",
            "tee \"$2/$4.$3\" | dd of=\"$volatile\" seek=$4 conv=notrunc oflag=seek_bytes bs=64K",
        )
        .with(
            "flush",
            "for f in \"$2\"/*; do
                [ -e \"$f\" ] || continue
                name=${f##*/}
                dd if=\"$f\" of=\"$durable\" seek=${name%.*} conv=notrunc oflag=seek_bytes bs=64K
                rm \"$f\"
             done",
        )
        .with("thread_model", "echo serialize_all_requests")
}

#[test]
fn multi_conn_over_private_flushes_is_true_or_not_advertised() {
    let scratch = Scratch::new();
    let disk = disk_with_private_flushes(&scratch);
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .parameter("cache-max-size=1M")
        .start();
    let mut writer = Client::connect(server.socket());
    let mut flusher = Client::connect(server.socket());
    let data = Random::new(2).bytes(4 * MIB);
    for (number, piece) in data.chunks(256 << 10).enumerate() {
        writer.write(number as u64 * 256 * KIB, piece).unwrap();
    }
    let flushing = if writer.export().can_multi_conn() {
        &mut flusher
    } else {
        &mut writer
    };
    flushing.flush().unwrap();
    assert_same_bytes("the durable disk", &disk.durable(), &data);
}
