//! Servers with a cache directory, killed at any moment and started again: everything up to the last flush that was answered is
//! there; what was written after it is there or not, sector by sector; and what was seen once after a kill stays.
//!
//! `LARDER_SEED` replays another seed. `cargo xtask soak` goes on for as long as one likes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use keep::{Below, Disk, FlushTo, Front, Moments, REGION, Writer};
use larder_e2e::{Client, Random, Server, read_at, soak_for_seconds, wait_until};

const ROUNDS: u64 = 20;
const CLIENTS: u64 = 2;

/// How a life ends.
#[derive(Clone, Copy)]
enum End {
    Kill,
    /// After its clients have left.
    Stop,
    /// Under the load of clients that do not leave, for which nbdkit would wait.
    StopUnderLoad,
}

/// A disk whose server is killed again and again.
struct Victim {
    disk: Disk,
    random: Random,
    writers: Vec<Writer>,
    flushes: AtomicU64,
    kills: u64,
}

impl Victim {
    fn new(disk: Disk, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let writers = (0..CLIENTS).map(|number| Writer::new(number, random.next_u64()));
        Self {
            writers: writers.collect(),
            disk,
            random,
            flushes: AtomicU64::new(0),
            kills: 0,
        }
    }

    /// One life: what is there is right; then work until the end, which is a kill more often than not.
    fn live(&mut self, parameters: &[&str]) {
        let server = self.disk.start(parameters);
        let mut client = Client::connect(server.socket());
        for writer in &mut self.writers {
            writer.check_served(&mut client);
        }
        client.disconnect_and_wait();
        let end = match (self.random.below(6), self.disk.front) {
            (0 | 1, _) => End::Stop,
            (2, Front::Server) => End::StopUnderLoad,
            _ => End::Kill,
        };
        self.work_until_the_end(server, end);
        let is_there =
            !matches!(end, End::Kill) || self.disk.has_flushed_to_the_file(&mut self.random);
        self.check_the_file(is_there);
    }

    fn work_until_the_end(&mut self, server: Server, end: End) {
        let goal = self.flushes.load(Ordering::SeqCst) + self.random.below(6);
        // Any moment will do.
        let moment = Duration::from_micros(self.random.below(30_000));
        let (socket, moments) = (server.socket().to_owned(), Moments::default());
        let (writers, flushes, disk) = (&mut self.writers, &self.flushes, &mut self.disk);
        thread::scope(|scope| {
            let working: Vec<_> = writers
                .iter_mut()
                .map(|writer| scope.spawn(|| writer.work(&socket, flushes, &moments)))
                .collect();
            wait_until("some flushes have been answered", || {
                moments.is_begun.load(Ordering::SeqCst) && flushes.load(Ordering::SeqCst) >= goal
            });
            thread::sleep(moment);
            match end {
                End::Kill => disk.kill(server),
                End::StopUnderLoad => drop(disk.stop(server)),
                End::Stop => {
                    moments.is_over.store(true, Ordering::SeqCst);
                    working
                        .into_iter()
                        .for_each(|client| client.join().unwrap());
                    disk.stop(server);
                }
            }
        });
        self.kills += u64::from(matches!(end, End::Kill));
    }

    /// What was flushed is in the file, or what was there at some time or other, if it may still be in the cache only.
    fn check_the_file(&self, has_what_was_flushed: bool) {
        for writer in &self.writers {
            let bytes = read_at(&self.disk.kept.image, writer.start, REGION);
            if has_what_was_flushed {
                writer.check("the file", &bytes);
            } else {
                writer.check_form(&bytes);
            }
        }
    }
}

/// Returns how many kills there were.
fn kill_again_and_again(disk: Disk, seed: u64, rounds: u64) -> u64 {
    println!("LARDER_SEED={seed}");
    let mut victim = Victim::new(disk, seed);
    for _ in 0..rounds {
        let block = ["4K", "64K", "1M"][victim.random.below(3) as usize];
        let is_through = victim.random.one_in(4) && victim.disk.flush_to == FlushTo::Origin;
        // The first life decides; later ones take the directory's.
        let is_first = !victim.disk.kept.directory.exists();
        let block = format!("cache-min-block-size={block}");
        let mut parameters = vec!["cache-max-size=32M", "cache-dirty-age=1"];
        if is_first {
            parameters.push(&block);
        }
        if is_through {
            parameters.push("cache=writethrough");
        }
        victim.live(&parameters);
    }
    assert!(victim.flushes.load(Ordering::SeqCst) > rounds);
    victim.kills
}

fn kill(front: Front, below: Below, flush_to: FlushTo, rounds: u64) {
    let disk = Disk::new(front, below, flush_to, CLIENTS * REGION);
    kill_again_and_again(disk, Random::seed_or(1), rounds);
}

#[test]
fn a_killed_filter_loses_nothing_that_was_flushed_and_keeps_nothing_that_was_not() {
    kill(Front::Filter, Below::File, FlushTo::Origin, ROUNDS);
}

#[test]
fn a_killed_server_loses_nothing_that_was_flushed_and_keeps_nothing_that_was_not() {
    kill(Front::Server, Below::File, FlushTo::Origin, ROUNDS);
}

#[test]
fn a_killed_server_over_an_nbd_origin_loses_nothing_and_keeps_nothing_that_is_old() {
    kill(Front::Server, Below::Server, FlushTo::Origin, ROUNDS);
}

#[test]
fn a_killed_filter_loses_nothing_that_was_flushed_to_its_cache_over_an_origin_that_loses_power() {
    kill(Front::Filter, Below::Volatile, FlushTo::Cache, ROUNDS / 2);
}

#[test]
fn a_killed_server_loses_nothing_that_was_flushed_to_its_cache() {
    kill(Front::Server, Below::File, FlushTo::Cache, ROUNDS / 2);
}

#[test]
fn a_killed_server_loses_nothing_that_was_flushed_to_its_cache_over_an_origin_that_loses_power() {
    kill(Front::Server, Below::Volatile, FlushTo::Cache, ROUNDS / 2);
}

#[test]
fn a_killed_filter_that_sends_flushes_in_order_loses_nothing_over_an_origin_that_loses_power() {
    kill(Front::Filter, Below::Volatile, FlushTo::InOrder, ROUNDS / 2);
}

#[test]
fn a_killed_server_that_sends_flushes_in_order_loses_nothing_over_a_slow_origin() {
    kill(Front::Server, Below::Slow, FlushTo::InOrder, ROUNDS / 4);
}

#[test]
#[should_panic(expected = "is none of")]
fn a_flush_that_was_promised_and_not_kept_is_noticed() {
    kill(Front::Server, Below::File, FlushTo::Nowhere, ROUNDS);
}

#[test]
#[ignore = "as long as LARDER_SOAK_SECONDS says: cargo xtask soak"]
fn soak() {
    let (mut rounds, mut kills) = (0, 0);
    soak_for_seconds(|seed, random| {
        let disk = Disk::any(random, CLIENTS * REGION);
        rounds += ROUNDS;
        kills += kill_again_and_again(disk, seed, ROUNDS);
    });
    println!("{rounds} rounds, {kills} kills");
}
