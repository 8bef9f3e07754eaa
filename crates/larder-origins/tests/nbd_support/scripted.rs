//! A server that does what a test tells it: each connection has a thread, and each request goes to the test.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use nbd_wire::{
    Chunk, ChunkFlags, Command, CommandFlags, ErrorCode, HandshakeFlags, INIT_MAGIC, Info,
    MetaContext, OPTION_HEADER_BYTES, OPTION_MAGIC, OptionCode, OptionHeader, OptionReplyHeader,
    ReplyType, Request, RequestFormat, SimpleReply, TransmissionFlags, encode_export_name_reply,
};

/// What the server offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) extended: bool,
    pub(crate) structured: bool,
    pub(crate) context: bool,
    pub(crate) go: bool,
    pub(crate) fixed: bool,
    pub(crate) no_zeroes: bool,
    pub(crate) demands_tls: bool,
    pub(crate) size: u64,
    pub(crate) flags: TransmissionFlags,
    pub(crate) block_size: Option<(u32, u32, u32)>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            extended: false,
            structured: true,
            context: true,
            go: true,
            fixed: true,
            no_zeroes: true,
            demands_tls: false,
            size: 1 << 20,
            flags: TransmissionFlags::HAS_FLAGS
                | TransmissionFlags::SEND_FLUSH
                | TransmissionFlags::SEND_FUA
                | TransmissionFlags::SEND_TRIM
                | TransmissionFlags::SEND_WRITE_ZEROES,
            block_size: None,
        }
    }
}

pub(crate) const CONTEXT_ID: u32 = 77;

/// One connection, as the test's function sees it.
pub(crate) struct Peer {
    pub(crate) stream: UnixStream,
    /// Counts connections from 0.
    pub(crate) number: usize,
    pub(crate) format: RequestFormat,
    pub(crate) structured: bool,
    /// What was asked for in the handshake, in order.
    pub(crate) options: Vec<OptionCode>,
}

impl Peer {
    pub(crate) fn simple(&mut self, cookie: u64, error: ErrorCode) -> io::Result<()> {
        self.stream
            .write_all(&SimpleReply { error, cookie }.encode())
    }

    pub(crate) fn chunk(
        &mut self,
        request: &Request,
        done: bool,
        chunk: &Chunk<'_>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        let flags = if done {
            ChunkFlags::DONE
        } else {
            ChunkFlags::empty()
        };
        chunk.encode(
            &mut bytes,
            self.format,
            flags,
            (request.cookie, request.offset),
        );
        self.stream.write_all(&bytes)
    }

    /// Success of anything but a read or a status.
    pub(crate) fn done(&mut self, request: &Request) -> io::Result<()> {
        if self.structured {
            self.chunk(request, true, &Chunk::None)
        } else {
            self.simple(request.cookie, ErrorCode(0))
        }
    }

    pub(crate) fn fail(&mut self, request: &Request, error: ErrorCode) -> io::Result<()> {
        if self.structured {
            let chunk = Chunk::Error {
                error,
                message: "told to",
                offset: None,
            };
            self.chunk(request, true, &chunk)
        } else {
            self.simple(request.cookie, error)
        }
    }

    pub(crate) fn data(&mut self, request: &Request, data: &[u8]) -> io::Result<()> {
        if self.structured {
            let chunk = Chunk::Data {
                offset: request.offset,
                data,
            };
            self.chunk(request, true, &chunk)
        } else {
            self.simple(request.cookie, ErrorCode(0))?;
            self.stream.write_all(data)
        }
    }
}

pub(crate) fn hang_up() -> io::Error {
    io::Error::other("told to hang up")
}

/// What a test does with a request; an error hangs up.
pub(crate) type Handler = dyn Fn(&mut Peer, &Request, &[u8]) -> io::Result<()> + Send + Sync;

pub(crate) struct Scripted {
    pub(crate) socket: PathBuf,
    pub(crate) offer: Arc<Mutex<Offer>>,
    pub(crate) connections: Arc<AtomicUsize>,
    /// The disconnect requests that came.
    pub(crate) farewells: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    /// What connections asked for in their handshakes.
    pub(crate) options: Arc<Mutex<Vec<Vec<OptionCode>>>>,
}

impl Scripted {
    pub(crate) fn start(
        socket: &Path,
        offer: Offer,
        handler: impl Fn(&mut Peer, &Request, &[u8]) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let server = Self {
            socket: socket.to_owned(),
            offer: Arc::new(Mutex::new(offer)),
            connections: Arc::default(),
            farewells: Arc::default(),
            ended: Arc::default(),
            streams: Arc::default(),
            options: Arc::default(),
        };
        let handler: Arc<Handler> = Arc::new(handler);
        let (offer, connections) = (Arc::clone(&server.offer), Arc::clone(&server.connections));
        let (farewells, streams) = (Arc::clone(&server.farewells), Arc::clone(&server.streams));
        let (options, ended) = (Arc::clone(&server.options), Arc::clone(&server.ended));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let number = connections.fetch_add(1, Ordering::SeqCst);
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let offer = offer.lock().unwrap().clone();
                let (handler, farewells) = (Arc::clone(&handler), Arc::clone(&farewells));
                let (options, ended) = (Arc::clone(&options), Arc::clone(&ended));
                thread::spawn(move || {
                    let closing = stream.try_clone().unwrap();
                    let _ = serve(stream, number, &offer, &*handler, &farewells, &options);
                    let _ = closing.shutdown(std::net::Shutdown::Both);
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many connections have ended.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    /// Cuts a connection from outside.
    pub(crate) fn cut(&self, number: usize) {
        let _ = self.streams.lock().unwrap()[number].shutdown(std::net::Shutdown::Both);
    }
}

fn serve(
    mut stream: UnixStream,
    number: usize,
    offer: &Offer,
    handler: &Handler,
    farewells: &AtomicUsize,
    options: &Mutex<Vec<Vec<OptionCode>>>,
) -> io::Result<()> {
    let mut peer = Peer {
        stream: stream.try_clone()?,
        number,
        format: RequestFormat::Compact,
        structured: false,
        options: Vec::new(),
    };
    shake_hands(&mut stream, offer, &mut peer)?;
    options.lock().unwrap().push(peer.options.clone());
    loop {
        let mut header = vec![0; peer.format.header_bytes()];
        stream.read_exact(&mut header)?;
        let request = Request::decode(&header, peer.format).map_err(io::Error::other)?;
        let is_write = request.command == Command::WRITE;
        let is_extended = peer.format == RequestFormat::Extended;
        if request.flags.contains(CommandFlags::PAYLOAD_LEN) != (is_write && is_extended) {
            return Err(hang_up());
        }
        let mut payload = vec![
            0;
            if is_write {
                request.length_bytes as usize
            } else {
                0
            }
        ];
        stream.read_exact(&mut payload)?;
        if request.command == Command::DISCONNECT {
            farewells.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        handler(&mut peer, &request, &payload)?;
    }
}

fn shake_hands(stream: &mut UnixStream, offer: &Offer, peer: &mut Peer) -> io::Result<()> {
    let mut flags = HandshakeFlags::empty();
    flags.set(HandshakeFlags::FIXED_NEWSTYLE, offer.fixed);
    flags.set(HandshakeFlags::NO_ZEROES, offer.no_zeroes);
    stream.write_all(&INIT_MAGIC.to_be_bytes())?;
    stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
    stream.write_all(&flags.bits().to_be_bytes())?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut header = [0; OPTION_HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let header = OptionHeader::decode(&header).map_err(io::Error::other)?;
        let mut payload = vec![0; header.length_bytes as usize];
        stream.read_exact(&mut payload)?;
        let code = header.code;
        peer.options.push(code);
        let mut out = Vec::new();
        let mut reply = |kind, payload: &[u8]| {
            OptionReplyHeader::encode(&mut out, code, kind, payload);
        };
        let mut is_chosen = false;
        match code {
            OptionCode::EXPORT_NAME => {
                out.extend_from_slice(&encode_export_name_reply(offer.size, offer.flags));
                out.resize(out.len() + if offer.no_zeroes { 0 } else { 124 }, 0);
                is_chosen = true;
            }
            _ if offer.demands_tls => reply(ReplyType::ERR_TLS_REQD, b"only with TLS"),
            OptionCode::EXTENDED_HEADERS if offer.extended => {
                peer.format = RequestFormat::Extended;
                peer.structured = true;
                reply(ReplyType::ACK, b"");
            }
            OptionCode::STRUCTURED_REPLY if offer.structured => {
                peer.structured = true;
                reply(ReplyType::ACK, b"");
            }
            OptionCode::SET_META_CONTEXT if offer.context => {
                let context = MetaContext {
                    id: CONTEXT_ID,
                    name: "base:allocation",
                };
                reply(ReplyType::META_CONTEXT, &context.encode());
                reply(ReplyType::ACK, b"");
            }
            OptionCode::GO if offer.go => {
                let info = Info::Export {
                    size_bytes: offer.size,
                    flags: offer.flags,
                };
                reply(ReplyType::INFO, &info.encode());
                if let Some((minimum, preferred, maximum)) = offer.block_size {
                    let info = Info::BlockSize {
                        minimum,
                        preferred,
                        maximum,
                    };
                    reply(ReplyType::INFO, &info.encode());
                }
                reply(ReplyType::ACK, b"");
                is_chosen = true;
            }
            _ => reply(ReplyType::ERR_UNSUP, b""),
        }
        stream.write_all(&out)?;
        if is_chosen {
            return Ok(());
        }
    }
}

/// An honest disk.
pub(crate) struct Disk(Mutex<Vec<u8>>);

impl Disk {
    pub(crate) fn new(content: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(content)))
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn slice(&self, request: &Request) -> Vec<u8> {
        let end = request.offset + request.length_bytes;
        self.0.lock().unwrap()[request.offset as usize..end as usize].to_vec()
    }

    pub(crate) fn answer(
        &self,
        peer: &mut Peer,
        request: &Request,
        payload: &[u8],
    ) -> io::Result<()> {
        let end = (request.offset + request.length_bytes) as usize;
        let range = request.offset as usize..end;
        match request.command {
            Command::READ => peer.data(request, &self.slice(request)),
            Command::BLOCK_STATUS => {
                let run = nbd_wire::Descriptor {
                    length_bytes: request.length_bytes,
                    status: 0,
                };
                let status = Chunk::Status {
                    context_id: CONTEXT_ID,
                    descriptors: vec![run],
                };
                peer.chunk(request, true, &status)
            }
            Command::WRITE => {
                self.0.lock().unwrap()[range].copy_from_slice(payload);
                peer.done(request)
            }
            Command::WRITE_ZEROES => {
                self.0.lock().unwrap()[range].fill(0);
                peer.done(request)
            }
            _ => peer.done(request),
        }
    }
}
