//! What the tests of origins share: scratch files, loop devices, and a model to compare with.

#![allow(
    dead_code,
    reason = "each test program uses a part of it, and none uses all"
)]

pub(crate) mod loop_device;
pub(crate) mod model;
pub(crate) mod scratch;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder_origins::{Address, OpenError, Options, Source};
use larder_testing::MemoryLog;

/// For tests of one program that start other programs, or open anew what was locked: a program that is being
/// started holds all that is open here until it runs.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens an origin as the command line would.
pub(crate) fn open(
    origin: impl AsRef<OsStr>,
    read_only: bool,
) -> Result<Box<dyn Source>, OpenError> {
    let options = Options {
        read_only,
        timeout: Duration::from_secs(30),
        http_headers: Vec::new(),
        tls_ca: None,
        log: Arc::new(MemoryLog::default()),
    };
    larder_origins::open(&Address::parse(origin.as_ref())?, &options)
}

/// The line that refuses the origin.
pub(crate) fn refusal(origin: impl AsRef<OsStr>, read_only: bool) -> String {
    let error = open(origin, read_only).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// What a tool prints. A tool that is missing is named with its Debian package.
pub(crate) fn run(package: &str, program: &str, arguments: &[&OsStr]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install the package {package}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}: {errors} (this test needs root)",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A further node of a block device.
pub(crate) fn make_node(path: &Path, device: u64) {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let numbers = [major.to_string(), minor.to_string()];
    let arguments = [
        path.as_os_str(),
        "b".as_ref(),
        numbers[0].as_ref(),
        numbers[1].as_ref(),
    ];
    run("coreutils", "mknod", &arguments);
}

/// Bytes that the file takes on disk.
pub(crate) fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().blocks() * 512
}
