//! Random requests against a byte array: all modes, block sizes, limits, and numbers of
//! connections. `LARDER_SEED` replays a failure; the ignored test goes on for as long as
//! `LARDER_SOAK_SECONDS` says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use larder_e2e::{Form, KIB, MIB, Nbdkit, Random, Torture, soak_for_seconds};

fn run(torture: &Torture, serialize: Option<&str>) {
    torture.run(|scratch, image| {
        let mut nbdkit = Nbdkit::larder(scratch);
        if let Some(serialize) = serialize {
            let parameter = format!("serialize={serialize}");
            nbdkit = nbdkit.below("noparallel").parameter(&parameter);
        }
        nbdkit
            .file(image)
            .parameters(torture.parameters())
            .verbose()
            .start()
    });
}

fn run_all(mode: &'static str, block_size: u64) {
    for torture in Torture::each(mode, block_size) {
        run(&torture, None);
    }
}

#[test]
fn random_requests_in_writeback_mode_with_4k_blocks() {
    run_all("writeback", 4 * KIB);
}

#[test]
fn random_requests_in_writeback_mode_with_64k_blocks() {
    run_all("writeback", 64 * KIB);
}

#[test]
fn random_requests_in_writeback_mode_with_1m_blocks() {
    run_all("writeback", MIB);
}

#[test]
fn random_requests_in_writethrough_mode_with_4k_blocks() {
    run_all("writethrough", 4 * KIB);
}

#[test]
fn random_requests_in_writethrough_mode_with_64k_blocks() {
    run_all("writethrough", 64 * KIB);
}

#[test]
fn random_requests_in_writethrough_mode_with_1m_blocks() {
    run_all("writethrough", MIB);
}

#[test]
fn random_requests_in_unsafe_mode_with_4k_blocks() {
    run_all("unsafe", 4 * KIB);
}

#[test]
fn random_requests_in_unsafe_mode_with_64k_blocks() {
    run_all("unsafe", 64 * KIB);
}

#[test]
fn random_requests_in_unsafe_mode_with_1m_blocks() {
    run_all("unsafe", MIB);
}

#[test]
fn random_requests_in_serialised_thread_models() {
    for serialize in ["connections", "all-requests", "requests"] {
        for limited in [false, true] {
            let torture = Torture {
                seed: Random::seed_or(7),
                mode: "writeback",
                block_size: 64 * KIB,
                limited,
                cache_on_read: true,
                readahead: "1M",
                dirty_age: None,
                // Where connections wait for each other, a second one would wait for the first to
                // leave.
                connections: if serialize == "connections" { 1 } else { 8 },
                forms: &[Form::Simple, Form::Structured],
                in_flight_per_connection: 1,
                rounds: 1,
            };
            run(&torture, Some(serialize));
        }
    }
}

#[test]
#[ignore = "runs for LARDER_SOAK_SECONDS; cargo xtask soak"]
fn soak() {
    soak_for_seconds(|seed, random| {
        let mut torture = Torture::random(seed, random);
        let serialize = [None, None, Some("all-requests"), Some("requests")];
        let serialize = serialize[random.below(4) as usize];
        if serialize.is_some() {
            torture.in_flight_per_connection = 1;
        }
        run(&torture, serialize);
    });
}
