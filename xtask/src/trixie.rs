//! Debian 13's nbdkit, libnbd and qemu beside the installed ones, for tests with second versions.
//!
//! They live in a Debian of their own under `target/trixie`. Scripts, which tests run in the place
//! of the programs, change their root to there. Everything the tests name by path, from the filter to
//! their sockets, is bind-mounted to the same path there, in a mount namespace of the process's
//! own, so that nothing is left to undo. A script ends in the program it starts: signals, and the
//! process number that tests look up in `/proc`, are the program's own.
//!
//! Running the other Debian's nbdkit without changing the root, through its own dynamic linker, would not do:
//! plugins and filters are found by paths that are compiled in, and `/proc/self/exe`, which the
//! filter asks for nbdkit's version, would be the linker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::workspace;
use crate::failure::Failure;
use crate::run::{output, run};
use crate::tools;

/// What is installed there. What nbdkit runs for a test sees the other Debian too, and has libnbd's Python module.
const PACKAGES: &str = "--include=nbdkit,libnbd-bin,qemu-utils,python3-libnbd";

/// Where programs are looked for there, or else the tests' own search path would lead back to our scripts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The programs that tests run from there.
const PROGRAMS: [&str; 6] = [
    "nbdkit", "nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "qemu-nbd",
];

/// Makes the second Debian unless it is there, and returns the directory of scripts that stand for its
/// programs.
pub(crate) fn prepare() -> Result<PathBuf, Failure> {
    if !tools::is_root() {
        return Err(Failure::new(
            "--nbdkit trixie needs root, to change the root directory: try sudo",
        ));
    }
    let target = workspace().join("target");
    let root = target.join("trixie");
    let is_whole = |program: &&str| root.join("usr/bin").join(program).exists();
    if !PROGRAMS.iter().chain(&["python3"]).all(is_whole) {
        bootstrap(&root)?;
    }
    // A Debian this small cannot look up even this name.
    let hosts = root.join("etc/hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n::1 localhost\n")
        .map_err(|e| Failure::at(&hosts, &e))?;
    let scripts = target.join("trixie-bin");
    fs::create_dir_all(&scripts).map_err(|e| Failure::at(&scripts, &e))?;
    for program in PROGRAMS {
        let script = scripts.join(program);
        fs::write(&script, script_text(&root, program))
            .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
            .map_err(|e| Failure::at(&script, &e))?;
        let version = output(Command::new(&script).arg("--version"))?;
        let first = version.lines().next().unwrap_or_default();
        eprintln!("xtask: testing with {first}");
    }
    Ok(scripts)
}

/// Makes it under another name first: what bears the name is whole.
fn bootstrap(root: &Path) -> Result<(), Failure> {
    tools::ensure(&[tools::DEBOOTSTRAP])?;
    let unfinished = root.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|e| Failure::at(&unfinished, &e))?;
    }
    if let Some(parent) = unfinished.parent() {
        fs::create_dir_all(parent).map_err(|e| Failure::at(parent, &e))?;
    }
    run(Command::new("debootstrap")
        .args(["--variant=minbase", PACKAGES, "trixie"])
        .arg(&unfinished))?;
    if root.exists() {
        fs::remove_dir_all(root).map_err(|e| Failure::at(root, &e))?;
    }
    fs::rename(&unfinished, root).map_err(|e| Failure::at(root, &e))
}

fn script_text(root: &Path, program: &str) -> String {
    format!(
        "#!/bin/sh
# Debian 13's {program}, seeing the tests' files at the paths where they are.
export LARDER_ROOT='{root}' LARDER_SHARED='{shared} /tmp /var/tmp /dev /proc /sys'
exec unshare --mount --propagation private sh -ec '
    for path in $LARDER_SHARED; do
        mkdir -p \"$LARDER_ROOT$path\"
        mount --rbind \"$path\" \"$LARDER_ROOT$path\"
    done
    exec chroot \"$LARDER_ROOT\" /usr/bin/env --chdir=\"$PWD\" PATH={PATH} {program} \"$@\"
' {program} \"$@\"
",
        root = root.display(),
        shared = workspace().display()
    )
}
