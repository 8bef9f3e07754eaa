//! `cargo xtask install` and `uninstall`.
//!
//! Every step leaves nbdkit with a filter that works: files are written under another name and
//! renamed into place, and the original of nbdkit's cache filter gets its second name before ours
//! takes the first. Whatever step was the last, `install` goes on from there and `uninstall` goes
//! back.

mod cache_place;
mod directories;
mod files;

use std::env;
use std::process::Command;

use crate::cargo::{build_filter, built_filter, workspace};
use crate::failure::Failure;
use crate::options::Options;
use crate::run::run as run_command;
use crate::tools;
use cache_place::CachePlace;
use directories::Directories;

const FILTER: &str = "nbdkit-larder-filter.so";
const MANUAL_PAGE: &str = "nbdkit-larder-filter.1";
const OPTIONS: [&str; 4] = ["as", "filterdir", "mandir", "build"];

pub(crate) fn install(arguments: &[String]) -> Result<(), Failure> {
    let options = Options::parse(arguments, &OPTIONS)?;
    let as_cache = match options.value("as") {
        None => false,
        Some("cache") => true,
        Some(other) => {
            return Err(Failure::new(format!(
                "--as {other}: the filter can be installed as cache, or without --as as larder"
            )));
        }
    };
    let directories = Directories::find(&options)?;
    let filter = if options.value("build") == Some("no") {
        built_filter()?
    } else {
        build_filter()?
    };
    if !directories.are_writable() {
        return again_as_root("install", arguments);
    }
    let page = workspace().join("crates/larder-nbdkit").join(MANUAL_PAGE);
    files::put(&page, &directories.man1.join(MANUAL_PAGE))?;
    let place = if as_cache {
        CachePlace::of(&directories).take(&filter)?
    } else {
        let place = directories.filters.join(FILTER);
        files::put(&filter, &place)?;
        place
    };
    println!("installed {}", place.display());
    Ok(())
}

pub(crate) fn uninstall(arguments: &[String]) -> Result<(), Failure> {
    let options = Options::parse(arguments, &OPTIONS)?;
    let directories = Directories::find(&options)?;
    if !directories.are_writable() {
        return again_as_root("uninstall", arguments);
    }
    let mut undone = Vec::new();
    if CachePlace::of(&directories).give_back()? {
        undone.push("the original cache filter is back".to_owned());
    }
    for file in [
        directories.filters.join(FILTER),
        directories.man1.join(MANUAL_PAGE),
    ] {
        if files::remove(&file)? {
            undone.push(format!("removed {}", file.display()));
        }
    }
    if undone.is_empty() {
        undone.push("nothing was installed".to_owned());
    }
    println!("{}", undone.join("\n"));
    Ok(())
}

/// The directories are root's. What is built stays built by whom it was built.
fn again_as_root(command: &str, arguments: &[String]) -> Result<(), Failure> {
    if tools::is_root() {
        return Err(Failure::new("even root cannot write where nbdkit looks"));
    }
    let xtask = env::current_exe().map_err(|e| Failure::new(format!("own path: {e}")))?;
    run_command(
        Command::new("sudo")
            .arg(xtask)
            .arg(command)
            .args(arguments)
            .args(["--build", "no"]),
    )
}
