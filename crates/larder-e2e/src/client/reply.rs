//! Receiving answers, simple and structured.

use std::io;

use super::wire::{
    Command, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, protocol_error, read_bytes, read_u16,
    read_u32, read_u64,
};
use super::{Client, Cookie, InFlight};

const CHUNK_DONE: u16 = 1 << 0;
const CHUNK_NONE: u16 = 0;
const CHUNK_DATA: u16 = 1;
const CHUNK_HOLE: u16 = 2;
const CHUNK_BLOCK_STATUS: u16 = 5;
const CHUNK_ERROR_BIT: u16 = 1 << 15;

/// What a request was answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The bytes read.
    pub data: Vec<u8>,
    /// The block status.
    pub extents: Vec<Extent>,
    error: Option<i32>,
}

/// One extent of a block status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How long, in bytes.
    pub length: u64,
    /// Not allocated.
    pub hole: bool,
    /// Reads as zeros.
    pub zero: bool,
}

impl Client {
    /// Receives one chunk, and files the answer that it completes.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        match read_u32(&self.stream)? {
            SIMPLE_REPLY_MAGIC => self.receive_simple(),
            STRUCTURED_REPLY_MAGIC => self.receive_chunk(),
            magic => Err(protocol_error(format!("reply magic {magic:#x}"))),
        }
    }

    fn receive_simple(&mut self) -> io::Result<()> {
        let error = read_u32(&self.stream)?;
        let cookie = Cookie(read_u64(&self.stream)?);
        let mut reply = Reply::default();
        let reads = |request: &&InFlight| request.command == Command::Read;
        if error != 0 {
            reply.error = Some(errno(error));
        } else if let Some(request) = self.in_flight.get(&cookie).filter(reads) {
            if self.export.has_structured_replies {
                return Err(protocol_error("a simple reply to a read".to_owned()));
            }
            reply.data = read_bytes(&self.stream, request.length)?;
        }
        self.finish(cookie, reply)
    }

    fn receive_chunk(&mut self) -> io::Result<()> {
        let flags = read_u16(&self.stream)?;
        let kind = read_u16(&self.stream)?;
        let cookie = Cookie(read_u64(&self.stream)?);
        let length = read_u32(&self.stream)? as usize;
        let body = read_bytes(&self.stream, length)?;
        let mut reply = self.partial.remove(&cookie).unwrap_or_default();
        add_chunk(&mut reply, kind, &body)?;
        if flags & CHUNK_DONE != 0 {
            return self.finish(cookie, reply);
        }
        self.partial.insert(cookie, reply);
        Ok(())
    }

    fn finish(&mut self, cookie: Cookie, reply: Reply) -> io::Result<()> {
        if self.in_flight.remove(&cookie).is_none() {
            return Err(protocol_error(format!(
                "an answer to no request: {cookie:?}"
            )));
        }
        let result = match reply.error {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(reply),
        };
        self.finished.insert(cookie, result);
        Ok(())
    }
}

/// Chunks of data are taken in the order in which they come, which is nbdkit's own.
fn add_chunk(reply: &mut Reply, kind: u16, body: &[u8]) -> io::Result<()> {
    match kind {
        CHUNK_NONE => {}
        CHUNK_DATA if body.len() > 8 => reply.data.extend_from_slice(&body[8..]),
        CHUNK_HOLE if body.len() == 12 => {
            let length = u32::from_be_bytes([body[8], body[9], body[10], body[11]]);
            reply.data.resize(reply.data.len() + length as usize, 0);
        }
        CHUNK_BLOCK_STATUS if body.len() % 8 == 4 => {
            for pair in body[4..].chunks_exact(8) {
                let word =
                    |i: usize| u32::from_be_bytes([pair[i], pair[i + 1], pair[i + 2], pair[i + 3]]);
                reply.extents.push(Extent {
                    length: u64::from(word(0)),
                    hole: word(4) & 1 != 0,
                    zero: word(4) & 2 != 0,
                });
            }
        }
        _ if kind & CHUNK_ERROR_BIT != 0 && body.len() >= 4 => {
            let error = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
            reply.error = Some(errno(error));
        }
        _ => {
            return Err(protocol_error(format!(
                "chunk of kind {kind} with {} bytes",
                body.len()
            )));
        }
    }
    Ok(())
}

fn errno(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
