//! A block cache in front of a slow origin.
//!
//! A [`Cache`] owns the slots of one cache file. A [`Volume`] is one export as clients see it. A
//! [`Connection`] joins a client's connection to a volume with its own connection to the
//! [`Origin`]; all requests go through it.

pub mod cache;
pub mod cache_file;
pub mod clock;
pub mod config;
pub mod connection;
pub mod drain;
pub mod error;
pub mod inspect;
pub mod log;
pub mod medium;
mod ordered;
pub mod origin;
pub mod planted;
pub mod simulation;
pub mod stats;
pub mod status;
pub mod survival;
pub mod volume;

mod attached;
mod block;
mod change_counts;
mod client;
mod directory;
mod dirty_set;
mod doubts;
mod durability;
mod eviction;
mod extents;
mod fetch;
mod flush;
mod foreground;
mod habit;
mod halves;
mod index;
mod join;
mod latch;
mod news;
mod overwrite;
mod pass_through;
mod pass_token;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the engine does not use it yet")
)]
mod persist;
mod pin;
mod present;
mod promised_space;
mod range_lock;
mod read;
mod readahead;
mod reclaim;
mod resize;
mod room;
mod scratch;
mod sealed;
mod sector;
mod slot_bits;
mod slot_table;
mod slots;
mod store;
mod streams;
mod sync;
mod system_file;
mod through;
mod trim;
mod unflushed;
mod unrecorded;
mod unwritten;
mod write;
mod writeback;
mod zero;
mod zero_map;

pub use cache::{Cache, Leftover};
pub use cache_file::CacheFile;
pub use clock::{Clock, SystemClock};
pub use config::{CacheOnRead, Config, FlushTo, Mode, Writeback};
pub use connection::Connection;
pub use error::{Error, ErrorKind};
pub use fetch::CHUNK_BYTES as MAX_FETCH_BYTES;
pub use log::Log;
pub use medium::{Medium, MediumFile};
pub use origin::{Capabilities, Extent, Fua, Origin, OriginVersion, RequestLimits, ZeroOptions};
#[cfg(feature = "fuzzing")]
pub use persist::properties as format_properties;
#[cfg(feature = "trial")]
#[doc(hidden)]
pub use persist::trial;
pub use simulation::{BlocksUsed, PolicySimulation};
pub use stats::StatsSnapshot;
pub use status::{CacheExtent, CacheState};
pub use survival::{CacheHome, Found, HomeSizes};
pub use volume::Volume;
