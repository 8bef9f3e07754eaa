//! Random requests against a byte array over `larder serve`: all modes, block sizes, limits, and
//! numbers of connections. `LARDER_SEED` replays a failure. What everything by chance is tried for, over other origins
//! too, is a minute, or as long as `LARDER_SOAK_SECONDS` says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use larder_e2e::{KIB, Larder, MIB, Nbdkit, Torture, soak_for_seconds};

fn run_all(mode: &'static str, block_size: u64) {
    for torture in Torture::each(mode, block_size).map(Torture::served) {
        torture.run(|scratch, image| {
            Larder::serve(scratch)
                .file(image)
                .parameters(torture.parameters())
                .verbose()
                .start()
        });
    }
}

#[test]
fn served_random_requests_in_writeback_mode_with_4k_blocks() {
    run_all("writeback", 4 * KIB);
}

#[test]
fn served_random_requests_in_writeback_mode_with_64k_blocks() {
    run_all("writeback", 64 * KIB);
}

#[test]
fn served_random_requests_in_writeback_mode_with_1m_blocks() {
    run_all("writeback", MIB);
}

#[test]
fn served_random_requests_in_writethrough_mode_with_4k_blocks() {
    run_all("writethrough", 4 * KIB);
}

#[test]
fn served_random_requests_in_writethrough_mode_with_64k_blocks() {
    run_all("writethrough", 64 * KIB);
}

#[test]
fn served_random_requests_in_writethrough_mode_with_1m_blocks() {
    run_all("writethrough", MIB);
}

#[test]
fn served_random_requests_in_unsafe_mode_with_4k_blocks() {
    run_all("unsafe", 4 * KIB);
}

#[test]
fn served_random_requests_in_unsafe_mode_with_64k_blocks() {
    run_all("unsafe", 64 * KIB);
}

#[test]
fn served_random_requests_in_unsafe_mode_with_1m_blocks() {
    run_all("unsafe", MIB);
}

/// Everything by chance, over files and over NBD origins, for `LARDER_SOAK_SECONDS`.
fn run_random_cases() {
    soak_for_seconds(|seed, random| {
        let torture = Torture::random(seed, random).served();
        let over_nbd = random.one_in(2);
        println!("over NBD: {over_nbd}");
        let mut origin = None;
        torture.run(|scratch, image| {
            let larder = Larder::serve(scratch)
                .parameters(torture.parameters())
                .verbose();
            if over_nbd {
                let nbdkit = origin.insert(Nbdkit::bare(scratch).file(image).start());
                larder.origin(nbdkit.uri()).start()
            } else {
                larder.file(image).start()
            }
        });
    });
}

#[test]
fn served_random_requests_for_a_minute() {
    run_random_cases();
}

#[test]
#[ignore = "runs for LARDER_SOAK_SECONDS; cargo xtask soak"]
fn soak() {
    run_random_cases();
}
