//! Replies that wait to be sent together.
//!
//! The bytes stay initialised when the buffer is emptied, so that room for data that will be
//! overwritten anyway is not cleared first.

use std::ops::Range;

use nbd_wire::Sink;

/// Past this much memory the buffer is given back after use. Common clients read at most 2 MiB at once.
const KEPT_BYTES: usize = 4 << 20;

/// A buffer that grows to what is needed and is used again.
#[derive(Debug, Default)]
pub(crate) struct ReplyBuffer {
    bytes: Vec<u8>,
    used: usize,
}

impl ReplyBuffer {
    /// What is in it.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    /// How many bytes are in it.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Appends so many bytes of any content, to be overwritten.
    pub(crate) fn space(&mut self, count: usize) -> &mut [u8] {
        let end = self.used + count;
        if end > self.bytes.len() {
            // Doubled, so that growing in small steps stays cheap.
            let length = end.max(self.bytes.len().saturating_mul(2).min(KEPT_BYTES));
            self.bytes.resize(length, 0);
        }
        let space = &mut self.bytes[self.used..end];
        self.used = end;
        space
    }

    /// Puts the header at `at`, and behind it what is at `moved`, which begins no earlier than the header ends unless
    /// it is empty.
    pub(crate) fn splice(&mut self, at: usize, header: &[u8], moved: Range<usize>) {
        let data = at + header.len();
        if data > self.used {
            self.space(data - self.used);
        }
        // First what the header may lie over.
        self.bytes.copy_within(moved, data);
        self.bytes[at..data].copy_from_slice(header);
    }

    /// Takes back what was appended past `length`.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.used = self.used.min(length);
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        if self.bytes.len() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
    }
}

impl Sink for ReplyBuffer {
    fn put(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_stays_until_it_is_taken_back() {
        let mut buffer = ReplyBuffer::default();
        buffer.put(b"abc");
        buffer.space(2).copy_from_slice(b"de");
        assert_eq!(buffer.as_slice(), b"abcde");
        buffer.truncate(1);
        buffer.put(b"z");
        assert_eq!(buffer.as_slice(), b"az");
        buffer.clear();
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut buffer = ReplyBuffer::default();
        buffer.space(KEPT_BYTES + 1);
        buffer.clear();
        assert_eq!(buffer.bytes.capacity(), 0);
        buffer.space(100);
        buffer.clear();
        assert!(buffer.bytes.capacity() > 0);
    }
}
