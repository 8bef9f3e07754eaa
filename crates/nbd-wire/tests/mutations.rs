//! What a fuzzer would send, from a seed, on a stable compiler: valid messages, spoilt.
//!
//! `LARDER_SEED` replays another seed. The same properties are the fuzz targets in `fuzz/`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use support::mutation::Mutator;
use support::{properties, seeds};

const INPUTS: u32 = 150_000;

fn run(property: fn(&[u8]), seeds: &[Vec<u8>]) {
    let seed = std::env::var("LARDER_SEED").map_or(1, |text| text.parse().expect("LARDER_SEED"));
    let mut mutator = Mutator::new(seed);
    for message in seeds {
        property(message);
        for end in 0..message.len() {
            property(&message[..end]);
        }
    }
    for number in 0..INPUTS {
        let input = mutator.mutated(seeds);
        let checked = catch_unwind(AssertUnwindSafe(|| property(&input)));
        if let Err(panic) = checked {
            eprintln!("input {number} of seed {seed}: {input:02x?}");
            resume_unwind(panic);
        }
    }
}

#[test]
fn handshakes_hold() {
    run(properties::handshake, &seeds::handshake());
}

#[test]
fn requests_hold() {
    run(properties::requests, &seeds::requests());
}

#[test]
fn replies_hold() {
    run(properties::replies, &seeds::replies());
}
