//! An NBD origin that is cut off and not killed: its connections stay open, and nothing is answered for a while.
//!
//! `LARDER_SEED` replays another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use hostile::origins::Origin;
use larder_e2e::{
    Client, Cookie, Flags, KIB, Larder, MIB, Random, Request, Scratch, Server, assert_same_bytes,
    random_file, read_file,
};

const SIZE: u64 = 32 * MIB;
/// What an origin's answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What an error may take: the time, and a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(27);
const PIECE: u64 = 64 * KIB;

struct Stage {
    image: PathBuf,
    expected: Vec<u8>,
    server: Server,
    origin: Origin,
    _scratch: Scratch,
}

impl Stage {
    fn new(mode: &str, timeout: Duration) -> Self {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        let expected = random_file(&image, SIZE, 7);
        let origin = Origin::qemu(&scratch, &image);
        let server = Larder::serve(&scratch)
            .origin(origin.address(""))
            .parameters([&format!("cache={mode}"), "cache-dirty-age=off"])
            .parameter(&format!("origin-timeout={}", timeout.as_secs()))
            .start();
        Self {
            _scratch: scratch,
            image,
            origin,
            server,
            expected,
        }
    }

    fn expected(&self, offset: u64, length: u64) -> &[u8] {
        &self.expected[offset as usize..(offset + length) as usize]
    }

    fn write(&mut self, client: &mut Client, offset: u64, bytes: &[u8]) {
        let written = client.write(offset, bytes);
        written.unwrap_or_else(|error| panic!("a write at {offset}: {error}"));
        self.expected[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// Ends all, and what was acknowledged is on the origin.
    fn end(self, client: Client) {
        client.disconnect_and_wait();
        self.server.stop();
        assert_same_bytes("the origin's file", &read_file(&self.image), &self.expected);
    }
}

/// Takes the answers to requests that were sent at `began` or later to an origin that is stalled: errors all, and none
/// before the time is over.
fn assert_given_up(client: &mut Client, requests: &[Cookie], began: Instant) {
    for _ in requests {
        let (cookie, answer) = client.wait_for_any().expect("the connection stays");
        let waited = began.elapsed();
        assert!(requests.contains(&cookie));
        let error = answer.expect_err("answered by an origin that is stalled");
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
        assert!(waited >= TIMEOUT && waited < PATIENCE, "{waited:?}");
    }
}

#[test]
fn a_stalled_origin_is_an_error_after_its_time_and_nothing_acknowledged_is_lost() {
    let mut stage = Stage::new("writeback", TIMEOUT);
    let mut random = Random::new(Random::seed_or(1));
    let mut client = Client::connect(stage.server.socket());
    assert_eq!(
        client.read(0, PIECE).expect("a read"),
        stage.expected(0, PIECE)
    );
    for round in 0..3 {
        // Dirty before it stalls.
        for _ in 0..20 {
            let bytes = random.bytes(random_length(round));
            let offset = SIZE / 2 + random.below(SIZE / 2 - bytes.len() as u64);
            stage.write(&mut client, offset, &bytes);
        }
        stage.origin.stall();
        let began = Instant::now();
        let mut requests = vec![client.submit(&Request::flush()).unwrap()];
        requests.extend((1..=20).map(|number| {
            let request = Request::read(round * 4 * MIB + number * 2 * PIECE, PIECE);
            client.submit(&request).unwrap()
        }));
        // What the cache has is served meanwhile, and what is written is taken.
        assert_eq!(
            client.read(0, PIECE).expect("a hit"),
            stage.expected(0, PIECE)
        );
        let bytes = random.bytes(PIECE);
        stage.write(&mut client, SIZE / 2 - (round + 1) * PIECE, &bytes);
        assert_given_up(&mut client, &requests, began);
        stage.origin.go_on();
        // Late answers are nobody's: these reads get their own.
        for number in (1..=20).rev() {
            let offset = round * 4 * MIB + (number * 2 - 1) * PIECE;
            let read = client.read(offset, 2 * PIECE).expect("it answers again");
            assert_same_bytes("read afterwards", &read, stage.expected(offset, 2 * PIECE));
        }
        client.flush().expect("it takes everything again");
        assert_same_bytes("flushed", &read_file(&stage.image), &stage.expected);
    }
    stage.end(client);
}

/// Small writes, and such that take several requests to write back.
fn random_length(round: u64) -> u64 {
    [4 * KIB, 300 * KIB, MIB][round as usize]
}

#[test]
fn a_stall_shorter_than_the_time_is_not_noticed() {
    // So long that a machine that is busy does not make twice as much of a stall.
    let timeout = 4 * TIMEOUT;
    let mut stage = Stage::new("writeback", timeout);
    let mut random = Random::new(Random::seed_or(1));
    let mut client = Client::connect(stage.server.socket());
    for number in 0..5 {
        let bytes = random.bytes(MIB);
        stage.write(&mut client, number * 2 * MIB, &bytes);
        stage.origin.stall();
        let flush = client.submit(&Request::flush()).unwrap();
        let miss = Request::read(SIZE - (number + 1) * MIB, MIB);
        let miss = client.submit(&miss).unwrap();
        if number == 0 {
            // Both are under way long before.
            thread::sleep(timeout / 2);
        }
        stage.origin.go_on();
        client.wait(flush).expect("a flush");
        let read = client.wait(miss).expect("a read").data;
        assert_same_bytes(
            "a miss",
            &read,
            stage.expected(SIZE - (number + 1) * MIB, MIB),
        );
    }
    stage.end(client);
}

/// The origin takes 8 MiB a second: what is sent at once must be less than it takes in the time that an answer is
/// waited for.
#[test]
fn a_slow_origin_gets_everything() {
    const RATE_BITS: u64 = 8 * 8 * MIB;
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let mut expected = random_file(&image, 64 * MIB, 7);
    let rate = format!("rate={RATE_BITS}");
    let origin = Origin::nbdkit(
        &scratch,
        &image,
        &["--filter=rate", &rate, "burstiness=0.1"],
    );
    let server = Larder::serve(&scratch)
        .origin(origin.address(""))
        .parameters(["cache-dirty-age=off", "origin-timeout=5"])
        .start();
    let mut client = Client::connect(server.socket());
    let mut random = Random::new(Random::seed_or(1));
    // One request each time, as long as one may be by then; and then all at once.
    for length in [MIB / 2, MIB, 2 * MIB, 4 * MIB, 8 * MIB, 56 * MIB] {
        let bytes = random.bytes(length);
        for (number, piece) in (0..).zip(bytes.chunks(MIB as usize)) {
            client.write(number * MIB, piece).expect("a write");
        }
        client.flush().expect("a flush");
        expected[..bytes.len()].copy_from_slice(&bytes);
    }
    client.disconnect_and_wait();
    server.stop();
    assert_same_bytes("the origin's file", &read_file(&image), &expected);
}

#[test]
fn a_stalled_origin_in_writethrough_refuses_writes_and_serves_what_it_has() {
    let mut stage = Stage::new("writethrough", TIMEOUT);
    let mut random = Random::new(Random::seed_or(1));
    let mut client = Client::connect(stage.server.socket());
    let bytes = random.bytes(PIECE);
    stage.write(&mut client, 0, &bytes);
    // Or else the next flush would tell that this may be lost.
    client.flush().expect("a flush");
    stage.origin.stall();
    let began = Instant::now();
    let refused: Vec<_> = (1..10)
        .map(|number| {
            let request = Request::write(number * 2 * PIECE, &bytes, Flags::NONE);
            client.submit(&request).unwrap()
        })
        .collect();
    assert_eq!(
        client.read(0, PIECE).expect("a hit"),
        stage.expected(0, PIECE)
    );
    assert_given_up(&mut client, &refused, began);
    stage.origin.go_on();
    // Whether a write that was refused has been done nobody knows, before it is done again.
    for number in 1..10 {
        let bytes = random.bytes(PIECE);
        stage.write(&mut client, number * 2 * PIECE, &bytes);
        client.flush().expect("it takes everything again");
        let read = client.read(number * 2 * PIECE, PIECE).expect("a read");
        assert_same_bytes("what was written last", &read, &bytes);
    }
    stage.end(client);
}
