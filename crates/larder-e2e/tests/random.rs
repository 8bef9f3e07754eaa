//! Random requests against a byte array: all modes, block sizes, limits, and numbers of
//! connections. `LARDER_SEED` replays a failure; the ignored test goes on for as long as
//! `LARDER_SOAK_SECONDS` says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use larder_e2e::{
    KIB, MIB, Nbdkit, Plan, Random, Scratch, assert_same_bytes, read_file, run_workload,
    sparse_file, write_at,
};

/// The image is no multiple of anything; 5 % of it is the limit of the cache.
const IMAGE_SIZE: u64 = 24 * MIB + 1237;
const CONNECTIONS: [u64; 3] = [1, 2, 8];

/// One server to run a plan against.
#[derive(Clone, Debug)]
struct Setting {
    mode: &'static str,
    block_size: u64,
    limited: bool,
    cache_on_read: bool,
    serialize: Option<&'static str>,
}

impl Setting {
    fn start(&self, scratch: &Scratch, image: &Path) -> larder_e2e::Server {
        let mut nbdkit = Nbdkit::larder(scratch);
        if let Some(serialize) = self.serialize {
            let parameter = format!("serialize={serialize}");
            nbdkit = nbdkit.below("noparallel").parameter(&parameter);
        }
        if self.limited {
            let limit = (IMAGE_SIZE / 20).max(MIB).max(self.block_size);
            nbdkit = nbdkit.parameter(&format!("cache-max-size={limit}"));
        }
        nbdkit
            .file(image)
            .parameter(&format!("cache={}", self.mode))
            .parameter(&format!("cache-min-block-size={}", self.block_size))
            .parameter(&format!("cache-on-read={}", self.cache_on_read))
            .verbose()
            .start()
    }
}

/// Data and holes in turn, of random lengths.
fn make_image(image: &Path, seed: u64) {
    sparse_file(image, IMAGE_SIZE);
    let mut random = Random::new(seed);
    let mut offset = 0;
    while offset < IMAGE_SIZE {
        let length = random.between(1, 500_000).min(IMAGE_SIZE - offset);
        write_at(image, offset, &random.bytes(length));
        offset += length + random.between(1, 500_000);
    }
}

fn run(setting: &Setting, connections: u64, seed: u64, rounds: u64) {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    make_image(&image, seed);
    let original = read_file(&image);
    let server = setting.start(&scratch, &image);
    let plan = Plan {
        seed,
        connections,
        in_flight_per_connection: if setting.serialize.is_some() { 1 } else { 4 },
        rounds,
        requests_per_round: 400,
        flushes_reach_the_plugin: setting.mode != "unsafe",
        writes_reach_the_plugin: setting.mode == "writethrough",
    };
    println!("{setting:?} {plan:?}");
    let model = run_workload(server.socket(), &image, &plan);
    server.stop().assert_few_pass_throughs();
    let in_file = read_file(&image);
    if setting.mode != "unsafe" {
        model.check("the plugin's file at the end", 0, &in_file);
    } else if !setting.limited {
        assert_same_bytes("the plugin's file, untouched", &in_file, &original);
    }
}

fn run_all(mode: &'static str, block_size: u64) {
    for limited in [false, true] {
        for connections in CONNECTIONS {
            let setting = Setting {
                mode,
                block_size,
                limited,
                cache_on_read: connections != 2,
                serialize: None,
            };
            run(&setting, connections, Random::seed_or(connections), 2);
        }
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
        // Where connections wait for each other, a second one would wait for the first to leave.
        let connections = if serialize == "connections" { 1 } else { 8 };
        for limited in [false, true] {
            let setting = Setting {
                mode: "writeback",
                block_size: 64 * KIB,
                limited,
                cache_on_read: true,
                serialize: Some(serialize),
            };
            run(&setting, connections, Random::seed_or(7), 1);
        }
    }
}

#[test]
#[ignore = "runs for LARDER_SOAK_SECONDS; cargo xtask soak"]
fn soak() {
    let seconds = env::var("LARDER_SOAK_SECONDS").map_or(60, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seeds = Random::new(Random::seed_or(1));
    let modes = ["writeback", "writethrough", "unsafe"];
    let models = [None, None, Some("all-requests"), Some("requests")];
    while Instant::now() < end {
        let seed = seeds.next_u64();
        let mut random = Random::new(seed);
        let setting = Setting {
            mode: modes[random.below(3) as usize],
            block_size: (4 * KIB) << random.below(9),
            limited: random.one_in(2),
            cache_on_read: random.one_in(2),
            serialize: models[random.below(4) as usize],
        };
        let connections = CONNECTIONS[random.below(3) as usize];
        run(&setting, connections, seed, 3);
    }
}
