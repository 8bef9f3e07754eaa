//! Larder as a filter for stock nbdkit, in place of its `cache` filter.
//!
//! nbdkit loads this library and calls [`filter::Larder`]. The engine is the crate `larder`, and
//! everything that talks to nbdkit is the crate `nbdkit-filter`; what is decided here:
//!
//! | file | decides |
//! |---|---|
//! | `parameters` | what may be typed and what it means |
//! | `spelling` | whose a parameter is, and what a misspelt one meant |
//! | `identity` | which clients share one volume |
//! | `filter` | what happens once: parameters, start, end |
//! | `running` | the cache file, the cache, what is told at the end |
//! | `maintenance` | the thread for background work |
//! | `client` | what happens for one client |
//! | `offer` | what a client is told that it may do |
//! | `origin` | the plugin as the engine sees it |
//! | `report` | how the engine's messages reach nbdkit's log |

mod client;
mod filter;
mod identity;
mod maintenance;
mod offer;
mod origin;
mod parameters;
mod plausible;
mod report;
mod running;
mod spelling;

nbdkit_filter::debug_flag!(cache_debug_verbose);
nbdkit_filter::register!(filter::Larder);

/// Whether somebody wants to hear what happens to each block (`-D cache.verbose=1`).
fn debug_verbose() -> bool {
    cache_debug_verbose.is_set()
}
