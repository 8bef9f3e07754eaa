//! Running tools. A tool that is missing is a failure that names it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Output};

/// The programs that tests run, and the packages that they are in.
const PACKAGES: [(&str, &str); 24] = [
    ("blkparse", "blktrace"),
    ("e2fsck", "e2fsprogs"),
    ("fio", "fio"),
    ("losetup", "mount"),
    ("mke2fs", "e2fsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("modprobe", "kmod"),
    ("mount", "mount"),
    ("nbd-client", "nbd-client"),
    ("nbd-server", "nbd-server"),
    ("nbdcopy", "libnbd-bin"),
    ("nbdfuse", "libnbd-bin"),
    ("nbdinfo", "libnbd-bin"),
    ("nbdkit", "nbdkit"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("python3", "python3-libnbd"),
    ("qemu-img", "qemu-utils"),
    ("qemu-io", "qemu-utils"),
    ("qemu-nbd", "qemu-utils"),
    ("systemd-socket-activate", "systemd"),
    ("umount", "mount"),
];

/// Runs a tool to its end and returns what it printed. Panics with that when it fails.
pub fn run<A: AsRef<OsStr>>(tool: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let mut command = Command::new(tool);
    command.args(arguments);
    let output = output_of(&mut command);
    let text = text_of(&output);
    assert!(
        output.status.success(),
        "{command:?} failed: {}\n{text}",
        output.status
    );
    text
}

/// Runs a tool that must fail, and returns what it printed.
pub fn run_expecting_failure<A: AsRef<OsStr>>(
    tool: &str,
    arguments: impl IntoIterator<Item = A>,
) -> String {
    let mut command = Command::new(tool);
    command.args(arguments);
    let output = output_of(&mut command);
    let text = text_of(&output);
    assert!(
        !output.status.success(),
        "{command:?} should have failed\n{text}"
    );
    text
}

/// Runs a command and returns its output, whatever its status. Panics when it cannot be started.
pub fn output_of(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| cannot_run(command, &error))
}

/// Panics with what a command is missing.
pub(crate) fn cannot_run(command: &Command, error: &io::Error) -> ! {
    let program = command.get_program();
    let name = Path::new(program).file_name().unwrap_or_default();
    let packages = PACKAGES.iter();
    let package = packages.filter(|(tool, _)| name == *tool);
    let package: String = package
        .map(|(_, package)| format!(" (Debian package {package})"))
        .collect();
    panic!("cannot run {program:?}{package}: {error}; `cargo xtask test` installs what tests need");
}

fn text_of(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "cannot run \"/absent/nbdinfo\" (Debian package libnbd-bin): ")]
    fn who_lacks_a_tool_is_told_its_package() {
        let _ = output_of(&mut Command::new("/absent/nbdinfo"));
    }

    #[test]
    #[should_panic(expected = "cannot run \"/absent/tool\": ")]
    fn a_tool_of_no_package_is_named() {
        let _ = output_of(&mut Command::new("/absent/tool"));
    }
}
