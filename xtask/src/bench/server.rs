//! The contenders as servers on a Unix socket, and the disks they serve.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contender::Contender;
use super::directory::{Directory, IMAGE_BYTES};
use super::process::{self, Process};
use super::programs::Programs;
use crate::failure::Failure;
use crate::run::run;

/// What is served.
#[derive(Clone, Copy, Debug)]
pub(super) enum Disk {
    /// The image in memory.
    Image,
    /// Zeros, of which each request takes 5 ms.
    Slow,
}

impl Disk {
    pub(super) const fn bytes(self) -> u64 {
        match self {
            Self::Image => IMAGE_BYTES,
            Self::Slow => 64 << 30,
        }
    }
}

/// Where a contender that has a cache file has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum CacheFile {
    /// In memory, so that no disk is measured.
    InMemory,
    /// Where it is unless a user says otherwise. What is read from it there is in the page cache.
    InDefaultPlace,
}

/// `TMPDIR` where nobody sets it, for every contender.
const DEFAULT_PLACE: &str = "/var/tmp";

/// Beneath a cache, if there is one; the plugin's parameters are those of the filter too.
const SLOW_FILTER: &str = "--filter=delay";
const SLOW_PLUGIN: [&str; 4] = ["memory", "64G", "rdelay=5ms", "wdelay=5ms"];

/// A running contender. It ends before the origin that it may have.
pub(super) struct Server {
    _process: Process,
    _origin: Option<Process>,
    socket: PathBuf,
}

impl Server {
    pub(super) fn start(
        contender: Contender,
        (disk, cache_file): (Disk, CacheFile),
        programs: &Programs,
        directory: &Directory,
    ) -> Result<Self, Failure> {
        let socket = directory.path().join("socket");
        let origin_socket = directory.path().join("origin");
        let mut origin = None;
        let mut command = match contender {
            Contender::Ceiling => {
                let mut command = process::command(&programs.ceiling, directory);
                command.arg(&socket).arg(disk.bytes().to_string());
                command
            }
            Contender::Serve => {
                let mut command = process::command(&programs.larder, directory);
                let listen = format!("unix:{}", socket.display());
                command.args(["serve", "--listen", &listen]);
                match disk {
                    Disk::Image => command.arg(directory.image()),
                    Disk::Slow => {
                        let command_of_origin = nbdkit(&origin_socket, &[], disk, directory);
                        origin = Some(start(command_of_origin, &origin_socket, directory)?);
                        command.arg(uri_of(&origin_socket))
                    }
                };
                command
            }
            Contender::Bare => nbdkit(&socket, &[], disk, directory),
            Contender::Stock => nbdkit(&socket, &["cache"], disk, directory),
            Contender::Filter => {
                let filter = programs.filter.display().to_string();
                nbdkit(&socket, &[&filter], disk, directory)
            }
        };
        if let CacheFile::InDefaultPlace = cache_file {
            command.env("TMPDIR", DEFAULT_PLACE);
        }
        Ok(Self {
            _process: start(command, &socket, directory)?,
            _origin: origin,
            socket,
        })
    }

    pub(super) fn uri(&self) -> String {
        uri_of(&self.socket)
    }

    /// Fills a cache that keeps what is read.
    pub(super) fn read_everything(&self) -> Result<(), Failure> {
        run(Command::new("nbdcopy").arg(self.uri()).arg("null:"))
    }
}

/// nbdkit with caches in front of a disk.
fn nbdkit(socket: &Path, caches: &[&str], disk: Disk, directory: &Directory) -> Command {
    let mut command = process::command("nbdkit", directory);
    command.arg("--foreground").arg("--unix").arg(socket);
    command.args(caches.iter().map(|filter| format!("--filter={filter}")));
    match disk {
        Disk::Image => command.arg("file").arg(directory.image()),
        Disk::Slow => command.arg(SLOW_FILTER).args(SLOW_PLUGIN),
    };
    command.args(caches.iter().map(|_| "cache-on-read=true"));
    command
}

fn uri_of(socket: &Path) -> String {
    format!("nbd+unix:///?socket={}", socket.display())
}

/// Starts a server and waits until one can connect to its socket.
fn start(command: Command, socket: &Path, directory: &Directory) -> Result<Process, Failure> {
    let _ = fs::remove_file(socket);
    Process::start(command, directory, || UnixStream::connect(socket).is_ok())
}
