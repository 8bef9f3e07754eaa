//! The programs that commands need, installed from Debian's packages when they are missing.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::run::{run, succeeds};

/// A program, or the path of another file, and the package that has it.
pub(crate) type Tool = (&'static str, &'static str);

pub(crate) const NBDKIT: Tool = ("nbdkit", "nbdkit");
pub(crate) const FIO: Tool = ("fio", "fio");
pub(crate) const QEMU_IMG: Tool = ("qemu-img", "qemu-utils");
pub(crate) const QEMU_NBD: Tool = ("qemu-nbd", "qemu-utils");
pub(crate) const QEMU_STORAGE_DAEMON: Tool = ("qemu-storage-daemon", "qemu-utils");
pub(crate) const NBD_SERVER: Tool = ("nbd-server", "nbd-server");
pub(crate) const MKE2FS: Tool = ("mke2fs", "e2fsprogs");
pub(crate) const NGINX: Tool = ("nginx", "nginx-light");
/// nginx's module that can delay answers.
pub(crate) const NGINX_ECHO: Tool = (
    "/usr/lib/nginx/modules/ngx_http_echo_module.so",
    "libnginx-mod-http-echo",
);
/// Has `--pdeathsig`.
pub(crate) const SETPRIV: Tool = ("setpriv", "util-linux");
pub(crate) const UNSHARE: Tool = ("unshare", "util-linux");
pub(crate) const DEBOOTSTRAP: Tool = ("debootstrap", "debootstrap");

/// What the tests run.
pub(crate) const FOR_TESTS: [Tool; 22] = [
    NBDKIT,
    FIO,
    ("nbdinfo", "libnbd-bin"),
    ("nbdcopy", "libnbd-bin"),
    ("nbdfuse", "libnbd-bin"),
    QEMU_IMG,
    ("qemu-io", "qemu-utils"),
    QEMU_NBD,
    ("nbd-client", "nbd-client"),
    NBD_SERVER,
    MKE2FS,
    ("e2fsck", "e2fsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.xfs", "xfsprogs"),
    NGINX,
    ("openssl", "openssl"),
    ("systemd-socket-activate", "systemd"),
    ("losetup", "mount"),
    UNSHARE,
    ("man", "man-db"),
    ("find", "findutils"),
    ("blkparse", "blktrace"),
];

/// Installs packages and starts none of their services: the web server and the NBD server are for
/// tests, which start their own. Where the machine has a policy about that, it is left alone.
const INSTALL: &str = "
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\\nexit 101\\n' >$policy
    chmod 755 $policy
fi
DEBIAN_FRONTEND=noninteractive \\
    apt-get install -qq --yes --no-install-recommends \"$@\" </dev/null
";

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Installs the packages of those tools that are missing.
pub(crate) fn ensure(tools: &[Tool]) -> Result<(), Failure> {
    let missing = tools.iter().filter(|(program, _)| !is_installed(program));
    install(missing.map(|(_, package)| *package).collect())
}

/// Installs what the tests need, the Python module of the binding's tests included.
pub(crate) fn ensure_for_tests() -> Result<(), Failure> {
    ensure(&FOR_TESTS)?;
    ensure_python_nbd()
}

/// Debian's Python, which is the one that Debian's modules are for.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Installs libnbd's Python module, and SQLite's, which comes with Python.
pub(crate) fn ensure_python_nbd() -> Result<(), Failure> {
    if !succeeds(Command::new(PYTHON).args(["-c", "import nbd, sqlite3"])) {
        install(vec!["python3", "python3-libnbd"])?;
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    find(program).is_some()
}

/// Where a program is: on PATH, or where only root's PATH looks.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&path)
        .chain(administrators)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

fn install(mut packages: Vec<&str>) -> Result<(), Failure> {
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(Failure::new(format!(
            "missing here, and there is no apt-get to install them with: the Debian packages {list}"
        )));
    }
    eprintln!("xtask: installing {list}");
    run(apt_get().arg("update").arg("-qq"))?;
    run(as_root("sh").args(["-c", INSTALL, "sh"]).args(&packages))
        .map_err(|e| Failure::new(format!("cannot install {list}: {e}")))
}

fn apt_get() -> Command {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    command.stdin(std::process::Stdio::null());
    command
}

/// A command to be run as root: through sudo, when we are not.
pub(crate) fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}
