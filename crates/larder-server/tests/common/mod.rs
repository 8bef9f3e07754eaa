//! A `larder` process of a test's own, and what the tests look at.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// A directory, removed when the test ends. Its path is short, since Unix socket addresses are.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/larder-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `larder` with arguments, not yet started.
pub(crate) fn larder(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("NOTIFY_SOCKET");
    command
}

/// Runs to the end.
pub(crate) fn output(arguments: &[&str]) -> Output {
    larder(arguments).output().unwrap()
}

/// What a refused command line says: one line, status 1, nothing served.
pub(crate) fn refusal(arguments: &[&str]) -> String {
    let output = output(arguments);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    let line = told.strip_suffix('\n').unwrap();
    assert!(!line.contains(|c: char| c.is_control()), "{told:?}");
    line.strip_prefix("larder: ").unwrap().to_owned()
}

/// A server that serves. It is killed if the test forgets it.
pub(crate) struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it and waits until it has told of `exports` exports, which are the lines returned.
    pub(crate) fn start(command: &mut Command, exports: usize) -> (Self, Vec<String>) {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, stdout };
        let lines = (0..exports).map(|_| server.line());
        let lines = lines.collect();
        (server, lines)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut told = String::new();
            let stderr = self.child.stderr.as_mut().unwrap();
            stderr.read_to_string(&mut told).unwrap();
            panic!("not served: {told}");
        }
        line
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end. The status, and what was told on standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut told = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut told).unwrap();
        (self.child.wait().unwrap(), told)
    }

    /// Ends it by SIGTERM, which must be a success.
    pub(crate) fn stop(self) {
        self.signal(Signal::TERM);
        let (status, told) = self.end();
        assert_eq!(status.code(), Some(0), "{told}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The URI at the end of a line that tells of an export.
pub(crate) fn uri(line: &str) -> &str {
    line.trim_end().rsplit(' ').next().unwrap()
}

/// Whether a server listens on a Unix socket.
pub(crate) fn listens(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}
