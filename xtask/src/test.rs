//! `cargo xtask test`: every test there is.

use std::process::Command;

use crate::cargo::{build_filter, build_server, cargo};
use crate::failure::Failure;
use crate::options::Options;
use crate::run::run as run_command;
use crate::{tools, trixie};

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    tools::ensure_for_tests()?;
    match options.value("nbdkit") {
        None => test_everything(),
        Some("trixie") => test_with_trixie(),
        Some(other) => Err(Failure::new(format!(
            "--nbdkit {other}: only trixie, which is Debian 13's, can be had"
        ))),
    }
}

fn test_everything() -> Result<(), Failure> {
    build_filter()?;
    build_server()?;
    run_all([
        tests(&["--workspace", "--exclude", "larder-e2e"]),
        end_to_end_tests(),
    ])
}

/// Those tests that run nbdkit, libnbd or qemu.
fn test_with_trixie() -> Result<(), Failure> {
    let scripts = trixie::prepare()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::iter::once(scripts.clone()).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(directories)
        .map_err(|e| Failure::new(format!("PATH with {}: {e}", scripts.display())))?;
    build_filter()?;
    build_server()?;
    let commands = [
        tests(&["--package", "nbdkit-filter", "--package", "larder-origins"]),
        end_to_end_tests(),
    ];
    run_all(commands.map(|mut command| {
        command.env("NBDKIT", scripts.join("nbdkit"));
        command.env("PATH", &path);
        // Its clients know extended headers, and tests may count on it.
        command.env("LARDER_EXPECT_EXTENDED_HEADERS", "1");
        command
    }))
}

/// Runs the second also when the first has failed, so that one run tells all.
fn run_all(commands: [Command; 2]) -> Result<(), Failure> {
    let [first, second] = commands.map(|mut command| run_command(&mut command));
    first.and(second)
}

/// Optimised, since they compare a lot of bytes.
fn end_to_end_tests() -> Command {
    tests(&["--release", "--package", "larder-e2e"])
}

fn tests(selection: &[&str]) -> Command {
    let mut command = cargo(&["test", "--locked", "--no-fail-fast"]);
    command.args(selection);
    if !tools::is_root() {
        // Some mount file systems and attach loop devices.
        let architecture = std::env::consts::ARCH.to_uppercase();
        let runner = format!("CARGO_TARGET_{architecture}_UNKNOWN_LINUX_GNU_RUNNER");
        command.env(runner, "sudo --preserve-env");
    }
    command
}
