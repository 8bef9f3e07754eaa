//! The rows, in the order in which they are measured.

use super::contender::Contender::{
    self, Bare, Ceiling, Engine, File, Filter, FilterDurable, FilterKept, Idle, NbdServer, QemuNbd,
    QemuStorageDaemon, Serve, ServeDurable, ServeKept, Stock,
};
use super::directory::Place;
use super::loads::{
    COLD_WRITES, HITS, LARGE_READS, MEMORY, OPENING, POLICIES, READS_IN_TURNS, READS_OF_4_IN_TURNS,
    SEQUENTIAL_READS, VIRT_V2V, WARM_READS, WARM_READS_OF_4, WRITES, ZIPF, cold, warm,
};
use super::row::{Bound, Cache, Row, Work};

/// Everybody who serves a disk that is there already.
pub(super) const ALL: &[Contender] = &[
    Ceiling,
    Serve,
    Bare,
    Stock,
    Filter,
    QemuNbd,
    QemuStorageDaemon,
    NbdServer,
];
/// The same, and what any filter costs.
const ALL_AND_IDLE: &[Contender] = &[
    Ceiling,
    Serve,
    Bare,
    Idle,
    Filter,
    Stock,
    QemuNbd,
    QemuStorageDaemon,
    NbdServer,
];
const CACHES_AND_BARE: &[Contender] = &[Bare, Stock, Filter, Serve];
const CACHES: &[Contender] = &[Stock, Filter, Serve];

/// Those of single rows.
pub(super) const FEW: &[Contender] = &[
    ServeKept,
    FilterKept,
    ServeDurable,
    FilterDurable,
    File,
    Engine,
];

/// The rows with bounds: nothing of them is on a disk, unless their names say so.
const WITH_BOUNDS: &[Row] = &[
    Row {
        number: "1",
        name: "warm randread 4k, depth 16",
        what: "All of the image has been read before; one connection.",
        place: Place::Memory,
        work: warm(READS_IN_TURNS),
        contenders: ALL_AND_IDLE,
        bounds: &[
            Bound::times(Filter, 0.95, Bare),
            Bound::times(Serve, 0.9, Ceiling),
            Bound::times(Serve, 1.7, Stock),
        ],
    },
    Row {
        number: "2",
        name: "warm randread 4k, depth 16, 4 connections",
        what: "The same on four connections, each with 16 requests under way.",
        place: Place::Memory,
        work: warm(READS_OF_4_IN_TURNS),
        contenders: ALL_AND_IDLE,
        bounds: &[
            Bound::times(Filter, 0.95, Bare),
            Bound::times(Serve, 0.9, Ceiling),
            Bound::times(Serve, 2.4, Stock),
        ],
    },
    Row {
        number: "3",
        name: "warm read 1m, depth 4",
        what: "The image in order, over and over.",
        place: Place::Memory,
        work: warm(LARGE_READS),
        contenders: ALL,
        bounds: &[
            Bound::times(Filter, 1.0, Stock),
            Bound::times(Serve, 0.95, Ceiling),
        ],
    },
    Row {
        number: "4",
        name: "warm randwrite 4k, depth 16",
        what: "Writeback, no flush; all of the image has been read before.",
        place: Place::Memory,
        work: warm(WRITES),
        contenders: ALL,
        bounds: &[
            Bound::times(Filter, 0.8, Bare),
            Bound::times(Serve, 0.8, Ceiling),
        ],
    },
    Row {
        number: "5",
        name: "cold randread 4k, depth 16, 5 ms origin",
        what: "64 GiB of zeros behind nbdkit's delay filter: nearly every request is a miss. Bare is the origin asked \
               directly.",
        place: Place::Memory,
        work: cold(WARM_READS, Cache::Unlimited),
        contenders: CACHES_AND_BARE,
        bounds: &[
            Bound::times(Filter, 0.95, Bare),
            Bound::times(Serve, 0.95, Bare),
        ],
    },
    Row {
        number: "6",
        name: "cold randwrite 4k, depth 16, 5 ms origin",
        what: "Up to 65,536 writes over 64 GiB: nearly every one meets a block that is not cached.",
        place: Place::Memory,
        work: cold(COLD_WRITES, Cache::Unlimited),
        contenders: CACHES_AND_BARE,
        bounds: &[
            Bound::of_its_row(Filter, 0.6, "4"),
            Bound::times(Filter, 150.0, Stock),
            Bound::of_its_row(Serve, 0.6, "4"),
        ],
    },
    Row {
        number: "7",
        name: "flush of 64 MiB dirty, 5 ms origin",
        what: "64 MiB are written in order, 1 MiB a request, and then the flush alone is timed.",
        place: Place::Memory,
        work: Work::Flush,
        contenders: CACHES,
        bounds: &[
            Bound::times(Filter, 50.0, Stock),
            Bound::times(Serve, 80.0, Stock),
        ],
    },
    Row {
        number: "8",
        name: "randread 4k zipf 1.2 over 16 times the cache",
        what: "Depth 16, a fast origin (the image in memory), after as long a time of the same load.",
        place: Place::Memory,
        work: ZIPF,
        contenders: CACHES_AND_BARE,
        bounds: &[
            Bound::times(Filter, 1.5, Stock),
            Bound::times(Serve, 2.5, Stock),
        ],
    },
    Row {
        number: "9",
        name: "randwrite 4k over 16 times the cache",
        what: "Depth 16, a fast origin. Every 4 KiB of the disk are written once, each filled with its own offset; then \
               a flush, the server's end, and a look at every block of the origin.",
        place: Place::Memory,
        work: Work::Overwrite,
        contenders: CACHES_AND_BARE,
        bounds: &[
            Bound::times(Filter, 4.0, Stock),
            Bound::keeps(Filter),
            Bound::times(Serve, 5.0, Stock),
            Bound::keeps(Serve),
        ],
    },
    Row {
        number: "10",
        name: "p99 of hits beside misses, 50 ms origin",
        what: "Hits of 4 KiB at depth 1 on one connection, misses of 4 KiB at depth 4 on another at the same time.",
        place: Place::Memory,
        work: Work::HitsBesideMisses,
        contenders: CACHES,
        bounds: &[
            Bound::times(Filter, 200.0, Stock),
            Bound::times(Serve, 200.0, Stock),
        ],
    },
    Row {
        number: "11",
        name: "sequential cold read 64k, depth 1, 5 ms origin",
        what: "Larder's filter with `cache-readahead`, the server as it comes.",
        place: Place::Memory,
        work: cold(SEQUENTIAL_READS, Cache::Readahead),
        contenders: CACHES_AND_BARE,
        bounds: &[
            Bound::times(Filter, 6.0, Stock),
            Bound::times(Serve, 8.0, Stock),
        ],
    },
    Row {
        number: "12",
        name: "zeroing 1 GiB",
        what: "Zero requests of 32 MiB, one after another, on a file of 1 GiB that is not cached.",
        place: Place::Memory,
        work: Work::Zero,
        contenders: CACHES_AND_BARE,
        bounds: &[
            Bound::times(Filter, 50.0, Stock),
            Bound::times(Serve, 50.0, Stock),
        ],
    },
    Row {
        number: "13",
        name: "memory per fully valid clean 64 KiB block",
        what: "The worst of all numbers of blocks from 100,000 on: whatever the engine has allocated, divided by them.",
        place: Place::Memory,
        work: Work::Command(&MEMORY),
        contenders: &[Engine],
        bounds: &[Bound::AtMost {
            of: Engine,
            most: 32.0,
        }],
    },
    Row {
        number: "14",
        name: "cost as work grows: 4k hits with 1 GiB and 16 GiB cached",
        what: "The rate of random reads at depth 16 over all that is cached, with much as a share of that with little. \
               The ceiling, which has no index, shows what larger memory alone costs.",
        place: Place::Memory,
        work: Work::Growth,
        contenders: &[Ceiling, Filter, Serve],
        bounds: &[
            Bound::AtLeast {
                of: Filter,
                least: 0.85,
            },
            Bound::AtLeast {
                of: Serve,
                least: 0.85,
            },
        ],
    },
    Row {
        number: "14 index",
        name: "cost as work grows: 4k hits with a synthetic index of 1 TiB",
        what: "What a hit costs the engine with 1 TiB of blocks over 1 GiB of slots, beyond what it costs with 1 GiB of \
               blocks.",
        place: Place::Memory,
        work: Work::Command(&HITS),
        contenders: &[Engine],
        bounds: &[Bound::AtMost {
            of: Engine,
            most: 15.0,
        }],
    },
    Row {
        number: "15",
        name: "misses on two traces",
        what: "Mean excess over the optimum's miss ratio, of six cache sizes and two block sizes on each trace; beside \
               it, how much more Larder misses where it compares worst with LRU and with the C filter.",
        place: Place::Memory,
        work: Work::Command(&POLICIES),
        contenders: &[Engine],
        bounds: &[
            Bound::DetailAtMost {
                of: Engine,
                detail: "most above lru",
                most: 0.005,
            },
            Bound::DetailBelow {
                of: Engine,
                detail: "most above c filter",
                limit: 0.0,
            },
            Bound::BelowDetail {
                of: Engine,
                detail: "best other mean excess",
            },
        ],
    },
    Row {
        number: "16",
        name: "virt-v2v's chain: qemu-img convert over HTTP, 20 ms a request",
        what: "nginx, a file system with 400 MiB of files, nbdkit's curl plugin beneath `cacheextents` and `retry`; \
               `cache-max-size=1G`. From the start of the server to the end of the copy, which is compared.",
        place: Place::Memory,
        work: Work::Conversion { filters: VIRT_V2V },
        contenders: CACHES,
        bounds: &[
            Bound::times(Filter, 1.5, Stock),
            Bound::times(Serve, 3.0, Stock),
        ],
    },
    Row {
        number: "16 plain",
        name: "qemu-img convert over HTTP, 20 ms a request, plain curl plugin",
        what: "The same with nothing between the cache and the curl plugin.",
        place: Place::Memory,
        work: Work::Conversion { filters: &[] },
        contenders: CACHES,
        bounds: &[Bound::times(Serve, 3.0, Stock)],
    },
    Row {
        number: "17",
        name: "cache-dir: warm randread 4k, depth 16",
        what: "As row 1, with a cache directory and without one. What was read before is listed in the directory meanwhile.",
        place: Place::Memory,
        work: warm(READS_IN_TURNS),
        contenders: &[Filter, FilterKept, Serve, ServeKept],
        bounds: &[
            Bound::times(FilterKept, 0.9, Filter),
            Bound::times(ServeKept, 0.9, Serve),
        ],
    },
    Row {
        number: "17 opening",
        name: "cache-dir: opening one with 100 GiB of 64 KiB blocks",
        what: "After a clean end, its index in the system's memory and its file of slots empty. Beside it: joining the volume, ending \
               again, and opening after a kill.",
        place: Place::Memory,
        work: Work::Command(&OPENING),
        contenders: &[Engine],
        bounds: &[Bound::AtMost {
            of: Engine,
            most: 1.0,
        }],
    },
    Row {
        number: "18",
        name: "cache-flush: randwrite 4k, a flush after each, 5 ms origin, on disk",
        what: "One write at a time. As much of the disk as the file has has been read before. With `cache-flush=cache` against the same \
               directory without it, and against fio with `fsync=1` on a file of the same file system. Beside them bare nbdkit with \
               that file: what a server reaches that has nothing to keep.",
        place: Place::Disk,
        work: Work::Commits,
        contenders: &[
            File,
            Bare,
            FilterKept,
            FilterDurable,
            ServeKept,
            ServeDurable,
        ],
        bounds: &[
            Bound::times(FilterDurable, 10.0, FilterKept),
            Bound::times(FilterDurable, 0.5, File),
            Bound::times(ServeDurable, 10.0, ServeKept),
            Bound::times(ServeDurable, 0.5, File),
        ],
    },
];

/// Shown beside them: what a disk under caches and images makes of it.
const fn on_disk(
    number: &'static str,
    name: &'static str,
    work: Work,
    contenders: &'static [Contender],
) -> Row {
    Row {
        number,
        name,
        what: "",
        place: Place::Disk,
        work,
        contenders,
        bounds: &[],
    }
}

const WITHOUT_CEILING: &[Contender] = ALL.split_at(1).1;

const ON_DISK: &[Row] = &[
    on_disk(
        "1 on disk",
        "warm randread 4k, depth 16, on disk",
        warm(WARM_READS),
        WITHOUT_CEILING,
    ),
    on_disk(
        "2 on disk",
        "warm randread 4k, depth 16, 4 connections, on disk",
        warm(WARM_READS_OF_4),
        WITHOUT_CEILING,
    ),
    on_disk(
        "3 on disk",
        "warm read 1m, depth 4, on disk",
        warm(LARGE_READS),
        WITHOUT_CEILING,
    ),
    on_disk(
        "4 on disk",
        "warm randwrite 4k, depth 16, on disk",
        warm(WRITES),
        WITHOUT_CEILING,
    ),
    on_disk(
        "8 on disk",
        "randread 4k zipf 1.2 over 16 times the cache, on disk",
        ZIPF,
        CACHES_AND_BARE,
    ),
    on_disk(
        "9 on disk",
        "randwrite 4k over 16 times the cache, on disk",
        Work::Overwrite,
        CACHES_AND_BARE,
    ),
];

/// Every row.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    WITH_BOUNDS.iter().chain(ON_DISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_on_contenders_that_are_measured() {
        for row in all() {
            for bound in row.bounds {
                assert!(
                    row.contenders.contains(&bound.of()),
                    "{}: {bound:?}",
                    row.name
                );
                if let Bound::Times { than, in_row, .. } = bound {
                    let other = match in_row {
                        None => row,
                        Some(number) => all().find(|row| row.number == *number).unwrap(),
                    };
                    assert!(other.contenders.contains(than), "{}: {bound:?}", row.name);
                }
            }
        }
    }

    #[test]
    fn a_number_is_one_row() {
        for row in all() {
            let same = all().filter(|other| other.number == row.number);
            assert_eq!(same.count(), 1, "{}", row.number);
        }
    }
}
