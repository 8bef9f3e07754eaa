//! Where the server listens, and what it does about what is there already.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use common::{Scratch, Server, larder, listens, refusal, uri};
use rustix::process::Signal;

#[test]
fn a_socket_that_a_killed_server_left_is_replaced() {
    let scratch = Scratch::new();
    let listen = format!("unix:{}", scratch.text("s"));
    let arguments = ["serve", "memory:1M", "--listen", &listen];
    let (server, _) = Server::start(&mut larder(&arguments), 1);
    server.signal(Signal::KILL);
    server.end();
    assert!(scratch.path("s").exists());
    let (server, _) = Server::start(&mut larder(&arguments), 1);
    assert!(listens(&scratch.path("s")));
    server.stop();
    assert!(!scratch.path("s").exists());
}

#[test]
fn a_server_that_lives_keeps_its_socket() {
    let scratch = Scratch::new();
    let listen = format!("unix:{}", scratch.text("s"));
    let arguments = ["serve", "memory:1M", "--listen", &listen];
    let (server, _) = Server::start(&mut larder(&arguments), 1);
    let line = refusal(&arguments);
    assert_eq!(
        line,
        format!("listen={listen}: a server is listening there already")
    );
    assert!(listens(&scratch.path("s")));
    server.stop();
}

#[test]
fn another_file_is_never_replaced() {
    let scratch = Scratch::new();
    fs::write(scratch.path("s"), "precious").unwrap();
    let listen = format!("unix:{}", scratch.text("s"));
    let line = refusal(&["serve", "memory:1M", "--listen", &listen]);
    assert!(line.contains("which is no socket"), "{line}");
    assert_eq!(fs::read(scratch.path("s")).unwrap(), b"precious");
}

#[test]
fn a_socket_that_took_the_place_of_ours_is_left_alone() {
    let scratch = Scratch::new();
    let listen = format!("unix:{}", scratch.text("s"));
    let (server, _) = Server::start(&mut larder(&["serve", "memory:1M", "--listen", &listen]), 1);
    fs::remove_file(scratch.path("s")).unwrap();
    let _other = UnixListener::bind(scratch.path("s")).unwrap();
    server.stop();
    assert!(listens(&scratch.path("s")));
}

#[test]
fn mode_and_owner_are_as_asked() {
    let scratch = Scratch::new();
    let own = fs::metadata(scratch.path("")).unwrap();
    let listen = format!("unix:{}", scratch.text("s"));
    let owner = format!("{}:{}", own.uid(), own.gid());
    let (server, _) = Server::start(
        &mut larder(&[
            "serve",
            "memory:1M",
            "--listen",
            &listen,
            "--socket-mode=0604",
            "--socket-owner",
            &owner,
        ]),
        1,
    );
    let made = fs::metadata(scratch.path("s")).unwrap();
    assert_eq!(made.mode() & 0o7777, 0o604);
    assert_eq!((made.uid(), made.gid()), (own.uid(), own.gid()));
    server.stop();
}

#[test]
fn several_places_are_served_and_told() {
    let scratch = Scratch::new();
    let listen = format!("unix:{}", scratch.text("s"));
    let arguments = [
        "serve",
        "memory:1M",
        "--listen",
        &listen,
        "--listen=tcp:127.0.0.1:0",
    ];
    let (server, lines) = Server::start(&mut larder(&arguments), 1);
    assert!(lines[0].contains(&format!("nbd+unix:///?socket={}, ", scratch.text("s"))));
    let address = uri(&lines[0]).strip_prefix("nbd://").unwrap();
    assert!(TcpStream::connect(address).is_ok());
    assert!(listens(&scratch.path("s")));
    server.stop();
}

#[test]
fn a_port_in_use_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("tcp:{}", taken.local_addr().unwrap());
    let line = refusal(&["serve", "memory:1M", "--listen", &listen]);
    assert_eq!(line, format!("listen={listen}: Address already in use"));
}

/// A server that is started as systemd does, with `listener` as descriptor 3.
fn activated(listener: impl Into<Stdio>, arguments: &str) -> Command {
    let script = format!(
        "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec {} serve memory:1M {arguments}",
        env!("CARGO_BIN_EXE_larder")
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).stdin(listener);
    command
}

#[test]
fn a_tcp_socket_of_the_service_manager_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = activated(std::os::fd::OwnedFd::from(listener), "");
    let (server, lines) = Server::start(&mut command, 1);
    assert_eq!(uri(&lines[0]), format!("nbd://{address}"));
    assert!(TcpStream::connect(address).is_ok());
    server.stop();
}

#[test]
fn a_unix_socket_of_the_service_manager_is_used_and_not_removed() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.path("s")).unwrap();
    let mut command = activated(std::os::fd::OwnedFd::from(listener), "");
    let (server, lines) = Server::start(&mut command, 1);
    assert_eq!(
        uri(&lines[0]),
        format!("nbd+unix:///?socket={}", scratch.text("s"))
    );
    assert!(listens(&scratch.path("s")));
    server.stop();
    assert!(scratch.path("s").exists());
}

#[test]
fn sockets_come_from_one_side_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = std::os::fd::OwnedFd::from(listener);
    let mut command = activated(listener, "--listen tcp:127.0.0.1:0");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("larder: listen=tcp:127.0.0.1:0: the service manager gave"),
        "{told}"
    );
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let output = activated(fs::File::open("/dev/null").unwrap(), "")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("larder: LISTEN_FDS: descriptor 3 is not a stream socket"),
        "{told}"
    );
}
