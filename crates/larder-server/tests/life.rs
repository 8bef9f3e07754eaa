//! When the server ends, with what status, and what it leaves.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use common::{Scratch, Server, larder, listens, output};
use rustix::process::Signal;

#[test]
fn signals_end_it_with_success_and_nothing_is_left() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let scratch = Scratch::new();
        let (listen, pidfile) = (format!("unix:{}", scratch.text("s")), scratch.text("pid"));
        let arguments = [
            "serve",
            "memory:1M",
            "--listen",
            &listen,
            "--pidfile",
            &pidfile,
        ];
        // Whoever runs the tests may ignore what a terminal's end sends, and that would be inherited.
        let mut command = std::process::Command::new("env");
        command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_larder")]);
        command.args(arguments).stdin(std::process::Stdio::null());
        let (server, _) = Server::start(&mut command, 1);
        assert!(listens(&scratch.path("s")));
        assert_eq!(
            fs::read_to_string(&pidfile).unwrap(),
            format!("{}\n", server.id())
        );
        server.signal(signal);
        let (status, told) = server.end();
        assert_eq!(status.code(), Some(0), "{signal:?}: {told}");
        assert_eq!(told, "");
        assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 0);
    }
}

#[test]
fn regression_a_limit_on_file_sizes_fails_a_write_and_ends_nothing() {
    let scratch = Scratch::new();
    let larder = env!("CARGO_BIN_EXE_larder");
    let listen = format!("unix:{}", scratch.text("s"));
    let limited = format!("ulimit -f 8; exec {larder} serve memory:1M --listen {listen}");
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", &limited]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("File too large"), "{told}");
}

#[test]
fn a_pidfile_replaces_nothing_but_another() {
    let scratch = Scratch::new();
    let image = scratch.text("image");
    fs::write(&image, "precious").unwrap();
    let line = common::refusal(&[
        "serve",
        "memory:1M",
        "--listen=tcp:127.0.0.1:0",
        &format!("--pidfile={image}"),
    ]);
    assert!(
        line.starts_with(&format!("pidfile={image}: there is a file")),
        "{line}"
    );
    assert_eq!(fs::read(&image).unwrap(), b"precious");
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 1);
}

#[test]
fn nohup_lets_it_live_without_a_terminal() {
    let scratch = Scratch::new();
    let listen = format!("unix:{}", scratch.text("s"));
    let mut command = std::process::Command::new("nohup");
    command
        .args([
            env!("CARGO_BIN_EXE_larder"),
            "serve",
            "memory:1M",
            "--listen",
            &listen,
        ])
        .stdin(std::process::Stdio::null());
    let (server, _) = Server::start(&mut command, 1);
    server.signal(Signal::HUP);
    assert!(listens(&scratch.path("s")));
    server.stop();
}

#[test]
fn figures_are_told_at_the_end_when_asked_for() {
    let arguments = ["serve", "memory:1M", "-v", "--listen=tcp:127.0.0.1:0"];
    let (server, _) = Server::start(&mut larder(&arguments), 1);
    server.signal(Signal::TERM);
    let (_, told) = server.end();
    assert!(
        told.lines()
            .any(|line| line.starts_with("larder: stats: hits=0 ")),
        "{told}"
    );
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let scratch = Scratch::new();
    let good = format!("unix:{}", scratch.text("s"));
    let output = output(&[
        "serve",
        "memory:1M",
        "--listen",
        &good,
        "--listen=unix:/no/such/s",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 0);
}

#[test]
fn a_command_ends_the_server_with_its_status() {
    for (command, status) in [
        ("true", 0),
        ("false", 1),
        ("exit 77", 77),
        ("kill $$", 128 + 15),
        ("kill -9 $$", 128 + 9),
        ("/no/such/program 2>/dev/null", 127),
    ] {
        let output = output(&["serve", "memory:1M", "--run", command]);
        assert_eq!(output.status.code(), Some(status), "{command}");
        assert!(
            output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

#[test]
fn a_command_finds_a_private_socket_that_goes_with_it() {
    let command = "test -S \"$unixsocket\" && stat -c %a \"${unixsocket%/*}\" && \
                   echo \"$uri\" && echo \"$nbd\" && echo \"$unixsocket\" && \
                   echo \"[$exportname][$tls]\"";
    let output = output(&["serve", "disk=memory:1M", "--run", command]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let socket = lines[3];
    assert_eq!(lines[0], "700");
    assert_eq!(lines[1], format!("nbd+unix:///disk?socket={socket}"));
    assert_eq!(lines[2], lines[1]);
    assert_eq!(lines[4], "[disk][]");
    let directory = std::path::Path::new(socket).parent().unwrap();
    assert!(!directory.exists());
}

#[test]
fn a_signal_is_passed_on_to_the_command() {
    let scratch = Scratch::new();
    let listen = format!("unix:{}", scratch.text("s"));
    let command = "echo started; exec sleep 1000";
    let arguments = ["serve", "memory:1M", "--run", command, "--listen", &listen];
    let (server, lines) = Server::start(&mut larder(&arguments), 1);
    assert_eq!(lines, ["started\n"]);
    assert!(listens(&scratch.path("s")));
    server.signal(Signal::TERM);
    let (status, told) = server.end();
    assert_eq!(status.code(), Some(128 + 15), "{told}");
}

#[test]
fn the_command_has_the_limit_on_descriptors_that_the_server_was_started_with() {
    let larder = env!("CARGO_BIN_EXE_larder");
    // The command's status is seen through it, and so are its words.
    let command = "ulimit -S -n; echo \"a  b\"; exit 3";
    let limited = format!(
        "ulimit -S -n 200; ulimit -H -n 300; exec {larder} serve memory:1M --run '{command}'"
    );
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", &limited]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(output.stdout, b"200\na  b\n", "{output:?}");
}

#[test]
fn the_command_does_not_see_what_was_for_the_server() {
    let scratch = Scratch::new();
    let notify = UnixDatagram::bind(scratch.path("notify")).unwrap();
    let output = larder(&["serve", "memory:1M", "--run", "test -z \"$NOTIFY_SOCKET\""])
        .env("NOTIFY_SOCKET", scratch.path("notify"))
        .output()
        .unwrap();
    assert!(output.status.success());
    drop(notify);
}

#[test]
fn readiness_is_told_to_the_service_manager_whatever_it_is_called() {
    let scratch = Scratch::new();
    let name = scratch.text("notify");
    let path = SocketAddr::from_pathname(&name).unwrap();
    let nameless = SocketAddr::from_abstract_name(&name).unwrap();
    for (called, address) in [(name.clone(), path), (format!("@{name}"), nameless)] {
        let notify = UnixDatagram::bind_addr(&address).unwrap();
        notify
            .set_read_timeout(Some(std::time::Duration::from_secs(30)))
            .unwrap();
        let mut buffer = [0; 256];
        let mut wait_for = |told: &str| {
            let is_told = |message: &[u8]| {
                let message = std::str::from_utf8(message).unwrap();
                message.lines().any(|line| line == told)
            };
            while !is_told(&buffer) {
                buffer.fill(0);
                notify.recv(&mut buffer).expect(told);
            }
        };
        let listen = format!("unix:{}", scratch.text("s"));
        let mut command = larder(&["serve", "memory:1M", "--listen", &listen]);
        let (server, _) = Server::start(command.env("NOTIFY_SOCKET", called), 1);
        wait_for("READY=1");
        server.stop();
        wait_for("STOPPING=1");
    }
}

#[test]
fn a_service_manager_that_cannot_be_told_is_a_warning() {
    let listen = "--listen=tcp:127.0.0.1:0";
    let mut command = larder(&["serve", "memory:1M", listen]);
    let (server, _) = Server::start(command.env("NOTIFY_SOCKET", "/no/such/socket"), 1);
    server.signal(Signal::TERM);
    let (status, told) = server.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        told,
        "larder: warning: NOTIFY_SOCKET=/no/such/socket: the service manager cannot be told anything: \
         No such file or directory\n"
    );
}
