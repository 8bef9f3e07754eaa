//! The sending half, shared by all who answer one client's requests.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::reply_buffer::ReplyBuffer;
use super::transport::Sender;
use crate::stream::Stream;

/// The sending half. Once a send has failed the connection is over: both directions are ended, so
/// that whoever receives notices.
#[derive(Debug)]
pub(crate) struct Output {
    sender: Mutex<Sender>,
    /// Ended without the lock, which a send that waits for the client holds.
    stream: Stream,
    is_broken: AtomicBool,
}

impl Output {
    /// Nothing sent yet.
    pub(crate) fn new(sender: Sender) -> Self {
        Self {
            stream: sender.stream().clone(),
            sender: Mutex::new(sender),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Sends the replies and empties the buffer.
    pub(crate) fn send(&self, replies: &mut ReplyBuffer) {
        if !replies.is_empty() && !self.is_broken() {
            let mut sender = self.lock();
            let sent = sender.send(&mut [IoSlice::new(replies.as_slice())]);
            if sent.is_err() {
                self.abort();
            }
        }
        replies.clear();
    }

    /// Ends the connection at once.
    pub(crate) fn abort(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
        self.stream.shutdown_both();
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::SeqCst)
    }

    /// The sending half again.
    pub(crate) fn into_sender(self) -> Sender {
        self.sender
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
