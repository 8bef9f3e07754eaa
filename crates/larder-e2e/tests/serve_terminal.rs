//! What is drawn on a terminal, and what becomes of a server whose terminal is stopped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use larder_e2e::{
    Client, Larder, MIB, Nbdkit, Scratch, assert_filled, read_at, sparse_file, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// What Ctrl-S sends.
const STOP: &[u8] = b"\x13";

/// A pseudo-terminal, and all that was written to it.
struct Screen {
    keyboard: File,
    line: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    fn new() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = std::ffi::OsStr::from_bytes(name.as_bytes());
        let line = File::options().read(true).write(true).open(path).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 120,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&line, size).unwrap();
        let keyboard = File::from(master);
        let (mut output, written) = (keyboard.try_clone().unwrap(), Arc::default());
        let all: Arc<Mutex<Vec<u8>>> = Arc::clone(&written);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                all.lock().unwrap().extend(&bytes[..length]);
            }
        });
        Self {
            keyboard,
            line: line.into(),
            written,
        }
    }

    /// Runs a command with the terminal as standard error.
    fn run(&self, command: &mut Command) -> Process {
        command.stderr(Stdio::from(self.line.try_clone().unwrap()));
        // Where none is set, nothing is drawn.
        let child = command.env("TERM", "xterm").spawn().unwrap();
        Process(child)
    }

    fn press(&self, key: &[u8]) {
        (&self.keyboard).write_all(key).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }
}

/// Killed if the test forgets it.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        wait_until("it has ended", || self.has_ended().is_some());
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with the screen as standard error, and a client that has left 64 KiB dirty and is still there.
fn dirty_server(larder: &Larder, screen: &Screen) -> (Process, Client) {
    let server = screen.run(larder.command().stdin(Stdio::null()).stdout(Stdio::null()));
    wait_until("it serves", || {
        Client::try_connect_to(larder.socket(), "").is_ok()
    });
    let mut client = Client::connect(larder.socket());
    client.write(0, &[7; 64 << 10]).unwrap();
    (server, client)
}

#[test]
fn a_line_on_a_terminal_tells_how_the_cache_does_and_goes_at_the_end() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    let larder = Larder::serve(&scratch).origin("memory:1M");
    let (mut server, mut client) = dirty_server(&larder, &screen);
    client.read(0, 64 << 10).unwrap();
    wait_until("the line is drawn", || {
        let line = "hits 1 (100.0%)  misses 0  dirty 64.00 KiB  clients 0 B/s in, 0 B/s out  \
                    origin 0 B/s in, 0 B/s out";
        screen.text().contains(line)
    });
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0), "{}", screen.text());
    wait_until("it is cleared", || {
        let text = screen.text();
        let (_, end) = text.rsplit_once(" out").unwrap();
        end.contains("\x1b[2K") && !end.contains("hits")
    });
}

#[test]
fn a_job_in_the_background_draws_nothing() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    let pidfile = scratch.path("pid");
    let larder = Larder::serve(&scratch)
        .origin("memory:1M")
        .parameter(&format!("pidfile={}", pidfile.display()));
    let command = larder.command();
    // A shell with job control, in a session of the terminal.
    let mut session = Command::new("setsid");
    session.args(["--ctty", "--wait", "sh", "-mc", "\"$@\" & wait", "sh"]);
    session.arg(command.get_program()).args(command.get_args());
    let variables = command.get_envs();
    session.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    let terminal = || Stdio::from(screen.line.try_clone().unwrap());
    let mut shell = screen.run(session.stdin(terminal()).stdout(terminal()));
    wait_until("it serves", || screen.text().contains("larder: serving"));
    let client = Client::connect(larder.socket());
    let begun = Instant::now();
    // Longer than it takes until the line is there.
    wait_until("time has passed", || {
        begun.elapsed() > Duration::from_millis(1200)
    });
    assert!(!screen.text().contains("hits"), "{}", screen.text());
    drop(client);
    let number = std::fs::read_to_string(&pidfile).unwrap();
    let server = Pid::from_raw(number.trim().parse().unwrap()).unwrap();
    kill_process(server, Signal::TERM).unwrap();
    assert!(shell.end().success(), "{}", screen.text());
}

#[test]
fn a_bar_on_a_terminal_tells_how_far_the_last_write_back_is() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let origin = Nbdkit::bare(&scratch)
        .below("delay")
        .file(&image)
        .parameter("delay-write=2")
        .start();
    let larder = Larder::serve(&scratch).origin(origin.uri());
    let (mut server, _client) = dirty_server(&larder, &screen);
    server.signal(Signal::TERM);
    wait_until("the bar is drawn", || {
        let text = screen.text();
        text.contains("larder: writing back 64.00 KiB") && text.contains(" 0 B of 64.00 KiB, ")
    });
    assert_eq!(server.end().code(), Some(0), "{}", screen.text());
    assert_filled("the origin's file", &read_at(&image, 0, 64 << 10), 7);
}

#[test]
fn a_stopped_terminal_stops_neither_the_end_nor_what_is_written_back() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let larder = Larder::serve(&scratch).file(&image);
    let (mut server, _client) = dirty_server(&larder, &screen);
    wait_until("the line is drawn", || screen.text().contains("hits "));
    screen.press(STOP);
    // It is drawn again, in vain, before the end begins or as it does.
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    assert_filled("the origin's file", &read_at(&image, 0, 64 << 10), 7);
}

#[test]
fn who_gives_up_is_not_held_up_by_a_stopped_terminal() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let origin = Nbdkit::bare(&scratch)
        .below("delay")
        .file(&image)
        .parameter("delay-write=60")
        .start();
    let larder = Larder::serve(&scratch).origin(origin.uri());
    let (mut server, _client) = dirty_server(&larder, &screen);
    wait_until("the line is drawn", || screen.text().contains("hits "));
    screen.press(STOP);
    wait_until("it gives up", || {
        let is_running = server.has_ended().is_none();
        if is_running {
            server.signal(Signal::TERM);
        }
        !is_running
    });
    assert_eq!(server.end().code(), Some(1));
}

#[test]
fn a_command_in_the_foreground_of_a_terminal_stays_there_whatever_it_reads() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    // Or else it would be stopped when it asks there for a password.
    let command = "set -- $(cat /proc/$$/stat); test \"$5\" = \"$8\"";
    let larder = Larder::serve(&scratch)
        .origin("memory:1M")
        .flag("--run")
        .flag(command);
    let larder = larder.command();
    let mut session = Command::new("setsid");
    session.args([
        "--ctty",
        "--wait",
        "sh",
        "-c",
        "exec \"$@\" </dev/null",
        "sh",
    ]);
    session.arg(larder.get_program()).args(larder.get_args());
    let variables = larder.get_envs();
    session.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    let terminal = Stdio::from(screen.line.try_clone().unwrap());
    let mut server = screen.run(session.stdin(terminal).stdout(Stdio::null()));
    assert_eq!(server.end().code(), Some(0), "{}", screen.text());
}

#[test]
fn on_a_terminal_an_interrupt_is_the_commands() {
    let (scratch, screen) = (Scratch::new(), Screen::new());
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let ready = scratch.path("ready");
    let command = "trap 'qemu-io -f raw -c \"write -P 7 0 64k\" \"$uri\"; exit 5' TERM; \
                   : > \"$READY\"; while true; do sleep 0.1; done";
    let larder = Larder::serve(&scratch)
        .file(&image)
        .environment("READY", &ready)
        .flag("--run")
        .flag(command);
    let terminal = Stdio::from(screen.line.try_clone().unwrap());
    let mut server = screen.run(larder.command().stdin(terminal).stdout(Stdio::null()));
    wait_until("the command runs", || ready.exists());
    // As Ctrl-C would, again and again: if it were the server's it would end it and then make it give up.
    let started = Instant::now();
    wait_until("some of them are there", || {
        server.signal(Signal::INT);
        started.elapsed() > Duration::from_millis(1500)
    });
    assert!(Client::try_connect_to(larder.socket(), "").is_ok());
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(5), "{}", screen.text());
    assert_filled("the origin's file", &read_at(&image, 0, 64 << 10), 7);
}
