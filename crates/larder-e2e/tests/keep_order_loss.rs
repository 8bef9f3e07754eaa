//! A file system, and a database on it, over a server that sends flushes to its origin in order, killed together with the origin; and
//! the cache's directory is lost. The origin is an older disk then, and a whole one. Needs root, FUSE and loop devices.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::thread;
use std::time::Duration;

use keep::files::Files;
use keep::{Below, Disk, FlushTo, Front, database};
use larder_e2e::{LoopDevice, MIB, Mount, MountedDisk, Random, soak_for_seconds};

const ROUNDS: u64 = 3;
const SIZE: u64 = 64 * MIB;
const PARAMETERS: &[&str] = &["cache-max-size=64M"];
const FRONTS: [Front; 2] = [Front::Filter, Front::Server];
const ORIGINS: [Below; 2] = [Below::Slow, Below::Volatile];

/// Works on the disk's file system until the server is killed under the work, and loses the cache's directory.
fn lose<T: Send>(disk: &mut Disk, moment: Duration, work: impl FnOnce() -> T + Send) -> T {
    let server = disk.start(PARAMETERS);
    let mounted = MountedDisk::new(&server, &disk.kept.scratch.path("root"));
    let done = thread::scope(|scope| {
        let working = scope.spawn(work);
        thread::sleep(moment);
        disk.kill(server);
        working.join().unwrap()
    });
    drop(mounted);
    disk.lose_the_directory();
    disk.repair_ext4_in_the_file();
    done
}

/// Looks at the file system in the file below everything.
fn look<T>(disk: &Disk, look: impl FnOnce() -> T) -> T {
    let device = LoopDevice::attach(&disk.kept.image);
    let mount = Mount::device(&device.device, &disk.kept.scratch.path("root"));
    let seen = look();
    mount.unmount();
    device.detach();
    seen
}

/// Returns how many files were there in the end.
fn files_over_losses(mut disk: Disk, random: &mut Random) -> usize {
    disk.make_ext4();
    let root = disk.kept.scratch.make_dir("root");
    let mut files = Files::new(&root);
    let mut synced = 0;
    for _ in 0..ROUNDS {
        let (before, moment) = (files.count(), moment(random));
        lose(&mut disk, moment, || files.write(random));
        synced += files.count() - before;
        look(&disk, || files.check_that_none_is_missing_between());
        assert!(files.count() >= before, "what was there before is gone");
    }
    println!("{synced} files synced, {} there", files.count());
    assert!(synced > 0, "nothing was written");
    files.count()
}

/// Returns how many transactions were there in the end.
fn transactions_over_losses(mut disk: Disk, random: &mut Random) -> u64 {
    disk.make_ext4();
    let database = disk.kept.scratch.make_dir("root").join("database");
    let (mut there, mut committed) = (0, 0);
    for _ in 0..ROUNDS {
        let told = lose(&mut disk, moment(random), || database::commit(&database));
        let told = told.unwrap_or(there);
        committed += told - there;
        let found = look(&disk, || database::check(&database));
        assert!(
            (there..=told + 1).contains(&found),
            "there were {there}, {told} were committed, and the last one is {found}"
        );
        there = found;
    }
    println!("{committed} transactions committed, {there} there");
    assert!(committed > 0, "nothing was committed");
    there
}

/// Any one will do.
fn moment(random: &mut Random) -> Duration {
    Duration::from_millis(random.between(300, 900))
}

fn disk(front: Front, below: Below) -> (Disk, Random) {
    let disk = Disk::new(front, below, FlushTo::InOrder, SIZE);
    (disk, Random::new(Random::seed_or(1)))
}

#[test]
fn an_ext4_below_a_filter_whose_directory_is_lost_is_an_older_one_and_whole() {
    let (disk, mut random) = disk(Front::Filter, Below::Slow);
    assert!(files_over_losses(disk, &mut random) > 0);
}

#[test]
fn an_ext4_of_a_server_whose_directory_is_lost_is_an_older_one_and_whole() {
    let (disk, mut random) = disk(Front::Server, Below::Volatile);
    assert!(files_over_losses(disk, &mut random) > 0);
}

#[test]
fn a_database_below_a_filter_whose_directory_is_lost_has_all_transactions_up_to_some() {
    let (disk, mut random) = disk(Front::Filter, Below::Volatile);
    assert!(transactions_over_losses(disk, &mut random) > 0);
}

#[test]
fn a_database_of_a_server_whose_directory_is_lost_has_all_transactions_up_to_some() {
    let (disk, mut random) = disk(Front::Server, Below::Slow);
    assert!(transactions_over_losses(disk, &mut random) > 0);
}

#[test]
#[ignore = "as long as LARDER_SOAK_SECONDS says: cargo xtask soak"]
fn soak() {
    let (mut losses, mut files, mut transactions) = (0, 0, 0);
    soak_for_seconds(|seed, random| {
        let front = FRONTS[random.below(2) as usize];
        let below = ORIGINS[random.below(2) as usize];
        println!("seed {seed}: {front:?} over {below:?}");
        let disk = || Disk::new(front, below, FlushTo::InOrder, SIZE);
        files += files_over_losses(disk(), random);
        transactions += transactions_over_losses(disk(), random);
        losses += 2 * ROUNDS;
    });
    println!("{losses} losses, {files} files and {transactions} transactions left");
}
