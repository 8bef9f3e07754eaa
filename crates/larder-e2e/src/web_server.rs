//! A web server of a test's own, for the curl plugin.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::command::output_of;
use crate::scratch::Scratch;
use crate::wait::wait_until;

/// A running nginx on a Unix socket, killed when it is dropped.
#[derive(Debug)]
pub struct WebServer {
    child: Child,
    socket: PathBuf,
}

impl WebServer {
    /// Serves the files of a directory, byte ranges included.
    #[must_use]
    pub fn start(scratch: &Scratch, directory: &Path) -> Self {
        let prefix = scratch.make_dir("nginx");
        let socket = prefix.join("socket");
        let configuration = prefix.join("nginx.conf");
        fs::write(&configuration, configuration_text(&socket, directory))
            .expect("nginx's configuration");
        let mut command = Command::new(nginx());
        command.arg("-p").arg(&prefix).arg("-c").arg(&configuration);
        command.arg("-e").arg(prefix.join("error.log"));
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let server = Self { child, socket };
        wait_until("nginx serves", || {
            UnixStream::connect(&server.socket).is_ok()
        });
        server
    }

    /// The curl plugin's parameters for a file it serves.
    #[must_use]
    pub fn curl_parameters(&self, file: &str) -> [String; 2] {
        [
            format!("url=http://localhost/{file}"),
            format!("unix-socket-path={}", self.socket.display()),
        ]
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
fn configuration_text(socket: &Path, directory: &Path) -> String {
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
        listen unix:{};
        root {};
    }}
}}
",
        socket.display(),
        directory.display()
    )
}
