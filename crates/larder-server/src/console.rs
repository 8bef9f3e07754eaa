//! What the server says, and where: messages on standard error around a live line that may be there,
//! and what is served on standard output.
//!
//! Nothing here fails: a terminal or a log that has gone away must not stop a server.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::ProgressBar;
use larder::Log;
use larder_frontend::report::one_line;

use crate::terminal::{Figures, Terminal};

/// Standard output and standard error.
#[derive(Debug)]
pub(crate) struct Console {
    /// Whether somebody wants to hear what happens to each block.
    is_verbose: bool,
    /// Where standard error is a terminal that something may be drawn on.
    terminal: Option<Terminal>,
}

impl Console {
    /// One that writes at once, and draws nothing.
    pub(crate) fn new(is_verbose: bool) -> Self {
        Self {
            is_verbose,
            terminal: None,
        }
    }

    /// One that draws where standard error is a terminal, and does not wait for it.
    pub(crate) fn with_terminal(is_verbose: bool) -> Self {
        let terminal = match io::stderr().is_terminal() {
            // Without a thread for it, it is as good as a log.
            true => Terminal::start().ok(),
            false => None,
        };
        Self {
            is_verbose,
            terminal,
        }
    }

    /// Whether something is drawn: on a terminal, and not by a job in its background.
    pub(crate) fn draws(&self) -> bool {
        self.terminal.is_some() && is_in_foreground()
    }

    /// Draws `bar` at the end of standard error from now on, and messages above it; or nothing any more.
    pub(crate) fn set_bar(&self, bar: Option<ProgressBar>) {
        if let Some(terminal) = &self.terminal {
            terminal.draw(bar);
        }
    }

    /// Has the bar that is drawn show other figures.
    pub(crate) fn update_bar(&self, figures: Figures) {
        if let (Some(terminal), true) = (&self.terminal, is_in_foreground()) {
            terminal.update(figures);
        }
    }

    /// A line for a person, on standard error.
    pub(crate) fn say(&self, message: &str) {
        let line = format!("larder: {}\n", one_line(message));
        match &self.terminal {
            Some(terminal) => terminal.say(line),
            None => {
                let _ = io::stderr().write_all(line.as_bytes());
            }
        }
    }

    /// A line for a person or a program, on standard output, out of this process on return.
    pub(crate) fn print(&self, message: &str) {
        let line = format!("larder: {}\n", one_line(message));
        match &self.terminal {
            Some(terminal) => terminal.print(line),
            None => {
                let mut out = io::stdout().lock();
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            }
        }
    }

    /// Waits until all that was said is out of this process, or no longer than `patience` if it is given.
    pub(crate) fn settle(&self, patience: Option<Duration>) {
        if let Some(terminal) = &self.terminal {
            terminal.settle(patience);
        }
    }
}

/// Whether standard error may be drawn on: it is not the terminal of a session in which another job is in the foreground.
fn is_in_foreground() -> bool {
    match rustix::termios::tcgetpgrp(io::stderr()) {
        Ok(group) => group == rustix::process::getpgrp(),
        // Not this session's terminal, so it has no jobs of ours.
        Err(_) => true,
    }
}

impl Log for Console {
    fn error(&self, message: &str) {
        self.say(message);
    }

    fn warning(&self, message: &str) {
        self.say(&format!("warning: {message}"));
    }

    fn debug(&self, message: &str) {
        if self.is_verbose {
            let line = format!("larder: {}\n", one_line(message));
            match &self.terminal {
                Some(terminal) => terminal.mention(line),
                None => self.say(message),
            }
        }
    }

    fn verbose(&self) -> bool {
        self.is_verbose
    }
}
