//! Coming to terms with a server: fixed newstyle, what is newest first.
//!
//! The channel's deadline bounds the time; replies are bounded in length and number.

use std::fmt;
use std::io::{self, Read, Write};

use nbd_wire::{
    BASE_ALLOCATION, ClientFlags, Cursor, EXPORT_NAME_REPLY_BYTES, ExportRequest, HandshakeFlags,
    INIT_MAGIC, Info, InfoType, Malformed, MetaContext, MetaRequest, OPTION_MAGIC,
    OPTION_REPLY_HEADER_BYTES, OptionCode, OptionHeader, OptionReplyHeader, ReplyType,
    RequestFormat, TransmissionFlags,
};

use super::export::{Dialect, Export};
use super::tls::Tls;
use super::transport::Channel;

/// What a server before newstyle says second.
const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
const MAX_REPLY_BYTES: u32 = 64 << 10;
const MAX_REPLIES: u32 = 1000;
const PADDING_BYTES: usize = 124;

/// Why a handshake failed: one line without the address.
#[derive(Debug)]
pub(super) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self("the server hung up during the handshake".to_owned());
        }
        Self(error.to_string())
    }
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Self(format!("not the NBD protocol: {error}"))
    }
}

/// Reaches the transmission phase.
pub(super) fn negotiate(
    channel: &mut Channel,
    export: &str,
    tls: Option<&Tls>,
) -> Result<Export, Failure> {
    let (is_fixed, no_zeroes) = greet(channel)?;
    if !is_fixed {
        if tls.is_some() {
            return Err(Failure("the server has no TLS".to_owned()));
        }
        return choose_bare(channel, export, no_zeroes, Dialect::default());
    }
    if let Some(tls) = tls {
        start_tls(channel, tls)?;
    }
    let mut dialect = Dialect::default();
    if accepts(channel, OptionCode::EXTENDED_HEADERS)? {
        dialect.format = RequestFormat::Extended;
        dialect.is_structured = true;
    } else {
        dialect.is_structured = accepts(channel, OptionCode::STRUCTURED_REPLY)?;
    }
    if dialect.is_structured {
        dialect.allocation_id = choose_context(channel, export)?;
    }
    choose(channel, export, no_zeroes, dialect)
}

/// Whether the server answers unknown options, and whether it leaves the zeros out.
fn greet(channel: &mut Channel) -> Result<(bool, bool), Failure> {
    let mut greeting = [0; 18];
    channel.read_exact(&mut greeting)?;
    let mut cursor = Cursor::new(&greeting);
    if cursor.u64()? != INIT_MAGIC {
        return Err(Failure("not an NBD server".to_owned()));
    }
    match cursor.u64()? {
        OPTION_MAGIC => {}
        OLDSTYLE_MAGIC => {
            return Err(Failure(
                "the server speaks the oldstyle handshake, which is not supported: newstyle is"
                    .to_owned(),
            ));
        }
        _ => return Err(Failure("not an NBD server".to_owned())),
    }
    let theirs = HandshakeFlags::from_bits_retain(cursor.u16()?);
    let is_fixed = theirs.contains(HandshakeFlags::FIXED_NEWSTYLE);
    let no_zeroes = theirs.contains(HandshakeFlags::NO_ZEROES);
    let mut ours = ClientFlags::empty();
    ours.set(ClientFlags::FIXED_NEWSTYLE, is_fixed);
    ours.set(ClientFlags::NO_ZEROES, no_zeroes);
    channel.write_all(&ours.bits().to_be_bytes())?;
    channel.flush()?;
    Ok((is_fixed, no_zeroes))
}

fn start_tls(channel: &mut Channel, tls: &Tls) -> Result<(), Failure> {
    ask(channel, OptionCode::STARTTLS, &[])?;
    let (reply, payload) = receive(channel, OptionCode::STARTTLS)?;
    match reply {
        ReplyType::ACK => {}
        ReplyType::ERR_UNSUP | ReplyType::ERR_POLICY | ReplyType::ERR_PLATFORM => {
            return Err(Failure(
                "the server has no TLS: write nbd: in place of nbds: to go without".to_owned(),
            ));
        }
        other => return Err(refused("STARTTLS", other, &payload)),
    }
    let started = channel.start_tls(tls.config.clone(), tls.name.clone());
    started.map_err(|error| Failure(format!("TLS: {error}")))
}

/// Asks for something that has no parameters. A server that refuses is asked no more.
fn accepts(channel: &mut Channel, code: OptionCode) -> Result<bool, Failure> {
    ask(channel, code, &[])?;
    let (reply, payload) = receive(channel, code)?;
    if reply == ReplyType::ACK {
        return Ok(true);
    }
    fail_if_fatal(reply, &payload)?;
    if reply.is_error() {
        return Ok(false);
    }
    Err(unexpected(reply))
}

/// Asks that block status may be asked about what is allocated. `None` if it may not.
fn choose_context(channel: &mut Channel, export: &str) -> Result<Option<u32>, Failure> {
    let code = OptionCode::SET_META_CONTEXT;
    let request = MetaRequest {
        export,
        queries: vec![BASE_ALLOCATION],
    };
    ask(channel, code, &request.encode())?;
    let mut found = None;
    for _ in 0..MAX_REPLIES {
        let (reply, payload) = receive(channel, code)?;
        match reply {
            ReplyType::ACK => return Ok(found),
            ReplyType::META_CONTEXT => {
                let context = MetaContext::decode(&payload)?;
                if context.name == BASE_ALLOCATION {
                    found = Some(context.id);
                }
            }
            other => {
                fail_if_fatal(other, &payload)?;
                if other.is_error() {
                    return Ok(None);
                }
                return Err(unexpected(other));
            }
        }
    }
    Err(Failure("the server does not stop answering".to_owned()))
}

fn choose(
    channel: &mut Channel,
    name: &str,
    no_zeroes: bool,
    dialect: Dialect,
) -> Result<Export, Failure> {
    let request = ExportRequest {
        name,
        infos: vec![InfoType::BLOCK_SIZE],
    };
    ask(channel, OptionCode::GO, &request.encode())?;
    let mut told = None;
    let mut block_size = None;
    for _ in 0..MAX_REPLIES {
        let (reply, payload) = receive(channel, OptionCode::GO)?;
        match reply {
            ReplyType::ACK => {
                let (size_bytes, flags) =
                    told.ok_or_else(|| Failure("the server does not tell the size".to_owned()))?;
                return Export::new(size_bytes, flags, block_size, dialect).map_err(Failure);
            }
            ReplyType::INFO => match Info::decode(&payload)? {
                Info::Export { size_bytes, flags } => told = Some((size_bytes, flags)),
                Info::BlockSize {
                    minimum,
                    preferred,
                    maximum,
                } => {
                    block_size = Some(Info::BlockSize {
                        minimum,
                        preferred,
                        maximum,
                    });
                }
                _ => {}
            },
            ReplyType::ERR_UNSUP => return choose_bare(channel, name, no_zeroes, dialect),
            ReplyType::ERR_UNKNOWN => {
                return Err(Failure(format!(
                    "the server has no export '{name}'{}",
                    explained(&payload)
                )));
            }
            other => {
                fail_if_fatal(other, &payload)?;
                return Err(refused("the export", other, &payload));
            }
        }
    }
    Err(Failure("the server does not stop answering".to_owned()))
}

/// Asks by EXPORT_NAME, which servers that do not know GO answer or hang up on.
fn choose_bare(
    channel: &mut Channel,
    name: &str,
    no_zeroes: bool,
    dialect: Dialect,
) -> Result<Export, Failure> {
    ask(channel, OptionCode::EXPORT_NAME, name.as_bytes())?;
    let mut reply = [0; EXPORT_NAME_REPLY_BYTES];
    channel.read_exact(&mut reply).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Failure(format!(
                "the server hung up: perhaps it has no export '{name}'"
            ));
        }
        error.into()
    })?;
    let mut cursor = Cursor::new(&reply);
    let size_bytes = cursor.u64()?;
    let flags = TransmissionFlags::from_bits_retain(cursor.u16()?);
    if !no_zeroes {
        channel.read_exact(&mut [0; PADDING_BYTES])?;
    }
    Export::new(size_bytes, flags, None, dialect).map_err(Failure)
}

fn ask(channel: &mut Channel, code: OptionCode, payload: &[u8]) -> Result<(), Failure> {
    channel.write_all(&OptionHeader::encode(code, payload))?;
    channel.flush()?;
    Ok(())
}

fn receive(channel: &mut Channel, code: OptionCode) -> Result<(ReplyType, Vec<u8>), Failure> {
    let mut header = [0; OPTION_REPLY_HEADER_BYTES];
    channel.read_exact(&mut header)?;
    let header = OptionReplyHeader::decode(&header)?;
    if header.code != code {
        return Err(Failure(format!(
            "not the NBD protocol: an answer to option {} where {} was asked for",
            header.code.0, code.0
        )));
    }
    if header.length_bytes > MAX_REPLY_BYTES {
        return Err(Failure(format!(
            "not the NBD protocol: an answer of {} bytes",
            header.length_bytes
        )));
    }
    let mut payload = vec![0; header.length_bytes as usize];
    channel.read_exact(&mut payload)?;
    Ok((header.reply, payload))
}

/// Refusals that no other way of asking helps against.
fn fail_if_fatal(reply: ReplyType, payload: &[u8]) -> Result<(), Failure> {
    match reply {
        ReplyType::ERR_TLS_REQD => Err(Failure(
            "the server demands TLS: write nbds: in place of nbd:".to_owned(),
        )),
        ReplyType::ERR_SHUTDOWN => Err(Failure(format!(
            "the server is ending{}",
            explained(payload)
        ))),
        _ => Ok(()),
    }
}

fn refused(what: &str, reply: ReplyType, payload: &[u8]) -> Failure {
    let why = match reply {
        ReplyType::ERR_UNSUP => "not supported",
        ReplyType::ERR_POLICY => "not allowed",
        ReplyType::ERR_INVALID => "invalid",
        ReplyType::ERR_PLATFORM => "not supported on its platform",
        ReplyType::ERR_UNKNOWN => "not known",
        ReplyType::ERR_TOO_BIG => "too large",
        _ => "error",
    };
    Failure(format!(
        "the server refuses {what}: {why}{}",
        explained(payload)
    ))
}

fn unexpected(reply: ReplyType) -> Failure {
    Failure(format!(
        "not the NBD protocol: an answer of type {}",
        reply.0
    ))
}

/// The server's own words, on one line.
fn explained(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    match text.trim() {
        "" => String::new(),
        text => format!(" ({text})"),
    }
}
