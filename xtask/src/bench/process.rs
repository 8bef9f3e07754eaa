//! Programs that run beside the benchmark, and end with it however it ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::usage::Usage;
use crate::failure::Failure;

/// The ceiling fills all its memory first.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Writing back what a cache of 64 MiB holds takes less.
const END_LIMIT: Duration = Duration::from_secs(120);

/// A command that the kernel kills when the benchmark dies. Its cache, if it has one, is in
/// `directory`; its output goes nowhere.
pub(super) fn command(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .env("TMPDIR", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A running program, killed when dropped: what it would still write back is of no interest then.
pub(super) struct Process {
    child: Child,
    said: PathBuf,
}

impl Process {
    /// Starts a command and waits until `is_ready`. What it says on stderr goes to the file `said`.
    pub(super) fn start(
        mut command: Command,
        said: PathBuf,
        is_ready: impl Fn() -> bool,
    ) -> Result<Self, Failure> {
        let stderr = File::create(&said).map_err(|e| Failure::at(&said, &e))?;
        let child = command
            .stderr(stderr)
            .spawn()
            .map_err(|e| Failure::new(format!("cannot run {command:?}: {e}")))?;
        let mut process = Self { child, said };
        let deadline = Instant::now() + START_LIMIT;
        while !is_ready() {
            if process.has_ended() || Instant::now() > deadline {
                let said = process.said();
                return Err(Failure::new(format!("{command:?} does not serve: {said}")));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(process)
    }

    pub(super) fn usage(&self) -> Result<Usage, Failure> {
        Usage::of(self.child.id())
    }

    /// Asks it to end, as a service manager does, and waits until it has.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        let signalled = Pid::from_raw(self.child.id().cast_signed())
            .is_some_and(|process| kill_process(process, Signal::TERM).is_ok());
        let deadline = Instant::now() + END_LIMIT;
        while signalled && !self.has_ended() {
            if Instant::now() > deadline {
                let said = self.said();
                return Err(Failure::new(format!("a server does not end: {said}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
