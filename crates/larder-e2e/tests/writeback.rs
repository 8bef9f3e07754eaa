//! What a write costs, and how dirty data gets to the plugin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use larder_e2e::{
    Client, Flags, KIB, MIB, Nbdkit, PluginCall, Random, Request, Scratch, assert_filled,
    assert_same_bytes, read_file, sparse_file, write_at,
};

fn bytes_of(calls: &[PluginCall]) -> u64 {
    calls.iter().map(|call| call.count).sum()
}

#[test]
fn aligned_write_reads_nothing() {
    for block_size in [4, 16, 64, 128, 256, 512] {
        let scratch = Scratch::new();
        let server = Nbdkit::larder(&scratch)
            .logged()
            .plugin("memory", ["16M"])
            .parameter(&format!("cache-min-block-size={block_size}K"))
            .start();
        let mut client = Client::connect(server.socket());
        for offset in [0, MIB + 4096, 16 * MIB - 4096] {
            client.write(offset, &[1; 4096]).unwrap();
            assert_filled("what is read", &client.read(offset, 4096).unwrap(), 1);
        }
        client.flush().unwrap();
        let reads = server.plugin_log().calls_of("Read");
        assert!(reads.is_empty(), "{block_size}K blocks: {reads:?}");
        let written = bytes_of(&server.plugin_log().calls_of("Write"));
        assert_eq!(written, 3 * 4096, "{block_size}K blocks");
    }
}

#[test]
fn unaligned_write_reads_only_its_first_and_last_sector() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .below("cow")
        .plugin("pattern", ["16M"])
        .start();
    let mut client = Client::connect(server.socket());
    client.write(100, &[1; 5000]).unwrap();
    let reads = server.plugin_log().calls_of("Read");
    assert!(bytes_of(&reads) <= 1024, "{reads:?}");
    let mut expected: Vec<u8> = (0..8192_u64)
        .step_by(8)
        .flat_map(u64::to_be_bytes)
        .collect();
    expected[100..5100].fill(1);
    assert_same_bytes("read back", &client.read(0, 8192).unwrap(), &expected);
}

#[test]
fn flush_joins_writes() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .below("delay")
        .plugin("memory", ["128M"])
        .parameter("wdelay=10ms")
        .start();
    let mut client = Client::connect(server.socket());
    let data = Random::new(1).bytes(128 * MIB);
    for (number, piece) in data.chunks(64 << 10).enumerate() {
        client.write(number as u64 * 64 * KIB, piece).unwrap();
    }
    client.flush().unwrap();
    let writes = server.plugin_log().calls_of("Write");
    assert_eq!(bytes_of(&writes), 128 * MIB);
    // 2048 blocks, in requests of 512 KiB.
    assert!(writes.len() <= 300, "{} plugin writes", writes.len());
    let at_once = server.plugin_log().most_at_once("Write");
    assert!(at_once >= 2, "writes went one after another");
    for (number, piece) in data.chunks(16 << 20).enumerate() {
        let got = client.read(number as u64 * 16 * MIB, 16 * MIB).unwrap();
        assert_same_bytes("read back", &got, piece);
    }
}

#[test]
fn scattered_writebacks_overlap() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .below("delay")
        .plugin("memory", ["64M"])
        .parameter("wdelay=20ms")
        .start();
    let mut client = Client::connect(server.socket());
    for number in 0..64 {
        client.write(number * MIB, &[1; 4096]).unwrap();
    }
    let begin = Instant::now();
    client.flush().unwrap();
    let took = begin.elapsed();
    let one_by_one = Duration::from_millis(64 * 20);
    assert!(took < one_by_one / 2, "{took:?}");
    assert!(server.plugin_log().most_at_once("Write") >= 4);
}

#[test]
fn one_thing_at_a_time_where_the_plugin_wants_it() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .below("noparallel")
        .plugin("memory", ["64M"])
        .parameter("serialize=all-requests")
        .start();
    let mut client = Client::connect(server.socket());
    for number in 0..32 {
        client.write(number * MIB, &[1; 4096]).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(server.plugin_log().most_at_once("Write"), 1);
    assert_eq!(bytes_of(&server.plugin_log().calls_of("Write")), 32 * 4096);
}

#[test]
fn flush_writes_before_it_flushes_the_plugin() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .plugin("memory", ["16M"])
        .start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    client.write(MIB, &[1; 4096]).unwrap();
    client.flush().unwrap();
    let calls = server.plugin_log().calls();
    let actions: Vec<&str> = calls.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(actions, ["Write", "Write", "Flush"]);
}

#[test]
fn clean_data_is_not_written_again() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .plugin("memory", ["16M"])
        .start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    client.flush().unwrap();
    client.flush().unwrap();
    client.disconnect();
    let log = server.plugin_log();
    server.stop();
    assert_eq!(bytes_of(&log.calls_of("Write")), 4096);
}

#[test]
fn zeros_reach_the_plugin_as_zeros() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 64 * MIB);
    let mut expected = Random::new(2).bytes(64 * MIB);
    write_at(&image, 0, &expected);
    let server = Nbdkit::larder(&scratch).logged().file(&image).start();
    let mut client = Client::connect(server.socket());
    client.zero(MIB, 40 * MIB).unwrap();
    client
        .call(&Request::zero(50 * MIB, MIB, Flags::NO_HOLE))
        .unwrap();
    expected[1 << 20..41 << 20].fill(0);
    expected[50 << 20..51 << 20].fill(0);
    assert!(server.plugin_log().calls().is_empty(), "zeros are state");
    client.flush().unwrap();
    assert_same_bytes("the plugin's file", &read_file(&image), &expected);
    let log = server.plugin_log();
    assert!(log.calls_of("Write").is_empty(), "{:?}", log.calls());
    assert!(log.calls_of("Read").is_empty(), "{:?}", log.calls());
    assert_eq!(bytes_of(&log.calls_of("Zero")), 41 * MIB);
}

/// The memory a process uses, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .expect("VmRSS in /proc/PID/status")
}

#[test]
fn zeroing_a_tebibyte_takes_neither_memory_nor_time() {
    const TIB: u64 = 1 << 40;
    const STEP: u64 = 2 << 30;
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["1T"]).start();
    let mut client = Client::connect(server.socket());
    client.write(TIB / 2, &[1; 8192]).unwrap();
    let before = resident_kib(server.pid());
    let begin = Instant::now();
    for offset in (0..TIB).step_by(STEP as usize) {
        client.zero(offset, STEP).unwrap();
    }
    assert_filled("what is read", &client.read(TIB / 2, 8192).unwrap(), 0);
    client.write(TIB / 2 + 4096, &[2; 4096]).unwrap();
    client.flush().unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let grown = resident_kib(server.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more than before");
    let data = client.read(TIB / 2, 8192).unwrap();
    assert_eq!(data, [vec![0; 4096], vec![2; 4096]].concat());
}

#[test]
fn many_scattered_zeros_keep_memory_bounded() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["1T"]).start();
    let mut client = Client::connect(server.socket());
    let before = resident_kib(server.pid());
    for number in 0..50_000 {
        client.zero(number * 16 * MIB, 4096).unwrap();
    }
    let grown = resident_kib(server.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more than before");
    assert_filled("what is read", &client.read(16 * MIB, 4096).unwrap(), 0);
    client.flush().unwrap();
}

#[test]
fn old_dirty_data_is_written_back() {
    let scratch = Scratch::new();
    let start = |name: &str, parameter: Option<&str>| {
        let image = scratch.path(name);
        sparse_file(&image, MIB);
        let server = Nbdkit::larder(&scratch)
            .file(&image)
            .parameters(parameter)
            .start();
        let mut client = Client::connect(server.socket());
        client.write(0, &[1; 4096]).unwrap();
        (image, server, client)
    };
    let by_default = start("default", None);
    let off = start("off", Some("cache-dirty-age=off"));
    let aged = start("aged", Some("cache-dirty-age=1"));
    larder_e2e::wait_until("old dirty data is in the plugin", || {
        read_file(&aged.0)[..4096] == [1; 4096]
    });
    for younger in [by_default, off] {
        assert_filled("the plugin's file", &read_file(&younger.0), 0);
    }
}
