//! Clients that are hostile or broken, and what is seen of the server that bears them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests, each of which needs a part of this"
)]

pub mod origins;
pub mod raw;
pub mod spoilt;
pub mod tls;
pub mod usage;

#[path = "../../../nbd-wire/tests/support/mutation.rs"]
pub mod mutation;
