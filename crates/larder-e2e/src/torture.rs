//! Random requests against a byte array, for any server and any setting of its cache.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::client::Form;
use crate::image::{assert_same_bytes, read_file, sparse_file, write_at};
use crate::random::Random;
use crate::scratch::Scratch;
use crate::server::Server;
use crate::workload::{Plan, run_workload};
use crate::{KIB, MIB};

/// The image is no multiple of anything; 5 % of it is the limit of a limited cache.
const IMAGE_SIZE: u64 = 24 * MIB + 1237;
const CONNECTIONS: [u64; 3] = [1, 2, 8];
/// nbdkit knows no extended headers.
const NBDKIT_FORMS: &[Form] = &[Form::Simple, Form::Structured];
const MODES: [&str; 3] = ["writeback", "writethrough", "unsafe"];

/// One server to torture, and how long.
#[derive(Clone, Debug)]
pub struct Torture {
    /// Replays the image and the requests.
    pub seed: u64,
    /// `writeback`, `writethrough` or `unsafe`.
    pub mode: &'static str,
    /// The cache's block size, in bytes.
    pub block_size: u64,
    /// Whether the cache holds only a part of the image.
    pub limited: bool,
    /// Whether what is read is kept.
    pub cache_on_read: bool,
    /// How much is fetched ahead.
    pub readahead: &'static str,
    /// After how many seconds dirty data is written back, if not the default.
    pub dirty_age: Option<&'static str>,
    /// How many connections.
    pub connections: u64,
    /// The forms of replies that the server knows.
    pub forms: &'static [Form],
    /// How many requests a connection keeps in flight.
    pub in_flight_per_connection: usize,
    /// How often to start over.
    pub rounds: u64,
}

impl Torture {
    /// A limited cache and one without a limit, by each number of connections.
    pub fn each(mode: &'static str, block_size: u64) -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(move |limited| {
            CONNECTIONS.into_iter().map(move |connections| Self {
                seed: Random::seed_or(connections),
                mode,
                block_size,
                limited,
                cache_on_read: connections != 2,
                readahead: if connections == 1 { "1M" } else { "8M" },
                dirty_age: None,
                connections,
                forms: NBDKIT_FORMS,
                in_flight_per_connection: 4,
                rounds: 2,
            })
        })
    }

    /// Everything by chance.
    #[must_use]
    pub fn random(seed: u64, random: &mut Random) -> Self {
        let block_size = (4 * KIB) << random.below(9);
        Self {
            seed,
            mode: MODES[random.below(3) as usize],
            block_size,
            readahead: ["off", "1M", "8M", "64M"][random.below(4) as usize],
            limited: random.one_in(2),
            cache_on_read: random.one_in(2),
            dirty_age: Some(["off", "1"][random.below(2) as usize]),
            connections: CONNECTIONS[random.below(3) as usize],
            forms: NBDKIT_FORMS,
            in_flight_per_connection: 4,
            rounds: 3,
        }
    }

    /// The same for `larder serve`, whose clients may have every form.
    #[must_use]
    pub fn served(self) -> Self {
        Self {
            forms: &Form::ALL,
            ..self
        }
    }

    /// What the server is to be given, as `name=value`.
    #[must_use]
    pub fn parameters(&self) -> Vec<String> {
        let mut parameters = vec![
            format!("cache={}", self.mode),
            format!("cache-min-block-size={}", self.block_size),
            format!("cache-on-read={}", self.cache_on_read),
            format!("cache-readahead={}", self.readahead),
        ];
        if let Some(age) = self.dirty_age {
            parameters.push(format!("cache-dirty-age={age}"));
        }
        if self.limited {
            let limit = (IMAGE_SIZE / 20).max(MIB).max(self.block_size);
            parameters.push(format!("cache-max-size={limit}"));
        }
        parameters
    }

    /// Tortures the server that `start` starts over the image it is given. The server must be
    /// verbose, for its figures.
    pub fn run(&self, start: impl FnOnce(&Scratch, &Path) -> Server) {
        let scratch = Scratch::new();
        let image = scratch.path("image");
        make_image(&image, self.seed);
        let original = read_file(&image);
        println!("{self:?}");
        let server = start(&scratch, &image);
        let plan = Plan {
            seed: self.seed,
            connections: self.connections,
            forms: self.forms,
            in_flight_per_connection: self.in_flight_per_connection,
            rounds: self.rounds,
            requests_per_round: 400,
            flushes_reach_the_plugin: self.mode != "unsafe",
            writes_reach_the_plugin: self.mode == "writethrough",
        };
        let model = run_workload(server.socket(), &image, &plan);
        server.stop().assert_few_pass_throughs();
        let in_file = read_file(&image);
        if self.mode != "unsafe" {
            model.check("the file at the end", 0, &in_file);
        } else if !self.limited {
            assert_same_bytes("the file, untouched", &in_file, &original);
        }
    }
}

/// Calls `one` again and again for `LARDER_SOAK_SECONDS`, or a minute, each time with a seed and what follows
/// from it. The first seed is `LARDER_SEED`, so that the seed of a case that failed replays it at once.
pub fn soak_for_seconds(mut one: impl FnMut(u64, &mut Random)) {
    let seconds = env::var("LARDER_SOAK_SECONDS").map_or(60, |text| {
        text.parse()
            .unwrap_or_else(|e| panic!("LARDER_SOAK_SECONDS={text}: {e}"))
    });
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = Random::seed_or(1);
    let mut seeds = Random::new(seed);
    while Instant::now() < end {
        one(seed, &mut Random::new(seed));
        seed = seeds.next_u64();
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
