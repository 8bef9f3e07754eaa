//! Starting nbdkit with the filter under test, watching it, and ending it.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::cache_file::CacheFile;
use crate::command::output_of;
use crate::filter::FilterUnderTest;
use crate::plugin_log::PluginLog;
use crate::scratch::Scratch;
use crate::stats_line::StatsLine;
use crate::wait::wait_until;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An nbdkit command line in the making. Filters are in nbdkit's order: the first is the one
/// that clients talk to, the last talks to the plugin.
#[derive(Clone, Debug)]
pub struct Nbdkit {
    files: ServerFiles,
    flags: Vec<String>,
    filters: Vec<String>,
    plugin: Vec<String>,
    parameters: Vec<String>,
    tmpdir: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct ServerFiles {
    socket: PathBuf,
    pid_file: PathBuf,
    output: PathBuf,
    plugin_log: PathBuf,
    tmpdir: PathBuf,
}

impl Nbdkit {
    /// nbdkit with the filter under test in front.
    #[must_use]
    pub fn larder(scratch: &Scratch) -> Self {
        Self::bare(scratch).below(&FilterUnderTest::argument())
    }

    /// nbdkit without any filter.
    #[must_use]
    pub fn bare(scratch: &Scratch) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = |name: &str| scratch.path(&format!("{number}.{name}"));
        let files = ServerFiles {
            socket: path("socket"),
            pid_file: path("pid"),
            output: path("output"),
            plugin_log: path("plugin-log"),
            tmpdir: path("tmpdir"),
        };
        fs::create_dir(&files.tmpdir).expect("a directory for the cache file");
        Self {
            tmpdir: Some(files.tmpdir.clone()),
            files,
            flags: Vec::new(),
            filters: Vec::new(),
            plugin: Vec::new(),
            parameters: Vec::new(),
        }
    }

    /// Adds a filter in front of all others.
    #[must_use]
    pub fn above(mut self, filter: &str) -> Self {
        self.filters.insert(0, filter.to_owned());
        self
    }

    /// Adds a filter behind all others, nearest to the plugin.
    #[must_use]
    pub fn below(mut self, filter: &str) -> Self {
        self.filters.push(filter.to_owned());
        self
    }

    /// Adds the log filter behind all others, to see what passes there.
    #[must_use]
    pub fn logged(self) -> Self {
        let parameter = format!("logfile={}", self.files.plugin_log.display());
        self.below("log").parameter(&parameter)
    }

    /// The plugin and its parameters.
    #[must_use]
    pub fn plugin<S: AsRef<str>>(
        mut self,
        name: &str,
        parameters: impl IntoIterator<Item = S>,
    ) -> Self {
        self.plugin = vec![name.to_owned()];
        self.plugin
            .extend(parameters.into_iter().map(|p| p.as_ref().to_owned()));
        self
    }

    /// The file plugin, serving one file.
    #[must_use]
    pub fn file(self, path: &Path) -> Self {
        self.plugin("file", [path.display().to_string()])
    }

    /// Adds a `key=value` parameter, of whichever filter.
    #[must_use]
    pub fn parameter(mut self, parameter: &str) -> Self {
        self.parameters.push(parameter.to_owned());
        self
    }

    /// Adds several parameters.
    #[must_use]
    pub fn parameters<S: AsRef<str>>(mut self, parameters: impl IntoIterator<Item = S>) -> Self {
        self.parameters
            .extend(parameters.into_iter().map(|p| p.as_ref().to_owned()));
        self
    }

    /// Adds an option of nbdkit's own, such as `-r`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Makes nbdkit and the filter tell all they do, the stats line included.
    #[must_use]
    pub fn verbose(self) -> Self {
        self.flag("-v").flag("-D").flag("cache.verbose=1")
    }

    /// Where the cache file goes; a fresh directory of the test's own without this.
    #[must_use]
    pub fn tmpdir(mut self, directory: &Path) -> Self {
        self.tmpdir = Some(directory.to_owned());
        self
    }

    /// Leaves TMPDIR unset, so that the filter's default counts.
    #[must_use]
    pub fn without_tmpdir(mut self) -> Self {
        self.tmpdir = None;
        self
    }

    /// Starts the server and waits until it serves. Panics with its output when it does not.
    #[must_use]
    pub fn start(self) -> Server {
        let mut command = self.command(&[
            "--foreground",
            "--exit-with-parent",
            "--unix",
            &self.files.socket.display().to_string(),
            "--pidfile",
            &self.files.pid_file.display().to_string(),
        ]);
        let output = File::create(&self.files.output).expect("a file for the server's output");
        command.stdin(std::process::Stdio::null());
        command.stdout(output.try_clone().expect("a second descriptor"));
        command.stderr(output);
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {:?}: {e}", command.get_program()));
        let mut server = Server {
            child,
            files: self.files,
        };
        wait_until("nbdkit serves", || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("{command:?} ended: {status}\n{}", server.output());
            }
            fs::read(&server.files.pid_file).is_ok_and(|pid| pid.ends_with(b"\n"))
        });
        server
    }

    /// Runs a server that is expected to refuse to start. When it starts all the same, it ends
    /// at once, with status 0.
    #[must_use]
    pub fn try_to_start(self) -> Output {
        self.run_captive("exit 0")
    }

    /// Runs a server for as long as a shell command runs, as `nbdkit --run` does.
    #[must_use]
    pub fn run_captive(self, shell_command: &str) -> Output {
        let mut command = self.command(&["--unix", "-"]);
        output_of(command.arg("--run").arg(shell_command))
    }

    /// Runs nbdkit only to print something: `--help`, `--dump-plugin`.
    #[must_use]
    pub fn print(self, option: &str) -> String {
        let output = output_of(&mut self.command(&[option]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{option}: {output:?}");
        text
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(FilterUnderTest::nbdkit());
        command.args(options).args(&self.flags);
        command.args(self.filters.iter().map(|f| format!("--filter={f}")));
        command.args(&self.plugin).args(&self.parameters);
        match &self.tmpdir {
            Some(directory) => command.env("TMPDIR", directory),
            None => command.env_remove("TMPDIR"),
        };
        command
    }
}

/// A running nbdkit, killed when it is dropped.
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
    /// The process that serves.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The Unix socket it listens on.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.files.socket
    }

    /// The NBD address of its default export.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.files.socket.display())
    }

    /// What it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        let bytes = fs::read(&self.files.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What reached the plugin, when [`Nbdkit::logged`] was asked for.
    #[must_use]
    pub fn plugin_log(&self) -> PluginLog {
        PluginLog::new(&self.files.plugin_log)
    }

    /// The directory that it was given as TMPDIR, unless told otherwise.
    #[must_use]
    pub fn tmpdir(&self) -> &Path {
        &self.files.tmpdir
    }

    /// Its unlinked files under its TMPDIR.
    #[must_use]
    pub fn cache_files(&self) -> Vec<CacheFile> {
        CacheFile::of_process(self.pid(), &self.files.tmpdir)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, with SIGTERM, and does not wait.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::TERM).expect("SIGTERM");
    }

    /// Waits until it has ended. Panics when it does not within 30 seconds.
    #[must_use]
    pub fn wait_for_exit(mut self) -> Exit {
        wait_until("nbdkit has ended", || !self.is_running());
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
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(20)..];
            eprintln!("the end of nbdkit's output:\n{}", tail.join("\n"));
        }
    }
}
