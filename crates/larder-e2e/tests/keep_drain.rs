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

/// Between an answer and the next the origin is much slower than its clients, so that most of it waits.
#[test]
fn what_was_queued_before_a_kill_is_drained_into_the_file() {
    let kept = Kept::new();
    let bare = || Nbdkit::bare(&kept.scratch).file(&kept.image);
    let slow = bare().below("delay").parameter("wdelay=200ms").start();
    let server = Larder::serve(&kept.scratch)
        .origin(slow.uri())
        .parameters([LIMIT, IN_CACHE, ID, "cache-writeback=ordered"])
        .parameters([&kept.parameter()])
        .start();
    let mut client = Client::connect(server.socket());
    let mut flushed = vec![kept.content.clone()];
    for round in 1..=20_u8 {
        let mut disk = flushed[flushed.len() - 1].clone();
        for offset in [0, usize::from(round) * 65_536] {
            let bytes = [round; 10_000];
            client.write(offset as u64, &bytes).unwrap();
            disk[offset..][..bytes.len()].copy_from_slice(&bytes);
        }
        client.flush().unwrap();
        flushed.push(disk);
    }
    server.kill();
    slow.stop();
    let left = read_file(&kept.image);
    let is_between = |pair: &[Vec<u8>]| {
        let mut bytes = left.iter().zip(&pair[0]).zip(&pair[1]);
        bytes.all(|((left, one), next)| left == one || left == next)
    };
    assert!(flushed.windows(2).any(is_between), "it is of no flush");
    let expected = &flushed[flushed.len() - 1];
    assert!(left != *expected, "nothing was left to be drained");
    let origin = bare().start();
    let told = drained(&kept, &["--cache-id=golden", &origin.uri()]);
    assert!(told.contains(" of written data is on "), "{told}");
    origin.stop();
    assert_same_bytes("the origin", &read_file(&kept.image), expected);
}
