//! Crashes by the hundred thousand: a store is run once, and its medium is then looked at as a crash at any moment
//! of that run could have left it.
//!
//! - [`machine`]: a medium and origins in memory, whose calls are numbered in one log; [`medium`] says what a crash
//!   does to them, and [`faults`] which calls fail.
//! - [`bytes`], [`file`](mod@file), [`names`], [`world`]: what is there, what of it is durable, and what a crash may leave.
//! - [`log`]: every call, and a hash of them: the same seed gives the same log.
//! - [`image`] and [`walk`]: what is left after a crash at one moment, from moment to moment.
//!
//! A *position* is a number of events of the log: a crash at position n comes after the first n of them. A *survival* is
//! one of the many things that a crash at one position may leave.

pub mod bytes;
pub mod faults;
pub mod file;
pub mod image;
pub mod log;
pub mod machine;
pub mod medium;
pub mod names;
pub mod walk;
pub mod world;

pub use faults::{CallKind, MediumFault, Target};
pub use image::Image;
pub use log::Recording;
pub use machine::Machine;
pub use medium::{SimMedium, SimOrigin};
