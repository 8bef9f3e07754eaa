//! Programs that run beside a test, and free ports for them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{cannot_run, output_of};
use crate::wait::wait_until;

/// A running program, killed when it is dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
}

impl Background {
    /// Starts a program and waits until `ready` holds. Panics when it ends before.
    #[must_use]
    pub fn start(mut command: Command, ready: impl Fn() -> bool) -> Self {
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| cannot_run(&command, &error));
        let mut program = Self { child };
        wait_until(&format!("{:?} is ready", command.get_program()), || {
            if let Ok(Some(status)) = program.child.try_wait() {
                panic!("{command:?} ended: {status}");
            }
            ready()
        });
        program
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that goes into the background by itself, ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    pid: Pid,
}

impl Daemon {
    /// Starts a program that writes its process number to a file, and waits until `ready` holds.
    #[must_use]
    pub(crate) fn start(mut command: Command, pid_file: &Path, ready: impl Fn() -> bool) -> Self {
        let output = output_of(&mut command);
        assert!(output.status.success(), "{command:?}: {output:?}");
        let number = || fs::read_to_string(pid_file).ok()?.trim().parse().ok();
        wait_until("the process number is there", || number().is_some());
        let daemon = Self {
            pid: number().and_then(Pid::from_raw).expect("a process number"),
        };
        wait_until(&format!("{:?} is ready", command.get_program()), ready);
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::TERM);
    }
}

/// A TCP port of 127.0.0.1 that nobody had a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port()
}
