//! The ceiling that `larder serve` is measured against: an NBD server that does nothing but copy
//! between memory and a Unix socket.
//!
//! It receives many requests at once and sends their replies together, as a fast server would, but
//! never so many bytes that they leave the processor's cache before they are sent. It negotiates
//! what fio and libnbd need and nothing more, and checks little. One thread per connection.
//! `ceiling SOCKET BYTES`.

#![allow(clippy::unwrap_used, reason = "an instrument of the benchmark")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::RwLock;
use std::thread;

use nbd_wire::{
    ChunkFlags, ChunkHeader, ChunkType, Command, ErrorCode, INIT_MAGIC, Info, OPTION_HEADER_BYTES,
    OPTION_MAGIC, OptionCode, OptionHeader, OptionReplyHeader, ReplyType, Request, RequestFormat,
    SimpleReply, TransmissionFlags,
};

/// Bytes per lock: connections that write elsewhere do not wait for each other.
const STRIPE_BYTES: usize = 1 << 20;
/// Replies are sent when there are this many bytes of them, or nothing more to answer.
const SEND_BYTES: usize = 128 << 10;
/// A header and the longest payload, and what may have been received after them.
const INPUT_BYTES: usize = 33 << 20;

type Memory<'m> = [RwLock<&'m mut [u8]>];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().unwrap();
    let size: usize = arguments.next().unwrap().parse().unwrap();
    let mut bytes = vec![0x5a_u8; size];
    let memory: Vec<_> = bytes.chunks_mut(STRIPE_BYTES).map(RwLock::new).collect();
    let listener = UnixListener::bind(socket).unwrap();
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let memory = &memory;
            scope.spawn(move || serve(&stream.unwrap(), memory, size as u64));
        }
    });
}

/// None at the end of the connection.
fn serve(mut stream: &UnixStream, memory: &Memory<'_>, size: u64) -> Option<()> {
    let chunks = handshake(stream, size)?;
    let mut input = vec![0; INPUT_BYTES];
    let mut output = Vec::with_capacity(2 * SEND_BYTES);
    let (mut start, mut end) = (0, 0);
    loop {
        while let Some(header) = input[start..end].get(..28) {
            let request = Request::decode(header, RequestFormat::Compact).ok()?;
            let is_write = request.command == Command::WRITE;
            let payload_bytes = usize::from(is_write) * request.length_bytes as usize;
            let Some(payload) = input[start + 28..end].get(..payload_bytes) else {
                break;
            };
            match request.command {
                Command::DISCONNECT => return None,
                Command::READ => read(&request, chunks, memory, stream, &mut output)?,
                _ => {
                    write(request.offset as usize, payload, memory);
                    acknowledge(&request, &mut output);
                }
            }
            start += 28 + payload_bytes;
        }
        send(stream, &mut output, 1)?;
        input.copy_within(start..end, 0);
        (start, end) = (0, end - start);
        let received = stream.read(&mut input[end..]).ok()?;
        end += (received > 0).then_some(received)?;
    }
}

/// Sends the output if there are that many bytes of it.
fn send(mut stream: &UnixStream, output: &mut Vec<u8>, at_least: usize) -> Option<()> {
    if output.len() >= at_least {
        stream.write_all(output).ok()?;
        output.clear();
    }
    Some(())
}

fn acknowledge(request: &Request, output: &mut Vec<u8>) {
    let cookie = request.cookie;
    let error = ErrorCode(0);
    output.extend_from_slice(&SimpleReply { error, cookie }.encode());
}

fn read(
    request: &Request,
    chunks: bool,
    memory: &Memory<'_>,
    stream: &UnixStream,
    output: &mut Vec<u8>,
) -> Option<()> {
    if chunks {
        let header = ChunkHeader {
            flags: ChunkFlags::DONE,
            kind: ChunkType::OFFSET_DATA,
            cookie: request.cookie,
            offset: request.offset,
            length_bytes: 8 + request.length_bytes,
        };
        header.encode(output, RequestFormat::Compact);
        output.extend_from_slice(&request.offset.to_be_bytes());
    } else {
        acknowledge(request, output);
    }
    let (mut at, mut left) = (request.offset as usize, request.length_bytes as usize);
    while left > 0 {
        let within = at % STRIPE_BYTES;
        let part = left.min(STRIPE_BYTES - within).min(SEND_BYTES);
        let stripe = memory[at / STRIPE_BYTES].read().unwrap();
        output.extend_from_slice(&stripe[within..within + part]);
        drop(stripe);
        (at, left) = (at + part, left - part);
        send(stream, output, SEND_BYTES)?;
    }
    Some(())
}

fn write(mut at: usize, mut payload: &[u8], memory: &Memory<'_>) {
    while !payload.is_empty() {
        let within = at % STRIPE_BYTES;
        let (part, rest) = payload.split_at(payload.len().min(STRIPE_BYTES - within));
        memory[at / STRIPE_BYTES].write().unwrap()[within..within + part.len()]
            .copy_from_slice(part);
        (at, payload) = (at + part.len(), rest);
    }
}

/// Whether replies are to be in chunks; None if the client has left.
fn handshake(mut stream: &UnixStream, size_bytes: u64) -> Option<bool> {
    let greeting = [INIT_MAGIC.to_be_bytes(), OPTION_MAGIC.to_be_bytes()].concat();
    stream.write_all(&[&greeting[..], &[0, 3]].concat()).ok()?;
    stream.read_exact(&mut [0; 4]).ok()?;
    let mut chunks = false;
    loop {
        let mut header = [0; OPTION_HEADER_BYTES];
        stream.read_exact(&mut header).ok()?;
        let header = OptionHeader::decode(&header).ok()?;
        let mut payload = vec![0; header.length_bytes as usize];
        stream.read_exact(&mut payload).ok()?;
        let mut replies = Vec::new();
        let mut reply = |kind, payload: &[u8]| {
            OptionReplyHeader::encode(&mut replies, header.code, kind, payload);
        };
        match header.code {
            OptionCode::GO | OptionCode::INFO => {
                let flags = TransmissionFlags::HAS_FLAGS
                    | TransmissionFlags::SEND_FLUSH
                    | TransmissionFlags::CAN_MULTI_CONN;
                let info = Info::Export { size_bytes, flags };
                reply(ReplyType::INFO, &info.encode());
                reply(ReplyType::ACK, b"");
            }
            OptionCode::STRUCTURED_REPLY => {
                chunks = true;
                reply(ReplyType::ACK, b"");
            }
            OptionCode::ABORT => return None,
            _ => reply(ReplyType::ERR_UNSUP, b""),
        }
        stream.write_all(&replies).ok()?;
        if header.code == OptionCode::GO {
            return Some(chunks);
        }
    }
}
