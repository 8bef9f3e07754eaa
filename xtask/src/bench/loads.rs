//! The loads and commands that the rows are made of.

use super::fio::{Load, Pattern};
use super::measurement::Unit;
use super::row::{Cache, Disk, Figure, Warm, Work};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const fn load(pattern: Pattern, request_bytes: u64, depth: u32, connections: u32) -> Load {
    Load {
        pattern,
        request_bytes,
        depth,
        connections,
        zipf: None,
        requests_max: None,
        in_turns: false,
        flush_each: false,
    }
}

pub(super) const fn warm(load: Load) -> Work {
    Work::Load {
        disk: Disk::Image,
        warm: Warm::Everything,
        load,
        cache: Cache::Unlimited,
    }
}

/// On an origin of 5 ms.
pub(super) const fn cold(load: Load, cache: Cache) -> Work {
    Work::Load {
        disk: Disk::Delayed { milliseconds: 5 },
        warm: Warm::Nothing,
        load,
        cache,
    }
}

pub(super) const WARM_READS: Load = load(Pattern::RandomReads, 4 * KIB, 16, 1);
pub(super) const WARM_READS_OF_4: Load = load(Pattern::RandomReads, 4 * KIB, 16, 4);
const fn in_turns(load: Load) -> Load {
    Load {
        in_turns: true,
        ..load
    }
}

/// For rows in which how nbdkit's threads wake each other on a connection decides more than what is compared.
pub(super) const READS_IN_TURNS: Load = in_turns(WARM_READS);
pub(super) const READS_OF_4_IN_TURNS: Load = in_turns(WARM_READS_OF_4);
pub(super) const LARGE_READS: Load = load(Pattern::Reads, MIB, 4, 1);
pub(super) const WRITES: Load = load(Pattern::RandomWrites, 4 * KIB, 16, 1);
pub(super) const COLD_WRITES: Load = Load {
    requests_max: Some(65_536),
    ..WRITES
};
pub(super) const COMMITS: Load = Load {
    flush_each: true,
    ..load(Pattern::RandomWrites, 4 * KIB, 1, 1)
};
pub(super) const SEQUENTIAL_READS: Load = load(Pattern::Reads, 64 * KIB, 1, 1);
pub(super) const ZIPF_READS: Load = Load {
    zipf: Some(1.2),
    ..WARM_READS
};
pub(super) const ZIPF: Work = Work::Load {
    disk: Disk::Image,
    warm: Warm::Same,
    load: ZIPF_READS,
    cache: Cache::Sixteenth,
};

pub(super) const VIRT_V2V: &[&str] = &["cacheextents", "retry"];

pub(super) const POLICIES: Figure = Figure {
    arguments: &[
        "-p",
        "larder-replay",
        "--example",
        "compare_policies",
        "--",
        "--json",
    ],
    takes_traces: true,
    pointer: "/bounds/mean_excess",
    unit: Unit::MissRatio,
};
pub(super) const MEMORY: Figure = Figure {
    arguments: &[
        "-p",
        "larder",
        "--example",
        "growth",
        "--",
        "memory",
        "--json",
    ],
    takes_traces: false,
    pointer: "/bytes_per_block",
    unit: Unit::BytesPerBlock,
};
pub(super) const HITS: Figure = Figure {
    arguments: &[
        "-p",
        "larder",
        "--example",
        "growth",
        "--",
        "hits",
        "--json",
    ],
    takes_traces: false,
    pointer: "/more_percent",
    unit: Unit::Percent,
};
pub(super) const OPENING: Figure = Figure {
    arguments: &["-p", "larder", "--example", "opening", "--", "--json"],
    takes_traces: false,
    pointer: "/open_s",
    unit: Unit::Seconds,
};
