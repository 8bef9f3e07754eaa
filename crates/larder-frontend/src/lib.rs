//! What Larder's front ends share, so that the filter and the server say and do the same.
//!
//! | file | decides |
//! |---|---|
//! | `parameters`, `exports` | what may be typed about the cache and what it means |
//! | `parser` | how sizes, numbers and booleans are typed |
//! | `spelling` | what a misspelt parameter meant |
//! | `cache_file` | where the cache file goes |
//! | `cache_directory`, `lock_text` | the directory in which a cache survives; who has it |
//! | `maintenance` | the threads for background work |
//! | `leftovers` | what becomes of what the origin does not have at the end |
//! | `offer` | what a client is told that it may do |
//! | `report` | the wording of what an operator is told |

pub mod cache_directory;
pub mod cache_file;
pub mod exports;
pub mod leftovers;
pub mod lock_text;
pub mod maintenance;
pub mod offer;
pub mod parameters;
pub mod parser;
pub mod report;
pub mod spelling;

pub use cache_directory::CacheDirectory;
pub use cache_file::{CacheFile, temporary_directory};
pub use exports::Exports;
pub use leftovers::Fate;
pub use lock_text::LockText;
pub use maintenance::Maintenance;
pub use offer::Offer;
pub use parameters::{Defaults, ParameterError, Parameters, Settings};
pub use parser::{Parser, PlainParser};
