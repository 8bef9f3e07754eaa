//! The contenders as servers on a Unix socket, and the disks they serve.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contender::Contender;
use super::directory::{Directory, Place};
use super::fio::{Load, Pattern, Seen, Span, Target};
use super::lab::Lab;
use super::measurement::Measurement;
use super::peers;
use super::process::{self, Process};
use super::row::{Cache, DELAYED_BYTES, Disk};
use crate::failure::Failure;

/// The most that Larder's filter may fetch ahead, in the rows that ask for it.
const READAHEAD: &str = "8M";
const IMAGE_PARTS: u64 = 16;
/// How a cache is filled: large requests in order.
const FILLING: Load = Load {
    pattern: Pattern::Reads,
    request_bytes: 1 << 20,
    depth: 8,
    connections: 1,
    zipf: None,
    requests_max: None,
    in_turns: false,
    flush_each: false,
};

/// What a contender is to serve, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup<'d> {
    pub(super) disk: Disk<'d>,
    pub(super) place: Place,
    pub(super) limit_bytes: Option<u64>,
    pub(super) has_readahead: bool,
}

impl<'d> Setup<'d> {
    /// A cache that only the place limits.
    pub(super) const fn new(disk: Disk<'d>, place: Place) -> Self {
        Self {
            disk,
            place,
            limit_bytes: None,
            has_readahead: false,
        }
    }

    pub(super) const fn with(mut self, cache: Cache, lab: &Lab) -> Self {
        match cache {
            Cache::Unlimited => {}
            Cache::Sixteenth => self.limit_bytes = Some(lab.scale.image_bytes / IMAGE_PARTS),
            Cache::Readahead => self.has_readahead = true,
        }
        self
    }

    /// The parameters that nbdkit's cache filter and Larder share.
    fn parameters(&self) -> Vec<String> {
        let limit = self
            .limit_bytes
            .map(|bytes| format!("cache-max-size={bytes}"));
        let on_read = "cache-on-read=true".to_owned();
        [Some(on_read), limit].into_iter().flatten().collect()
    }
}

/// A running contender. It ends before the origin that it may have.
pub(super) struct Server<'l> {
    process: Process,
    origin: Option<Process>,
    directory: &'l Directory,
    uri: String,
    disk_bytes: u64,
}

impl<'l> Server<'l> {
    pub(super) fn start(
        contender: Contender,
        setup: &Setup<'_>,
        lab: &'l Lab,
    ) -> Result<Self, Failure> {
        let directory = lab.directory(setup.place);
        let socket = directory.path().join("socket");
        let kept = match contender.is_kept() {
            true => Some(directory.make("kept")?),
            false => None,
        };
        let start = Start {
            setup,
            lab,
            directory,
            kept,
            is_durable: contender.is_durable(),
        };
        let mut origin = None;
        let mut uri = uri_of(&socket, "");
        let command = match contender {
            Contender::Ceiling => {
                let mut command = process::command(&lab.programs.ceiling, directory.path());
                command.arg(&socket).arg(start.disk_bytes().to_string());
                command
            }
            Contender::Serve | Contender::ServeKept | Contender::ServeDurable => {
                let (command, its_origin) = start.serve(&socket)?;
                origin = its_origin;
                command
            }
            Contender::Bare => start.nbdkit(&socket, None)?,
            Contender::Stock => start.nbdkit(&socket, Some("cache"))?,
            Contender::Idle => start.nbdkit(&socket, Some(IDLE))?,
            Contender::Filter | Contender::FilterKept | Contender::FilterDurable => {
                let filter = lab.programs.filter.display().to_string();
                start.nbdkit(&socket, Some(&filter))?
            }
            Contender::QemuNbd => peers::qemu_nbd(&socket, &start.image()?, directory)?,
            Contender::QemuStorageDaemon => {
                peers::qemu_storage_daemon(&socket, &start.image()?, directory)?
            }
            Contender::NbdServer => {
                uri = uri_of(&socket, peers::NBD_SERVER_EXPORT);
                peers::nbd_server(&socket, &start.image()?, directory)?
            }
            Contender::Engine | Contender::File => {
                return Err(Failure::new(format!("{contender} is no server")));
            }
        };
        Ok(Self {
            process: run(command, &socket, "server", directory)?,
            origin,
            directory,
            uri,
            disk_bytes: start.disk_bytes(),
        })
    }

    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    pub(super) const fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Fills a cache that keeps what is read.
    pub(super) fn read_once(&self, start_bytes: u64, length_bytes: u64) -> Result<(), Failure> {
        let span = Span {
            start_bytes,
            length_bytes,
            seconds: None,
        };
        self.load(&FILLING, span).map(drop)
    }

    pub(super) fn load(&self, load: &Load, span: Span) -> Result<Seen, Failure> {
        load.run(Target::Server(&self.uri), span, self.directory.path())
    }

    /// What the server used while that was going on, and what was seen of it.
    pub(super) fn measured(
        &self,
        work: impl FnOnce() -> Result<Measurement, Failure>,
    ) -> Result<Measurement, Failure> {
        let before = self.process.usage()?;
        let measurement = work()?;
        let after = self.process.usage()?;
        Ok(Measurement {
            // Children that nobody waited for are gone with what they used.
            cpu_seconds: Some((after.cpu_seconds - before.cpu_seconds).max(0.0)),
            peak_bytes: Some(after.peak_bytes),
            anonymous_bytes: Some(after.anonymous_bytes),
            ..measurement
        })
    }

    /// Ends it as a service manager would, and its origin after it.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.process.end()?;
        self.origin.map_or(Ok(()), Process::end)
    }
}

/// What the commands are made of.
struct Start<'s, 'l> {
    setup: &'s Setup<'s>,
    lab: &'l Lab,
    directory: &'l Directory,
    /// The cache's directory, if it is to survive.
    kept: Option<PathBuf>,
    /// Flushes end there.
    is_durable: bool,
}

impl Start<'_, '_> {
    /// Of a cache, as nbdkit's own may have them too unless there is a directory.
    fn parameters(&self) -> Vec<String> {
        let mut parameters = self.setup.parameters();
        if let Some(path) = &self.kept {
            parameters.push(format!("cache-dir={}", path.display()));
            parameters.push("cache-id=benchmark".to_owned());
        }
        if self.is_durable {
            parameters.push("cache-flush=cache".to_owned());
        }
        parameters
    }

    fn disk_bytes(&self) -> u64 {
        match self.setup.disk {
            Disk::Image | Disk::Counted | Disk::Target | Disk::Web { .. } => {
                self.lab.scale.image_bytes
            }
            Disk::Delayed { .. } => DELAYED_BYTES,
            Disk::Zeros { bytes } => bytes,
        }
    }

    fn image(&self) -> Result<PathBuf, Failure> {
        match self.setup.disk {
            Disk::Target => Ok(self.directory.path().join("target")),
            _ => self.directory.image(self.lab.scale.image_bytes),
        }
    }

    /// `larder serve`, and the origin that runs beside it where files and addresses are not enough.
    fn serve(&self, socket: &Path) -> Result<(Command, Option<Process>), Failure> {
        let mut origin = None;
        let mut command = process::command(&self.lab.programs.larder, self.directory.path());
        command.args(["serve", "--listen"]);
        command.arg(format!("unix:{}", socket.display()));
        let parameters = self.parameters();
        command.args(parameters.iter().map(|parameter| format!("--{parameter}")));
        match self.setup.disk {
            Disk::Image | Disk::Target => command.arg(self.image()?),
            Disk::Zeros { bytes } => command.arg(format!("memory:{bytes}")),
            Disk::Web { url, .. } => command.arg(url),
            Disk::Delayed { .. } | Disk::Counted => {
                let its_socket = self.directory.path().join("origin");
                let its_command = self.nbdkit(&its_socket, None)?;
                origin = Some(run(its_command, &its_socket, "origin", self.directory)?);
                command.arg(uri_of(&its_socket, ""))
            }
        };
        Ok((command, origin))
    }

    /// nbdkit with a cache in front of a disk, or without one.
    fn nbdkit(&self, socket: &Path, filter: Option<&str>) -> Result<Command, Failure> {
        let mut command = process::command("nbdkit", self.directory.path());
        command.arg("--foreground").arg("--unix").arg(socket);
        command.args(filter.iter().map(|filter| format!("--filter={filter}")));
        match self.setup.disk {
            Disk::Image | Disk::Target => command.arg("file").arg(self.image()?),
            Disk::Counted => {
                let counts = statistics(self.directory);
                command.args(["--filter=stats", "file"]).arg(self.image()?);
                command.arg(format!("statsfile={}", counts.display()))
            }
            Disk::Delayed { milliseconds } => {
                command.args(["--filter=delay", "memory"]);
                command.arg(DELAYED_BYTES.to_string());
                command.args(["rdelay", "wdelay"].map(|kind| format!("{kind}={milliseconds}ms")))
            }
            Disk::Zeros { bytes } => command.arg("memory").arg(bytes.to_string()),
            Disk::Web { url, filters } => {
                command.args(filters.iter().map(|filter| format!("--filter={filter}")));
                command.arg("curl").arg(format!("url={url}"))
            }
        };
        if let Some(cache) = filter.filter(|name| *name != IDLE) {
            command.args(self.parameters());
            if cache != "cache" && self.setup.has_readahead {
                command.arg(format!("cache-readahead={READAHEAD}"));
            }
        }
        Ok(command)
    }
}

/// The filter of nbdkit's that does nothing.
const IDLE: &str = "nofilter";

/// Where nbdkit's stats filter writes what it has counted, at its end.
pub(super) fn statistics(directory: &Directory) -> PathBuf {
    directory.path().join("statistics")
}

fn uri_of(socket: &Path, export: &str) -> String {
    format!("nbd+unix:///{export}?socket={}", socket.display())
}

/// Starts a server and waits until one can connect to its socket.
fn run(
    command: Command,
    socket: &Path,
    name: &str,
    directory: &Directory,
) -> Result<Process, Failure> {
    let _ = fs::remove_file(socket);
    let said = directory.path().join(format!("{name}.log"));
    Process::start(command, said, || UnixStream::connect(socket).is_ok())
}
