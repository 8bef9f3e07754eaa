//! The harness of the end-to-end tests: real servers, nbdkit's and `larder serve`'s, a small NBD
//! client, and instruments.
//!
//! Each test starts its own server in its own [`Scratch`] directory, talks to it through [`Client`],
//! and looks at it from outside: at the plugin's file, at the requests that reached the plugin
//! ([`PluginLog`]), at the cache file under `/proc` ([`CacheFile`]), at what the server said.
//!
//! Environment variables choose what is tested:
//!
//! - `LARDER_FILTER`: the filter, a path or the name of an installed one; by default the release
//!   build of this workspace. With `cache` the stock filter is run, and the tests of its defects
//!   must fail: this is how a test shows that it can.
//! - `NBDKIT`: the nbdkit to run it in; by default the one on PATH.
//! - `LARDER`: the `larder` program; by default the release build of this workspace.
//!
//! Whatever the harness starts or mounts is gone when the test ends, also when it panics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness fails by panicking, with the values that were wrong"
)]

mod background;
mod cache_file;
mod certificates;
mod client;
mod command;
mod eval_disk;
mod filter;
mod image;
mod larder;
mod model;
mod mount;
mod mounted_disk;
mod nbdkit;
mod origin_server;
mod plugin_log;
mod random;
mod scratch;
mod server;
mod stats_line;
mod torture;
mod wait;
mod web_server;
mod workload;

pub use background::{Background, free_port};
pub use cache_file::{CacheFile, UsageSampler};
pub use certificates::Certificates;
pub use client::{Client, Cookie, Export, Extent, Flags, Form, Reply, Request};
pub use command::{output_of, run, run_expecting_failure};
pub use eval_disk::EvalDisk;
pub use filter::FilterUnderTest;
pub use image::{
    assert_filled, assert_read_in_order, assert_same_bytes, random_file, read_at, read_file,
    sparse_file, write_at,
};
pub use larder::Larder;
pub use model::Model;
pub use mount::{FuseMount, LoopDevice, Mount};
pub use mounted_disk::MountedDisk;
pub use nbdkit::Nbdkit;
pub use origin_server::OriginServer;
pub use plugin_log::{PluginCall, PluginLog};
pub use random::Random;
pub use scratch::Scratch;
pub use server::{Exit, Server};
pub use stats_line::StatsLine;
pub use torture::{Torture, soak_for_seconds};
pub use wait::{best_of, wait_until, wait_within};
pub use web_server::WebServer;
pub use workload::{Plan, run_workload};

/// Bytes in a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
