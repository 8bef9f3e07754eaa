//! A file system over a server with a cache directory that is killed, together with an origin that loses what it was not told to
//! flush: it is whole after each start, and has every file that was synced. Needs root, FUSE and loop devices.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::thread;
use std::time::Duration;

use keep::files::Files;
use keep::{Below, Disk, FlushTo, Front};
use larder_e2e::{MIB, MountedDisk, Random, soak_for_seconds};

const ROUNDS: u64 = 3;
const SIZE: u64 = 64 * MIB;

/// Returns how many files were synced.
fn ext4_over_kills(mut disk: Disk, random: &mut Random) -> usize {
    disk.make_ext4();
    let root = disk.kept.scratch.make_dir("root");
    let mut files = Files::new(&root);
    for _ in 0..ROUNDS {
        let server = disk.start(&["cache-max-size=64M"]);
        let mounted = MountedDisk::new(&server, &root);
        let already = files.count();
        // Any moment will do.
        let moment = Duration::from_millis(random.between(300, 700));
        thread::scope(|scope| {
            let writing = scope.spawn(|| files.write(random));
            thread::sleep(moment);
            disk.kill(server);
            writing.join().unwrap();
        });
        drop(mounted);
        assert!(files.count() > already, "nothing was written");
        let server = disk.start(&["cache-max-size=64M"]);
        let mounted = MountedDisk::new(&server, &root);
        files.check();
        mounted.unmount_and_check();
        disk.stop(server);
        disk.check_ext4_in_the_file();
    }
    files.count()
}

fn kill(front: Front, flush_to: FlushTo) {
    let disk = Disk::new(front, Below::Volatile, flush_to, SIZE);
    ext4_over_kills(disk, &mut Random::new(Random::seed_or(1)));
}

#[test]
fn an_ext4_on_a_killed_filter_is_whole_and_has_every_file_that_was_synced() {
    kill(Front::Filter, FlushTo::Origin);
}

#[test]
fn an_ext4_on_a_killed_server_is_whole_and_has_every_file_that_was_synced() {
    kill(Front::Server, FlushTo::Origin);
}

#[test]
fn an_ext4_on_a_killed_filter_that_flushes_to_its_cache_is_whole_and_has_every_file() {
    kill(Front::Filter, FlushTo::Cache);
}

#[test]
fn an_ext4_on_a_killed_server_that_flushes_to_its_cache_is_whole_and_has_every_file() {
    kill(Front::Server, FlushTo::Cache);
}

#[test]
fn an_ext4_on_a_killed_server_that_sends_flushes_in_order_is_whole_and_has_every_file() {
    kill(Front::Server, FlushTo::InOrder);
}

#[test]
#[ignore = "as long as LARDER_SOAK_SECONDS says: cargo xtask soak"]
fn soak() {
    let (mut kills, mut files) = (0, 0);
    soak_for_seconds(|seed, random| {
        println!("seed {seed}");
        files += ext4_over_kills(Disk::any(random, SIZE), random);
        kills += ROUNDS;
    });
    println!("{kills} kills, {files} files synced");
}
