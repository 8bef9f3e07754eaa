//! Other NBD servers than nbdkit, as origins.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::background::{Background, Daemon, free_port};
use crate::scratch::Scratch;

/// A running NBD server over one file, killed when it is dropped.
#[derive(Debug)]
pub struct OriginServer {
    _program: Program,
    uri: String,
}

#[derive(Debug)]
#[expect(dead_code, reason = "they end when they are dropped")]
enum Program {
    Foreground(Background),
    Daemon(Daemon),
}

impl OriginServer {
    /// qemu-nbd, which listens on a Unix socket.
    #[must_use]
    pub fn qemu_on_unix(scratch: &Scratch, file: &Path) -> Self {
        let socket = scratch.path("qemu-nbd");
        let mut command = Self::qemu(file);
        command.arg("--socket").arg(&socket);
        let program = Background::start(command, || socket.exists());
        Self::new(
            Program::Foreground(program),
            format!("nbd+unix:///?socket={}", socket.display()),
        )
    }

    /// qemu-nbd, which listens on a port.
    #[must_use]
    pub fn qemu_on_tcp(file: &Path) -> Self {
        let port = free_port();
        let mut command = Self::qemu(file);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        let program = Background::start(command, || is_listening(port));
        Self::new(
            Program::Foreground(program),
            format!("nbd://127.0.0.1:{port}"),
        )
    }

    fn qemu(file: &Path) -> Command {
        let mut command = Command::new("qemu-nbd");
        command.args([
            "--format",
            "raw",
            "--persistent",
            "--shared",
            "0",
            "--discard",
            "unmap",
        ]);
        command.arg(file);
        command
    }

    /// nbd-server, with the file as the export `disk`, on a Unix socket.
    #[must_use]
    pub fn nbd_server_on_unix(scratch: &Scratch, file: &Path) -> Self {
        let socket = scratch.path("nbd-server");
        let listen = format!("unixsock = {}", socket.display());
        let program = Self::nbd_server(scratch, file, &listen, || socket.exists());
        let uri = format!("nbd+unix:///disk?socket={}", socket.display());
        Self::new(program, uri)
    }

    /// nbd-server, with the file as the export `disk`, on a port.
    #[must_use]
    pub fn nbd_server_on_tcp(scratch: &Scratch, file: &Path) -> Self {
        let port = free_port();
        let listen = format!("listenaddr = 127.0.0.1\nport = {port}");
        let program = Self::nbd_server(scratch, file, &listen, || is_listening(port));
        Self::new(program, format!("nbd://127.0.0.1:{port}/disk"))
    }

    fn nbd_server(
        scratch: &Scratch,
        file: &Path,
        listen: &str,
        is_ready: impl Fn() -> bool,
    ) -> Program {
        let pid_file = scratch.path("nbd-server.pid");
        let configuration = scratch.path("nbd-server.conf");
        let text = format!(
            "[generic]\n{listen}\nallowlist = true\n\
             [disk]\nexportname = {}\nflush = true\nfua = true\ntrim = true\n",
            file.display()
        );
        fs::write(&configuration, text).expect("nbd-server's configuration");
        let mut command = Command::new("nbd-server");
        command.arg("-C").arg(&configuration);
        command.arg("-p").arg(&pid_file);
        // In the foreground it serves one connection and ends.
        Program::Daemon(Daemon::start(command, &pid_file, is_ready))
    }

    fn new(program: Program, uri: String) -> Self {
        Self {
            _program: program,
            uri,
        }
    }

    /// Its address.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

pub(crate) fn is_listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
