//! Traces of block requests, and the misses that caches of any size would have had.
//!
//! A [`Trace`] is read, perhaps more than once, as a sequence of [`Request`]s. [`replay`] gives them
//! to the engine's own policy at several sizes, and tells beside its misses those of LRU and of the
//! optimum.
//!
//! | file | decides |
//! |---|---|
//! | `source` | where bytes come from: files, gzip, what can be read only once |
//! | `format`, `format/*` | what a trace is written in, and what a line or an event of it says |
//! | `trace` | the order of requests over several files |
//! | `volumes` | which numbers the volumes have |
//! | `survey` | what kind of trace it is |
//! | `recency`, `marks` | misses of LRU at every size at once |
//! | `next_use`, `optimum`, `peaks` | misses of the optimum |
//! | `replay` | who does which work |

mod error;
mod format;
mod marks;
mod next_use;
mod optimum;
mod peaks;
mod recency;
mod replay;
mod request;
mod source;
mod survey;
mod trace;
mod volumes;

pub use error::TraceError;
pub use format::Format;
pub use next_use::NextUses;
pub use optimum::optimum_misses;
pub use recency::Recency;
pub use replay::{AtSize, Replay, ReplayError, Replayed, Sizes, replay};
pub use request::{Kind, MAX_TRANSFER_BYTES, Request};
pub use source::Source;
pub use survey::{BlockId, Survey};
pub use trace::Trace;
