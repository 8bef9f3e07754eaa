//! Where the server listens, and what it does about what is there already.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, Server, larder, listens, refusal, uri};
use rustix::fs::{FlockOperation, flock};
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
    activated_with("LISTEN_FDS=1 LISTEN_PID=$$", listener, arguments)
}

fn activated_with(variables: &str, listener: impl Into<Stdio>, arguments: &str) -> Command {
    let script = format!(
        "exec 3<&0 4<&0 </dev/null; export {variables}; exec {} serve memory:1M {arguments}",
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
    let mut command = activated(OwnedFd::from(listener), "");
    let (server, lines) = Server::start(&mut command, 1);
    assert_eq!(uri(&lines[0]), format!("nbd://{address}"));
    assert!(TcpStream::connect(address).is_ok());
    server.stop();
}

#[test]
fn a_unix_socket_of_the_service_manager_is_used_and_not_removed() {
    let scratch = Scratch::new();
    let listener = UnixListener::bind(scratch.path("s")).unwrap();
    let mut command = activated(OwnedFd::from(listener), "");
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
fn an_abstract_socket_of_the_service_manager_is_told_by_its_name() {
    let name = Scratch::new().text("s");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let (server, lines) = Server::start(&mut activated(OwnedFd::from(listener), ""), 1);
    let end = format!(" at the abstract Unix socket @{name}\n");
    assert!(lines[0].ends_with(&end), "{}", lines[0]);
    assert!(UnixStream::connect_addr(&address).is_ok());
    server.stop();
}

#[test]
fn sockets_for_another_process_are_not_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = OwnedFd::from(listener);
    let (variables, listen) = ("LISTEN_FDS=1 LISTEN_PID=1", "--listen tcp:127.0.0.1:0");
    let (server, lines) = Server::start(&mut activated_with(variables, listener, listen), 1);
    assert_ne!(uri(&lines[0]), format!("nbd://{address}"));
    server.stop();
}

#[test]
fn each_socket_of_the_service_manager_is_used_beside_that_of_a_command() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listener = OwnedFd::from(listener);
    // It is there twice, as descriptor 3 and 4.
    let variables = "LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=a:b";
    let scratch = Scratch::new();
    let fifo = scratch.text("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let command = format!(
        "--run 'test -S \"$unixsocket\" && \
         echo \"[$LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES]\" && read -r end < {fifo}'"
    );
    let (server, lines) = Server::start(&mut activated_with(variables, listener, &command), 1);
    assert_eq!(lines, ["[]\n"]);
    assert!(TcpStream::connect(address).is_ok());
    fs::write(&fifo, "\n").unwrap();
    let (status, told) = server.end();
    assert_eq!((status.code(), &*told), (Some(0), ""));
    let two = TcpListener::bind("127.0.0.1:0").unwrap();
    let variables = "LISTEN_FDS=3 LISTEN_PID=$$";
    let output = activated_with(variables, OwnedFd::from(two), "").output();
    let told = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(told.starts_with("larder: LISTEN_FDS: "), "{told}");
}

#[test]
fn a_relative_path_is_absolute_in_the_uri() {
    let scratch = Scratch::new();
    let mut command = larder(&["serve", "memory:1M", "--listen=unix:s"]);
    let (server, lines) = Server::start(command.current_dir(scratch.path("")), 1);
    let place = fs::canonicalize(scratch.path("s")).unwrap();
    assert_eq!(
        uri(&lines[0]),
        format!("nbd+unix:///?socket={}", place.display())
    );
    server.stop();
    assert!(!scratch.path("s").exists());
}

#[test]
fn a_server_that_starts_beside_another_waits_until_that_listens() {
    let scratch = Scratch::new();
    let listen = format!("unix:{}", scratch.text("s"));
    // What another has, from its look at the path until it listens there.
    let lock = fs::File::open(scratch.path("")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut child = larder(&["serve", "memory:1M", "--listen", &listen])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let opened = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let directory = fs::canonicalize(scratch.path("")).unwrap();
    let has_opened = || {
        let mut open = fs::read_dir(&opened).unwrap();
        open.any(|one| fs::read_link(one.unwrap().path()).is_ok_and(|to| to == directory))
    };
    let deadline = Instant::now() + Duration::from_secs(9);
    let mut waits = false;
    while !waits && Instant::now() < deadline {
        waits = has_opened();
    }
    let is_early = scratch.path("s").exists();
    drop(lock);
    while waits && !listens(&scratch.path("s")) && Instant::now() < deadline {}
    let is_served = listens(&scratch.path("s"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        waits && !is_early && is_served,
        "{waits} {is_early} {is_served}"
    );
}

#[test]
fn sockets_come_from_one_side_only() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = OwnedFd::from(listener);
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
