//! Room in the ring: who finds none sends something to the origin, or waits for who does.

use std::io;
use std::sync::Mutex;

use super::above::QueuedOrigin;
use super::queue::Queue;
use super::send::{How, send_oldest};
use crate::durability::is_loss;
use crate::sync;

/// How often the origin has refused an epoch, and why it did last.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<(u64, Option<Refusal>)>);

#[derive(Debug)]
struct Refusal {
    code: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

impl Refusals {
    pub(super) fn count(&self) -> u64 {
        sync::lock(&self.0).0
    }

    pub(super) fn note(&self, error: &io::Error) {
        let mut refusals = sync::lock(&self.0);
        refusals.0 += 1;
        refusals.1 = Some(Refusal {
            // What an origin has lost with its connection is the queue's to send again, and nobody else's.
            code: error.raw_os_error().filter(|_| !is_loss(error)),
            kind: match is_loss(error) {
                true => io::ErrorKind::Other,
                false => error.kind(),
            },
            text: error.to_string(),
        });
    }

    /// The last one, if there were more since so many had been counted.
    fn since(&self, count: u64) -> Option<io::Error> {
        let refusals = sync::lock(&self.0);
        let refusal = refusals.1.as_ref().filter(|_| refusals.0 > count)?;
        Some(match refusal.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(
                refusal.kind,
                format!(
                    "the queue is full, and the origin takes nothing of it: {}",
                    refusal.text
                ),
            ),
        })
    }
}

impl QueuedOrigin {
    /// On return something has left the queue, most likely. Called with nothing of the queue held.
    ///
    /// # Errors
    /// The origin refuses. Who waits meanwhile does not try in vain as well.
    pub(super) fn make_room(&self, queue: &Queue, data_bytes: u64) -> io::Result<()> {
        let refused_before = queue.refusals.count();
        let _sending = queue.send_at_once();
        if queue.log.has_room(data_bytes) {
            return Ok(());
        }
        if let Some(error) = queue.refusals.since(refused_before) {
            return Err(error);
        }
        let how = How {
            cuts: true,
            ..How::default()
        };
        match send_oldest(queue, &*self.below, how) {
            Ok(true) => Ok(()),
            Ok(false) => Err(io::Error::other("the queue has no room for a request")),
            Err(error) => Err(queue.refusals.since(refused_before).unwrap_or(error)),
        }
    }
}
