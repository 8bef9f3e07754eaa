//! The cache directory: the bytes in it, and what they mean. `FORMAT.md` is the same in prose.
//!
//! All of this is pure: it makes bytes and judges bytes, and reads through a function that it is given at most. Whatever a file holds, nothing here
//! panics, and what it does not understand it refuses with a sentence (`refusal.rs`).

mod bytes;
mod chain;
mod contents;
mod entry;
mod fold;
mod frame;
mod header;
mod op;
mod refusal;
mod shape;
mod sums;
mod superblock;
mod volumes;

#[cfg(any(test, feature = "fuzzing"))]
#[allow(unreachable_pub, reason = "public for the fuzz target")]
pub mod properties;
#[cfg(test)]
mod story;
#[cfg(test)]
mod testing;
