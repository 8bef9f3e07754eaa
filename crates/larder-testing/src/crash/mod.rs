//! Crashes by the hundred thousand: a store is run once, and its medium is then looked at as a crash at any moment
//! of that run could have left it.
//!
//! - [`machine`]: a medium and origins in memory, whose calls are numbered in one log; [`medium`] says what a crash
//!   does to them, and [`faults`] which calls fail.
//! - [`bytes`], [`file`](mod@file), [`names`], [`world`]: what is there, what of it is durable, and what a crash may leave.
//! - [`log`]: every call, and a hash of them: the same seed gives the same log.
//! - [`image`] and [`walk`]: what is left after a crash at one moment, from moment to moment.
//! - [`value`], [`history`], [`judge`]: what sectors carry, which requests were begun and acknowledged when, and what a
//!   sector may therefore hold after a crash.
//! - `order`: what origins may hold alone that get flush after flush.
//! - [`requests`]: a seeded run of requests.
//! - [`crowd`]: many clients at once, whose races no seed brings back.
//! - [`store`], [`sweep`], [`check`]: what is under test, at which moments, and the rules; [`damage`] what else may
//!   happen to files; [`soak`] seeds for as long as one likes.
//!
//! A *position* is a number of events of the log: a crash at position n comes after the first n of them. A *survival* is
//! one of the many things that a crash at one position may leave.

pub mod bytes;
pub mod check;
pub mod crowd;
pub mod damage;
pub mod engine;
pub mod faults;
pub mod file;
pub mod history;
pub mod image;
pub mod judge;
pub mod log;
pub mod machine;
pub mod medium;
pub mod names;
mod order;
pub mod requests;
pub mod soak;
pub mod store;
pub mod sweep;
pub mod trace;
pub mod value;
pub mod walk;
pub mod world;

pub use check::{Rule, Violation};
pub use crowd::Crowd;
pub use engine::Engine;
pub use faults::{CallKind, MediumFault, Target};
pub use history::History;
pub use image::Image;
pub use log::Recording;
pub use machine::Machine;
pub use medium::{CAPABILITIES, SimMedium, SimOrigin};
pub use requests::{Mix, Requests, Shape};
pub use soak::soak_for_seconds;
pub use store::{BadSector, Look, Store, Subject};
pub use sweep::{Origins, Sweep, Tally};
