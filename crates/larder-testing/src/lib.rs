//! Doubles for the engine's seams, and the harness that drives the engine over them.
//!
//! | noun | for |
//! |---|---|
//! | [`OriginDouble`] | an origin that fails, crashes, and checks what it is asked |
//! | [`CacheFileDouble`] | a cache file that fills up, fails, and checks the latches |
//! | [`Holds`] | stopping chosen calls, for a test of one race |
//! | [`Gate`] | stopping all calls and letting them go in seeded order, for races nobody thought of |
//! | [`Rig`] | the engine with all of these, for directed tests |
//! | [`model`] | random requests against a record of what was written, ending in a crash |
//! | [`crash`] | a medium in memory that loses and tears what was not synced, and every moment of a run as a crash |

// A double that cannot go on is a test that fails: here a panic is the message.
#![allow(clippy::expect_used, clippy::unwrap_used)]

pub mod cache_file;
pub mod calls;
pub mod clock;
pub mod contract;
pub mod crash;
pub mod disk;
pub mod fault;
pub mod flushing;
pub mod gate;
pub mod holds;
pub mod log;
pub mod model;
pub mod origin;
pub mod pace;
pub mod pages;
pub mod random;
pub mod rig;
pub mod subject;
pub mod surviving;
pub mod violation;

pub use cache_file::CacheFileDouble;
pub use clock::ManualClock;
pub use fault::{Fault, When};
pub use gate::Gate;
pub use holds::Holds;
pub use log::MemoryLog;
pub use origin::{OriginDouble, OriginSettings};
pub use pace::{Kind, Phase};
pub use random::Random;
pub use rig::Rig;
pub use violation::Violations;
