//! Range locks: at most one origin write, zero or trim per byte range is in flight in a volume.
//!
//! Served in order of arrival: a request waits for every earlier one that overlaps it, so that the
//! cache changes in the same order as the origin. A holder never asks for a second range.

use std::sync::Mutex;

use crate::sync::{self, Condvar};

#[derive(Debug)]
struct Entry {
    ticket: u64,
    start: u64,
    end: u64,
}

#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    /// Holders and those who wait, in order of arrival.
    entries: Vec<Entry>,
}

impl Queue {
    fn is_free(&self, ticket: u64, start: u64, end: u64) -> bool {
        self.entries
            .iter()
            .take_while(|entry| entry.ticket != ticket)
            .all(|entry| entry.end <= start || end <= entry.start)
    }
}

/// The range locks of a volume.
#[derive(Debug, Default)]
pub(crate) struct RangeLocks {
    queue: Mutex<Queue>,
    released: Condvar,
}

/// A held range; let go when dropped.
#[derive(Debug)]
pub(crate) struct RangeGuard<'a> {
    locks: &'a RangeLocks,
    ticket: u64,
}

impl RangeLocks {
    /// Waits for every earlier request that overlaps the bytes from `start` to `end`.
    pub(crate) fn lock(&self, start: u64, end: u64) -> RangeGuard<'_> {
        let mut queue = sync::lock(&self.queue);
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.entries.push(Entry { ticket, start, end });
        while !queue.is_free(ticket, start, end) {
            queue = sync::wait(&self.released, queue);
        }
        RangeGuard {
            locks: self,
            ticket,
        }
    }

    /// The same if nobody has to be waited for.
    pub(crate) fn try_lock(&self, start: u64, end: u64) -> Option<RangeGuard<'_>> {
        let mut queue = sync::lock(&self.queue);
        let ticket = queue.next_ticket;
        if !queue.is_free(ticket, start, end) {
            return None;
        }
        queue.next_ticket += 1;
        queue.entries.push(Entry { ticket, start, end });
        Some(RangeGuard {
            locks: self,
            ticket,
        })
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        let mut queue = sync::lock(&self.locks.queue);
        queue.entries.retain(|entry| entry.ticket != self.ticket);
        drop(queue);
        self.locks.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn overlapping_ranges_are_served_in_order_and_others_at_once() {
        let locks = RangeLocks::default();
        let first = locks.lock(0, 100);
        drop(locks.lock(100, 200));
        assert!(locks.try_lock(99, 200).is_none());
        assert!(locks.try_lock(100, 200).is_some());
        let (done, finished) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let guard = locks.lock(50, 150);
                done.send(()).unwrap();
                drop(guard);
            });
            assert!(finished.try_recv().is_err());
            drop(first);
            finished.recv().unwrap();
        });
    }
}
