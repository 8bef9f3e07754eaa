//! The longest that one insertion takes while many blocks come in.
//!
//! Measured in the time that the thread had the processor, so that other programs do not count; what an insertion
//! waits for, it waits for as long as somebody else is working, so a lock held for long shows as well.

use std::error::Error;

use crate::doubles::{BLOCK_BYTES, Void, connect};
use crate::processor_time_us;

/// 1 TiB.
const BLOCKS: u64 = 1 << 24;
/// What an insertion is to stay below, in microseconds.
const BOUND_US: f64 = 1000.0;
const NAMED: usize = 5;

/// Prints the longest insertions. Fails if one is beyond the bound.
pub(crate) fn report(is_json: bool) -> Result<(), Box<dyn Error>> {
    let connection = connect(Box::new(Void), None)?;
    let mut longest: Vec<(f64, u64)> = Vec::new();
    let start = processor_time_us();
    let mut before = start;
    for block in 0..BLOCKS {
        connection.cache(block * BLOCK_BYTES, BLOCK_BYTES)?;
        let after = processor_time_us();
        longest.push((after - before, block));
        before = after;
        if longest.len() == 1000 {
            shorten(&mut longest);
        }
    }
    shorten(&mut longest);
    let mean = (before - start) / BLOCKS as f64;
    if is_json {
        let rows = longest
            .iter()
            .map(|(us, block)| format!("  {{\"after_blocks\": {block}, \"us\": {us:.0}}}"));
        let rows: Vec<String> = rows.collect();
        println!(
            "{{\"longest_us\": {:.0}, \"mean_us\": {mean:.2}, \"bound_us\": {BOUND_US}, \"longest\": [\n{}\n]}}",
            longest[0].0,
            rows.join(",\n")
        );
    } else {
        println!("the longest of {BLOCKS} insertions, {mean:.2} µs on average");
        for (us, block) in &longest {
            println!("{us:8.0} µs after {block} blocks");
        }
    }
    if longest[0].0 > BOUND_US {
        return Err(format!("{:.0} µs are more than {BOUND_US}", longest[0].0).into());
    }
    Ok(())
}

fn shorten(longest: &mut Vec<(f64, u64)>) {
    longest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    longest.truncate(NAMED);
}
