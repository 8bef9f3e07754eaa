//! How often Larder's policy misses, beside those of the literature, on two real traces.
//!
//! `cargo run --release -p larder-replay --example compare_policies -- [--json] DIRECTORY`
//!
//! The directory holds the traces, see [`TRACES`]. Every cache holds exactly the blocks that it is
//! given and evicts one at a time, when it needs room; Larder's does so with its thresholds out of the
//! way. A block's reads and writes both count, and first uses too. Every block of a request counts by itself.
//! The exit status is 1 if a bound is missed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use larder_replay::{Kind, NextUses, Request, Trace};

mod compared;
mod policies;
mod report;

use compared::{At, Uses, compare};
use report::Report;

/// File name of each trace, what it is called, and where it comes from.
const TRACES: [(&str, &str, &str); 2] = [
    (
        "arc_p3.csv.gz",
        "arc_p3",
        "trace P3 of Megiddo & Modha, \"ARC: A Self-Tuning, Low Overhead Replacement Cache\", \
         FAST 2003, as CSV",
    ),
    (
        "cloudphysics.csv.gz",
        "cloudphysics",
        "the CloudPhysics sample in the data folder of libCacheSim (CC BY 4.0), as CSV",
    ),
];

/// Sizes of the blocks, in bytes.
const BLOCK_BYTES: [u64; 2] = [64 << 10, 4 << 10];
/// Sizes of the caches, in thousandths of the blocks that the trace touches.
const SHARES: [u64; 6] = [1, 10, 50, 100, 200, 400];

fn main() -> ExitCode {
    match run() {
        Ok(report) if report.are_bounds_kept() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare_policies: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Report, Box<dyn Error>> {
    let mut is_json = false;
    let mut directory = None;
    for argument in std::env::args_os().skip(1) {
        if argument == "--json" {
            is_json = true;
        } else {
            directory = Some(PathBuf::from(argument));
        }
    }
    let directory = directory.ok_or("no directory given: the one where the traces are")?;
    let report = Report::new(compare_all(&directory)?);
    if is_json {
        println!("{:#}", report.to_json());
    } else {
        print!("{}", report.to_text());
    }
    Ok(report)
}

fn compare_all(directory: &Path) -> Result<Vec<At>, Box<dyn Error>> {
    let missing: Vec<String> = TRACES
        .iter()
        .filter(|(file, _, _)| !directory.join(file).exists())
        .map(|(file, _, from)| format!("{} is missing: {from}", directory.join(file).display()))
        .collect();
    if !missing.is_empty() {
        return Err(missing.join("; ").into());
    }
    let mut all = Vec::new();
    for (file, name, _) in TRACES {
        let trace = Trace::open(&[directory.join(file)], None, &std::env::temp_dir())?;
        for block_bytes in BLOCK_BYTES {
            let uses = uses(&trace, block_bytes)?;
            for share in SHARES {
                all.push(compare(name, &uses, share));
            }
        }
    }
    Ok(all)
}

/// Every use of a block, in order.
fn uses(trace: &Trace, block_bytes: u64) -> Result<Uses, Box<dyn Error>> {
    let mut numbers = Vec::new();
    trace.for_each(|request: Request| {
        if request.kind != Kind::Trim {
            let (first, end) = request.blocks(block_bytes);
            numbers.extend(first..end);
        }
    })?;
    let mut on_disk = numbers.clone();
    on_disk.sort_unstable();
    on_disk.dedup();
    let mut next_uses = NextUses::default();
    let mut blocks = Vec::with_capacity(numbers.len());
    for number in &numbers {
        // In the order on disk, which the C filter follows.
        let block = on_disk.partition_point(|other| other < number) as u32;
        next_uses.use_block(block);
        blocks.push(block);
    }
    Ok(Uses {
        block_bytes,
        blocks,
        on_disk,
        next_uses,
    })
}
