//! Origins that are killed and come back while clients work: reads go on, and what was flushed is on them.
//!
//! `LARDER_SEED` replays another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostile::origins::Origin;
use larder_e2e::{
    Client, Larder, MIB, Random, Request, Scratch, Server, read_at, read_file, sparse_file,
    wait_until,
};

/// How long an origin may stay away where a test waits for the error.
const TIMEOUT: Duration = Duration::from_secs(2);
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

/// A write that may be lost until a flush has succeeded.
struct Unflushed {
    at: u64,
    bytes: Vec<u8>,
}

impl Unflushed {
    /// What it made of the byte there.
    fn byte(&self, place: u64) -> Option<u8> {
        let at = place.checked_sub(self.at)?;
        self.bytes.get(at as usize).copied()
    }
}

/// One client on a region of its own.
struct Worker<'t> {
    client: Client,
    random: Random,
    image: &'t Path,
    loss: Loss,
    kills: &'t AtomicU64,
    start: u64,
    expected: Vec<u8>,
    /// What was there when the last flush succeeded.
    flushed: Vec<u8>,
    /// What was written since.
    unflushed: Vec<Unflushed>,
    /// How many flushes have failed.
    told: u64,
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
                self.unflushed.push(Unflushed { at, bytes });
            }
            10..19 => {
                let read = self.client.read(self.start + at, length);
                let read = read.expect("a read waits for the origin");
                self.check(at, &read);
            }
            _ => self.flush(),
        }
    }

    /// What was not flushed may be lost already, and only the next flush tells: then there is what was there at the
    /// last flush, or what was written since, and nothing else.
    fn check(&self, at: u64, read: &[u8]) {
        let expected = &self.expected[at as usize..at as usize + read.len()];
        let was_there = |place: u64, byte: u8| {
            let is_written = |write: &Unflushed| write.byte(place) == Some(byte);
            self.flushed[place as usize] == byte || self.unflushed.iter().any(is_written)
        };
        let wrong = (at..).zip(read.iter().zip(expected));
        let wrong = wrong.filter(|&(place, (&read, &expected))| {
            let may_be_lost = self.loss == Loss::IsTold && was_there(place, read);
            read != expected && !may_be_lost
        });
        assert_eq!(wrong.count(), 0, "read at {}", self.start + at);
    }

    /// Flushes until it succeeds. Then everything is on the origin. A client is told once for each time that the origin
    /// was killed.
    fn flush(&mut self) {
        while let Err(error) = self.client.flush() {
            assert_eq!(self.loss, Loss::IsTold, "{error}");
            self.told += 1;
            let kills = self.kills.load(Ordering::SeqCst);
            assert!(self.told <= kills, "{} losses, {kills} kills", self.told);
            for Unflushed { at, bytes } in &self.unflushed {
                let bytes = &self.expected[*at as usize..*at as usize + bytes.len()];
                self.client.write(self.start + at, bytes).expect("a write");
            }
        }
        self.unflushed.clear();
        self.flushed.copy_from_slice(&self.expected);
        let on_origin = read_at(self.image, self.start, REGION);
        assert!(on_origin == self.expected, "flushed, and not on the origin");
    }
}

/// How an origin is killed.
#[derive(Clone, Copy, Debug, Default)]
struct Kills {
    /// When it has acknowledged what is not in its file, and so forgets it.
    forgets: bool,
    /// How long it stays away, for requests to pile up.
    away: Duration,
}

/// What a run was about.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// How often something was gone that the origin had acknowledged.
    lost: u64,
    /// How many flushes failed.
    told: u64,
}

/// An origin and the server in front of it.
struct Stage {
    image: PathBuf,
    origin: Origin,
    server: Server,
    _scratch: Scratch,
}

impl Stage {
    fn new(mode: &str, filters: &[&str]) -> Self {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        sparse_file(&image, SIZE);
        let origin = Origin::nbdkit(&scratch, &image, filters);
        let server = Larder::serve(&scratch)
            .origin(origin.address(""))
            .parameter(&format!("cache={mode}"))
            .parameter("cache-max-size=8M")
            .start();
        Self {
            _scratch: scratch,
            image,
            origin,
            server,
        }
    }

    /// Stops the server as soon as the origin holds what its file does not, so that nothing but a kill makes a
    /// difference. The file; None if that came to nothing.
    fn wait_for_something_to_lose(&self, is_over: &impl Fn() -> bool) -> Option<Vec<u8>> {
        while !is_over() {
            self.server.freeze();
            let held = Client::connect(self.origin.socket()).read(0, SIZE);
            let file = read_file(&self.image);
            if held.expect("what the origin holds") != file {
                return Some(file);
            }
            self.server.thaw();
        }
        None
    }

    /// Kills the origin and starts it again. Whether it has lost something.
    fn restart(&mut self, kills: Kills, count: &AtomicU64, is_over: &impl Fn() -> bool) -> bool {
        let file = kills
            .forgets
            .then(|| self.wait_for_something_to_lose(is_over));
        count.fetch_add(1, Ordering::SeqCst);
        self.origin.kill();
        let is_lost = file
            .flatten()
            .is_some_and(|file| file == read_file(&self.image));
        self.server.thaw();
        thread::sleep(kills.away);
        self.origin.start();
        is_lost
    }
}

/// Works while the origin is killed.
fn run(mode: &str, filters: &[&str], kills: Kills, loss: Loss) -> Seen {
    let mut stage = Stage::new(mode, filters);
    let (image, socket) = (stage.image.clone(), stage.server.socket().to_owned());
    let mut random = Random::new(Random::seed_or(1));
    let (steps, count) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let mut worker = Worker {
                    client: Client::connect(&socket),
                    random: Random::new(random.next_u64()),
                    image: &image,
                    loss,
                    kills: &count,
                    start: number * REGION,
                    expected: vec![0; REGION as usize],
                    flushed: vec![0; REGION as usize],
                    unflushed: Vec::new(),
                    told: 0,
                };
                let steps = &steps;
                scope.spawn(move || {
                    for _ in 0..STEPS_EACH {
                        worker.step();
                        steps.fetch_add(1, Ordering::Relaxed);
                    }
                    worker.flush();
                    worker.client.disconnect_and_wait();
                    worker.told
                })
            })
            .collect();
        let is_over = || workers.iter().any(|worker| worker.is_finished());
        for kill in 1..=KILLS {
            let due = kill * CLIENTS * STEPS_EACH / (KILLS + 1);
            wait_until("it is time to kill the origin", || {
                is_over() || steps.load(Ordering::Relaxed) >= due
            });
            seen.lost += u64::from(stage.restart(kills, &count, &is_over));
        }
        seen.told = workers.into_iter().map(|w| w.join().unwrap()).sum();
    });
    println!("{mode} {filters:?}: {seen:?}");
    stage.server.stop();
    seen
}

const AT_ONCE: Kills = Kills {
    forgets: false,
    away: Duration::ZERO,
};
const FORGETTING: Kills = Kills {
    forgets: true,
    away: Duration::ZERO,
};

#[test]
fn nothing_flushed_is_lost_in_writeback_while_the_origin_is_killed() {
    let away = Duration::from_millis(500);
    let kills = Kills { away, ..AT_ONCE };
    run("writeback", &[], kills, Loss::IsMadeGood);
}

#[test]
fn nothing_flushed_is_lost_in_writethrough_while_the_origin_is_killed() {
    let away = Duration::from_millis(500);
    let kills = Kills { away, ..AT_ONCE };
    run("writethrough", &[], kills, Loss::IsTold);
}

#[test]
fn nothing_flushed_is_lost_on_an_origin_that_loses_what_was_not() {
    let seen = run(
        "writeback",
        &["--filter=cache"],
        FORGETTING,
        Loss::IsMadeGood,
    );
    assert!(seen.lost > 0, "it forgot nothing: {seen:?}");
}

#[test]
fn a_loss_is_told_in_writethrough_on_an_origin_that_loses_what_was_not_flushed() {
    let seen = run(
        "writethrough",
        &["--filter=cache"],
        FORGETTING,
        Loss::IsTold,
    );
    assert!(seen.lost > 0, "it forgot nothing: {seen:?}");
    assert!(seen.told >= seen.lost, "nobody was told: {seen:?}");
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
        .parameter(&format!("origin-timeout={}", TIMEOUT.as_secs()))
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
    for request in [Request::read(4 * MIB, 4096), Request::flush()] {
        let began = Instant::now();
        let error = client.call(&request).expect_err("it needs the origin");
        assert_eq!(error.raw_os_error(), Some(5));
        let waited = began.elapsed();
        assert!(waited >= TIMEOUT, "{request:?} failed after {waited:?}");
    }
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
