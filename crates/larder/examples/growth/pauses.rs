//! The longest that one insertion takes while many blocks come in.
//!
//! An insertion may have to make something grow, and whoever needs the same lock waits for that. The same blocks come in
//! twice, each time into a cache of its own, where the same things grow at the same moments; the shorter of an insertion's
//! two times counts. So what other programs and the machine itself do in between is left out.

use std::error::Error;

use crate::doubles::{BLOCK_BYTES, Void, connect};
use crate::processor_time_us;

/// 1 TiB.
const BLOCKS: u64 = 1 << 24;
const RUNS: u32 = 2;
/// What an insertion is to stay below, in microseconds.
const BOUND_US: f32 = 1000.0;
const NAMED: usize = 5;

/// Prints the longest insertions. Fails if one is beyond the bound.
pub(crate) fn report(is_json: bool) -> Result<(), Box<dyn Error>> {
    let mut shortest = vec![f32::INFINITY; BLOCKS as usize];
    for _ in 0..RUNS {
        let connection = connect(Box::new(Void), None)?;
        let mut before = processor_time_us();
        for (block, shortest) in shortest.iter_mut().enumerate() {
            connection.cache(block as u64 * BLOCK_BYTES, BLOCK_BYTES)?;
            let after = processor_time_us();
            *shortest = shortest.min((after - before) as f32);
            before = after;
        }
        // To forget 1 TiB of blocks one by one takes longer than to measure them.
        std::mem::forget(connection);
    }
    let mean = shortest.iter().map(|us| f64::from(*us)).sum::<f64>() / BLOCKS as f64;
    let mut by_length: Vec<usize> = (0..shortest.len()).collect();
    by_length.sort_unstable_by(|a, b| shortest[*b].total_cmp(&shortest[*a]));
    by_length.truncate(NAMED);
    let longest = shortest[by_length[0]];
    if is_json {
        let row = |at: &usize| {
            let us = shortest[*at];
            format!("  {{\"after_blocks\": {at}, \"us\": {us:.0}}}")
        };
        let rows: Vec<String> = by_length.iter().map(row).collect();
        println!(
            "{{\"longest_us\": {longest:.0}, \"mean_us\": {mean:.2}, \"bound_us\": {BOUND_US}, \"longest\": [\n{}\n]}}",
            rows.join(",\n")
        );
    } else {
        println!("the longest of {BLOCKS} insertions, {mean:.2} µs on average");
        for at in &by_length {
            println!("{:8.0} µs after {at} blocks", shortest[*at]);
        }
    }
    if longest > BOUND_US {
        return Err(format!("{longest:.0} µs are more than {BOUND_US}").into());
    }
    Ok(())
}
