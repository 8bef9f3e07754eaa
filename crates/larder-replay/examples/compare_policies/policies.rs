//! The policies of the literature, written down as their papers have them. Each is a cache of blocks
//! that are numbered from 0, and evicts one block at a time, when it needs room.

mod arc;
mod c_filter;
mod lists;
mod lru;
mod s3_fifo;
mod sieve;
mod sketch;
mod two_q;
mod w_tiny_lfu;

pub(crate) use arc::Arc;
pub(crate) use c_filter::CFilter;
pub(crate) use lru::Lru;
pub(crate) use s3_fifo::S3Fifo;
pub(crate) use sieve::Sieve;
pub(crate) use two_q::TwoQ;
pub(crate) use w_tiny_lfu::WTinyLfu;

/// A cache that follows some policy. All are made with the number of blocks that fit, at least 1,
/// and the number of different blocks that will come.
pub(crate) trait Policy {
    /// A request uses a block. Tells whether it was in the cache; afterwards it is.
    fn access(&mut self, block: u32) -> bool;
}

/// What each use of a block was: `h` for a hit, `m` for a miss.
#[cfg(test)]
fn played(policy: &mut dyn Policy, blocks: &[u32]) -> String {
    let play = |block: &u32| if policy.access(*block) { 'h' } else { 'm' };
    blocks.iter().map(play).collect()
}
