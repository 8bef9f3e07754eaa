//! Other NBD servers than nbdkit, as origins.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::background::{Background, free_port};
use crate::scratch::Scratch;

/// A running NBD server over one file, killed when it is dropped.
#[derive(Debug)]
pub struct OriginServer {
    _program: Background,
    unix: Option<String>,
    tcp: String,
}

impl OriginServer {
    /// qemu-nbd, which listens on a Unix socket.
    #[must_use]
    pub fn qemu_on_unix(scratch: &Scratch, file: &Path) -> Self {
        let socket = scratch.path("qemu-nbd");
        let mut command = Self::qemu(file);
        command.arg("--socket").arg(&socket);
        let program = Background::start(command, || socket.exists());
        Self {
            _program: program,
            unix: Some(format!("nbd+unix:///?socket={}", socket.display())),
            tcp: String::new(),
        }
    }

    /// qemu-nbd, which listens on a port.
    #[must_use]
    pub fn qemu_on_tcp(file: &Path) -> Self {
        let port = free_port();
        let mut command = Self::qemu(file);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        Self {
            _program: Background::start(command, || is_listening(port)),
            unix: None,
            tcp: format!("nbd://127.0.0.1:{port}"),
        }
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

    /// nbd-server, with the file as the export `disk`, on a Unix socket and a port.
    #[must_use]
    pub fn nbd_server(scratch: &Scratch, file: &Path) -> Self {
        let port = free_port();
        let socket = scratch.path("nbd-server");
        let configuration = scratch.path("nbd-server.conf");
        let text = format!(
            "[generic]\nlistenaddr = 127.0.0.1\nport = {port}\nunixsock = {}\nallowlist = true\n\
             [disk]\nexportname = {}\nflush = true\nfua = true\ntrim = true\n",
            socket.display(),
            file.display()
        );
        fs::write(&configuration, text).expect("nbd-server's configuration");
        let mut command = Command::new("nbd-server");
        command.arg("-d").arg("-C").arg(&configuration);
        command.arg("-p").arg(scratch.path("nbd-server.pid"));
        let program = Background::start(command, || socket.exists() && is_listening(port));
        Self {
            _program: program,
            unix: Some(format!("nbd+unix:///disk?socket={}", socket.display())),
            tcp: format!("nbd://127.0.0.1:{port}/disk"),
        }
    }

    /// Its address on a Unix socket. Panics when it has none.
    #[must_use]
    pub fn unix(&self) -> &str {
        self.unix.as_deref().expect("it listens on a port only")
    }

    /// Its address on a port.
    #[must_use]
    pub fn tcp(&self) -> &str {
        &self.tcp
    }
}

pub(crate) fn is_listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
