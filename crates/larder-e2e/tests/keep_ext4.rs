//! A file system over a server with a cache directory that is killed, together with an origin that loses what it was not told to
//! flush: it is whole after each start, and has every file that was synced. Needs root, FUSE and loop devices.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use keep::{Below, Disk, FlushTo, Front};
use larder_e2e::{MIB, MountedDisk, Random, soak_for_seconds};

const ROUNDS: u64 = 3;
const SIZE: u64 = 64 * MIB;

/// Writes files, each of which is safe once it is noted, until nothing can be written any more.
fn write_files(root: &Path, random: &mut Random, safe: &mut Vec<(PathBuf, u64, u64)>) {
    loop {
        let (seed, length) = (random.next_u64(), random.between(1, 50_000));
        let path = root.join(format!("f{seed:x}"));
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(&Random::new(seed).bytes(length))?;
            file.sync_all()
        });
        if written.is_err() {
            return;
        }
        safe.push((path, seed, length));
    }
}

/// Returns how many files were synced.
fn ext4_over_kills(mut disk: Disk, random: &mut Random) -> usize {
    disk.make_ext4();
    let root = disk.kept.scratch.make_dir("root");
    let mut safe = Vec::new();
    for _ in 0..ROUNDS {
        let server = disk.start(&["cache-max-size=64M"]);
        let mounted = MountedDisk::new(&server, &root);
        let already = safe.len();
        // Any moment will do.
        let moment = Duration::from_millis(random.between(300, 700));
        thread::scope(|scope| {
            let writing = scope.spawn(|| write_files(&root, random, &mut safe));
            thread::sleep(moment);
            disk.kill(server);
            writing.join().unwrap();
        });
        drop(mounted);
        assert!(safe.len() > already, "nothing was written");
        let server = disk.start(&["cache-max-size=64M"]);
        let mounted = MountedDisk::new(&server, &root);
        for (path, seed, length) in &safe {
            let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert!(
                bytes == Random::new(*seed).bytes(*length),
                "{path:?} is not what it was"
            );
        }
        mounted.unmount_and_check();
        disk.stop(server);
        disk.check_ext4_in_the_file();
    }
    safe.len()
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
