//! A server that runs: watching it, and ending it. nbdkit and `larder serve` alike.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::cache_file::CacheFile;
use crate::command::cannot_run;
use crate::filter::FilterUnderTest;
use crate::plugin_log::PluginLog;
use crate::scratch::Scratch;
use crate::stats_line::StatsLine;
use crate::wait::wait_until;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The files of one server, in a scratch directory that several may share.
#[derive(Clone, Debug)]
pub(crate) struct ServerFiles {
    prefix: PathBuf,
    socket: PathBuf,
    tmpdir: PathBuf,
}

impl ServerFiles {
    /// Names for one more server, and its directory for cache files.
    pub(crate) fn new(scratch: &Scratch) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let files = Self {
            prefix: scratch.path(&number.to_string()),
            socket: scratch.path(&format!("{number}.socket")),
            tmpdir: scratch.path(&format!("{number}.tmpdir")),
        };
        fs::create_dir(&files.tmpdir).expect("a directory for the cache file");
        files
    }

    /// A file of this server's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.prefix.with_extension(name)
    }

    /// Where clients find it.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where its cache file goes unless told otherwise.
    pub(crate) fn tmpdir(&self) -> &Path {
        &self.tmpdir
    }

    /// What nbdkit's log filter writes.
    pub(crate) fn plugin_log(&self) -> PathBuf {
        self.path("plugin-log")
    }
}

/// A running server, killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    files: ServerFiles,
}

/// How a server ended, and what it said.
#[derive(Debug)]
pub struct Exit {
    /// The exit status; 128 and the signal's number when one ended it.
    pub code: i32,
    /// All that it printed.
    pub output: String,
}

impl Exit {
    /// The figures of a server that was told to be verbose.
    #[must_use]
    pub fn stats(&self) -> StatsLine {
        StatsLine::last_in(&self.output)
    }

    /// Asserts that hardly any request found the cache without room. The stock filter counts
    /// nothing, so nothing is asserted of it.
    pub fn assert_few_pass_throughs(&self) {
        if !FilterUnderTest::is_stock() {
            self.stats().assert_few_pass_throughs();
        }
    }
}

impl Server {
    /// Runs a command in the foreground and waits until `serves` holds, which is told what was
    /// printed so far. Panics with that when the command ends instead.
    #[must_use]
    pub(crate) fn start(
        mut command: Command,
        files: ServerFiles,
        serves: impl Fn(&str) -> bool,
    ) -> Self {
        let output = File::create(files.path("output")).expect("a file for the server's output");
        command.stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a second descriptor"));
        command.stderr(output);
        let child = command
            .spawn()
            .unwrap_or_else(|error| cannot_run(&command, &error));
        let mut server = Self { child, files };
        wait_until("the server serves", || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("{command:?} ended: {status}\n{}", server.output());
            }
            serves(&server.output())
        });
        server
    }

    /// The process that serves.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The Unix socket it listens on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.files.socket()
    }

    /// The NBD address of its default export.
    #[must_use]
    pub fn uri(&self) -> String {
        self.uri_of("")
    }

    /// The NBD address of an export.
    #[must_use]
    pub fn uri_of(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    /// The address on a port that it said it serves its first export at: `nbd://HOST:PORT`, or with `nbds`.
    #[must_use]
    pub fn tcp_uri(&self) -> String {
        let output = self.output();
        let mut addresses = output.split([' ', ',', '\n']);
        let is_tcp = |word: &&str| word.starts_with("nbd://") || word.starts_with("nbds://");
        let address = addresses.rfind(is_tcp);
        let address = address.unwrap_or_else(|| panic!("no address on a port:\n{output}"));
        address.to_owned()
    }

    /// The port in that address.
    #[must_use]
    pub fn port(&self) -> String {
        let uri = self.tcp_uri();
        let port = uri.rsplit(':').next().unwrap_or_default();
        port.split('/').next().unwrap_or_default().to_owned()
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = fs::read(self.files.path("output")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What reached the plugin, when [`crate::Nbdkit::logged`] was asked for.
    #[must_use]
    pub fn plugin_log(&self) -> PluginLog {
        PluginLog::new(&self.files.plugin_log())
    }

    /// The directory that it was given as TMPDIR, unless told otherwise.
    #[must_use]
    pub fn tmpdir(&self) -> &Path {
        self.files.tmpdir()
    }

    /// Its unlinked files under its TMPDIR.
    #[must_use]
    pub fn cache_files(&self) -> Vec<CacheFile> {
        CacheFile::of_process(self.pid(), self.tmpdir())
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, with SIGTERM, and does not wait.
    pub fn terminate(&self) {
        self.send(Signal::TERM);
    }

    /// Asks it to end as Ctrl-C does, with SIGINT, and does not wait.
    pub fn interrupt(&self) {
        self.send(Signal::INT);
    }

    /// Tells it that its terminal has gone, with SIGHUP, and does not wait.
    pub fn hang_up(&self) {
        self.send(Signal::HUP);
    }

    /// Stops it where it is, until [`Server::thaw`].
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.send(Signal::CONT);
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("sending a signal");
    }

    /// Ends it at once, with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        let _ = self.child.wait();
    }

    /// Waits until it has ended. Panics when it does not within 30 seconds.
    #[must_use]
    pub fn wait_for_exit(mut self) -> Exit {
        wait_until("the server has ended", || !self.is_running());
        let status = self.child.wait().expect("the server's status");
        let signal = || 128 + status.signal().unwrap_or_default();
        Exit {
            code: status.code().unwrap_or_else(signal),
            output: self.output(),
        }
    }

    /// Asks it to end, waits, and asserts that it ended well.
    pub fn stop(self) -> Exit {
        self.terminate();
        let exit = self.wait_for_exit();
        assert_eq!(exit.code, 0, "{}", exit.output);
        exit
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whether it was there until now tells why a test has failed.
        let ended = self.child.try_wait().ok().flatten();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            if let Some(status) = ended {
                eprintln!("a server had ended: {status}");
            }
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(20)..];
            eprintln!("the end of the server's output:\n{}", tail.join("\n"));
        }
    }
}
