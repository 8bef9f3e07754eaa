//! One run of the model test: everything in it follows from its seed.

use std::time::Duration;

use larder::{CacheOnRead, Capabilities, Config, Fua, Mode, RequestLimits};

use crate::origin::{OriginSettings, TrimLeaves};
use crate::pace::Kind;
use crate::random::Random;

/// How many combinations of mode, block size and limit there are. A case's seed modulo this says
/// which one it has.
pub const COMBINATIONS: u64 = 18;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a flush.
    Flush,
    /// All clients leave.
    Disconnect,
    /// The origin crashes after the last request.
    Crash,
    /// The origin crashes while requests run.
    CrashAmidst,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Case {
    /// What all else follows from.
    pub seed: u64,
    /// What the engine is told.
    pub config: Config,
    /// What the origin is like.
    pub origin: OriginSettings,
    /// Clients at once.
    pub workers: u64,
    /// They share one connection.
    pub shared_connection: bool,
    /// Requests of each.
    pub requests: u64,
    /// Calls are held and let go in seeded order.
    pub gated: bool,
    /// Those to the cache file too.
    pub gated_file: bool,
    /// How often an origin call fails, in percent.
    pub origin_faults: u64,
    /// Which of them may. Few kinds at a time: where everything fails, nothing is tested.
    pub faulty_kinds: Vec<Kind>,
    /// How often the origin's connection is lost with unflushed writes, in percent of the requests.
    pub losses: u64,
    /// Requests are first tried at once.
    pub at_once: bool,
    /// The cache file fails from time to time.
    pub file_faults: bool,
    /// The cache file's disk has so many bytes.
    pub file_capacity_bytes: Option<u64>,
    /// How far the engine's time goes on with each look at it: by nothing, and no request seems to take any time, or such
    /// that passes and requests become as long as they are worth.
    pub clock_step: Duration,
    /// How it ends.
    pub ending: Ending,
}

impl Case {
    /// The run that the seed names.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = config(seed % COMBINATIONS, &mut random);
        let workers = random.pick(&[1, 1, 2, 2, 8]);
        let file_capacity_bytes = random
            .chance(20)
            .then(|| random.between(0, 24) * config.block_bytes.max(65536));
        let settings = origin(&config, &mut random);
        let origin_faults = random.pick(&[0, 0, 0, 4, 15]);
        let mut more = random.fork(1);
        let mut lately = random.fork(2);
        let mut last = random.fork(3);
        let mut time = random.fork(4);
        // An unsafe cache does not mind.
        let losses = match config.mode {
            Mode::Unsafe => 0,
            _ => lately.pick(&[0, 0, 2, 6]),
        };
        Self {
            losses,
            at_once: lately.chance(50),
            shared_connection: settings.capabilities.parallel && more.chance(20),
            seed,
            origin: settings,
            workers,
            requests: match workers {
                1 => 120,
                2 => 70,
                _ => 25,
            },
            gated: random.chance(85),
            gated_file: random.chance(40),
            origin_faults,
            faulty_kinds: faulty_kinds(&mut more),
            file_faults: random.chance(10),
            file_capacity_bytes,
            clock_step: time.pick(&[Duration::ZERO, Duration::from_millis(1)]),
            ending: random.pick(&[
                Ending::Flush,
                Ending::Disconnect,
                Ending::Crash,
                Ending::CrashAmidst,
            ]),
            config: Config {
                dirty_age: more.chance(30).then(|| Duration::from_secs(10)),
                readahead_bytes: last.pick(&[0, 0, 64 << 10, 1 << 20, 8 << 20]),
                readahead_in_background: last.chance(50),
                ..config
            },
        }
    }

    /// Whether requests may fail.
    pub fn faulty(&self) -> bool {
        self.origin_faults > 0 || self.file_faults
    }

    /// Whether a flush that succeeds means what it says. Written through, data is not in the
    /// cache's care: what the origin lost with a failed flush, which it told its client of,
    /// no later flush brings back.
    pub fn flush_can_be_trusted(&self) -> bool {
        match self.config.mode {
            Mode::Writeback => true,
            Mode::Writethrough => self.origin_faults == 0 && self.losses == 0,
            Mode::Unsafe => false,
        }
    }

    /// The same for FUA, which may be a flush.
    pub fn fua_can_be_trusted(&self) -> bool {
        let native = self.origin.capabilities.fua == Fua::Native;
        self.flush_can_be_trusted() || (self.config.mode == Mode::Writethrough && native)
    }

    /// Whether clients are told of lost connections, rather than the cache making up for them.
    pub fn losses_are_told(&self) -> bool {
        self.config.mode == Mode::Writethrough && self.losses > 0
    }

    /// Whether a flush on one connection covers every other.
    pub fn flush_covers_all(&self) -> bool {
        self.config.mode == Mode::Writeback || self.origin.capabilities.multi_conn
    }
}

fn faulty_kinds(random: &mut Random) -> Vec<Kind> {
    match random.below(6) {
        0 => vec![Kind::Read],
        1 => vec![Kind::Write],
        2 => vec![Kind::Flush],
        3 => vec![Kind::Zero, Kind::Trim, Kind::Extents],
        4 => vec![Kind::Write, Kind::Zero, Kind::Flush],
        _ => vec![
            Kind::Read,
            Kind::Write,
            Kind::Flush,
            Kind::Zero,
            Kind::Trim,
            Kind::Extents,
        ],
    }
}

fn config(combination: u64, random: &mut Random) -> Config {
    let mode = [Mode::Writeback, Mode::Writethrough, Mode::Unsafe][(combination % 3) as usize];
    let block_bytes = [4 << 10, 64 << 10, 1 << 20][(combination / 3 % 3) as usize];
    let limited = combination / 9 == 0;
    Config {
        mode,
        block_bytes,
        max_size_bytes: limited.then(|| image_bytes(block_bytes) / 20),
        cache_on_read: match random.below(3) {
            0 => CacheOnRead::Never,
            _ => CacheOnRead::Always,
        },
        background: random.chance(50),
        ..Config::default()
    }
}

/// An image 5 % of which is a limit that the engine accepts and that holds a few blocks.
fn image_bytes(block_bytes: u64) -> u64 {
    block_bytes.max(340 << 10) * 62 + 12_345
}

fn origin(config: &Config, random: &mut Random) -> OriginSettings {
    let minimum = random.pick(&[1, 1, 512, 4096]);
    let maximum = random.pick(&[32 << 20, 32 << 20, 256 << 10, 64 << 10, 8 << 10]);
    let capabilities = Capabilities {
        write: true,
        flush: random.chance(85),
        tells_losses: false,
        fua: random.pick(&[Fua::None, Fua::Emulated, Fua::Native]),
        trim: random.chance(75),
        zero: random.chance(75),
        fast_zero: random.chance(50),
        extents: random.chance(75),
        multi_conn: random.chance(50),
        parallel: random.chance(75),
    };
    OriginSettings {
        capabilities: Capabilities {
            fast_zero: capabilities.fast_zero && capabilities.zero,
            ..capabilities
        },
        limits: RequestLimits {
            minimum,
            preferred: minimum.max(4096),
            maximum,
        },
        trim: TrimLeaves::Either,
        short_extents: random.chance(50),
        seed: random.next_u64(),
        ..OriginSettings::new(image_bytes(config.block_bytes))
    }
}
