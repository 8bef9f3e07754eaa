//! Judges the eviction policy with recorded block traces.
//!
//! ```text
//! cargo run --release -p larder --example judge_eviction -- TRACE.csv.gz...
//!     [--block-sizes 65536,4096] [--shares 0.1,1,5,10,20,40]
//! ```
//!
//! A trace is gzipped CSV without a header: `ts_us,op(R/W),offset_bytes,len_bytes`. Every block that
//! a request touches is one access, reads and writes alike, and cold misses count. A cache's size is
//! a share (in percent) of the number of different blocks in the trace. The table gives miss ratios:
//!
//! | row | policy |
//! |---|---|
//! | LRU | evicts the block used longest ago |
//! | C | the choice of victims of nbdkit's C filter |
//! | Larder | ours |
//! | MIN | the optimum (Belady), which knows the future |
//!
//! Each cache is kept full, one victim making room for one block, and then again with the
//! thresholds of the C filter (`95/80`): it is emptied to 80 % of its limit whenever it has reached
//! 95 %. The C filter really behaves like its second row; the first is its best case.
//!
//! A `!` marks a figure of ours that is worse than LRU, a `c` one that is not better than C. The last
//! column is the cost of an access in nanoseconds for each size, the judge's own part included.

mod policies;

use policies::{CFilter, LarderPolicy, Lru, Policy, Thresholds, min_misses};
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::time::Instant;

/// The accesses of one trace, with the blocks that occur numbered in the order of the disk, in which
/// the C filter looks for victims.
struct Accesses {
    blocks: Vec<u32>,
    /// How many different blocks there are.
    footprint: usize,
}

struct Arguments {
    traces: Vec<String>,
    block_sizes: Vec<u64>,
    shares_percent: Vec<f64>,
}

/// Miss ratios by cache size.
struct Row {
    name: &'static str,
    ratios: Vec<f64>,
    nanos_per_access: Vec<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = parse_arguments()?;
    for trace in &arguments.traces {
        let requests = read_requests(trace)?;
        for &block_bytes in &arguments.block_sizes {
            let accesses = to_blocks(&requests, block_bytes);
            let name = trace.rsplit('/').next().unwrap_or(trace);
            println!(
                "\n{name}, {block_bytes} byte blocks: {} accesses, {} blocks",
                accesses.blocks.len(),
                accesses.footprint
            );
            judge(&accesses, &arguments.shares_percent);
        }
    }
    Ok(())
}

fn parse_arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut parsed = Arguments {
        traces: Vec::new(),
        block_sizes: vec![65536, 4096],
        shares_percent: vec![0.1, 1.0, 5.0, 10.0, 20.0, 40.0],
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut list = || arguments.next().ok_or("a list is missing");
        match argument.as_str() {
            "--block-sizes" => parsed.block_sizes = parse_list(&list()?)?,
            "--shares" => parsed.shares_percent = parse_list(&list()?)?,
            _ => parsed.traces.push(argument),
        }
    }
    if parsed.traces.is_empty() {
        return Err("name at least one trace".into());
    }
    Ok(parsed)
}

fn parse_list<T: std::str::FromStr>(list: &str) -> Result<Vec<T>, T::Err> {
    list.split(',').map(str::parse).collect()
}

/// Offset and length of every request that has a length.
fn read_requests(path: &str) -> Result<Vec<(u64, u64)>, Box<dyn Error>> {
    let file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
    let mut requests = Vec::new();
    for line in BufReader::new(flate2::read::GzDecoder::new(file)).lines() {
        let line = line?;
        let mut fields = line.split(',').skip(2);
        let (Some(offset), Some(len)) = (fields.next(), fields.next()) else {
            return Err(format!("{path}: not a request: {line}").into());
        };
        let (offset, len) = (offset.parse()?, len.parse()?);
        if len > 0 {
            requests.push((offset, len));
        }
    }
    Ok(requests)
}

fn to_blocks(requests: &[(u64, u64)], block_bytes: u64) -> Accesses {
    let used: Vec<u64> = requests
        .iter()
        .flat_map(|(offset, len)| offset / block_bytes..=(offset + len - 1) / block_bytes)
        .collect();
    let on_disk: BTreeSet<u64> = used.iter().copied().collect();
    let numbers: HashMap<u64, u32> = on_disk.into_iter().zip(0..).collect();
    Accesses {
        blocks: used.iter().map(|block| numbers[block]).collect(),
        footprint: numbers.len(),
    }
}

fn judge(accesses: &Accesses, shares_percent: &[f64]) {
    let footprint = accesses.footprint;
    let capacities: Vec<usize> = shares_percent
        .iter()
        .map(|percent| ((footprint as f64 * percent / 100.0).round() as usize).max(1))
        .collect();
    let run =
        |name, new: &dyn Fn(usize) -> Box<dyn Policy>| run_sizes(name, accesses, &capacities, new);

    let (full, batched) = (Thresholds::full, Thresholds::of_nbdkit);
    let rows = [
        run("LRU", &|size| Box::new(Lru::new(footprint, full(size)))),
        run("C", &|size| Box::new(CFilter::new(footprint, full(size)))),
        run("Larder", &|size| {
            Box::new(LarderPolicy::new(footprint, full(size)))
        }),
    ];
    let batched_rows = [
        run("LRU", &|size| Box::new(Lru::new(footprint, batched(size)))),
        run("C", &|size| {
            Box::new(CFilter::new(footprint, batched(size)))
        }),
        run("Larder", &|size| {
            Box::new(LarderPolicy::new(footprint, batched(size)))
        }),
    ];
    let min = Row {
        name: "MIN",
        ratios: capacities
            .iter()
            .map(|&capacity| {
                min_misses(&accesses.blocks, footprint, capacity) as f64
                    / accesses.blocks.len() as f64
            })
            .collect(),
        nanos_per_access: Vec::new(),
    };

    print!("{:14}", "");
    for (percent, capacity) in shares_percent.iter().zip(&capacities) {
        print!(" {:>11}", format!("{percent}%={capacity}"));
    }
    println!();
    for (rows, suffix) in [(&rows, ""), (&batched_rows, " 95/80")] {
        for row in rows {
            print_row(row, suffix, rows);
        }
    }
    print_row(&min, "", &rows);
}

fn run_sizes(
    name: &'static str,
    accesses: &Accesses,
    capacities: &[usize],
    new: &dyn Fn(usize) -> Box<dyn Policy>,
) -> Row {
    let mut row = Row {
        name,
        ratios: Vec::new(),
        nanos_per_access: Vec::new(),
    };
    for &capacity in capacities {
        let mut policy = new(capacity);
        let start = Instant::now();
        let misses = accesses
            .blocks
            .iter()
            .filter(|block| !policy.access(**block))
            .count();
        let count = accesses.blocks.len() as f64;
        row.nanos_per_access
            .push(start.elapsed().as_nanos() as f64 / count);
        row.ratios.push(misses as f64 / count);
    }
    row
}

fn print_row(row: &Row, suffix: &str, [lru, c, ours]: &[Row; 3]) {
    let is_ours = row.name == ours.name;
    print!("{:14}", format!("{}{suffix}", row.name));
    for (at, &ratio) in row.ratios.iter().enumerate() {
        let mark = |is_bad: bool, mark| if is_ours && is_bad { mark } else { ' ' };
        let worse_than_lru = mark(ratio > lru.ratios[at], '!');
        let no_better_than_c = mark(ratio >= c.ratios[at], 'c');
        print!("    {ratio:.4}{worse_than_lru}{no_better_than_c}");
    }
    if is_ours {
        let nanos = row.nanos_per_access.iter();
        let nanos: Vec<String> = nanos.map(|nanos| format!("{nanos:.0}")).collect();
        print!(" {} ns", nanos.join(" "));
    }
    println!();
}
