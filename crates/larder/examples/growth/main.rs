//! What a cached block costs as more of them are cached.
//!
//! ```text
//! cargo run --release -p larder --example growth -- memory [--json]
//! cargo run --release -p larder --example growth -- hits [--json] [--directory /dev/shm]
//! cargo run --release -p larder --example growth -- pauses [--json]
//! ```
//!
//! | word | figure |
//! |---|---|
//! | `memory` | bytes of memory per fully valid, clean block of 64 KiB, at every number of blocks |
//! | `hits` | nanoseconds per random hit of 4 KiB, with more and more blocks over the same GiB of cache file |
//! | `pauses` | the longest that one block's insertion takes while 1 TiB of blocks comes in |
//!
//! The engine is used as a front end uses it, over an origin and a cache file that cost nothing. Times are those that
//! the thread had the processor, so that other programs count as little as can be; run it alone all the same, since
//! they take the processor's cache.

mod doubles;
mod hits;
mod memory;
mod pauses;
mod random;

use std::error::Error;
use std::path::PathBuf;

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

/// Counts the bytes that are allocated, exactly.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const USAGE: &str =
    "usage: growth memory|hits|pauses [--json] [--directory DIRECTORY, for hits: /dev/shm]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut what = None;
    let mut is_json = false;
    let mut directory = PathBuf::from("/dev/shm");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => is_json = true,
            "--directory" => directory = arguments.next().ok_or(USAGE)?.into(),
            _ => what = Some(argument),
        }
    }
    match what.as_deref() {
        Some("memory") => memory::report(is_json),
        Some("hits") => hits::report(&directory, is_json),
        Some("pauses") => pauses::report(is_json),
        _ => Err(USAGE.into()),
    }
}

/// How long this thread has had the processor, in microseconds.
fn processor_time_us() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}
