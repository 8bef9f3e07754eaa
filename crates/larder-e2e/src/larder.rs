//! Starting `larder serve`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::command::output_of;
use crate::scratch::Scratch;
use crate::server::{Server, ServerFiles};

/// A `larder serve` command line in the making. It listens on a Unix socket of its own, unless
/// told otherwise, and has a TMPDIR of its own.
#[derive(Clone, Debug)]
pub struct Larder {
    files: ServerFiles,
    listens_on_socket: bool,
    arguments: Vec<String>,
    origins: Vec<String>,
    environment: Vec<(OsString, OsString)>,
}

impl Larder {
    /// The program under test: that in the environment variable `LARDER`, or the release build of this
    /// workspace.
    #[must_use]
    pub fn program() -> PathBuf {
        if let Some(program) = env::var_os("LARDER") {
            return program.into();
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/larder");
        path.canonicalize().unwrap_or_else(|_| {
            panic!(
                "{} is not there: run `cargo xtask test`, or \
                 `cargo build --release --package larder-server` first",
                path.display()
            )
        })
    }

    /// `larder serve` without any origin yet.
    #[must_use]
    pub fn serve(scratch: &Scratch) -> Self {
        let files = ServerFiles::new(scratch);
        Self {
            environment: vec![("TMPDIR".into(), files.tmpdir().into())],
            files,
            listens_on_socket: true,
            arguments: Vec::new(),
            origins: Vec::new(),
        }
    }

    /// Adds an origin, `[NAME=]ORIGIN`.
    #[must_use]
    pub fn origin(mut self, origin: impl AsRef<str>) -> Self {
        self.origins.push(origin.as_ref().to_owned());
        self
    }

    /// Adds a file or block device as an origin.
    #[must_use]
    pub fn file(self, path: &Path) -> Self {
        self.origin(path.display().to_string())
    }

    /// Adds an option with a value, `name=value`, such as a parameter of the cache.
    #[must_use]
    pub fn parameter(self, parameter: &str) -> Self {
        self.flag(&format!("--{parameter}"))
    }

    /// Adds several of them.
    #[must_use]
    pub fn parameters<S: AsRef<str>>(self, parameters: impl IntoIterator<Item = S>) -> Self {
        parameters
            .into_iter()
            .fold(self, |larder, one| larder.parameter(one.as_ref()))
    }

    /// Adds an option as it is typed, such as `--read-only`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.arguments.push(flag.to_owned());
        self
    }

    /// Makes the server tell all it does, the stats line included.
    #[must_use]
    pub fn verbose(self) -> Self {
        self.flag("--verbose")
    }

    /// Listens where other options or the environment say, and not on a socket of its own.
    #[must_use]
    pub fn without_socket(mut self) -> Self {
        self.listens_on_socket = false;
        self
    }

    /// Listens on a port of this machine's own addresses: any free one.
    #[must_use]
    pub fn tcp(self) -> Self {
        self.parameter("listen=tcp:127.0.0.1:0")
    }

    /// Sets a variable of the server's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// Starts the server and waits until it serves. Panics with its output when it does not.
    #[must_use]
    pub fn start(self) -> Server {
        self.start_below(None)
    }

    /// Starts the server through a launcher, which ends in it: the same process.
    #[must_use]
    pub fn start_by(self, launcher: &[&str]) -> Server {
        self.start_below(Some(launcher))
    }

    fn start_below(self, launcher: Option<&[&str]>) -> Server {
        let mut command = self.command();
        if let Some([program, arguments @ ..]) = launcher {
            let mut launched = Command::new(program);
            launched.args(arguments).arg(command.get_program());
            launched.args(command.get_args()).envs(self.environment);
            command = launched;
        }
        // The last line comes when everything is ready.
        let lines = self.origins.len().max(1);
        Server::start(command, self.files, |output| {
            let served = output.lines().filter(|l| l.starts_with("larder: serving "));
            served.count() >= lines
        })
    }

    /// Runs a server that is expected to refuse to start. When it starts all the same, it ends at
    /// once, with status 0.
    #[must_use]
    pub fn try_to_start(self) -> Output {
        self.run_captive("exit 0")
    }

    /// Asserts that the server refuses to start, with status 1 and one line. Returns the line.
    #[must_use]
    pub fn refusal(self) -> String {
        let output = self.try_to_start();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let line = said.strip_prefix("larder: ").unwrap_or_default().trim_end();
        assert!(!line.is_empty() && !line.contains('\n'), "{said}");
        // A number that Rust adds helps nobody.
        assert!(!line.contains("(os error"), "{said}");
        line.to_owned()
    }

    /// Runs a server for as long as a shell command runs.
    #[must_use]
    pub fn run_captive(self, shell_command: &str) -> Output {
        let captive = self.without_socket().flag("--run").flag(shell_command);
        output_of(&mut captive.command())
    }

    /// Starts a server that runs a shell command, and waits until that has said `under_way`.
    #[must_use]
    pub fn start_running(self, shell_command: &str, under_way: &str) -> Server {
        let captive = self.without_socket().flag("--run").flag(shell_command);
        let command = captive.command();
        Server::start(command, captive.files, |output| output.contains(under_way))
    }

    /// The command, to be run in some other way.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(Self::program());
        command.arg("serve").args(&self.arguments);
        if self.listens_on_socket {
            command.arg(format!("--listen=unix:{}", self.files.socket().display()));
        }
        command.args(&self.origins);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Where its cache file goes.
    #[must_use]
    pub fn tmpdir(&self) -> &Path {
        self.files.tmpdir()
    }

    /// Where clients find it.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.files.socket()
    }
}
