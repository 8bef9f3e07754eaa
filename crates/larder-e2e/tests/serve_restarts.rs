//! Origins that are killed and come back while clients work: reads go on, and what was flushed is on them.
//!
//! `LARDER_SEED` replays another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostile::origins::Origin;
use larder_e2e::{Client, Larder, MIB, Random, Scratch, Server, read_at, sparse_file, wait_until};

const CLIENTS: u64 = 4;
const STEPS_EACH: u64 = 300;
const KILLS: u64 = 5;
const REGION: u64 = 8 * MIB;
const SIZE: u64 = CLIENTS * REGION;

/// What a failed flush means to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// It does not happen: what was lost is written once more from the cache.
    IsMadeGood,
    /// What was not flushed before may be lost, and must be written again.
    IsTold,
}

/// One client on a region of its own.
struct Worker<'t> {
    client: Client,
    random: Random,
    image: &'t Path,
    loss: Loss,
    start: u64,
    expected: Vec<u8>,
    /// Where something was written since the last flush that succeeded.
    unflushed: Vec<(u64, u64)>,
}

impl Worker<'_> {
    fn step(&mut self) {
        let length = self.random.between(1, 100_000);
        let at = self.random.below(REGION - length);
        let range = at as usize..(at + length) as usize;
        match self.random.below(20) {
            0..10 => {
                let bytes = self.random.bytes(length);
                let written = self.client.write(self.start + at, &bytes);
                written.expect("a write waits for the origin");
                self.expected[range].copy_from_slice(&bytes);
                self.unflushed.push((at, length));
            }
            10..19 => {
                let read = self.client.read(self.start + at, length);
                let read = read.expect("a read waits for the origin");
                self.check(at, &read);
            }
            _ => self.flush(),
        }
    }

    /// What was not flushed may be lost already, and only the next flush tells.
    fn check(&self, at: u64, read: &[u8]) {
        let expected = &self.expected[at as usize..at as usize + read.len()];
        let is_lost = |place: u64| {
            let covers = |&(start, length): &(u64, u64)| (start..start + length).contains(&place);
            self.loss == Loss::IsTold && self.unflushed.iter().any(covers)
        };
        let wrong = (at..).zip(read.iter().zip(expected));
        let wrong = wrong.filter(|(place, (read, expected))| read != expected && !is_lost(*place));
        assert_eq!(wrong.count(), 0, "read at {}", self.start + at);
    }

    /// Flushes until it succeeds. Then everything is on the origin.
    fn flush(&mut self) {
        while let Err(error) = self.client.flush() {
            assert_eq!(self.loss, Loss::IsTold, "{error}");
            for &(at, length) in &self.unflushed {
                let bytes = &self.expected[at as usize..(at + length) as usize];
                self.client.write(self.start + at, bytes).expect("a write");
            }
        }
        self.unflushed.clear();
        let on_origin = read_at(self.image, self.start, REGION);
        assert!(on_origin == self.expected, "flushed, and not on the origin");
    }
}

fn work_while_it_is_killed(server: &Server, origin: &mut Origin, image: &Path, loss: Loss) {
    let mut random = Random::new(Random::seed_or(1));
    let steps = AtomicU64::new(0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut worker = Worker {
                    client: Client::connect(server.socket()),
                    random: Random::new(random.next_u64()),
                    image,
                    loss,
                    start: number * REGION,
                    expected: vec![0; REGION as usize],
                    unflushed: Vec::new(),
                };
                let steps = &steps;
                scope.spawn(move || {
                    for _ in 0..STEPS_EACH {
                        worker.step();
                        steps.fetch_add(1, Ordering::Relaxed);
                    }
                    worker.flush();
                    worker.client.disconnect_and_wait();
                })
            })
            .collect();
        let is_over = || workers.iter().any(|worker| worker.is_finished());
        for kill in 1..=KILLS {
            let due = kill * CLIENTS * STEPS_EACH / (KILLS + 1);
            wait_until("it is time to kill the origin", || {
                is_over() || steps.load(Ordering::Relaxed) >= due
            });
            origin.kill();
            origin.start();
        }
    });
}

fn run(mode: &str, filters: &[&str], loss: Loss) {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let mut origin = Origin::nbdkit(&scratch, &image, filters);
    let server = Larder::serve(&scratch)
        .origin(origin.address(""))
        .parameter(&format!("cache={mode}"))
        .parameter("cache-max-size=8M")
        .start();
    work_while_it_is_killed(&server, &mut origin, &image, loss);
    server.stop();
}

#[test]
fn nothing_flushed_is_lost_in_writeback_while_the_origin_is_killed() {
    run("writeback", &[], Loss::IsMadeGood);
}

#[test]
fn nothing_flushed_is_lost_in_writethrough_while_the_origin_is_killed() {
    run("writethrough", &[], Loss::IsTold);
}

#[test]
fn nothing_flushed_is_lost_on_an_origin_that_loses_what_was_not() {
    run("writeback", &["--filter=cache"], Loss::IsMadeGood);
}

#[test]
fn a_loss_is_told_in_writethrough_on_an_origin_that_loses_what_was_not_flushed() {
    run("writethrough", &["--filter=cache"], Loss::IsTold);
}

#[test]
fn an_origin_that_stays_away_is_an_error_for_what_needs_it_and_for_nothing_else() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let mut origin = Origin::nbdkit(&scratch, &image, &[]);
    let server = Larder::serve(&scratch)
        .origin(origin.address(""))
        .parameter("cache=writeback")
        .parameter("cache-dirty-age=off")
        .parameter("origin-timeout=2")
        .start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).expect("a write");
    assert_eq!(client.read(MIB, 4096).expect("a read"), [0; 4096]);
    origin.kill();
    assert_eq!(client.read(0, 4096).expect("dirty"), [1; 4096]);
    assert_eq!(client.read(MIB, 4096).expect("cached"), [0; 4096]);
    client
        .write(2 * MIB, &[2; 65536])
        .expect("a write into the cache");
    let missed = client.read(4 * MIB, 4096).expect_err("not cached");
    assert_eq!(missed.raw_os_error(), Some(5));
    client.flush().expect_err("nothing can be flushed");
    origin.start();
    assert_eq!(client.read(4 * MIB, 4096).expect("a read"), [0; 4096]);
    client.flush().expect("what was kept is written now");
    assert_eq!(read_at(&image, 0, 4096), [1; 4096]);
    assert_eq!(read_at(&image, 2 * MIB, 65536), [2; 65536]);
    drop(client);
    server.stop();
}

#[test]
fn reads_go_on_while_a_web_server_is_killed() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("files");
    let image = directory.join("image");
    let mut random = Random::new(Random::seed_or(1));
    let content = random.bytes(SIZE);
    std::fs::write(&image, &content).expect("an image");
    let mut origin = Origin::nginx(&scratch, &directory);
    let server = Larder::serve(&scratch)
        .origin(origin.address("image"))
        .parameter("cache-max-size=8M")
        .start();
    let steps = AtomicU64::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut random = Random::new(random.next_u64());
                let (steps, content, socket) = (&steps, &content, server.socket());
                scope.spawn(move || {
                    let mut client = Client::connect(socket);
                    for _ in 0..STEPS_EACH {
                        let length = random.between(1, 100_000);
                        let at = random.below(SIZE - length);
                        let read = client
                            .read(at, length)
                            .expect("a read waits for the origin");
                        assert!(read == content[at as usize..(at + length) as usize], "{at}");
                        steps.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let is_over = || readers.iter().any(|reader| reader.is_finished());
        for kill in 1..=KILLS {
            let due = kill * CLIENTS * STEPS_EACH / (KILLS + 1);
            wait_until("it is time to kill the origin", || {
                is_over() || steps.load(Ordering::Relaxed) >= due
            });
            origin.kill();
            // Of each outage the server tells once.
            let outages = || server.output().matches("trying again for up to").count() as u64;
            wait_until("reads meet the outage", || is_over() || outages() >= kill);
            origin.start();
        }
    });
    let output = server.output();
    assert!(output.contains("trying again for up to"), "{output}");
    assert!(output.contains("answers again"), "{output}");
    server.stop();
}

#[test]
fn a_web_server_that_stays_away_is_an_error_after_its_time_for_what_is_not_cached() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("files");
    let content = Random::new(Random::seed_or(2)).bytes(8 * MIB);
    std::fs::write(directory.join("image"), &content).expect("an image");
    let mut origin = Origin::nginx(&scratch, &directory);
    let server = Larder::serve(&scratch)
        .origin(origin.address("image"))
        .parameter("origin-timeout=2")
        .start();
    let mut client = Client::connect(server.socket());
    let (cached, missed) = (0, 4 * MIB);
    let expected = |at: u64| &content[at as usize..][..4096];
    assert_eq!(client.read(cached, 4096).expect("a read"), expected(cached));
    origin.kill();
    let begun = Instant::now();
    let error = client.read(missed, 4096).expect_err("not cached");
    assert_eq!(error.raw_os_error(), Some(5));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(client.read(cached, 4096).expect("cached"), expected(cached));
    origin.start();
    assert_eq!(client.read(missed, 4096).expect("a read"), expected(missed));
    drop(client);
    server.stop();
}
