//! Random requests against a record of what was written, ending in a crash.
//!
//! - [`case`]: one test run, all of it decided by a seed.
//! - [`layout`]: which bytes of the image are used, and which worker may change them.
//! - [`history`]: what was written when, and which bytes a reader may therefore see.
//! - [`worker`]: one client that makes random requests and checks what it gets.
//! - [`run`]: puts a case together, runs it, and judges the end.
//!
//! Every byte has one worker that may change it, so each worker knows exactly what its own bytes
//! hold; but sectors and blocks belong to many. Everybody reads everything: of a stranger's
//! bytes one knows what they may have held while the read ran.

pub mod case;
pub mod history;
pub mod layout;
pub mod run;
pub mod worker;

pub use case::Case;
pub use run::{Build, Violation, run};
