//! The simulation of the cache misses what the cache misses.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{BlocksUsed, CacheOnRead, Config, Connection, PolicySimulation};
use larder_testing::pace::SharedPace;
use larder_testing::random::Random;
use larder_testing::rig::Client;
use larder_testing::{OriginDouble, OriginSettings, Rig};

const VOLUME_BYTES: u64 = 24 << 20;
const VOLUMES: u64 = 2;

/// A cache and its simulation, given the same requests.
struct Both {
    rig: Rig,
    clients: Vec<Client>,
    simulation: PolicySimulation,
    block_bytes: u64,
}

impl Both {
    fn new(config: &Config) -> Self {
        let rig = Rig::new(config.clone(), OriginSettings::new(VOLUME_BYTES));
        let clients = (0..VOLUMES).map(|number| client(&rig, number)).collect();
        Self {
            rig,
            clients,
            simulation: PolicySimulation::new(config).unwrap(),
            block_bytes: config.block_bytes,
        }
    }

    fn request<T>(&self, volume: u64, request: impl FnOnce(&Connection) -> T) -> T {
        self.clients[volume as usize].serve(request)
    }

    fn read(&mut self, volume: u64, first: u64, blocks: u64) {
        let (offset, length) = (first * self.block_bytes, blocks * self.block_bytes);
        let before = self.rig.cache.stats();
        let mut bytes = vec![0; length as usize];
        self.request(volume, |connection| connection.read(offset, &mut bytes))
            .unwrap();
        let after = self.rig.cache.stats();
        let real = BlocksUsed {
            hits: after.hits - before.hits,
            misses: after.misses - before.misses,
        };
        let simulated = self.simulation.read(number_of(volume), offset, length);
        assert_eq!(simulated, real, "{blocks} blocks from {first} of {volume}");
    }

    /// Whole blocks, and flushed: a simulated block is whole and clean.
    fn write(&mut self, volume: u64, first: u64, blocks: u64) {
        let (offset, length) = (first * self.block_bytes, blocks * self.block_bytes);
        let bytes = vec![7; length as usize];
        self.request(volume, |connection| {
            connection.write(offset, &bytes, false)?;
            connection.flush()
        })
        .unwrap();
        self.simulation.write(number_of(volume), offset, length);
    }

    fn trim(&mut self, volume: u64, first: u64, blocks: u64) {
        let (offset, length) = (first * self.block_bytes, blocks * self.block_bytes);
        self.request(volume, |connection| connection.trim(offset, length, false))
            .unwrap();
        self.simulation.trim(number_of(volume), offset, length);
    }
}

/// The rig has a volume of its own, which comes first and is not used.
fn number_of(volume: u64) -> u32 {
    volume as u32 + 1
}

fn client(rig: &Rig, number: u64) -> Client {
    let settings = OriginSettings::new(VOLUME_BYTES);
    let origin = OriginDouble::new(settings, rig.violations.clone(), SharedPace::default());
    let origin = origin.connect();
    let volume = rig.cache.volume(&format!("volume {number}"));
    let connection = volume.connect(Arc::clone(&origin) as _).unwrap();
    Client { connection, origin }
}

/// Loops, favourites, scans, large reads, writes and trims, by seed.
fn run(config: &Config, seed: u64, requests: u64) -> Both {
    let mut both = Both::new(config);
    let mut random = Random::new(seed);
    let blocks = VOLUME_BYTES / config.block_bytes;
    let mut scan = 0;
    for at in 0..requests {
        let volume = random.below(VOLUMES);
        let mut length = 1 + random.below(4);
        let first = match random.below(100) {
            0..40 => random.below(blocks / 20),
            40..60 => at % (blocks / 3),
            60..90 => {
                scan = (scan + 1) % (blocks - 8);
                scan
            }
            _ => random.below(blocks),
        };
        if at % 1500 == 700 {
            length = blocks / 2;
        }
        let first = first.min(blocks - length);
        match random.below(100) {
            0..70 => both.read(volume, first, length),
            70..97 => both.write(volume, first, length.min(8)),
            _ => both.trim(volume, first, length),
        }
    }
    both
}

fn config(block_bytes: u64, max_size_bytes: u64) -> Config {
    Config {
        block_bytes,
        max_size_bytes: Some(max_size_bytes),
        cache_on_read: CacheOnRead::Always,
        ..Config::default()
    }
}

/// The policy learns and changes its mind within so many requests.
#[test]
fn the_simulation_misses_what_the_cache_misses() {
    let both = run(&config(4 << 10, 4 << 20), 1, 12_000);
    let stats = both.rig.cache.stats();
    assert!(stats.misses > 5_000, "{stats:?}");
    assert!(stats.hits > 5_000, "{stats:?}");
    assert!(stats.reclaimed > 5_000, "{stats:?}");
    assert_eq!(stats.no_room_reads + stats.no_room_writes, 0, "{stats:?}");
}

#[test]
fn the_simulation_follows_small_caches_and_thresholds() {
    for (seed, low, high) in [(2, 80, 95), (3, 20, 50), (4, 99, 100)] {
        let config = Config {
            low_threshold_percent: low,
            high_threshold_percent: high,
            ..config(64 << 10, 2 << 20)
        };
        let both = run(&config, seed, 1_500);
        assert!(both.rig.cache.stats().reclaimed > 500);
    }
}
