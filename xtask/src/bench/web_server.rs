//! A web server as far away as the row says: nginx that waits before it answers.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use super::directory::Directory;
use super::process::{self, Process};
use crate::failure::Failure;
use crate::port::free_port;
use crate::tools;

/// What nginx waits before each answer, requests on other connections meanwhile being served.
const DELAY_SECONDS: &str = "0.02";

/// A running nginx, ranges included.
pub(super) struct WebServer {
    _process: Process,
    port: u16,
}

impl WebServer {
    /// Serves the files of `files`.
    pub(super) fn start(directory: &Directory, files: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let prefix = directory.make("nginx")?;
        let configuration = prefix.join("nginx.conf");
        fs::write(&configuration, configuration_text(port, files))
            .map_err(|e| Failure::at(&configuration, &e))?;
        let program = tools::find(tools::NGINX.0).unwrap_or_else(|| tools::NGINX.0.into());
        let mut command = process::command(program, directory.path());
        command.arg("-p").arg(&prefix).arg("-c").arg(&configuration);
        command.arg("-e").arg(prefix.join("error.log"));
        let process = Process::start(command, directory.path().join("nginx.log"), || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })?;
        Ok(Self {
            _process: process,
            port,
        })
    }

    pub(super) fn url(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/{file}", self.port)
    }
}

/// One process only, so that killing it ends all of it.
fn configuration_text(port: u16, files: &Path) -> String {
    format!(
        "load_module {module};
daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port};
        root {files};
        location / {{
            echo_sleep {DELAY_SECONDS};
            echo_exec @file;
        }}
        location @file {{ }}
    }}
}}
",
        module = tools::NGINX_ECHO.0,
        files = files.display()
    )
}
