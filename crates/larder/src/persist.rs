//! The cache directory: the bytes in it, and what they mean. `FORMAT.md` is the same in prose.
//!
//! - The bytes: pure code, which makes bytes and judges bytes, and reads through a function that it is given at most: pages (`header.rs`,
//!   `superblock.rs`), entries, sums, frames and their ops, the walk through the journal (`chain.rs`), the fold, volume tables.
//! - The files: `home.rs`, an open directory, with `lock.rs`, `making.rs`, `superblocks.rs`, `tables.rs`, `regions.rs`; `journal.rs`, which
//!   is appended to; `batch.rs` and `commit.rs`, what a commit is and who makes it; `recover.rs` and `checkpoint.rs`, which bring the journal
//!   into the tables (`ring.rs` reads it); `queue_log.rs`, the queue of a volume; `look.rs`, for whoever only looks. They know nothing of the engine.
//!
//! Whatever a file holds, nothing here panics, and what it does not understand it refuses with a sentence (`refusal.rs`,
//! `open_error.rs`).

pub(crate) mod batch;
pub(crate) mod bytes;
mod chain;
mod checkpoint;
pub(crate) mod commit;
pub(crate) mod contents;
mod copies;
pub(crate) mod entry;
mod files;
mod fold;
pub(crate) mod frame;
mod header;
pub(crate) mod home;
pub(crate) mod journal;
mod lock;
pub(crate) mod look;
mod making;
pub(crate) mod op;
pub(crate) mod open_error;
pub(crate) mod queue_log;
mod recover;
mod refusal;
mod regions;
mod ring;
mod runs;
pub(crate) mod shape;
pub(crate) mod sums;
pub(crate) mod superblock;
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
pub(crate) mod memory_medium;
#[cfg(test)]
mod story;
#[cfg(test)]
mod testing;
