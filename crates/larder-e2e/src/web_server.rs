//! A web server of a test's own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::background::{Background, free_port};
use crate::certificates::Certificates;
use crate::command::output_of;
use crate::origin_server::is_listening;
use crate::scratch::Scratch;

/// A running nginx, killed when it is dropped.
#[derive(Debug)]
pub struct WebServer {
    _program: Background,
    address: String,
    socket: PathBuf,
}

impl WebServer {
    /// Serves the files of a directory on a Unix socket, byte ranges included.
    #[must_use]
    pub fn start(scratch: &Scratch, directory: &Path) -> Self {
        let prefix = scratch.make_dir("nginx");
        let socket = prefix.join("socket");
        let listen = format!("listen unix:{};", socket.display());
        let program = launch(&prefix, directory, &listen, || {
            UnixStream::connect(&socket).is_ok()
        });
        Self {
            _program: program,
            address: "http://localhost".to_owned(),
            socket,
        }
    }

    /// Serves the files of a directory on a port. `extra` are more lines of nginx's configuration of
    /// the server.
    #[must_use]
    pub fn on_port(scratch: &Scratch, directory: &Path, extra: &str) -> Self {
        let port = free_port();
        let listen = format!("listen 127.0.0.1:{port}; {extra}");
        Self::at_port(scratch, directory, port, "http", &listen)
    }

    /// Serves the files of a directory on a port, with TLS.
    #[must_use]
    pub fn with_tls(scratch: &Scratch, directory: &Path, certificates: &Certificates) -> Self {
        let port = free_port();
        let listen = format!(
            "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};",
            certificates.file("server-cert.pem").display(),
            certificates.file("server-key.pem").display()
        );
        Self::at_port(scratch, directory, port, "https", &listen)
    }

    fn at_port(scratch: &Scratch, directory: &Path, port: u16, scheme: &str, listen: &str) -> Self {
        let prefix = scratch.make_dir(&format!("nginx-{port}"));
        Self {
            _program: launch(&prefix, directory, listen, || is_listening(port)),
            address: format!("{scheme}://localhost:{port}"),
            socket: PathBuf::new(),
        }
    }

    /// The address of a file it serves.
    #[must_use]
    pub fn uri(&self, file: &str) -> String {
        format!("{}/{file}", self.address)
    }

    /// The curl plugin's parameters for a file it serves.
    #[must_use]
    pub fn curl_parameters(&self, file: &str) -> [String; 2] {
        [
            format!("url={}", self.uri(file)),
            format!("unix-socket-path={}", self.socket.display()),
        ]
    }
}

fn launch(
    prefix: &Path,
    directory: &Path,
    listen: &str,
    is_ready: impl Fn() -> bool,
) -> Background {
    let configuration = prefix.join("nginx.conf");
    fs::write(&configuration, configuration_text(listen, directory))
        .expect("nginx's configuration");
    let mut command = Command::new(nginx());
    command.arg("-p").arg(prefix).arg("-c").arg(&configuration);
    command.arg("-e").arg(prefix.join("error.log"));
    Background::start(command, is_ready)
}

/// Debian keeps it where only root's PATH looks.
fn nginx() -> &'static str {
    let on_path = output_of(Command::new("sh").args(["-c", "command -v nginx"]));
    if on_path.status.success() {
        "nginx"
    } else {
        "/usr/sbin/nginx"
    }
}

/// One process only, so that killing it ends all of it.
fn configuration_text(listen: &str, directory: &Path) -> String {
    format!(
        "daemon off;
master_process off;
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        {listen}
        root {};
    }}
}}
",
        directory.display()
    )
}
