//! `larder serve` is killed at any moment, also between the origin's flush and the answer to the client's:
//! what a flush was answered for is on the origin.
//!
//! `LARDER_SEED` replays another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hostile::origins::Origin;
use larder_e2e::{Client, KIB, Larder, MIB, Random, Scratch, read_at, sparse_file, wait_until};

const KILLS: u64 = 30;
const CLIENTS: u64 = 2;
const UNIT: u64 = 512;
/// Units of each client's own region.
const UNITS: u64 = 2048;
const REGION: u64 = UNITS * UNIT;

/// What one client wrote: each unit is filled with the number of the write.
struct Log {
    start: u64,
    random: Random,
    writes: u64,
    /// The number of the last write to each unit, answered or not.
    last: Vec<u64>,
    /// The number of the last one that was answered.
    answered: Vec<u64>,
    /// The same at the last flush that was answered.
    flushed: Vec<u64>,
}

impl Log {
    fn new(number: u64, seed: u64) -> Self {
        Self {
            start: number * REGION,
            random: Random::new(seed),
            writes: 0,
            last: vec![0; UNITS as usize],
            answered: vec![0; UNITS as usize],
            flushed: vec![0; UNITS as usize],
        }
    }

    /// Works until the server is gone. True if a flush was under way then.
    fn work(&mut self, socket: &Path, flushes: &AtomicU64, is_begun: &AtomicBool) -> bool {
        let Ok(mut client) = Client::try_connect_to(socket, "") else {
            return false;
        };
        is_begun.store(true, Ordering::SeqCst);
        // What the last server had of the rest went with it.
        self.answered.clone_from(&self.flushed);
        loop {
            for _ in 0..self.random.between(1, 4) {
                let count = self.random.between(1, 256);
                let first = self.random.below(UNITS - count);
                self.writes += 1;
                let payload = self
                    .writes
                    .to_be_bytes()
                    .repeat((count * UNIT / 8) as usize);
                let units = first as usize..(first + count) as usize;
                self.last[units.clone()].fill(self.writes);
                let offset = self.start + first * UNIT;
                if client.write(offset, &payload).is_err() {
                    return false;
                }
                self.answered[units].fill(self.writes);
            }
            if client.flush().is_err() {
                return true;
            }
            self.flushed.clone_from(&self.answered);
            flushes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The origin has at least what was flushed, and nothing that was never written.
    fn check(&self, image: &Path) {
        let bytes = read_at(image, self.start, REGION);
        for (unit, bytes) in bytes.chunks(UNIT as usize).enumerate() {
            let number = u64::from_be_bytes(bytes[..8].try_into().unwrap());
            assert!(
                bytes.chunks(8).all(|word| word == &bytes[..8]),
                "unit {unit} is torn"
            );
            let allowed = self.flushed[unit]..=self.last[unit];
            assert!(
                allowed.contains(&number),
                "unit {unit}: {number} is not of {allowed:?}"
            );
        }
    }
}

/// Kills the server again and again, and `origin` with it, where it would know more than what was flushed.
fn kill_again_and_again(image: &Path, scratch: &Scratch, mut origin: Option<Origin>) {
    let seed = Random::seed_or(1);
    let mut random = Random::new(seed);
    let mut logs: Vec<Log> = (0..CLIENTS)
        .map(|number| Log::new(number, seed + number))
        .collect();
    let flushes = AtomicU64::new(0);
    let mut cut_off = 0;
    for _ in 0..KILLS {
        let address = origin.as_ref().map(|origin| origin.address(""));
        let server = Larder::serve(scratch)
            .origin(address.unwrap_or_else(|| image.display().to_string()))
            .parameter("cache-dirty-age=1")
            .start();
        let goal = flushes.load(Ordering::SeqCst) + random.below(6);
        // Any moment will do.
        let moment = Duration::from_micros(random.below(20_000));
        let (socket, is_begun) = (server.socket().to_owned(), AtomicBool::new(false));
        cut_off += thread::scope(|scope| {
            let working: Vec<_> = logs
                .iter_mut()
                .map(|log| scope.spawn(|| log.work(&socket, &flushes, &is_begun)))
                .collect();
            wait_until("some flushes have been answered", || {
                is_begun.load(Ordering::SeqCst) && flushes.load(Ordering::SeqCst) >= goal
            });
            thread::sleep(moment);
            server.kill();
            let ended = working.into_iter().map(|client| client.join().unwrap());
            ended.filter(|was_flushing| *was_flushing).count()
        });
        if let Some(origin) = &mut origin {
            origin.kill();
        }
        logs.iter().for_each(|log| log.check(image));
        if let Some(origin) = &mut origin {
            origin.start();
        }
    }
    // Otherwise none of this was about flushes.
    assert!(
        cut_off > 0 && flushes.load(Ordering::SeqCst) > KILLS,
        "{cut_off} {flushes:?}"
    );
}

fn image(scratch: &Scratch) -> std::path::PathBuf {
    let image = scratch.path("image");
    sparse_file(&image, (CLIENTS * REGION).max(4 * MIB + 64 * KIB));
    image
}

#[test]
fn what_was_flushed_before_a_kill_is_in_the_file() {
    let scratch = Scratch::new();
    let image = image(&scratch);
    kill_again_and_again(&image, &scratch, None);
}

#[test]
fn what_was_flushed_before_a_kill_is_on_an_origin_that_loses_what_was_not() {
    let scratch = Scratch::new();
    let image = image(&scratch);
    let slow_and_forgetful = ["--filter=delay", "--filter=cache", "wdelay=3ms"];
    let origin = Origin::nbdkit(&scratch, &image, &slow_and_forgetful);
    kill_again_and_again(&image, &scratch, Some(origin));
}
