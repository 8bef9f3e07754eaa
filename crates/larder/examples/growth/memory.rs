//! Bytes of memory per block.
//!
//! What is counted is every byte that the engine has allocated since before the cache was made: the volume, its
//! connection, the index, the directory of slots, the policy with its ghosts and its simulations, the counters.
//! Blocks come in one by one, and after each step of a hundredth the count is taken, so a size at which something
//! has just grown is not missed. The most that was ever allocated within a step, while something was being moved,
//! is a figure of its own.

use std::error::Error;

use larder::Connection;

use crate::ALLOCATED;
use crate::doubles::{BLOCK_BYTES, Void, connect};

/// From here on the figure must hold.
const FEWEST_BLOCKS: u64 = 100_000;
const MOST_BLOCKS: u64 = 2_500_000;
/// What the figure is to stay below, in bytes.
const BOUND: f64 = 32.0;

/// Bytes per block over a range of sizes.
struct Figures {
    name: &'static str,
    best: f64,
    worst: f64,
    worst_at_blocks: u64,
    /// While something is moved.
    peak: f64,
    /// At the end, as the system counts it: what is resident without a file behind it. Known only of the first cache,
    /// since later ones have what it had.
    resident: Option<f64>,
}

impl Figures {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            best: f64::INFINITY,
            worst: 0.0,
            worst_at_blocks: 0,
            peak: 0.0,
            resident: None,
        }
    }

    fn note(&mut self, blocks: u64, allocated: usize, peak: usize) {
        let per_block = allocated as f64 / blocks as f64;
        self.best = self.best.min(per_block);
        self.peak = self.peak.max(peak as f64 / blocks as f64);
        if per_block > self.worst {
            self.worst = per_block;
            self.worst_at_blocks = blocks;
        }
    }

    fn row(&self, is_json: bool) -> String {
        let Self {
            name,
            best,
            worst,
            worst_at_blocks,
            peak,
            resident,
        } = self;
        let resident = resident.map(|resident| format!("{resident:.2}"));
        if is_json {
            let resident = resident.as_deref().unwrap_or("null");
            format!(
                "  {{\"cache\": \"{name}\", \"best\": {best:.2}, \"worst\": {worst:.2}, \"worst_at_blocks\": \
                 {worst_at_blocks}, \"peak\": {peak:.2}, \"resident\": {resident}}}"
            )
        } else {
            let resident = resident.as_deref().unwrap_or("");
            format!(
                "{name:32} {best:8.2} {worst:8.2} {worst_at_blocks:10} {peak:8.2} {resident:>10}"
            )
        }
    }
}

/// Prints the figures of each kind of cache. Fails if one is beyond the bound.
pub(crate) fn report(is_json: bool) -> Result<(), Box<dyn Error>> {
    let before = resident_bytes()?;
    let (mut first, connection) = growing("growing, no limit", None)?;
    let resident = resident_bytes()?.saturating_sub(before);
    first.resident = Some(resident as f64 / MOST_BLOCKS as f64);
    drop(connection);
    let (second, _) = growing("growing below a limit", Some(1 << 40))?;
    let all = [first, second, full("full, blocks coming and going")?];
    let rows: Vec<String> = all.iter().map(|figures| figures.row(is_json)).collect();
    let worst = all.iter().map(|figures| figures.worst).fold(0.0, f64::max);
    if is_json {
        println!(
            "{{\"bytes_per_block\": {worst:.2}, \"bound\": {BOUND}, \"caches\": [\n{}\n]}}",
            rows.join(",\n")
        );
    } else {
        println!("bytes per block of 64 KiB, {FEWEST_BLOCKS} to {MOST_BLOCKS} blocks");
        println!(
            "{:32} {:>8} {:>8} {:>10} {:>8} {:>10}",
            "", "best", "worst", "at", "peak", "resident"
        );
        println!("{}", rows.join("\n"));
    }
    if worst > BOUND {
        return Err(format!("{worst:.2} bytes per block are more than {BOUND}").into());
    }
    Ok(())
}

/// A cache that is filled up to the most blocks, which is less than its limit.
fn growing(
    name: &'static str,
    max_size_bytes: Option<u64>,
) -> Result<(Figures, Connection), Box<dyn Error>> {
    let mut figures = Figures::new(name);
    let start = ALLOCATED.current_usage();
    let connection = connect(Box::new(Void), max_size_bytes)?;
    let mut next = FEWEST_BLOCKS;
    for block in 0..MOST_BLOCKS {
        connection.cache(block * BLOCK_BYTES, BLOCK_BYTES)?;
        let blocks = block + 1;
        if blocks == next {
            let peak = ALLOCATED.peak_usage() - start;
            figures.note(blocks, ALLOCATED.current_usage() - start, peak);
            next += next / 100;
        }
        if blocks >= FEWEST_BLOCKS && blocks.is_multiple_of(100) || blocks == FEWEST_BLOCKS - 1 {
            ALLOCATED.reset_peak_usage();
        }
    }
    Ok((figures, connection))
}

/// Caches of several limits, each filled with twice the blocks that it holds, some of which are used again.
fn full(name: &'static str) -> Result<Figures, Box<dyn Error>> {
    let mut figures = Figures::new(name);
    let mut limit = FEWEST_BLOCKS + FEWEST_BLOCKS / 50;
    while limit < MOST_BLOCKS {
        let start = ALLOCATED.current_usage();
        let connection = connect(Box::new(Void), Some(limit * BLOCK_BYTES))?;
        for block in 0..limit * 2 {
            connection.cache(block * BLOCK_BYTES, BLOCK_BYTES)?;
            let again = block.saturating_sub(block % 1000);
            connection.cache(again * BLOCK_BYTES, BLOCK_BYTES)?;
        }
        let allocated = ALLOCATED.current_usage() - start;
        // The reserve for the file system's metadata holds no blocks.
        let blocks = limit - limit / 200;
        figures.note(blocks, allocated, allocated);
        limit = limit * 3 / 2;
    }
    Ok(figures)
}

/// The process's resident memory that has no file behind it.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kibibytes = line
        .and_then(|line| line.split_whitespace().nth(1))
        .ok_or("no RssAnon in /proc/self/status")?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}
