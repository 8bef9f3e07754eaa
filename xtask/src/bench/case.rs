//! The rows: what is measured, of whom, and what must come out.

use super::contender::Contender::{self, Bare, Ceiling, Filter, Serve, Stock};
use super::fio::{Load, Pattern};
use super::server::{CacheFile, Disk};

/// One row of the table.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) work: Work,
    /// Measured in this order.
    pub(super) contenders: &'static [Contender],
    pub(super) bounds: &'static [Bound],
}

#[derive(Debug)]
pub(super) enum Work {
    /// Requests, counted. `warm`: all of the disk has been read before.
    Load {
        disk: Disk,
        cache_file: CacheFile,
        warm: bool,
        load: Load,
    },
    /// A disk image is fetched over HTTP, and the time taken.
    Conversion,
}

/// `of` is at least so many times as fast as `to`.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) of: Contender,
    pub(super) to: Contender,
    pub(super) at_least: f64,
}

impl Bound {
    const fn new(of: Contender, at_least: f64, to: Contender) -> Self {
        Self { of, to, at_least }
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const ALL: &[Contender] = &[Ceiling, Serve, Bare, Stock, Filter];

const fn warm(pattern: Pattern, request_bytes: u64, depth: u32, connections: u32) -> Work {
    Work::Load {
        disk: Disk::Image,
        cache_file: match pattern {
            Pattern::RandomWrites => CacheFile::InMemory,
            Pattern::RandomReads | Pattern::Reads => CacheFile::InDefaultPlace,
        },
        warm: true,
        load: Load {
            pattern,
            request_bytes,
            depth,
            connections,
            disk_bytes: Disk::Image.bytes(),
        },
    }
}

/// Few of the requests to so large a disk meet a block that an earlier one has fetched.
const fn cold(pattern: Pattern, request_bytes: u64) -> Work {
    Work::Load {
        disk: Disk::Slow,
        cache_file: CacheFile::InMemory,
        warm: false,
        load: Load {
            pattern,
            request_bytes,
            depth: 16,
            connections: 1,
            disk_bytes: Disk::Slow.bytes(),
        },
    }
}

pub(super) const CASES: &[Case] = &[
    Case {
        name: "warm 4 KiB random reads, 1 connection, depth 16",
        work: warm(Pattern::RandomReads, 4 * KIB, 16, 1),
        contenders: ALL,
        bounds: &[
            Bound::new(Serve, 0.85, Ceiling),
            Bound::new(Serve, 1.7, Stock),
            Bound::new(Filter, 0.9, Bare),
        ],
    },
    Case {
        name: "warm 4 KiB random reads, 4 connections, depth 16",
        work: warm(Pattern::RandomReads, 4 * KIB, 16, 4),
        contenders: ALL,
        bounds: &[
            Bound::new(Serve, 0.85, Ceiling),
            Bound::new(Serve, 2.4, Stock),
            Bound::new(Filter, 0.9, Bare),
        ],
    },
    Case {
        name: "warm 1 MiB reads, depth 4",
        work: warm(Pattern::Reads, MIB, 4, 1),
        contenders: ALL,
        bounds: &[Bound::new(Serve, 0.9, Ceiling)],
    },
    Case {
        name: "warm 4 KiB random writes, depth 16, writeback",
        work: warm(Pattern::RandomWrites, 4 * KIB, 16, 1),
        contenders: ALL,
        bounds: &[Bound::new(Serve, 0.7, Ceiling)],
    },
    Case {
        name: "cold 4 KiB random reads, depth 16, 5 ms NBD origin",
        work: cold(Pattern::RandomReads, 4 * KIB),
        contenders: &[Bare, Serve],
        bounds: &[Bound::new(Serve, 0.95, Bare)],
    },
    Case {
        name: "cold 64 KiB random reads, depth 16, 5 ms plugin",
        work: cold(Pattern::RandomReads, 64 * KIB),
        contenders: &[Bare, Stock, Filter],
        bounds: &[Bound::new(Filter, 0.9, Bare)],
    },
    Case {
        name: "cold 4 KiB random writes, depth 16, 5 ms plugin",
        work: cold(Pattern::RandomWrites, 4 * KIB),
        contenders: &[Bare, Stock, Filter],
        bounds: &[Bound::new(Filter, 100.0, Stock)],
    },
    Case {
        name: "qemu-img convert of a file system over HTTP, 20 ms a request",
        work: Work::Conversion,
        contenders: &[Stock, Filter, Serve],
        bounds: &[Bound::new(Serve, 3.0, Stock)],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_on_contenders_that_are_measured() {
        for case in CASES {
            for bound in case.bounds {
                for contender in [bound.of, bound.to] {
                    let name = case.name;
                    assert!(case.contenders.contains(&contender), "{name}: {contender}");
                }
            }
        }
    }
}
