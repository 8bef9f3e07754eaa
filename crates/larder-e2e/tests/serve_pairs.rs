//! Two servers over one origin.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::thread;

use larder_e2e::{
    Client, KIB, Larder, MIB, Nbdkit, Random, Scratch, assert_same_bytes, random_file, read_file,
    sparse_file,
};

const SIZE: u64 = 16 * MIB;

#[test]
fn a_file_is_written_by_one_server_at_a_time() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let first = Larder::serve(&scratch).file(&image).start();
    let line = Larder::serve(&scratch).file(&image).refusal();
    assert!(line.contains("locked") && line.contains("image"), "{line}");
    let line = Larder::serve(&scratch)
        .file(&image)
        .flag("--read-only")
        .refusal();
    assert!(line.contains("locked"), "{line}");
    // Killed, it leaves no lock.
    first.kill();
    let second = Larder::serve(&scratch).file(&image).start();
    second.stop();
}

/// Stripes of this many bytes are one server's and the other's in turn.
fn stripes_of_one_export(stripe: u64, parameters: &[&str]) {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let mut expected = random_file(&image, SIZE, 3);
    let origin = Nbdkit::bare(&scratch).file(&image).start();
    let servers = [0, 1].map(|_| {
        let larder = Larder::serve(&scratch).origin(origin.uri());
        larder.parameters(parameters).start()
    });
    let changed: Vec<_> = thread::scope(|scope| {
        let working: Vec<_> = servers
            .iter()
            .enumerate()
            .map(|(number, server)| {
                scope.spawn(move || {
                    let mut random = Random::new(Random::seed_or(1) + number as u64);
                    let mut client = Client::connect(server.socket());
                    let mut own = Vec::new();
                    for _ in 0..1500 {
                        let place = random.below(SIZE / stripe / 2) * 2 + number as u64;
                        let offset = place * stripe;
                        let mut bytes = random.bytes(stripe);
                        match random.below(10) {
                            0 => client.flush().expect("a flush"),
                            1 => {
                                bytes.fill(0);
                                client.zero(offset, stripe).expect("a zero");
                                own.push((offset, bytes));
                            }
                            2 => {
                                client.write_fua(offset, &bytes).expect("a write");
                                own.push((offset, bytes));
                            }
                            3 => drop(client.read(offset, stripe * 2).expect("a read")),
                            _ => {
                                client.write(offset, &bytes).expect("a write");
                                own.push((offset, bytes));
                            }
                        }
                    }
                    client.flush().expect("a flush");
                    own
                })
            })
            .collect();
        working.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (offset, bytes) in changed.into_iter().flatten() {
        expected[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
    }
    assert_same_bytes("the origin's file", &read_file(&image), &expected);
    for server in servers {
        server.stop();
    }
    assert_same_bytes("the file at the end", &read_file(&image), &expected);
}

#[test]
fn servers_over_one_export_keep_to_their_own_sectors() {
    // Of blocks that both have in their caches.
    stripes_of_one_export(512, &[]);
    stripes_of_one_export(4 * KIB, &["cache-min-block-size=4K", "cache-max-size=1M"]);
    stripes_of_one_export(8 * KIB, &["cache-min-block-size=1M", "cache-max-size=4M"]);
}

#[test]
fn what_another_server_has_flushed_is_seen_where_nothing_is_cached() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let origin = Nbdkit::bare(&scratch).file(&image).start();
    let [one, other] = [0, 1].map(|_| Larder::serve(&scratch).origin(origin.uri()).start());
    let mut writer = Client::connect(one.socket());
    let mut reader = Client::connect(other.socket());
    assert_eq!(reader.read(0, 4096).unwrap(), [0; 4096]);
    writer.write(0, &[1; 4096]).unwrap();
    writer.write(MIB, &[1; 4096]).unwrap();
    writer.flush().unwrap();
    assert_eq!(reader.read(MIB, 4096).unwrap(), [1; 4096]);
    // What was cached stays so: nobody tells one server of what the other writes.
    assert_eq!(reader.read(0, 4096).unwrap(), [0; 4096]);
}
