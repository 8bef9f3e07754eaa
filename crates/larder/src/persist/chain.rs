//! The journal's frames, one after the other, up to the first that does not follow: what comes after that never happened.
//!
//! A frame follows if it is whole, has the next number, names the checksum of the one before, and is of a session that had begun. What a
//! crash tore off was not durable, and nothing relied on it. But if a later frame of the same session says that the missing one
//! *had* been durable, it was not torn off: it is damaged, and going on without it would lose what a flush has promised.

use std::io;

use super::frame::{Frame, MAGIC, Position, bytes_used};
use super::refusal::Finding;
use super::shape::PAGE_BYTES;
use super::sums::Seed;
use crate::planted::{Bug, is_planted};

/// The journal's ring, read by offsets that count from its start.
pub(crate) struct Ring<'r> {
    /// Fills the buffer from an offset.
    pub read: &'r dyn Fn(u64, &mut [u8]) -> io::Result<()>,
    /// Its length: whole pages.
    pub bytes: u64,
}

impl std::fmt::Debug for Ring<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Ring<'_> {
    /// Reads the frame at `offset` into `buffer`, if there is a whole one that takes no more than `room`.
    fn frame<'b>(
        &self,
        cache: Seed,
        offset: u64,
        room: u64,
        buffer: &'b mut Vec<u8>,
    ) -> io::Result<Option<Frame<'b>>> {
        if room < PAGE_BYTES || offset + PAGE_BYTES > self.bytes {
            return Ok(None);
        }
        // What was grown once stays so long: filling it with zeros would take as long as reading.
        grow(buffer, PAGE_BYTES as usize);
        let page = &mut buffer[..PAGE_BYTES as usize];
        (self.read)(offset, page)?;
        let Some(used) = bytes_used(page) else {
            return Ok(None);
        };
        let padded = used.next_multiple_of(PAGE_BYTES);
        if padded > room || offset + padded > self.bytes {
            return Ok(None);
        }
        grow(buffer, padded as usize);
        let frame = &mut buffer[..padded as usize];
        if padded > PAGE_BYTES {
            let rest = &mut frame[PAGE_BYTES as usize..];
            (self.read)(offset + PAGE_BYTES, rest)?;
        }
        let frame = Frame::decode(frame, cache, offset);
        Ok(frame.filter(|frame| frame.taken_bytes(offset, self.bytes) <= room))
    }
}

/// Makes it at least so long.
fn grow(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
}

/// Where a walk begins and what it must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub cache: Seed,
    /// The first frame.
    pub from: Position,
    /// Frames below this number are known to have been durable.
    pub durable_below: u64,
    /// The superblock's session: no frame is of a later one.
    pub session: u64,
}

/// Goes from frame to frame.
#[derive(Debug)]
pub(crate) struct Walk<'r> {
    ring: Ring<'r>,
    start: Start,
    next: Position,
    /// The session of the frame before.
    session: u64,
    walked_bytes: u64,
    buffer: Vec<u8>,
}

impl<'r> Walk<'r> {
    pub(crate) fn new(ring: Ring<'r>, start: Start) -> Self {
        Self {
            ring,
            start,
            next: start.from,
            session: 0,
            walked_bytes: 0,
            buffer: Vec::new(),
        }
    }

    /// Where the next frame is to be; at the end of the walk, where the next one is to be written.
    pub(crate) fn position(&self) -> Position {
        self.next
    }

    /// How much of the ring the frames so far take.
    pub(crate) fn walked_bytes(&self) -> u64 {
        self.walked_bytes
    }

    /// The next frame and its place in the ring. None at the first that does not follow; see [`Walk::check_end`].
    ///
    /// # Errors
    /// The ring cannot be read.
    pub(crate) fn advance(&mut self) -> io::Result<Option<(u64, Frame<'_>)>> {
        let at = self.next;
        let room = self.ring.bytes - self.walked_bytes;
        let frame = self
            .ring
            .frame(self.start.cache, at.offset, room, &mut self.buffer)?;
        let Some(frame) = frame else {
            return Ok(None);
        };
        let sessions = self.session..=self.start.session;
        let head = frame.head;
        let is_chained = head.chain == at.chain && sessions.contains(&head.session);
        if head.seq != at.seq || !(is_chained || is_planted(Bug::ChainIgnored)) {
            return Ok(None);
        }
        let taken = frame.taken_bytes(at.offset, self.ring.bytes);
        self.session = head.session;
        self.walked_bytes += taken;
        self.next = at.after(taken, frame.checksum, self.ring.bytes);
        Ok(Some((at.offset, frame)))
    }

    /// Whether the frames end here because no more were durable: looks through the rest of the ring for one that says otherwise.
    ///
    /// # Errors
    /// The ring cannot be read.
    pub(crate) fn check_end(mut self) -> io::Result<Result<(), Finding>> {
        let missing = self.next.seq;
        if missing < self.start.durable_below {
            return Ok(Err(Finding::FrameLost {
                missing,
                later: self.start.durable_below,
            }));
        }
        let mut at = self.next.offset;
        let mut left = self.ring.bytes - self.walked_bytes;
        while left >= PAGE_BYTES {
            if let Some(later) = self.vouching(at, left, missing)? {
                return Ok(Err(Finding::FrameLost { missing, later }));
            }
            left -= PAGE_BYTES;
            at = (at + PAGE_BYTES) % self.ring.bytes;
        }
        Ok(Ok(()))
    }

    /// The number of the frame at `at`, if it says that the missing one had been durable.
    fn vouching(&mut self, at: u64, room: u64, missing: u64) -> io::Result<Option<u64>> {
        let frame = self
            .ring
            .frame(self.start.cache, at, room, &mut self.buffer)?;
        Ok(frame.map(|frame| frame.head).and_then(|head| {
            let vouches = head.session == self.start.session
                && head.seq > missing
                && head.synced_seq >= missing;
            vouches.then_some(head.seq)
        }))
    }
}

/// Whether a journal has ever held a frame: the first page of its ring begins with one from the first frame on.
pub(crate) fn was_used(first_page_of_ring: &[u8]) -> bool {
    first_page_of_ring.starts_with(&MAGIC)
}

#[cfg(test)]
mod tests;
