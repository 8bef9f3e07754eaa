//! Receiving answers, simple, structured and with extended headers.

use std::io;

use super::wire::{
    Command, Form, SIMPLE_REPLY_MAGIC, protocol_error, read_bytes, read_u16, read_u32, read_u64,
};
use super::{Client, Cookie, InFlight};

const CHUNK_DONE: u16 = 1 << 0;
const CHUNK_NONE: u16 = 0;
const CHUNK_DATA: u16 = 1;
const CHUNK_HOLE: u16 = 2;
const CHUNK_BLOCK_STATUS: u16 = 5;
const CHUNK_BLOCK_STATUS_EXT: u16 = 6;
const CHUNK_ERROR_BIT: u16 = 1 << 15;

/// The longest payload of a request, and some.
const MAX_CHUNK_BYTES: u64 = (64 << 20) + 8;

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
            // Where headers are extended, all answers are.
            SIMPLE_REPLY_MAGIC if self.form != Form::Extended => self.receive_simple(),
            magic if Some(magic) == self.form.chunk_magic() => self.receive_chunk(),
            magic => Err(protocol_error(format!(
                "reply magic {magic:#x} to a client of {:?}",
                self.form
            ))),
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
            if self.form != Form::Simple {
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
        let Some(&asked) = self.in_flight.get(&cookie) else {
            return Err(no_request(cookie));
        };
        let length = match self.form {
            Form::Extended => {
                let offset = read_u64(&self.stream)?;
                if offset != asked.offset {
                    let message = format!("a reply to {asked:?} says it was at {offset}");
                    return Err(protocol_error(message));
                }
                read_u64(&self.stream)?
            }
            _ => read_u32(&self.stream)?.into(),
        };
        if length > MAX_CHUNK_BYTES {
            return Err(protocol_error(format!("a chunk of {length} bytes")));
        }
        let body = read_bytes(&self.stream, length as usize)?;
        let mut reply = self.partial.remove(&cookie).unwrap_or_default();
        add_chunk(&mut reply, self.form, asked, kind, &body)?;
        if flags & CHUNK_DONE != 0 {
            return self.finish(cookie, reply);
        }
        self.partial.insert(cookie, reply);
        Ok(())
    }

    fn finish(&mut self, cookie: Cookie, reply: Reply) -> io::Result<()> {
        let Some(asked) = self.in_flight.remove(&cookie) else {
            return Err(no_request(cookie));
        };
        let is_read = asked.command == Command::Read && reply.error.is_none();
        if is_read && reply.data.len() != asked.length {
            let message = format!("{} bytes in the reply to {asked:?}", reply.data.len());
            return Err(protocol_error(message));
        }
        let result = match reply.error {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(reply),
        };
        self.finished.insert(cookie, result);
        Ok(())
    }
}

/// Chunks of data must come in the order of their offsets, as those of nbdkit and larder do.
fn add_chunk(
    reply: &mut Reply,
    form: Form,
    asked: InFlight,
    kind: u16,
    body: &[u8],
) -> io::Result<()> {
    let is_read = asked.command == Command::Read;
    match kind {
        CHUNK_NONE if body.is_empty() => {}
        CHUNK_DATA if is_read && body.len() > 8 => {
            check_place(reply, asked, body, body.len() - 8)?;
            reply.data.extend_from_slice(&body[8..]);
        }
        CHUNK_HOLE if is_read && body.len() == 12 => {
            let length = read_u32(&body[8..])? as usize;
            check_place(reply, asked, body, length)?;
            reply.data.resize(reply.data.len() + length, 0);
        }
        CHUNK_BLOCK_STATUS if form == Form::Structured && body.len() % 8 == 4 => {
            for pair in body[4..].chunks_exact(8) {
                let length = read_u32(pair)?.into();
                reply
                    .extents
                    .push(extent(length, read_u32(&pair[4..])?.into()));
            }
        }
        CHUNK_BLOCK_STATUS_EXT if form == Form::Extended && body.len() % 16 == 8 => {
            let count = read_u32(&body[4..])? as usize;
            let pairs = body[8..].chunks_exact(16);
            if count != 0 && count != pairs.len() {
                let message = format!("{} extents, and said to be {count}", pairs.len());
                return Err(protocol_error(message));
            }
            for pair in pairs {
                reply
                    .extents
                    .push(extent(read_u64(pair)?, read_u64(&pair[8..])?));
            }
        }
        _ if kind & CHUNK_ERROR_BIT != 0 && body.len() >= 6 => {
            reply.error = Some(errno(read_u32(body)?));
        }
        _ => {
            return Err(protocol_error(format!(
                "chunk of kind {kind} with {} bytes in the reply to {asked:?} in {form:?}",
                body.len()
            )));
        }
    }
    Ok(())
}

/// A piece of data begins where the last one ended, and keeps within what was asked for.
fn check_place(reply: &Reply, asked: InFlight, body: &[u8], length: usize) -> io::Result<()> {
    let offset = read_u64(body)?;
    let end = reply.data.len() + length;
    if offset == asked.offset + reply.data.len() as u64 && end <= asked.length {
        return Ok(());
    }
    Err(protocol_error(format!(
        "{length} bytes at {offset} after {} in the reply to {asked:?}",
        reply.data.len()
    )))
}

fn extent(length: u64, status: u64) -> Extent {
    Extent {
        length,
        hole: status & 1 != 0,
        zero: status & 2 != 0,
    }
}

fn no_request(cookie: Cookie) -> io::Error {
    protocol_error(format!("an answer to no request: {cookie:?}"))
}

fn errno(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
