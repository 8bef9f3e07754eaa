//! The cache directory: the bytes in it, and what they mean. `FORMAT.md` is the same in prose.
//!
//! - The bytes: pure code, which makes bytes and judges bytes, and reads through a function that it is given at most: pages (`header.rs`,
//!   `superblock.rs`), entries, sums, frames and their ops, the walk through the journal (`chain.rs`), the fold, volume tables.
//! - The files: `home.rs`, an open directory, with `lock.rs`, `making.rs`, `superblocks.rs`, `tables.rs`, `regions.rs`; `journal.rs`, which
//!   is appended to; `batch.rs` and `commit.rs`, what a commit is and who makes it; `recover.rs` and `checkpoint.rs`, which bring the journal
//!   into the tables (`ring.rs` reads it). They know nothing of the engine.
//!
//! Whatever a file holds, nothing here panics, and what it does not understand it refuses with a sentence (`refusal.rs`,
//! `open_error.rs`).

pub(crate) mod batch;
pub(crate) mod bytes;
mod chain;
mod checkpoint;
pub(crate) mod commit;
mod contents;
pub(crate) mod entry;
mod files;
mod fold;
mod frame;
mod header;
pub(crate) mod home;
pub(crate) mod journal;
mod lock;
mod making;
pub(crate) mod op;
pub(crate) mod open_error;
mod recover;
mod refusal;
mod regions;
mod ring;
mod runs;
pub(crate) mod shape;
pub(crate) mod sums;
mod superblock;
mod superblocks;
mod tables;
pub(crate) mod volumes;

#[cfg(any(test, feature = "fuzzing"))]
#[allow(unreachable_pub, reason = "public for the fuzz target")]
pub mod properties;
#[cfg(feature = "trial")]
#[allow(unreachable_pub, reason = "public for the crash simulator")]
pub mod trial;

#[cfg(test)]
mod memory_medium;
#[cfg(test)]
mod story;
#[cfg(test)]
mod testing;
