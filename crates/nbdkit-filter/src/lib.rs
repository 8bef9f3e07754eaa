//! A safe binding to nbdkit's filter API: write filters without `unsafe`, and without ever
//! bringing nbdkit down.
//!
//! A filter is a type that implements [`Filter`], with another that implements [`Connection`],
//! in a crate of type `cdylib` that says [`register!`]. This one loads:
//!
//! ```no_run
#![doc = include_str!("../examples/lock.rs")]
//! ```
//!
//! `nbdkit --filter=./target/debug/liblock.so memory 1M unlock=true` runs it; nbdkit also finds it as
//! `--filter=lock` once it is called `nbdkit-lock-filter.so` in nbdkit's folder of filters
//! (`nbdkit --dump-config` tells it).
//!
//! # What the binding sees to
//!
//! - **Versions.** One build loads into every nbdkit from 1.30 on: the running version is learnt
//!   when the filter is loaded, and C's structure laid out for it.
//! - **Aborts.** nbdkit trusts its filters and aborts on what it takes for a bug, with all that
//!   clients have not flushed. Here such a call is an error that only its request gets; see
//!   [`Next`].
//! - **Threads.** [`Next`] can be kept and sent anywhere. It keeps to nbdkit's thread model and
//!   fails once its connection is gone.
//! - **Chains.** A filter has one instance, so a chain that names it (or a copy of its file) twice is
//!   refused.
//! - **Panics** end a request with EIO, or a callback with its failure value, and never nbdkit.
#![allow(unsafe_code)]

#[cfg(panic = "abort")]
compile_error!("a filter must not end nbdkit by a panic: build it with panic = \"unwind\"");

mod access;
mod api;
mod callbacks;
mod capabilities;
mod connection;
mod debug_flag;
mod error;
mod exports;
mod extent;
mod filter;
mod instance;
mod layout;
pub mod log;
mod next;
mod open;
mod raw;
mod register;
mod resident;
mod twice;
mod value;
mod version;

pub use capabilities::{BlockSize, Cache, Capabilities, Fua, ThreadModel, Zero, ZeroOptions};
pub use connection::Connection;
pub use debug_flag::DebugFlag;
pub use error::{Error, Result};
pub use exports::{Export, ExportList, NextDefaultExport, NextExports};
pub use extent::{Extent, ExtentList};
pub use filter::{Config, Filter};
pub use next::Next;
pub use open::OpenRequest;
pub use value::{Value, parse_bool, parse_size, parse_unsigned};

#[doc(hidden)]
pub use register::private;
