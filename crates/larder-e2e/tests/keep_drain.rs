//! `larder drain` after servers that were killed: what was flushed into their directories goes where it belongs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::process::{Command, Output};

use keep::{BOTH, Front, Kept, LIMIT, SIZE};
use larder_e2e::{
    Client, Larder, MIB, Nbdkit, Random, Server, assert_same_bytes, output_of, read_file,
};

const IN_CACHE: &str = "cache-flush=cache";
const ID: &str = "cache-id=golden";

fn drain(kept: &Kept, arguments: &[&str]) -> Output {
    let mut command = Command::new(Larder::program());
    output_of(command.arg("drain").arg(&kept.directory).args(arguments))
}

/// What it printed. It did all of it.
fn drained(kept: &Kept, arguments: &[&str]) -> String {
    let output = drain(kept, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes here and there, flushes, and is killed. What the disk has then.
fn write_and_kill(kept: &Kept, server: Server) -> Vec<u8> {
    let mut expected = kept.content.clone();
    let mut client = Client::connect(server.socket());
    let mut random = Random::new(7);
    for value in 0..100 {
        let length = 1 + random.below(20_000);
        let offset = random.below(SIZE - length);
        let bytes = vec![value; length as usize];
        client.write(offset, &bytes).unwrap();
        expected[offset as usize..][..length as usize].copy_from_slice(&bytes);
    }
    client.flush().unwrap();
    server.kill();
    expected
}

#[test]
fn what_was_flushed_before_a_kill_is_drained_into_the_file() {
    for front in BOTH {
        let kept = Kept::new();
        let expected = write_and_kill(&kept, kept.start(front, &[IN_CACHE, ID]));
        assert_same_bytes("the origin", &read_file(&kept.image), &kept.content);
        let image = kept.image.display().to_string();
        let told = drained(&kept, &["--cache-id=golden", &image]);
        assert!(told.contains(" of written data is on "), "{told}");
        assert_same_bytes("the origin", &read_file(&kept.image), &expected);
        // The directory has nothing any more that keeps it from another use, and what it has is right.
        let exit = kept.live(front, &[ID], &expected);
        let asked = exit.stats().value("origin_read_bytes");
        assert!(asked < SIZE, "nothing was kept: {}", exit.output);
        let told = drained(&kept, &["--cache-id=golden", &image]);
        assert_eq!(told, "\"\": its origin has everything that was written\n");
    }
}

#[test]
fn what_was_flushed_is_drained_to_an_nbd_server_that_only_its_cache_id_tells() {
    let kept = Kept::new();
    let start = || Nbdkit::bare(&kept.scratch).file(&kept.image).start();
    let origin = start();
    let server = Larder::serve(&kept.scratch)
        .origin(origin.uri())
        .parameters([LIMIT, IN_CACHE, ID, &kept.parameter()]);
    let expected = write_and_kill(&kept, server.start());
    let uri = origin.uri();
    let refused = drain(&kept, &[&uri]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("cache-id 'golden'"), "{said}");
    assert_same_bytes("the origin", &read_file(&kept.image), &kept.content);
    drained(&kept, &["--cache-id=golden", &uri]);
    origin.stop();
    assert_same_bytes("the origin", &read_file(&kept.image), &expected);
}

/// Copied, and then put over the origin by somebody who has read the list.
#[test]
fn what_was_flushed_is_copied_with_a_list_of_what_counts() {
    let kept = Kept::new();
    let expected = write_and_kill(&kept, kept.start(Front::Filter, &[IN_CACHE, ID]));
    let copy = kept.scratch.path("copy").display().to_string();
    drained(&kept, &["--output", &copy]);
    let bytes = read_file(copy.as_ref());
    assert_eq!(bytes.len() as u64, SIZE);
    let list = String::from_utf8(read_file(format!("{copy}.json").as_ref())).unwrap();
    let mut merged = kept.content.clone();
    let numbers = |name: &str| -> Vec<usize> {
        let start = format!("\"{name}\": ");
        let lines = list
            .lines()
            .filter_map(|line| line.trim().strip_prefix(&start));
        let numbers = lines.map(|number| number.trim_end_matches(',').parse().unwrap());
        numbers.collect()
    };
    for (start, length) in numbers("start").into_iter().zip(numbers("length")) {
        merged[start..start + length].copy_from_slice(&bytes[start..start + length]);
    }
    assert_same_bytes("origin and copy together", &merged, &expected);
    assert!(
        bytes[..MIB as usize] != merged[..MIB as usize],
        "it is sparse"
    );
}

/// Flush by flush. What the origin has before is one of them.
#[test]
fn what_was_queued_before_a_kill_is_drained_into_the_file() {
    let ordered = ["cache-writeback=ordered", IN_CACHE, ID];
    let kept = Kept::new();
    let expected = write_and_kill(&kept, kept.start(Front::Server, &ordered));
    let image = kept.image.display().to_string();
    let told = drained(&kept, &["--cache-id=golden", &image]);
    assert!(told.starts_with("\"\": "), "{told}");
    assert_same_bytes("the origin", &read_file(&kept.image), &expected);
    let told = drained(&kept, &["--cache-id=golden", &image]);
    assert_eq!(told, "\"\": its origin has everything that was written\n");
    kept.live(Front::Server, &[ID], &expected);
}
