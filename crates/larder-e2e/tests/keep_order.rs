//! An origin that gets flushes in order, by itself: whenever its server is killed, and the origin with it, it has all of some round of
//! writes that was flushed, and beside that only what was written in the next. So it does while the next start sends what the last one
//! left, and it is the disk if the cache's directory is lost.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;
mod keep;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use hostile::origins::Origin;
use keep::{Below, Disk, FlushTo, Front, Moments, RoundWriter};
use larder_e2e::{
    Client, Larder, MIB, Random, Scratch, Server, read_file, soak_for_seconds, sparse_file,
    wait_until,
};

const LIVES: u64 = 16;
const ORIGIN_KILLS: usize = 10;
/// As much as the queue of the smallest cache.
const SIZE: u64 = 8 * MIB;
const ORDERED: [(Front, Below); 5] = [
    (Front::Filter, Below::Slow),
    (Front::Filter, Below::Volatile),
    (Front::Server, Below::File),
    (Front::Server, Below::Slow),
    (Front::Server, Below::Volatile),
];

/// A disk whose server is killed again and again.
struct Victim {
    disk: Disk,
    random: Random,
    writer: RoundWriter,
    parameters: &'static [&'static str],
    flushes: usize,
    kills: u64,
    /// How often the origin lacked something of what had been flushed.
    behind: u64,
}

impl Victim {
    fn new(disk: Disk, seed: u64, parameters: &'static [&'static str]) -> Self {
        let mut random = Random::new(seed);
        Self {
            writer: RoundWriter::new(SIZE, random.next_u64()),
            disk,
            random,
            parameters,
            flushes: 0,
            kills: 0,
            behind: 0,
        }
    }

    /// One life, and what the origin has after it.
    fn live(&mut self) {
        let server = self.disk.start(self.parameters);
        // A filter does nothing while no client is there.
        let mut client = Client::connect(server.socket());
        match self.random.below(6) {
            0 => self.kill_soon(server, &client),
            1 if self.disk.front == Front::Server => {
                self.writer.check_served(&mut client);
                self.work_and_stop(server, client);
            }
            _ => {
                self.writer.check_served(&mut client);
                self.work_and_kill(server, client);
            }
        }
        let image = read_file(&self.disk.kept.image);
        let rounds = self.writer.check_origin(&image);
        self.behind += u64::from(rounds < self.writer.flushed_rounds());
        if self.random.one_in(2) {
            self.disk.lose_the_directory();
            self.writer.begin_again(&image);
        }
    }

    /// Any moment will do.
    fn moment(&mut self, longest_ms: u64) -> Duration {
        Duration::from_micros(self.random.below(longest_ms * 1000))
    }

    /// While it goes on with what the last life left.
    fn kill_soon(&mut self, server: Server, _client: &Client) {
        thread::sleep(self.moment(60));
        self.disk.kill(server);
        self.kills += 1;
    }

    fn work_and_kill(&mut self, server: Server, client: Client) {
        let moment = self.moment(400);
        let moments = Moments::default();
        let (writer, disk) = (&mut self.writer, &mut self.disk);
        let before = writer.flushed_rounds();
        thread::scope(|scope| {
            let working = scope.spawn(|| writer.work(client, &moments));
            wait_for_the_beginning(&moments);
            thread::sleep(moment);
            disk.kill(server);
            working.join().unwrap();
        });
        self.flushes += self.writer.flushed_rounds() - before;
        self.kills += 1;
    }

    /// A clean end leaves nothing that the origin does not have.
    fn work_and_stop(&mut self, server: Server, client: Client) {
        let moment = self.moment(200);
        let moments = Moments::default();
        let before = self.writer.flushed_rounds();
        thread::scope(|scope| {
            let working = scope.spawn(|| self.writer.work(client, &moments));
            wait_for_the_beginning(&moments);
            thread::sleep(moment);
            moments.is_over.store(true, Ordering::SeqCst);
            working.join().unwrap();
        });
        self.flushes += self.writer.flushed_rounds() - before;
        self.disk.stop(server);
        let image = read_file(&self.disk.kept.image);
        self.writer.check_that_the_origin_has_all(&image);
    }
}

fn wait_for_the_beginning(moments: &Moments) {
    wait_until("the client has begun", || {
        moments.is_begun.load(Ordering::SeqCst)
    });
}

/// Returns how many kills there were.
fn kill_again_and_again(disk: Disk, seed: u64, lives: u64) -> u64 {
    println!("LARDER_SEED={seed}");
    let parameters: &[&str] = match disk.flush_to {
        FlushTo::InOrder => &["cache-max-size=32M", "cache-dirty-age=1"],
        _ => &["cache-max-size=32M", "cache-dirty-share=1"],
    };
    let mut victim = Victim::new(disk, seed, parameters);
    for _ in 0..lives {
        victim.live();
    }
    println!(
        "{} kills, {} flushes, {} times behind",
        victim.kills, victim.flushes, victim.behind
    );
    assert!(victim.flushes as u64 > lives);
    assert!(victim.behind > 0, "the origin had everything all the time");
    victim.kills
}

fn kill(front: Front, below: Below, flush_to: FlushTo) {
    let disk = Disk::new(front, below, flush_to, SIZE);
    kill_again_and_again(disk, Random::seed_or(1), LIVES);
}

#[test]
fn the_origin_below_a_killed_filter_has_all_of_some_flush_and_at_most_some_of_the_next() {
    kill(Front::Filter, Below::Slow, FlushTo::InOrder);
}

#[test]
fn the_origin_of_a_killed_server_has_all_of_some_flush_and_at_most_some_of_the_next() {
    kill(Front::Server, Below::Slow, FlushTo::InOrder);
}

/// Whose version changes with everything that is sent, in whichever life.
#[test]
fn so_has_the_file_of_a_killed_server() {
    kill(Front::Server, Below::File, FlushTo::InOrder);
}

#[test]
fn so_has_one_that_loses_power_with_the_filter() {
    kill(Front::Filter, Below::Volatile, FlushTo::InOrder);
}

#[test]
fn so_has_one_that_loses_power_with_the_server() {
    kill(Front::Server, Below::Volatile, FlushTo::InOrder);
}

/// The server lives on, and its origin comes back without what it was not told to flush. Returns what it has each time.
fn kill_the_origin(origin: &mut Origin, image: &Path, random: &mut Random) -> Vec<Vec<u8>> {
    let images = (0..ORIGIN_KILLS).map(|_| {
        thread::sleep(Duration::from_micros(random.below(200_000)));
        origin.kill();
        let left = read_file(image);
        origin.start();
        left
    });
    images.collect()
}

#[test]
fn so_has_one_that_loses_power_while_the_server_goes_on() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let volatile = ["--filter=cache", "--filter=delay", "wdelay=1ms"];
    let mut origin = Origin::nbdkit(&scratch, &image, &volatile);
    let directory = format!("cache-dir={}", scratch.path("cache").display());
    let server = Larder::serve(&scratch)
        .origin(origin.address(""))
        .parameters(["cache-flush=cache", "cache-writeback=ordered"])
        .parameters([&*directory, "cache-id=golden", "cache-max-size=32M"])
        .start();
    let mut random = Random::new(Random::seed_or(1));
    let mut writer = RoundWriter::new(SIZE, random.next_u64());
    let client = Client::connect(server.socket());
    let moments = Moments::default();
    let images = thread::scope(|scope| {
        let working = scope.spawn(|| writer.work(client, &moments));
        wait_for_the_beginning(&moments);
        let images = kill_the_origin(&mut origin, &image, &mut random);
        moments.is_over.store(true, Ordering::SeqCst);
        working.join().unwrap();
        images
    });
    server.stop();
    let mut before = 0;
    for image in &images {
        let rounds = writer.check_origin(image);
        assert!(rounds >= before, "from {before} back to {rounds}");
        before = rounds;
    }
    origin.kill();
    writer.check_that_the_origin_has_all(&read_file(&image));
}

#[test]
#[should_panic(expected = "no flush explains the origin")]
fn an_origin_that_gets_flushes_in_another_order_is_noticed() {
    kill(Front::Server, Below::Slow, FlushTo::Cache);
}

#[test]
#[ignore = "as long as LARDER_SOAK_SECONDS says: cargo xtask soak"]
fn soak() {
    let (mut lives, mut kills) = (0, 0);
    soak_for_seconds(|seed, random| {
        let (front, below) = ORDERED[random.below(ORDERED.len() as u64) as usize];
        println!("{front:?} over {below:?}");
        let disk = Disk::new(front, below, FlushTo::InOrder, SIZE);
        lives += LIVES;
        kills += kill_again_and_again(disk, seed, LIVES);
    });
    println!("{lives} lives, {kills} kills");
}
