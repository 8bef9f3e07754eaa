//! What has been received and not yet been worked on.

use std::io;

use nbd_wire::{Malformed, Request, RequestFormat};

use super::transport::Receiver;

/// Bytes that are received at once.
const BUFFER_BYTES: usize = 256 << 10;
/// A payload up to this size is waited for in the buffer; a larger one gets memory of its own.
pub(crate) const SMALL_PAYLOAD_BYTES: usize = 64 << 10;

/// The receiving half with a buffer.
#[derive(Debug)]
pub(crate) struct Input {
    receiver: Receiver,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Input {
    /// Nothing received yet.
    pub(crate) fn new(receiver: Receiver) -> Self {
        Self {
            receiver,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// What has been received.
    pub(crate) fn received(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The next request's header, if all of it is here. It stays until it is taken.
    pub(crate) fn peek(&self, format: RequestFormat) -> Result<Option<Request>, Malformed> {
        self.received()
            .get(..format.header_bytes())
            .map(|header| Request::decode(header, format))
            .transpose()
    }

    /// Takes so many received bytes away.
    pub(crate) fn take(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// Receives more, at least a byte. False at the end of the connection.
    pub(crate) fn receive_more(&mut self) -> io::Result<bool> {
        self.make_space();
        let count = self.receiver.receive(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count > 0)
    }

    /// The same right after an answer.
    pub(crate) fn receive_next(&mut self) -> io::Result<bool> {
        self.make_space();
        let count = self.receiver.receive_next(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count > 0)
    }

    fn make_space(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Fills `payload` with what comes next.
    pub(crate) fn receive_exactly(&mut self, payload: &mut [u8]) -> io::Result<()> {
        let here = payload.len().min(self.end - self.start);
        payload[..here].copy_from_slice(&self.buffer[self.start..self.start + here]);
        self.take(here);
        if self.receiver.receive_exactly(&mut payload[here..])? || here == payload.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Throws away so many bytes of what comes next.
    pub(crate) fn discard(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            if self.start == self.end && !self.receive_more()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let here = count.min((self.end - self.start) as u64);
            self.take(here as usize);
            count -= here;
        }
        Ok(())
    }

    /// The receiving half again; what is in the buffer is dropped.
    pub(crate) fn into_receiver(self) -> Receiver {
        self.receiver
    }
}
