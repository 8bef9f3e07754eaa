//! `cargo xtask soak`: the random tests, for as long as one likes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::cargo::{build_filter, build_server, cargo};
use crate::failure::Failure;
use crate::options::Options;
use crate::run::run as run_command;
use crate::tools;

/// An equal share of the time for the model in the engine, the crash simulator over the engine, over crowds of clients and over the files of
/// a cache directory, the filter, the server, and both killed over a cache directory under a client that knows what it wrote, under fio, under a file
/// system and under a database.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let seconds: u64 = options.number("seconds", 600)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed: u64 = options.number("seed", now.map_or(1, |time| time.as_secs()))?;
    eprintln!("xtask: {seconds} seconds; repeat with --seed {seed}");
    tools::ensure_for_tests()?;
    build_filter()?;
    build_server()?;
    let parts = [
        ("larder-testing", "model"),
        ("larder-testing", "crash_engine"),
        ("larder-testing", "crash_crowd"),
        ("larder-testing", "persist_crash"),
        ("larder-e2e", "random"),
        ("larder-e2e", "serve_random"),
        ("larder-e2e", "kills"),
        ("larder-e2e", "keep_fio"),
        ("larder-e2e", "keep_ext4"),
        ("larder-e2e", "keep_sqlite"),
        ("larder-e2e", "keep_order"),
        ("larder-e2e", "keep_order_loss"),
    ];
    let share_seconds = seconds / parts.len() as u64;
    for (package, test) in parts {
        run_command(
            cargo(&["test", "--locked", "--release"])
                .args(["--package", package, "--test", test])
                .args(["--", "--ignored", "--nocapture", "soak"])
                .env("LARDER_SOAK_SECONDS", share_seconds.to_string())
                .env("LARDER_SEED", seed.to_string()),
        )?;
    }
    Ok(())
}
