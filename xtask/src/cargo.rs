//! Building and testing the workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::run::run;

/// The top of the workspace: where cargo runs this from, and not where it was once built.
pub(crate) fn workspace() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map(Path::to_owned).unwrap_or(xtask)
}

/// A cargo command in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments).current_dir(workspace());
    command
}

/// Builds the filter for use, and returns the path of the file.
pub(crate) fn build_filter() -> Result<PathBuf, Failure> {
    build_release(&["--package", "nbdkit-larder-filter"])?;
    built_filter()
}

/// The path of the filter that was built before.
pub(crate) fn built_filter() -> Result<PathBuf, Failure> {
    built("libnbdkit_larder_filter.so")
}

/// Builds the `larder` command for use, and returns the path of the program.
pub(crate) fn build_server() -> Result<PathBuf, Failure> {
    build_release(&["--package", "larder-server", "--bin", "larder"])?;
    built("larder")
}

/// Builds the server that the benchmark measures `larder serve` against, and returns its path.
pub(crate) fn build_ceiling() -> Result<PathBuf, Failure> {
    build_release(&["--package", "larder-server", "--example", "ceiling"])?;
    built("examples/ceiling")
}

fn build_release(what: &[&str]) -> Result<(), Failure> {
    run(cargo(&["build", "--release", "--locked"]).args(what))
}

fn built(file: &str) -> Result<PathBuf, Failure> {
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let path = target.join("release").join(file);
    if path.exists() {
        return Ok(path);
    }
    let path = path.display();
    Err(Failure::new(format!("{path} is not there after building")))
}
