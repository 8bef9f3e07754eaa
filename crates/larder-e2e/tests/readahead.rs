//! What the filter fetches ahead of readers: how many requests reach the plugin, and for what.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;

use larder_e2e::{
    Client, EvalDisk, KIB, Larder, MIB, Nbdkit, Random, Request, Scratch, Server, WebServer,
    assert_read_in_order, assert_same_bytes, random_file, run,
};

const BLOCK: u64 = 64 * KIB;
const GIB: u64 = 1024 * MIB;
/// The image ends within a sector.
const SIZE: u64 = 8 * MIB + 12_345;

fn start(scratch: &Scratch, serialize: Option<&str>, parameters: &[&str]) -> (Server, Vec<u8>) {
    let image = scratch.path("image");
    let content = random_file(&image, SIZE, 1);
    let mut nbdkit = Nbdkit::larder(scratch);
    if let Some(serialize) = serialize {
        nbdkit = nbdkit
            .below("noparallel")
            .parameter(&format!("serialize={serialize}"));
    }
    let server = nbdkit
        .logged()
        .file(&image)
        .parameter("cache-on-read=true")
        .parameters(parameters)
        .verbose()
        .start();
    (server, content)
}

/// How many reads reached the plugin, having checked that they asked for each byte once.
fn reads_of_everything(server: &Server) -> usize {
    let reads = server.plugin_log().calls_of("Read");
    assert_eq!(reads.iter().map(|call| call.count).sum::<u64>(), SIZE);
    reads.len()
}

#[test]
fn a_reader_in_order_causes_few_long_requests_in_every_thread_model() {
    for serialize in [
        None,
        Some("requests"),
        Some("all-requests"),
        Some("connections"),
    ] {
        let scratch = Scratch::new();
        let (server, content) = start(&scratch, serialize, &["cache-readahead=1M"]);
        assert_read_in_order(&server, &content, BLOCK);
        assert!(reads_of_everything(&server) <= 16, "{serialize:?}");
        let stats = server.stop().stats();
        let (ahead, used) = (
            stats.value("readahead_bytes"),
            stats.value("readahead_used_bytes"),
        );
        assert!(
            ahead > SIZE / 2 && used >= ahead,
            "{ahead} ahead, {used} used"
        );
    }
}

#[test]
fn without_cache_readahead_each_block_is_a_request() {
    for parameters in [&[][..], &["cache-readahead=off"]] {
        let scratch = Scratch::new();
        let (server, content) = start(&scratch, None, parameters);
        assert_read_in_order(&server, &content, BLOCK);
        assert_eq!(reads_of_everything(&server) as u64, SIZE.div_ceil(BLOCK));
    }
}

#[test]
fn several_requests_in_flight_are_still_in_order() {
    const DEPTH: usize = 8;
    let scratch = Scratch::new();
    let (server, content) = start(&scratch, None, &["cache-readahead=1M"]);
    let mut client = Client::connect(server.socket());
    let mut waiting = std::collections::VecDeque::new();
    for block in 0..SIZE / BLOCK + DEPTH as u64 {
        if waiting.len() == DEPTH {
            let (offset, cookie): (u64, _) = waiting.pop_front().unwrap();
            let got = client.wait(cookie).unwrap().data;
            assert_same_bytes("a block", &got, &content[offset as usize..][..got.len()]);
        }
        if block < SIZE / BLOCK {
            let request = Request::read(block * BLOCK, BLOCK);
            waiting.push_back((block * BLOCK, client.submit(&request).unwrap()));
        }
    }
    let reads = server.plugin_log().calls_of("Read");
    assert!(reads.len() <= 32, "{} requests for 128 blocks", reads.len());
}

#[test]
fn random_readers_cause_not_one_byte_more() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .logged()
        .plugin("pattern", ["1G"])
        .parameters(["cache-on-read=true", "cache-readahead=8M"])
        .start();
    let mut client = Client::connect(server.socket());
    let mut random = Random::new(1);
    for _ in 0..300 {
        let offset = random.below(GIB / BLOCK) * BLOCK;
        let got = client.read(offset, 4096).unwrap();
        assert_eq!(got[..8], offset.to_be_bytes());
        for read in server.plugin_log().calls_of("Read") {
            assert_eq!(read.count, BLOCK);
        }
    }
}

#[test]
fn an_error_beyond_what_was_asked_is_not_the_clients() {
    let scratch = Scratch::new();
    let fault = scratch.path("fault");
    // Fails where the byte at 700,000 is asked for.
    let pread = format!(
        "if [ -e {} ] && [ $4 -le 700000 ] && [ $(($4 + $3)) -gt 700000 ]; then
             echo EIO a bad place >&2; exit 1
         fi
         dd if=\"$volatile\" skip=$4 count=$3 iflag=count_bytes,skip_bytes bs=64K",
        fault.display()
    );
    let disk = EvalDisk::read_only(&scratch, 2 * MIB).with("pread", &pread);
    let content = Random::new(1).bytes(2 * MIB);
    larder_e2e::write_at(disk.volatile_path(), 0, &content);
    fs::write(&fault, "").unwrap();
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .parameters(["cache-on-read=true", "cache-readahead=1M"])
        .start();
    let mut client = Client::connect(server.socket());
    let bad = 700_000 / BLOCK;
    for block in 0..2 * MIB / BLOCK {
        let got = client.read(block * BLOCK, BLOCK);
        if block == bad {
            got.unwrap_err();
            fs::remove_file(&fault).unwrap();
        } else {
            let expected = &content[(block * BLOCK) as usize..][..BLOCK as usize];
            assert_same_bytes("a block", &got.unwrap(), expected);
        }
    }
    let got = client.read(bad * BLOCK, BLOCK).unwrap();
    let expected = &content[(bad * BLOCK) as usize..][..BLOCK as usize];
    assert_same_bytes("the bad block, healed", &got, expected);
}

#[test]
fn a_conversion_over_http_as_virt_v2v_does_it_takes_few_requests() {
    let scratch = Scratch::new();
    let files = scratch.make_dir("www");
    let content = random_file(&files.join("disk.img"), 4 * SIZE, 1);
    let web_server = WebServer::start(&scratch, &files);
    let server = Nbdkit::larder(&scratch)
        .below("cacheextents")
        .below("retry")
        .logged()
        .plugin("curl", web_server.curl_parameters("disk.img"))
        .parameters(["cache-on-read=true", "cache-readahead=8M"])
        .start();
    let copy = scratch.path("copy");
    let uri = server.uri();
    run(
        "qemu-img",
        ["convert", "-O", "raw", &uri, copy.to_str().unwrap()],
    );
    assert_same_bytes(
        "the copy",
        &fs::read(&copy).unwrap()[..content.len()],
        &content,
    );
    let reads = server.plugin_log().calls_of("Read");
    // Each of qemu's reads is 2 MiB, and the cache alone would make each of them one request.
    assert!(reads.len() <= 10, "{} requests for 32 MiB", reads.len());
}

#[test]
fn the_parameter_is_refused_with_one_line_where_it_cannot_be() {
    let scratch = Scratch::new();
    let wrong = "must be off or a size from 4096 (4K) to 67108864 (64M)";
    let output = Nbdkit::larder(&scratch)
        .plugin("memory", ["1M"])
        .parameter("cache-readahead=1T")
        .try_to_start();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        told.contains(&format!("cache-readahead=1T: {wrong}")),
        "{told}"
    );
    let refusal = Larder::serve(&scratch)
        .origin("memory:1M")
        .parameter("cache-readahead=0")
        .refusal();
    assert!(
        refusal.contains(&format!("cache-readahead=0: {wrong}")),
        "{refusal}"
    );
}
