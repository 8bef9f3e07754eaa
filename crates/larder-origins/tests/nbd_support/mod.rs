//! What the NBD tests share: peers, directories, a log that keeps what it is told.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod scripted;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder::Origin;
use larder_origins::{Address, NbdAddress, Options, Source, open};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of a test's own.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/tmp/larder-nbd-{}-{number}", std::process::id());
        fs::create_dir(&path).unwrap();
        Self(path.into())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of that size, with the test's pattern.
    pub(crate) fn image(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, pattern(0, size as usize)).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes that tell their place.
pub(crate) fn pattern(offset: u64, length: usize) -> Vec<u8> {
    (offset..offset + length as u64)
        .map(|at| ((at / 251) ^ at.wrapping_mul(7) ^ (at >> 16)) as u8)
        .collect()
}

pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Keeps what it is told.
#[derive(Default)]
pub(crate) struct TestLog(Mutex<Vec<String>>);

impl TestLog {
    /// Errors and warnings.
    pub(crate) fn messages(&self) -> Vec<String> {
        let mut messages = self.0.lock().unwrap().clone();
        messages.retain(|line| !line.starts_with("debug: "));
        messages
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.count(text) > 0
    }

    pub(crate) fn count(&self, text: &str) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).count()
    }
}

impl larder::Log for TestLog {
    fn error(&self, message: &str) {
        self.0.lock().unwrap().push(format!("error: {message}"));
    }
    fn warning(&self, message: &str) {
        self.0.lock().unwrap().push(format!("warning: {message}"));
    }
    fn debug(&self, message: &str) {
        self.0.lock().unwrap().push(format!("debug: {message}"));
    }
    fn verbose(&self) -> bool {
        true
    }
}

/// A source with its log.
pub(crate) struct Opened {
    pub(crate) source: Box<dyn Source>,
    pub(crate) log: Arc<TestLog>,
}

impl Opened {
    pub(crate) fn handle(&self) -> Arc<dyn Origin> {
        self.source.connect().unwrap()
    }
}

pub(crate) fn options(timeout: Duration) -> (Options, Arc<TestLog>) {
    let log = Arc::new(TestLog::default());
    let options = Options {
        read_only: false,
        timeout,
        http_headers: Vec::new(),
        tls_ca: None,
        log: Arc::clone(&log) as Arc<dyn larder::Log>,
    };
    (options, log)
}

pub(crate) fn try_open(uri: &str, change: impl FnOnce(&mut Options)) -> Result<Opened, String> {
    let (mut options, log) = options(Duration::from_secs(20));
    change(&mut options);
    let address = NbdAddress::parse(uri).map_err(|error| error.to_string())?;
    open(&Address::Nbd(address), &options)
        .map(|source| Opened { source, log })
        .map_err(|error| error.to_string())
}

pub(crate) fn open_uri(uri: &str) -> Opened {
    try_open(uri, |_| {}).unwrap()
}

pub(crate) fn open_socket(socket: &Path) -> Opened {
    open_uri(&format!("nbd+unix:///?socket={}", socket.display()))
}

pub(crate) fn read(origin: &dyn Origin, offset: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0xee; length];
    origin.read(offset, &mut data).unwrap();
    data
}

/// A server process; killed when dropped.
pub(crate) struct Peer(Child);

impl Peer {
    /// Starts `program`, which Debian has in `package`, and waits until `socket` takes connections.
    pub(crate) fn start(command: &mut Command, package: &str, socket: &Path) -> Self {
        let _ = fs::remove_file(socket);
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).spawn();
        let mut child = child
            .unwrap_or_else(|e| panic!("{program:?}: {e}: install the Debian package {package}"));
        wait_until("the server listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{program:?} ended: {status}");
            }
            UnixStream::connect(socket).is_ok()
        });
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nbdkit with these arguments on a Unix socket.
pub(crate) fn nbdkit(socket: &Path, arguments: &[&str]) -> Peer {
    let mut command = Command::new("nbdkit");
    command.args(["-f", "-U"]).arg(socket).args(arguments);
    Peer::start(&mut command, "nbdkit", socket)
}

/// qemu-nbd with these arguments on a Unix socket.
pub(crate) fn qemu_nbd(socket: &Path, arguments: &[&str]) -> Peer {
    let mut command = Command::new("qemu-nbd");
    command
        .args(["-t", "-e", "0", "-k"])
        .arg(socket)
        .args(arguments);
    Peer::start(&mut command, "qemu-utils", socket)
}

/// Runs a command to its end.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|e| panic!("{program}: {e}: install the Debian package {package}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

/// A generator of numbers that a seed determines.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}
