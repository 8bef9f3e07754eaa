//! Starting nbdkit with the filter under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::command::output_of;
use crate::filter::FilterUnderTest;
use crate::scratch::Scratch;
use crate::server::{Server, ServerFiles};

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

impl Nbdkit {
    /// nbdkit with the filter under test in front.
    #[must_use]
    pub fn larder(scratch: &Scratch) -> Self {
        Self::bare(scratch).below(&FilterUnderTest::argument())
    }

    /// nbdkit without any filter.
    #[must_use]
    pub fn bare(scratch: &Scratch) -> Self {
        let files = ServerFiles::new(scratch);
        Self {
            tmpdir: Some(files.tmpdir().to_owned()),
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
        let parameter = format!("logfile={}", self.files.plugin_log().display());
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
        let pid_file = self.files.path("pid");
        let command = self.command(&[
            "--foreground",
            "--exit-with-parent",
            "--unix",
            &self.files.socket().display().to_string(),
            "--pidfile",
            &pid_file.display().to_string(),
        ]);
        Server::start(command, self.files, |_| {
            fs::read(&pid_file).is_ok_and(|pid| pid.ends_with(b"\n"))
        })
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
