//! Where this was measured, and with what versions.

use std::fs;
use std::process::Command;

use serde::Serialize;

use super::directory::Place;
use crate::cargo::workspace;
use crate::run::printed;
use crate::tools;

/// Names and values.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine(pub(super) Vec<(&'static str, String)>);

impl Machine {
    pub(super) fn this() -> Self {
        let nbd_server = tools::find(tools::NBD_SERVER.0);
        let nbd_server = nbd_server.unwrap_or_else(|| tools::NBD_SERVER.0.into());
        let line =
            |program: &str, arguments: &[&str]| first_line(Command::new(program).args(arguments));
        Self(vec![
            ("date", line("date", &["--utc", "+%Y-%m-%d"])),
            (
                "Larder",
                line(
                    "git",
                    &[
                        "-C",
                        &workspace().display().to_string(),
                        "describe",
                        "--always",
                        "--dirty",
                    ],
                ),
            ),
            ("processor", field_of("/proc/cpuinfo", "model name")),
            ("cores", cores()),
            ("memory", field_of("/proc/meminfo", "MemTotal")),
            ("kernel", line("uname", &["-sr"])),
            (
                "file system of the images and caches in memory",
                file_system(Place::Memory),
            ),
            ("file system of those on disk", file_system(Place::Disk)),
            ("nbdkit", line("nbdkit", &["--version"])),
            ("qemu", line("qemu-nbd", &["--version"])),
            ("nbd-server", first_line(Command::new(nbd_server).arg("-V"))),
            ("fio", line("fio", &["--version"])),
            ("rustc", line("rustc", &["--version"])),
        ])
    }
}

fn first_line(command: &mut Command) -> String {
    let text = printed(command).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}

/// The value behind `name   : ` in a file of /proc.
fn field_of(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.split_once(':'));
    value
        .map_or("unknown", |(_, value)| value.trim())
        .to_owned()
}

fn cores() -> String {
    std::thread::available_parallelism().map_or("unknown".to_owned(), |cores| cores.to_string())
}

fn file_system(place: Place) -> String {
    let mut command = Command::new("findmnt");
    command.args([
        "--noheadings",
        "--output",
        "FSTYPE",
        "--target",
        place.parent(),
    ]);
    format!("{} ({})", first_line(&mut command), place.parent())
}
