//! Real nbdkits with this crate's example filters, and clients to drive them.
//!
//! `NBDKIT` names the nbdkit command (default: `nbdkit`). Each server has a folder of its own with
//! its socket and its log; both, and the server, go when it is dropped. Nothing here sleeps for
//! a fixed time to be right: what is awaited is looked for until a deadline that means failure.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// The file of an example filter, freshly built.
pub fn filter(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(build_examples);
    folder.join(format!("lib{name}.so"))
}

/// Builds them the way this test was built, and tells where they are.
fn build_examples() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile_folder = test.parent().and_then(Path::parent).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "nbdkit-filter",
            "--examples",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(profile_folder.parent().unwrap());
    if profile_folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(
        cargo.status().unwrap().success(),
        "the examples do not build"
    );
    profile_folder.join("examples")
}

/// The command that `NBDKIT` names.
pub fn nbdkit() -> OsString {
    std::env::var_os("NBDKIT").unwrap_or_else(|| "nbdkit".into())
}

/// Major and minor version of the nbdkit that is tested.
pub fn nbdkit_version() -> (u32, u32) {
    let output = run(Command::new(nbdkit()).arg("--version"), "nbdkit");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut numbers = text.trim_start_matches("nbdkit ").split('.');
    let mut next = || numbers.next().unwrap().parse().unwrap();
    (next(), next())
}

/// Runs a program to its end; `package` is the Debian package to install if there is none.
pub fn run(command: &mut Command, package: &str) -> Output {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!(
            "{:?}: {error}: install the Debian package {package}",
            command.get_program()
        ),
    }
}

/// Everything a program said.
pub fn text_of(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Runs an nbdkit that is expected to end by itself; if it does not, its status is 124.
pub fn nbdkit_ends(arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg(DEADLINE.as_secs().to_string());
    let output = run(command.arg(nbdkit()).arg("-f").args(arguments), "coreutils");
    let missing = output.status.code() == Some(127);
    assert!(
        !missing,
        "{:?}: install the Debian package nbdkit",
        nbdkit()
    );
    output
}

/// `--filter=` with an example.
pub fn with_filter(name: &str) -> String {
    format!("--filter={}", filter(name).display())
}

/// A folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("nbdkit-filter-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running nbdkit.
pub struct Server {
    child: Child,
    folder: Folder,
}

impl Server {
    /// Starts nbdkit and waits until it serves.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let log = File::create(folder.file("log")).unwrap();
        let child = Command::new(nbdkit())
            .args(["-f", "--exit-with-parent", "-U"])
            .arg(folder.file("socket"))
            .arg("-P")
            .arg(folder.file("pid"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("nbdkit: {error}: install the Debian package nbdkit"));
        let mut server = Self { child, folder };
        let deadline = Instant::now() + DEADLINE;
        while !server.folder.file("pid").exists() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "nbdkit ended: {}", server.log());
            assert!(
                Instant::now() < deadline,
                "nbdkit does not start: {}",
                server.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
        server
    }

    /// Starts nbdkit with the probe and a plugin.
    pub fn probe(mode: &str, arguments: &[&str]) -> Self {
        let filter = with_filter("probe");
        let mode = format!("probe={mode}");
        let mut all = vec![filter.as_str()];
        all.extend(arguments);
        all.push(&mode);
        Self::start(&all)
    }

    pub fn log(&self) -> String {
        let log = fs::read(self.folder.file("log")).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until the log holds a text.
    pub fn await_log(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in: {}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn uri(&self) -> String {
        self.uri_of("")
    }

    pub fn uri_of(&self, export: &str) -> String {
        let socket = self.folder.file("socket");
        format!("nbd+unix:///{export}?socket={}", socket.display())
    }

    /// Starts a client: a Python script in which `h` is a libnbd handle that is connected, unless
    /// the script is told to begin with an unconnected one.
    fn python(&self, script: &str, connect: bool) -> Command {
        let connect = if connect { "h.connect_uri(uri)" } else { "" };
        let prelude = format!(
            "import errno, nbd, sys\n\
             uri = {:?}\n\
             h = nbd.NBD()\n\
             h.add_meta_context('base:allocation')\n\
             h.set_strict_mode(0)\n\
             {connect}\n\
             def fails(number, call):\n\
             \x20   try: call()\n\
             \x20   except nbd.Error as error:\n\
             \x20       assert error.errnum == number, (error.errnum, number)\n\
             \x20   else: raise Exception('it did not fail')\n",
            self.uri(),
        );
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-c").arg(prelude + script);
        command
    }

    fn checked(&self, mut command: Command) -> String {
        let output = run(&mut command, "python3-libnbd");
        let text = text_of(&output);
        assert!(
            output.status.success(),
            "client (Debian package python3-libnbd): {text}\nnbdkit: {}",
            self.log()
        );
        text
    }

    /// Runs a client with a connected handle; it has to succeed.
    pub fn client(&self, script: &str) -> String {
        self.checked(self.python(script, true))
    }

    /// Runs a client with a handle that is not connected yet; it has to succeed.
    pub fn unconnected_client(&self, script: &str) -> String {
        self.checked(self.python(script, false))
    }

    /// Starts a client whose end is not awaited.
    pub fn client_in_background(&self, script: &str) -> Child {
        let mut command = self.python(script, true);
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Ends nbdkit as a service manager would and tells how it ended and what it said.
    pub fn stop(mut self) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        // The client is gone, so nothing keeps nbdkit from ending.
        run(Command::new("kill").arg(pid), "procps");
        let status = self.child.wait().unwrap();
        (status, self.log())
    }

    /// Stops nbdkit, which must have survived everything.
    pub fn stop_well(self) -> String {
        let (status, log) = self.stop();
        assert!(status.success(), "nbdkit ended with {status}: {log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
