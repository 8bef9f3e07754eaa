//! What the engine's bookkeeping may take. One test: what is allocated is counted for the whole process.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../examples/growth/doubles.rs"]
mod doubles;

use doubles::{BLOCK_BYTES, Void, connect};
use larder::Connection;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const FEWEST_BLOCKS: u64 = 100_000;
const BOUND: u64 = 32;

fn cache(connection: &Connection, block: u64) {
    let start = block * BLOCK_BYTES;
    connection.cache(start, BLOCK_BYTES).unwrap();
}

/// `cargo run --release -p larder --example growth -- memory` looks at larger caches too.
#[test]
fn a_clean_block_takes_at_most_32_bytes() {
    let before = ALLOCATED.current_usage();
    let connection = connect(Box::new(Void), None).unwrap();
    // Past the sizes at which the parts of the index grow.
    for block in 0..FEWEST_BLOCKS * 5 / 4 {
        cache(&connection, block);
        if block >= FEWEST_BLOCKS && block.is_multiple_of(500) {
            let bytes = (ALLOCATED.current_usage() - before) as u64;
            assert!(bytes <= BOUND * block, "{bytes} bytes for {block} blocks");
        }
    }
    drop(connection);

    // With all that is remembered of as many blocks that were evicted.
    let before = ALLOCATED.current_usage();
    let connection = connect(Box::new(Void), Some(FEWEST_BLOCKS * BLOCK_BYTES)).unwrap();
    for block in 0..FEWEST_BLOCKS * 2 {
        cache(&connection, block);
    }
    let bytes = (ALLOCATED.current_usage() - before) as u64;
    // Without those that the limit holds back for the file system's metadata.
    let blocks = FEWEST_BLOCKS * 199 / 200;
    assert!(bytes <= BOUND * blocks, "{bytes} bytes for {blocks} blocks");
}
