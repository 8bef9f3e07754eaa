//! Programs that run beside a test, and free ports for them.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

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
            .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        let mut program = Self { child };
        wait_until(&format!("{:?} is ready", command.get_program()), || {
            if let Ok(Some(status)) = program.child.try_wait() {
                panic!("{command:?} ended: {status}");
            }
            ready()
        });
        program
    }

    /// Waits for the end, and asserts that it is a good one.
    pub fn finish(mut self) {
        let status = self.child.wait().expect("the program's status");
        assert!(status.success(), "{:?}: {status}", self.child);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
