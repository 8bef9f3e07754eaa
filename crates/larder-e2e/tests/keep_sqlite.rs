//! A database in WAL mode on a file system over a server with a cache directory that is killed, together with an origin that loses
//! what it was not told to flush: after each start the database is whole and has every transaction whose COMMIT had returned.
//! Needs root, FUSE and loop devices.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use keep::database::{check, commit};
use keep::{Below, Disk, FlushTo, Front};
use larder_e2e::{LoopDevice, MIB, Mount, MountedDisk, Random, soak_for_seconds};

const ROUNDS: u64 = 4;
const SIZE: u64 = 64 * MIB;

/// Returns how many transactions were committed.
fn sqlite_over_kills(mut disk: Disk, random: &mut Random) -> u64 {
    disk.make_ext4();
    let root = disk.kept.scratch.make_dir("root");
    let database = root.join("database");
    // The number of the last transaction that there has to be.
    let mut last = 0;
    for _ in 0..ROUNDS {
        let server = disk.start(&["cache-max-size=32M"]);
        let mounted = MountedDisk::new(&server, &root);
        last = check_last(&database, last);
        // Any moment will do.
        let moment = Duration::from_millis(random.between(200, 700));
        let told = thread::scope(|scope| {
            let writing = scope.spawn(|| commit(&database));
            thread::sleep(moment);
            disk.kill(server);
            writing.join().unwrap()
        });
        drop(mounted);
        last = told.unwrap_or(last);
    }
    if disk.has_flushed_to_the_file(random) {
        last = check_without_cache(&disk, &root, last);
    }
    let server = disk.start(&["cache-max-size=32M"]);
    let mounted = MountedDisk::new(&server, &root);
    last = check_last(&database, last);
    assert!(last > 0, "nothing was committed");
    mounted.unmount_and_check();
    disk.stop(server);
    disk.check_ext4_in_the_file();
    check_without_cache(&disk, &root, last)
}

/// The same in the file below everything, or rather in a copy, since a mount changes it.
fn check_without_cache(disk: &Disk, root: &Path, told: u64) -> u64 {
    let copy = disk.kept.scratch.path("copy");
    fs::copy(&disk.kept.image, &copy).unwrap();
    let device = LoopDevice::attach(&copy);
    let mount = Mount::device(&device.device, root);
    let last = check_last(&root.join("database"), told);
    mount.unmount();
    device.detach();
    last
}

/// All that was told of is there, and at most the one that was under way.
fn check_last(database: &Path, told: u64) -> u64 {
    let last = check(database);
    assert!(
        (told..=told + 1).contains(&last),
        "transaction {told} was committed; the last one is {last}"
    );
    last
}

fn kill(front: Front, flush_to: FlushTo) {
    let disk = Disk::new(front, Below::Volatile, flush_to, SIZE);
    sqlite_over_kills(disk, &mut Random::new(Random::seed_or(1)));
}

#[test]
fn a_database_on_a_killed_filter_is_whole_and_has_every_committed_transaction() {
    kill(Front::Filter, FlushTo::Origin);
}

#[test]
fn a_database_on_a_killed_server_is_whole_and_has_every_committed_transaction() {
    kill(Front::Server, FlushTo::Origin);
}

#[test]
fn a_database_on_a_killed_filter_that_flushes_to_its_cache_has_every_committed_transaction() {
    kill(Front::Filter, FlushTo::Cache);
}

#[test]
fn a_database_on_a_killed_server_that_flushes_to_its_cache_has_every_committed_transaction() {
    kill(Front::Server, FlushTo::Cache);
}

#[test]
fn a_database_on_a_killed_filter_that_sends_flushes_in_order_has_every_committed_transaction() {
    kill(Front::Filter, FlushTo::InOrder);
}

#[test]
#[should_panic(expected = "was committed; the last one is")]
fn a_commit_that_was_promised_and_not_kept_is_noticed() {
    kill(Front::Server, FlushTo::Nowhere);
}

#[test]
#[ignore = "as long as LARDER_SOAK_SECONDS says: cargo xtask soak"]
fn soak() {
    let (mut kills, mut transactions) = (0, 0);
    soak_for_seconds(|seed, random| {
        println!("seed {seed}");
        transactions += sqlite_over_kills(Disk::any(random, SIZE), random);
        kills += ROUNDS;
    });
    println!("{kills} kills, {transactions} transactions committed");
}
