//! fio writes and flushes while its server with a cache directory is killed, together with an origin that loses what it was not told
//! to flush; after the next start it verifies what a flush had been answered for, through the cache and on the origin.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::thread;
use std::time::Duration;

use keep::fio::{Fio, PART};
use keep::{Below, Disk, FlushTo, Front};
use larder_e2e::{Random, Server, soak_for_seconds, wait_until};

const ROUNDS: u64 = 3;
const JOBS: u64 = 2;
const LIMIT: &str = "cache-max-size=64M";

/// Returns how many writes were verified.
fn fio_over_kills(mut disk: Disk, random: &mut Random) -> u64 {
    let mut fio = Fio::new(&disk.kept.scratch, JOBS);
    let mut verified = 0;
    for _ in 0..ROUNDS {
        let server = disk.start(&[LIMIT]);
        fio.verify(&server);
        fio.begin(random);
        write_until_killed(&mut disk, &fio, server, random);
        verified += fio.note_what_was_flushed();
    }
    if disk.has_flushed_to_the_file(random) {
        verify_the_file(&disk, &fio);
    }
    let server = disk.start(&[LIMIT]);
    fio.verify(&server);
    disk.stop(server);
    verify_the_file(&disk, &fio);
    assert!(verified > 0, "nothing was flushed");
    verified
}

fn write_until_killed(disk: &mut Disk, fio: &Fio, server: Server, random: &mut Random) {
    // Any moment will do.
    let moment = Duration::from_millis(random.below(400));
    let reached = server.uri();
    thread::scope(|scope| {
        let writing = scope.spawn(|| fio.write(&reached));
        wait_until("fio writes", || fio.is_writing() || writing.is_finished());
        thread::sleep(moment);
        disk.kill(server);
        writing.join().unwrap();
    });
}

fn verify_the_file(disk: &Disk, fio: &Fio) {
    let server = disk.serve_the_file();
    fio.verify(&server);
    server.stop();
}

fn kill(front: Front, flush_to: FlushTo) {
    let disk = Disk::new(front, Below::Volatile, flush_to, JOBS * PART);
    fio_over_kills(disk, &mut Random::new(Random::seed_or(1)));
}

#[test]
fn fio_verifies_what_was_flushed_before_the_filter_was_killed() {
    kill(Front::Filter, FlushTo::Origin);
}

#[test]
fn fio_verifies_what_was_flushed_before_the_server_was_killed() {
    kill(Front::Server, FlushTo::Origin);
}

#[test]
fn fio_verifies_what_was_flushed_to_the_cache_before_the_filter_was_killed() {
    kill(Front::Filter, FlushTo::Cache);
}

#[test]
fn fio_verifies_what_was_flushed_to_the_cache_before_the_server_was_killed() {
    kill(Front::Server, FlushTo::Cache);
}

#[test]
#[should_panic(expected = "verify")]
fn fio_finds_what_was_promised_and_not_kept() {
    kill(Front::Server, FlushTo::Nowhere);
}

#[test]
#[ignore = "as long as LARDER_SOAK_SECONDS says: cargo xtask soak"]
fn soak() {
    let (mut kills, mut writes) = (0, 0);
    soak_for_seconds(|seed, random| {
        println!("seed {seed}");
        writes += fio_over_kills(Disk::any(random, JOBS * PART), random);
        kills += ROUNDS;
    });
    println!("{kills} kills, {writes} writes verified");
}
