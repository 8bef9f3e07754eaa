//! Larder as a filter for stock nbdkit, in place of its `cache` filter.
//!
//! nbdkit loads this library and calls [`filter::Larder`]. The engine is the crate `larder`,
//! everything that talks to nbdkit is the crate `nbdkit-filter`, and what other front ends of Larder
//! share is the crate `larder-frontend`; what is decided here:
//!
//! | file | decides |
//! |---|---|
//! | `spelling` | whose a parameter is |
//! | `identity` | which clients share one volume |
//! | `filter` | what happens once: parameters, start, end |
//! | `running` | the cache file or directory, the cache, what is told at the end |
//! | `client` | what happens for one client |
//! | `offer` | what a client is told that it may do, in nbdkit's words |
//! | `origin` | the plugin as the engine sees it |
//! | `report` | how the engine's messages reach nbdkit's log |

mod client;
mod filter;
mod identity;
mod offer;
mod origin;
mod report;
mod running;
mod spelling;

nbdkit_filter::debug_flag!(cache_debug_verbose);
nbdkit_filter::register!(filter::Larder);

/// Whether somebody wants to hear what happens to each block (`-D cache.verbose=1`).
fn debug_verbose() -> bool {
    cache_debug_verbose.is_set()
}
