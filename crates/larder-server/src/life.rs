//! The server's life once clients are served, and its end.
//!
//! The end: no more clients are accepted and nothing more is read from those there are; what they have
//! begun is finished; every keeper writes back; a cache directory is closed; what could not be written is told, and is
//! the exit status.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use larder::{Cache, Log};
use larder_frontend::report::{plain, stats_line};
use sd_notify::NotifyState;

use crate::captive::{Captive, exit_code};
use crate::cleanup::Cleanup;
use crate::console::Console;
use crate::exports::Exports;
use crate::live_line::LiveLine;
use crate::service_manager::ServiceManager;
use crate::stopping::Stopping;
use crate::storage::Storage;
use crate::write_back::{tell_leftovers, tell_unflushed, write_back};

/// How long it may take to find out what is lost when the server gives up, and how long a terminal that is stopped is waited for.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);

/// What a command has left behind and is not connected for so long is not served any more.
const QUIET: Duration = Duration::from_secs(5);
/// How often it is looked whether all that a command has started has gone.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A reason to end.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody asked.
    Signal,
    /// The command that the server was run for has ended.
    CommandEnded(ExitStatus),
    /// No client is there any more, and the server was to end then.
    LastClientLeft,
}

/// A server that serves.
pub(crate) struct Life {
    pub(crate) console: Arc<Console>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) stopping: Stopping,
    pub(crate) cleanup: Cleanup,
    pub(crate) acceptor: JoinHandle<()>,
    pub(crate) live_line: Option<LiveLine>,
    pub(crate) service_manager: ServiceManager,
    /// How long clients may take for their last replies.
    pub(crate) patience: Duration,
}

impl Life {
    /// Waits for a reason to end, and ends. The exit status.
    pub(crate) fn live(
        self,
        captive: Result<Option<Captive>, String>,
        inbox: &Receiver<Event>,
    ) -> u8 {
        let captive = match captive {
            Ok(captive) => captive,
            Err(message) => {
                self.console.say(&message);
                self.end();
                return 1;
            }
        };
        let mut status = None;
        match inbox.recv() {
            Ok(Event::CommandEnded(ended)) => status = Some(ended),
            Ok(Event::Signal) => {
                if let Some(captive) = &captive {
                    captive.terminate();
                    // Its last requests are served.
                    status = command_ended(captive, inbox);
                    self.serve_those_left_by(captive);
                }
            }
            Ok(Event::LastClientLeft) | Err(_) => {}
        }
        let is_lost = self.end();
        if let (Some(captive), None) = (&captive, status) {
            status = command_ended(captive, inbox);
        }
        match status.map_or(0, exit_code) {
            0 => u8::from(is_lost),
            code => code,
        }
    }

    /// Serves what a command had started and did not wait for, as long as that is there and has something to ask: a shell ends at
    /// once when it is asked to, and what it runs may have to write first.
    fn serve_those_left_by(&self, captive: &Captive) {
        let mut asked = Instant::now();
        while captive.has_left_others() && asked.elapsed() < QUIET {
            if self.stopping.has_connections() {
                asked = Instant::now();
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Ends serving. True if an origin did not get what it should have.
    fn end(self) -> bool {
        let (console, cache) = (&self.console, &self.storage.cache);
        // Once nobody listens, another server may take the path for its own.
        self.cleanup.remove_sockets();
        self.stopping.begin();
        self.service_manager.tell(&[
            NotifyState::Stopping,
            NotifyState::Status("finishing what clients have begun"),
        ]);
        if self.acceptor.join().is_err() {
            console.error("accepting clients ended early");
        }
        let closed = self.stopping.wait_for_all(self.patience);
        if closed > 0 {
            console.warning(&format!(
                "connections closed that did not end by themselves: {closed}"
            ));
        }
        drop(self.live_line);
        let is_flushed = write_back(&self.exports, cache, console, &self.service_manager);
        if console.verbose() {
            console.debug(&stats_line(&cache.stats(), cache.config()));
        }
        let leftovers = cache.leftovers();
        // Whether they are kept depends on it.
        let closed = self.storage.close(&**console);
        let is_lost = tell_leftovers(cache, &leftovers, console);
        if let Err(error) = &closed {
            console.error(&plain(error));
        }
        if is_lost {
            // Keepers would try once more as they go.
            std::mem::forget(Arc::clone(&self.exports));
        }
        is_lost || !is_flushed || closed.is_err()
    }
}

/// Waits for the end of the command. Whoever asks the server to end meanwhile asks the command.
fn command_ended(captive: &Captive, inbox: &Receiver<Event>) -> Option<ExitStatus> {
    inbox.iter().find_map(|event| match event {
        Event::CommandEnded(status) => Some(status),
        Event::Signal => {
            captive.terminate();
            None
        }
        Event::LastClientLeft => None,
    })
}

/// Ends the process at once, and says what is lost with it. The status is 0 if nothing is, and no command is left whose status it
/// should be.
pub(crate) fn give_up(
    cache: &Arc<Cache>,
    cleanup: &Cleanup,
    console: &Arc<Console>,
    has_command: bool,
) {
    let (cache, speaker) = (Arc::clone(cache), Arc::clone(console));
    let is_lost = within(LAST_WORDS, move || {
        speaker.set_bar(None);
        speaker.say("giving up on what is not written back");
        let is_lost = tell_leftovers(&cache, &cache.leftovers(), &speaker);
        let is_uncertain = tell_unflushed(&cache, |_| true, &speaker);
        is_lost || is_uncertain
    });
    let speaker = Arc::clone(console);
    within(LAST_WORDS, move || {
        if is_lost.is_none() {
            speaker.error("what is lost cannot be told");
        }
        speaker.settle(None);
    });
    cleanup.run();
    std::process::exit((is_lost.unwrap_or(true) || has_command).into());
}

/// Does something for so long at most: whatever the rest of the server hangs on, and whoever does not take what it says, giving up
/// must not.
fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, done) = mpsc::channel();
    let working = thread::Builder::new()
        .name("larder-last-words".to_owned())
        .spawn(move || {
            let _ = sender.send(work());
        });
    working.ok()?;
    done.recv_timeout(patience).ok()
}
