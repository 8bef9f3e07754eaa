//! `cargo xtask fuzz`: libFuzzer on the NBD messages and on the bytes of a cache directory, for as long as one likes.
//!
//! Without a sanitizer, since those need a nightly compiler; the code under test has no unsafe block.

use std::fs;

use crate::cargo::{cargo, workspace};
use crate::failure::Failure;
use crate::options::Options;
use crate::run::{run as run_command, succeeds};

/// A target and its crate, which has a folder `fuzz`.
const TARGETS: [(&str, &str); 4] = [
    ("crates/nbd-wire", "handshake"),
    ("crates/nbd-wire", "requests"),
    ("crates/nbd-wire", "replies"),
    ("crates/larder", "format"),
];

/// An equal part of the time for each target. What is found is in `fuzz/artifacts` of its crate.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let seconds: u64 = options.number("seconds", 600)?;
    let each = (seconds / TARGETS.len() as u64).max(1);
    ensure_cargo_fuzz()?;
    for (folder, target) in TARGETS {
        let folder = workspace().join(folder);
        let corpus = folder.join("fuzz/corpus").join(target);
        fs::create_dir_all(&corpus)
            .map_err(|e| Failure::new(format!("{}: {e}", corpus.display())))?;
        let mut command = cargo(&["fuzz", "run", "--sanitizer", "none", target, "--"]);
        command.current_dir(folder);
        run_command(command.args([
            &format!("-max_total_time={each}"),
            "-max_len=8192",
            "-rss_limit_mb=512",
        ]))?;
    }
    Ok(())
}

fn ensure_cargo_fuzz() -> Result<(), Failure> {
    if succeeds(&mut cargo(&["fuzz", "--version"])) {
        return Ok(());
    }
    run_command(&mut cargo(&["install", "--locked", "cargo-fuzz"]))
}
