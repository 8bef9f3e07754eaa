//! Programs that run beside the benchmark, and end with it however it ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::directory::Directory;
use crate::failure::Failure;

const START_LIMIT: Duration = Duration::from_secs(10);

/// A command that the kernel kills when the benchmark dies. Its cache, if it has one, is in the
/// directory; its output goes nowhere.
pub(super) fn command(program: impl AsRef<OsStr>, directory: &Directory) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .env("TMPDIR", directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A running program, killed when dropped: what it would still write back is of no interest.
pub(super) struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    /// Starts a command and waits until `is_ready`.
    pub(super) fn start(
        mut command: Command,
        directory: &Directory,
        is_ready: impl Fn() -> bool,
    ) -> Result<Self, Failure> {
        let said = directory.path().join("said");
        let stderr = File::create(&said).map_err(|e| Failure::at(&said, &e))?;
        let child = command
            .stderr(stderr)
            .spawn()
            .map_err(|e| Failure::new(format!("cannot run {command:?}: {e}")))?;
        let mut process = Self { child, said };
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready() {
            let has_ended = process
                .child
                .try_wait()
                .is_ok_and(|status| status.is_some());
            if has_ended || Instant::now() > deadline {
                let said = fs::read_to_string(&process.said).unwrap_or_default();
                return Err(Failure::new(format!("{command:?} does not serve: {said}")));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
