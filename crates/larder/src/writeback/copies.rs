//! Memory for what a pass sends.

use std::ops::Range;

/// Where a thread of a pass keeps its stable copies, one item after another: memory that is new for each
/// costs more than the copy.
pub(super) struct Copies {
    /// The longest request, in bytes: there are never more.
    longest: u64,
    bytes: Vec<u8>,
    used: usize,
}

impl Copies {
    /// None yet, and never more than one request of `longest` bytes.
    pub(super) fn new(longest: u64) -> Self {
        Self {
            longest,
            bytes: Vec::new(),
            used: 0,
        }
    }

    /// What was copied is needed no more, and so many bytes are expected.
    pub(super) fn begin(&mut self, length: u64) {
        self.used = 0;
        self.room(length.min(self.longest) as usize);
    }

    /// Room for so many bytes after what is there.
    pub(super) fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.used + length;
        if self.bytes.len() < end && self.used == 0 {
            // New pages are zero: they need not be touched before they are filled.
            self.bytes = vec![0; end];
        } else if self.bytes.len() < end {
            self.bytes.reserve_exact(end - self.bytes.len());
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.used..end]
    }

    /// Keeps what is in the room now; says where it is.
    pub(super) fn keep(&mut self, length: usize) -> Range<usize> {
        let from = self.used;
        self.used += length;
        from..self.used
    }

    /// What was kept there.
    pub(super) fn get(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// Whether so many bytes more are no longer than a request may be.
    pub(super) fn have_room(&self, length: u64) -> bool {
        self.used as u64 + length <= self.longest
    }

    /// The longest request, in bytes.
    pub(super) fn longest(&self) -> u64 {
        self.longest
    }
}
