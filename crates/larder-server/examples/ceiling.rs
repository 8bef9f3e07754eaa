//! The ceiling that `larder serve` is measured against: an NBD server that does nothing but copy
//! between memory and a Unix socket.
//!
//! It receives many requests at once and sends their replies together, as a fast server would; it
//! negotiates what fio and libnbd need and nothing more, and checks little. One thread per
//! connection. `ceiling SOCKET BYTES`.

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
const BATCH_BYTES: usize = 256 << 10;

type Memory = Vec<RwLock<Vec<u8>>>;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().unwrap();
    let size: usize = arguments.next().unwrap().parse().unwrap();
    let stripe = || RwLock::new(vec![0x5a_u8; STRIPE_BYTES]);
    let memory: Memory = (0..size.div_ceil(STRIPE_BYTES)).map(|_| stripe()).collect();
    let listener = UnixListener::bind(socket).unwrap();
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let memory = &memory;
            scope.spawn(move || serve(&stream.unwrap(), memory, size as u64));
        }
    });
}

/// None at the end of the connection.
fn serve(mut stream: &UnixStream, memory: &Memory, size: u64) -> Option<()> {
    let chunks = handshake(stream, size)?;
    let mut input = vec![0; BATCH_BYTES + (33 << 20)];
    let mut output = Vec::new();
    let (mut start, mut end) = (0, 0);
    loop {
        while let Some(header) = input[start..end].get(..28) {
            let request = Request::decode(header, RequestFormat::Compact).ok()?;
            let length = request.length_bytes as usize;
            let payload = if request.command == Command::WRITE {
                length
            } else {
                0
            };
            if end - start < 28 + payload {
                break;
            }
            match request.command {
                Command::DISCONNECT => return None,
                Command::READ => read(&request, chunks, memory, &mut output),
                _ => {
                    let payload = &input[start + 28..start + 28 + payload];
                    write(request.offset as usize, payload, memory);
                    acknowledge(&request, &mut output);
                }
            }
            start += 28 + payload;
            if output.len() >= BATCH_BYTES {
                stream.write_all(&output).ok()?;
                output.clear();
            }
        }
        stream.write_all(&output).ok()?;
        output.clear();
        input.copy_within(start..end, 0);
        (start, end) = (0, end - start);
        let room = (end + BATCH_BYTES).max(input.len());
        let received = stream.read(&mut input[end..room]).ok()?;
        end += (received > 0).then_some(received)?;
    }
}

fn acknowledge(request: &Request, output: &mut Vec<u8>) {
    let cookie = request.cookie;
    let error = ErrorCode(0);
    output.extend_from_slice(&SimpleReply { error, cookie }.encode());
}

fn read(request: &Request, chunks: bool, memory: &Memory, output: &mut Vec<u8>) {
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
        let part = left.min(STRIPE_BYTES - within);
        let stripe = memory[at / STRIPE_BYTES].read().unwrap();
        output.extend_from_slice(&stripe[within..within + part]);
        (at, left) = (at + part, left - part);
    }
}

fn write(mut at: usize, mut payload: &[u8], memory: &Memory) {
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
