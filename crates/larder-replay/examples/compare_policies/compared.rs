//! All policies on one trace at one size.

use larder::{Config, PolicySimulation};
use larder_replay::{NextUses, optimum_misses};

use crate::policies::{Arc, CFilter, Lru, Policy, S3Fifo, Sieve, TwoQ, WTinyLfu};

/// What the engine's policy is called.
pub(crate) const OURS: &str = "Larder";

/// Every use of a block in a trace.
pub(crate) struct Uses {
    pub(crate) block_bytes: u64,
    /// The blocks in the order of use, numbered in their order on disk without gaps.
    pub(crate) blocks: Vec<u32>,
    /// By block: its number on disk.
    pub(crate) on_disk: Vec<u64>,
    /// The same uses, for the optimum.
    pub(crate) next_uses: NextUses,
}

/// What came out at one size.
pub(crate) struct At {
    pub(crate) trace: &'static str,
    pub(crate) block_bytes: u64,
    /// Thousandths of the footprint.
    pub(crate) share: u64,
    pub(crate) capacity_blocks: u32,
    /// Misses for each use, of the optimum.
    pub(crate) optimum: f64,
    /// The same of all policies, by name, ours first.
    pub(crate) ratios: Vec<(&'static str, f64)>,
}

/// Runs all policies.
pub(crate) fn compare(trace: &'static str, uses: &Uses, share: u64) -> At {
    let footprint = uses.on_disk.len();
    let capacity = ((footprint as u64 * share + 500) / 1000).max(1) as u32;
    let count = uses.blocks.len() as f64;
    let ratio = |policy: &mut dyn Policy| {
        let misses = uses.blocks.iter().filter(|block| !policy.access(**block));
        misses.count() as f64 / count
    };
    let size = capacity as usize;
    let ratios = vec![
        (OURS, engine(uses, capacity, 99, 100)),
        ("LRU", ratio(&mut Lru::new(size, footprint))),
        ("ARC", ratio(&mut Arc::new(size, footprint))),
        ("2Q", ratio(&mut TwoQ::new(size, footprint))),
        ("S3-FIFO", ratio(&mut S3Fifo::new(size, footprint))),
        ("SIEVE", ratio(&mut Sieve::new(size, footprint))),
        ("W-TinyLFU", ratio(&mut WTinyLfu::new(size, footprint))),
        ("C filter", ratio(&mut CFilter::new(size, footprint))),
        // As it is served unless told otherwise: a tenth of the space or so is kept free.
        ("Larder 95/80", engine(uses, capacity, 80, 95)),
    ];
    At {
        trace,
        block_bytes: uses.block_bytes,
        share,
        capacity_blocks: capacity,
        optimum: optimum_misses(&uses.next_uses, u64::from(capacity)) as f64 / count,
        ratios,
    }
}

/// The engine's own policy.
fn engine(uses: &Uses, capacity_blocks: u32, low: u32, high: u32) -> f64 {
    let config = Config {
        block_bytes: uses.block_bytes,
        low_threshold_percent: low,
        high_threshold_percent: high,
        ..Config::default()
    };
    let Ok(mut cache) = PolicySimulation::with_blocks(&config, capacity_blocks) else {
        return f64::NAN;
    };
    let mut misses = 0;
    for &block in &uses.blocks {
        let offset = uses.on_disk[block as usize] * uses.block_bytes;
        misses += cache.read(0, offset, uses.block_bytes).misses;
    }
    misses as f64 / uses.blocks.len() as f64
}
