//! The command that the server is run for (`--run`): it finds a private socket, and the server
//! ends with it.
//!
//! Unless standard input is a terminal or the server is in the foreground of one, the command has a process group of its own, is asked to end with all that
//! it has started, and is served until all of that has ended. On a terminal it is in the server's group, as whoever reads the terminal, or asks there for a password, must
//! be in the one that the terminal knows: only the shell is asked and waited for then, and Ctrl-C is the terminal's message to the
//! command, not to the server (as with system(3)).

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use larder_frontend::report::reason;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};

use crate::cleanup::Cleanup;
use crate::settings::TlsPolicy;

/// Sockets' paths are short, so the directory is not under TMPDIR.
const PARENT: &str = "/tmp";
/// Names that are tried: others may have left theirs.
const NAMES_TO_TRY: u32 = 1000;

/// A path for a socket in a directory that nobody else can look into.
pub(crate) fn private_socket(cleanup: &Cleanup) -> Result<PathBuf, String> {
    let failed = |error: io::Error| {
        format!(
            "run: cannot make a directory for the socket in {PARENT}: {}",
            reason(&error)
        )
    };
    for attempt in 0..NAMES_TO_TRY {
        let directory = PathBuf::from(format!("{PARENT}/larder-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {
                cleanup.directory(&directory);
                return Ok(directory.join("socket"));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

/// What the command finds.
pub(crate) struct Found<'s> {
    pub(crate) uri: &'s str,
    pub(crate) socket: &'s OsStr,
    pub(crate) export_name: &'s str,
    pub(crate) tls: TlsPolicy,
    /// How many descriptors it may have, where that is fewer than the server has.
    pub(crate) descriptors: Option<u64>,
}

/// A command that runs, or has ended.
#[derive(Debug)]
pub(crate) struct Captive {
    /// Its process, until its number may become another's.
    process: Arc<Mutex<Option<Pid>>>,
    /// The group of its own, if it has one.
    group: Option<Pid>,
}

/// Whether a command is in the foreground of a terminal together with the server. Then Ctrl-C is for it and not for the server: both
/// are asked by the terminal, and the server ends with the command.
pub(crate) fn shares_terminal() -> bool {
    let terminal = File::open("/dev/tty").ok();
    let foreground = terminal.and_then(|terminal| rustix::termios::tcgetpgrp(terminal).ok());
    io::stdin().is_terminal() || foreground == Some(rustix::process::getpgrp())
}

impl Captive {
    /// Starts a shell with the command. `ended` is called from another thread when it has ended.
    pub(crate) fn start(
        command: &OsStr,
        found: &Found<'_>,
        ended: impl FnOnce(ExitStatus) + Send + 'static,
    ) -> Result<Self, String> {
        let failed = |error: io::Error| format!("run: cannot run the command: {}", reason(&error));
        let has_own_group = !shares_terminal();
        let mut shell = shell(command, found);
        if has_own_group {
            shell.process_group(0);
        }
        let (sender, started) = mpsc::channel();
        // The thread that waits is there before there is anything to wait for.
        let waiting = thread::Builder::new()
            .name("larder-command".to_owned())
            .spawn(move || match shell.spawn() {
                Ok(child) => {
                    let process = Arc::new(Mutex::new(Some(Pid::from_child(&child))));
                    let _ = sender.send(Ok(Arc::clone(&process)));
                    // Where the server was started with SIGCHLD ignored, nobody knows how the command ended.
                    ended(wait(child, &process).unwrap_or(ExitStatus::from_raw(1 << 8)));
                }
                Err(error) => {
                    let _ = sender.send(Err(error));
                }
            });
        waiting.map_err(failed)?;
        let started = started.recv().map_err(io::Error::other);
        let process = started.and_then(|started| started).map_err(failed)?;
        let group = *lock(&process);
        Ok(Self {
            process,
            group: group.filter(|_| has_own_group),
        })
    }

    /// Whether something that the command has started is still there although the command itself has ended.
    pub(crate) fn has_left_others(&self) -> bool {
        let group = self.group.filter(|_| lock(&self.process).is_none());
        group.is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok())
    }

    /// Asks the command to end, also if it is stopped. One that has ended already is no error.
    pub(crate) fn terminate(&self) {
        if let Some(process) = *lock(&self.process) {
            for signal in [Signal::TERM, Signal::CONT] {
                let _ = match self.group {
                    Some(group) => rustix::process::kill_process_group(group, signal),
                    None => rustix::process::kill_process(process, signal),
                };
            }
        }
    }
}

fn shell(command: &OsStr, found: &Found<'_>) -> Command {
    let mut shell = Command::new("/bin/sh");
    if let Some(descriptors) = found.descriptors {
        // Programs go through all that they may have as they start others.
        let limited = "ulimit -S -n \"$1\"; shift; exec \"$@\"";
        shell.args(["-c", limited, "sh", &descriptors.to_string(), "/bin/sh"]);
    }
    shell
        .arg("-c")
        .arg(command)
        .env("uri", found.uri)
        .env("nbd", found.uri)
        .env("unixsocket", found.socket)
        .env("exportname", found.export_name)
        .env("port", "");
    match found.tls {
        TlsPolicy::Off => shell.env_remove("tls"),
        TlsPolicy::On => shell.env("tls", "1"),
        TlsPolicy::Require => shell.env("tls", "2"),
    };
    // They were for this process.
    for name in [
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
    ] {
        shell.env_remove(name);
    }
    shell
}

/// Waits for the end of a child that nobody else waits for. Its number is forgotten before another process can get it.
fn wait(mut child: Child, process: &Mutex<Option<Pid>>) -> io::Result<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let pid = WaitId::Pid(Pid::from_child(&child));
    while let Err(Errno::INTR) = waitid(pid.clone(), options) {}
    *lock(process) = None;
    child.wait()
}

fn lock(process: &Mutex<Option<Pid>>) -> MutexGuard<'_, Option<Pid>> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The exit status of a server that ends with its command.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc;

    use super::*;

    fn status_of(command: &str) -> u8 {
        let (sender, ended) = mpsc::channel();
        let found = Found {
            uri: "nbd://u",
            socket: OsStr::new("/s"),
            export_name: "e",
            tls: TlsPolicy::On,
            descriptors: None,
        };
        let _captive = Captive::start(OsStr::new(command), &found, move |status| {
            sender.send(status).unwrap();
        })
        .unwrap();
        exit_code(ended.recv().unwrap())
    }

    #[test]
    fn statuses_are_the_commands() {
        assert_eq!(status_of("true"), 0);
        assert_eq!(status_of("exit 7"), 7);
        assert_eq!(status_of("kill -9 $$"), 137);
    }

    #[test]
    fn the_command_finds_where_to_go() {
        assert_eq!(
            status_of(
                "test \"$uri$nbd\" = nbd://unbd://u -a \"$unixsocket$exportname$tls$port\" = /se1"
            ),
            0
        );
    }

    #[test]
    fn a_command_is_asked_to_end() {
        let (sender, ended) = mpsc::channel();
        let found = Found {
            uri: "",
            socket: OsStr::new(""),
            export_name: "",
            tls: TlsPolicy::Off,
            descriptors: None,
        };
        let captive = Captive::start(OsStr::new("exec sleep 1000"), &found, move |status| {
            sender.send(status).unwrap();
        })
        .unwrap();
        captive.terminate();
        assert_eq!(exit_code(ended.recv().unwrap()), 143);
        captive.terminate();
    }

    #[test]
    fn the_socket_is_private() {
        let cleanup = Cleanup::default();
        let path = private_socket(&cleanup).unwrap();
        let other = private_socket(&cleanup).unwrap();
        assert_ne!(path, other);
        let directory = path.parent().unwrap();
        let mode = directory.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        drop(cleanup);
        assert!(!directory.exists());
    }
}
