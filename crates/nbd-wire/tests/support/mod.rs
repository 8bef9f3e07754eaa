//! What the mutation test and the fuzz targets share.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

pub mod mutation;
pub mod properties;
pub mod seeds;
