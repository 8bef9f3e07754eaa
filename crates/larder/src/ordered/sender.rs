//! The thread that sends what a queue has, where the cache does work in the background.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::queue::Queue;
use super::send::{How, has_ended, send_oldest};
use crate::sync::{self, Condvar};
use crate::volume::Volume;

/// How long it rests when the origin refuses, or when nobody is connected to it.
const REST: Duration = Duration::from_secs(1);
/// How long it leaves the sending to those who wait for it, at a time.
const TURN: Duration = Duration::from_millis(1);
/// How long it sleeps when there is nothing to do.
const LONG: Duration = Duration::from_secs(60);

/// Wakes the thread.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<Ringing>,
    rung: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Ringing {
    is_rung: bool,
    is_stopped: bool,
}

impl Bell {
    /// There is something to send.
    pub(super) fn ring(&self) {
        sync::lock(&self.state).is_rung = true;
        self.rung.notify_all();
    }

    /// There will be nothing more.
    pub(super) fn stop(&self) {
        sync::lock(&self.state).is_stopped = true;
        self.rung.notify_all();
    }

    /// Waits at most so long. False once stopped.
    fn wait(&self, longest: Duration) -> bool {
        let state = sync::lock(&self.state);
        let is_quiet = |state: &mut Ringing| !state.is_rung && !state.is_stopped;
        let mut state = sync::wait_while(&self.rung, state, longest, is_quiet);
        state.is_rung = false;
        !state.is_stopped
    }

    /// The same whatever rings.
    fn rest(&self, pause: Duration) -> bool {
        let state = sync::lock(&self.state);
        let state = sync::wait_while(&self.rung, state, pause, |state| !state.is_stopped);
        !state.is_stopped
    }
}

impl Queue {
    /// Starts the thread, unless there is one.
    pub(crate) fn start_sender(self: &Arc<Self>, volume: &Arc<Volume>) {
        let mut thread = sync::lock(&self.bell.thread);
        if thread.is_none() {
            let (queue, volume) = (Arc::clone(self), Arc::downgrade(volume));
            let run = move || run(&volume, &queue);
            // Without it requests send when there is no room, and whoever leaves last.
            let name = "larder-sender".to_owned();
            *thread = std::thread::Builder::new().name(name).spawn(run).ok();
        }
    }

    /// Ends the thread, which may be in a request to the origin: called when nobody is connected any more.
    pub(crate) fn end_sender(&self) {
        self.bell.stop();
        let thread = sync::lock(&self.bell.thread).take();
        if let Some(thread) = thread {
            // A panic of it has poisoned the volume.
            let _ = thread.join();
        }
    }

    /// The thread may end, sooner or later.
    pub(crate) fn dismiss_sender(&self) {
        self.bell.stop();
    }
}

fn run(volume: &Weak<Volume>, queue: &Queue) {
    let mut last_complaint = String::new();
    loop {
        let longest = match has_ended(queue) {
            true => REST,
            false => LONG,
        };
        if !queue.bell.wait(longest) {
            return;
        }
        let Some(volume) = volume.upgrade() else {
            return;
        };
        let sent = catch_unwind(AssertUnwindSafe(|| send_all(&volume, queue)));
        let complaint = match sent {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                volume.poison();
                "a panic while it was sent".to_owned()
            }
        };
        if !complaint.is_empty() && complaint != last_complaint {
            volume.store().log.warning(&format!(
                "volume '{}': what is queued for the origin waits: {complaint}",
                volume.name()
            ));
        }
        drop(volume);
        let is_well = complaint.is_empty();
        last_complaint = complaint;
        if !is_well && !queue.bell.rest(REST) {
            return;
        }
    }
}

/// All epochs that have ended, as long as somebody is connected who can write.
fn send_all(volume: &Volume, queue: &Queue) -> std::io::Result<()> {
    while has_ended(queue) && !volume.is_poisoned() {
        let Some(writer) = volume.attached.borrow_writer() else {
            return Ok(());
        };
        let Some(queued) = &writer.queued else {
            return Ok(());
        };
        if queue.is_wanted() {
            // Who waits for something to leave sends it: a lock has no queue, and this thread would have it again before they have woken.
            drop(writer);
            if !queue.bell.rest(TURN) {
                return Ok(());
            }
            continue;
        }
        let _sending = queue.stop_sending();
        let how = How {
            gives_way: Some(&volume.foreground),
            ..How::default()
        };
        if !send_oldest(queue, &*queued.below, how)? {
            return Ok(());
        }
    }
    Ok(())
}
