//! `cargo xtask soak`: the random tests, for as long as one likes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::cargo::{build_filter, build_server, cargo};
use crate::failure::Failure;
use crate::options::Options;
use crate::run::run as run_command;
use crate::tools;

/// A quarter of the time for the model in the engine, one for the filter, one for the server, one for both killed over a cache
/// directory.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let seconds: u64 = options.number("seconds", 600)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed: u64 = options.number("seed", now.map_or(1, |time| time.as_secs()))?;
    eprintln!("xtask: {seconds} seconds; repeat with --seed {seed}");
    tools::ensure_for_tests()?;
    build_filter()?;
    build_server()?;
    for selection in [
        &["--package", "larder-testing"][..],
        &["--package", "larder-e2e", "--test", "random"],
        &["--package", "larder-e2e", "--test", "serve_random"],
        &["--package", "larder-e2e", "--test", "kills"],
    ] {
        run_command(
            cargo(&["test", "--locked", "--release"])
                .args(selection)
                .args(["--", "--ignored", "--nocapture", "soak"])
                .env("LARDER_SOAK_SECONDS", (seconds / 4).to_string())
                .env("LARDER_SEED", seed.to_string()),
        )?;
    }
    Ok(())
}
