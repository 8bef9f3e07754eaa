//! Starting `larder serve`, as little as these tests need.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use larder_e2e::{Scratch, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// A `larder serve` command line in the making.
#[derive(Clone, Debug)]
pub struct Larder {
    socket: PathBuf,
    output: PathBuf,
    tmpdir: PathBuf,
    arguments: Vec<String>,
    origins: Vec<String>,
}

/// A server that runs, killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    socket: PathBuf,
    output: PathBuf,
}

impl Larder {
    /// `larder serve` without any origin yet, on a socket of its own.
    pub fn serve(scratch: &Scratch) -> Self {
        Self {
            socket: scratch.path("larder.socket"),
            output: scratch.path("larder.output"),
            tmpdir: scratch.make_dir("larder.tmpdir"),
            arguments: Vec::new(),
            origins: Vec::new(),
        }
    }

    /// Adds an origin, `[NAME=]ORIGIN`.
    pub fn origin(mut self, origin: impl AsRef<str>) -> Self {
        self.origins.push(origin.as_ref().to_owned());
        self
    }

    /// Adds a file as an origin.
    pub fn file(self, path: &Path) -> Self {
        self.origin(path.display().to_string())
    }

    /// Adds an option with a value, `name=value`.
    pub fn parameter(mut self, parameter: &str) -> Self {
        self.arguments.push(format!("--{parameter}"));
        self
    }

    /// Starts the server and waits until it serves.
    pub fn start(self) -> Server {
        let program = std::env::var_os("LARDER").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/larder"),
            PathBuf::from,
        );
        let output = File::create(&self.output).expect("a file for the server's output");
        let mut command = Command::new(program);
        command.arg("serve").args(&self.arguments);
        command.arg(format!("--listen=unix:{}", self.socket.display()));
        command.args(&self.origins).env("TMPDIR", &self.tmpdir);
        command.stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a second descriptor"));
        let child = command.stderr(output).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let mut server = Server {
            child,
            socket: self.socket,
            output: self.output,
        };
        wait_until("the server serves", || {
            let ended = server.child.try_wait().expect("the server's status");
            assert!(ended.is_none(), "{ended:?}\n{}", server.output());
            let output = server.output();
            let served = output.lines().filter(|l| l.contains("serving "));
            served.count() >= self.origins.len()
        });
        server
    }
}

impl Server {
    /// The Unix socket that it listens on.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Asks it to end, with SIGTERM, waits, and asserts that it ended well.
    pub fn stop(mut self) {
        self.terminate();
        wait_until("the server has ended", || {
            self.child
                .try_wait()
                .expect("the server's status")
                .is_some()
        });
        let status = self.child.wait().expect("the server's status");
        assert_eq!(status.code(), Some(0), "{}", self.output());
    }

    /// Asks it to end, and does not wait.
    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("SIGTERM");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's output:\n{}", self.output());
        }
    }
}
