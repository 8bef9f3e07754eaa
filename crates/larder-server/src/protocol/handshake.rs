//! How client and server come to terms: fixed newstyle negotiation.
//!
//! Nothing is received ahead of what is worked on, so that what came before STARTTLS can never count
//! as having come after it. All of it, TLS included, keeps to one deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nbd_wire::{
    ClientFlags, HandshakeFlags, INIT_MAGIC, OPTION_HEADER_BYTES, OPTION_MAGIC, OptionCode,
    OptionHeader, OptionReplyHeader, ReplyType,
};

use super::options;
use super::terms::{Allowed, Terms};
use super::tls::{TlsPolicy, TlsSettings};
use super::transport::{self, Receiver, Sender};
use crate::export::ClientConnection;
use crate::exports::Exports;

/// The longest payload of an option that is looked at.
const MAX_OPTION_BYTES: u32 = 64 << 10;
/// The longest payload of an option that is skipped; a longer one ends the connection.
const MAX_SKIPPED_BYTES: u32 = 16 << 20;

/// A handshake under way.
pub(crate) struct Handshake<'c> {
    receiver: &'c mut Receiver,
    sender: &'c mut Sender,
    pub(super) exports: &'c Exports,
    tls: Option<&'c TlsSettings>,
    is_encrypted: bool,
    /// The client does without 124 zeros.
    pub(super) without_zeroes: bool,
    pub(super) terms: Terms,
    /// The export that the contexts were chosen for.
    pub(super) contexts_of: String,
}

/// What a handshake came to.
pub(crate) struct Agreed {
    /// The client's connection to its export.
    pub(crate) client: ClientConnection,
    /// What the export allows there.
    pub(crate) allowed: Allowed,
    /// The unit in which the cache fetches, in bytes.
    pub(crate) block_bytes: u64,
    /// The rest.
    pub(crate) terms: Terms,
}

/// What follows an option.
pub(super) enum Step {
    /// The next option.
    Continue,
    /// The end, without an export.
    Leave,
    /// Requests.
    Go(Box<Agreed>),
}

impl<'c> Handshake<'c> {
    /// A handshake about these exports; with `tls`, encryption is offered or required.
    pub(crate) fn new(
        receiver: &'c mut Receiver,
        sender: &'c mut Sender,
        exports: &'c Exports,
        tls: Option<&'c TlsSettings>,
    ) -> Self {
        Self {
            receiver,
            sender,
            exports,
            tls,
            is_encrypted: false,
            without_zeroes: false,
            terms: Terms::default(),
            contexts_of: String::new(),
        }
    }

    /// Runs the handshake, which must be over within `limit`. None if the client left without an export.
    pub(crate) fn run_within(mut self, limit: Duration) -> io::Result<Option<Agreed>> {
        self.receiver.limit(Some(limit))?;
        let agreed = self.run();
        self.receiver.limit(None)?;
        agreed
    }

    fn run(&mut self) -> io::Result<Option<Agreed>> {
        self.greet()?;
        while let Some((code, payload)) = self.next_option()? {
            match self.answer(code, &payload)? {
                Step::Continue => {}
                Step::Leave => break,
                Step::Go(agreed) => return Ok(Some(*agreed)),
            }
        }
        Ok(None)
    }

    fn greet(&mut self) -> io::Result<()> {
        let flags = HandshakeFlags::FIXED_NEWSTYLE | HandshakeFlags::NO_ZEROES;
        let mut greeting = Vec::with_capacity(18);
        greeting.extend_from_slice(&INIT_MAGIC.to_be_bytes());
        greeting.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
        greeting.extend_from_slice(&flags.bits().to_be_bytes());
        self.send(&greeting)?;
        let mut answer = [0; 4];
        if !self.receiver.receive_exactly(&mut answer)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let flags = ClientFlags::from_bits(u32::from_be_bytes(answer))
            .ok_or_else(|| malformed("unknown flags from the client"))?;
        self.without_zeroes = flags.contains(ClientFlags::NO_ZEROES);
        if !flags.contains(ClientFlags::FIXED_NEWSTYLE) {
            // It cannot take the replies that TLS begins with (NBD protocol, "Operating modes").
            if self.must_encrypt() {
                return Err(malformed(
                    "a client without fixed newstyle, which TLS needs",
                ));
            }
            self.tls = None;
        }
        Ok(())
    }

    /// The next option with its payload, None if the client has gone. Options that are too long are
    /// refused here.
    fn next_option(&mut self) -> io::Result<Option<(OptionCode, Vec<u8>)>> {
        loop {
            let mut header = [0; OPTION_HEADER_BYTES];
            if !self.receiver.receive_exactly(&mut header)? {
                return Ok(None);
            }
            let header = OptionHeader::decode(&header).map_err(|error| malformed(error.0))?;
            if header.length_bytes > MAX_OPTION_BYTES {
                if header.code == OptionCode::EXPORT_NAME {
                    // It cannot be refused in any other way.
                    return Err(malformed("an export's name that is much too long"));
                }
                self.skip(header.length_bytes)?;
                match self.must_encrypt() {
                    true => self.refuse_without_tls(header.code)?,
                    false => {
                        let reason = b"the option is too long";
                        self.reply(header.code, ReplyType::ERR_TOO_BIG, reason)?
                    }
                };
                continue;
            }
            let mut payload = vec![0; header.length_bytes as usize];
            if !payload.is_empty() && !self.receiver.receive_exactly(&mut payload)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            return Ok(Some((header.code, payload)));
        }
    }

    fn skip(&mut self, count: u32) -> io::Result<()> {
        if count > MAX_SKIPPED_BYTES {
            return Err(malformed("an option that is much too long"));
        }
        let mut left = count as usize;
        let mut buffer = vec![0; MAX_OPTION_BYTES as usize];
        while left > 0 {
            let part = left.min(buffer.len());
            if !self.receiver.receive_exactly(&mut buffer[..part])? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= part;
        }
        Ok(())
    }

    fn answer(&mut self, code: OptionCode, payload: &[u8]) -> io::Result<Step> {
        let must_encrypt = self.must_encrypt();
        match code {
            OptionCode::ABORT => {
                self.reply(code, ReplyType::ACK, b"")?;
                Ok(Step::Leave)
            }
            OptionCode::STARTTLS => self.start_tls(payload),
            OptionCode::EXPORT_NAME if must_encrypt => {
                Err(malformed("an export was asked for without TLS"))
            }
            _ if must_encrypt => self.refuse_without_tls(code),
            _ => options::answer(self, code, payload),
        }
    }

    /// Whether nothing can be had yet.
    fn must_encrypt(&self) -> bool {
        self.tls
            .is_some_and(|tls| tls.policy() == TlsPolicy::Require && !self.is_encrypted)
    }

    fn refuse_without_tls(&mut self, code: OptionCode) -> io::Result<Step> {
        self.reply(code, ReplyType::ERR_TLS_REQD, b"this server requires TLS")
    }

    fn start_tls(&mut self, payload: &[u8]) -> io::Result<Step> {
        let code = OptionCode::STARTTLS;
        let Some(tls) = self.tls else {
            return self.reply(code, ReplyType::ERR_POLICY, b"this server has no TLS");
        };
        if self.is_encrypted || !payload.is_empty() {
            let reason: &[u8] = match self.is_encrypted {
                true => b"TLS has been started already",
                false => b"STARTTLS has no payload",
            };
            return self.reply(code, ReplyType::ERR_INVALID, reason);
        }
        self.reply(code, ReplyType::ACK, b"")?;
        transport::start_tls(self.receiver, self.sender, Arc::clone(tls.config()))?;
        self.is_encrypted = true;
        // Nothing that was said in the open counts.
        self.terms = Terms::default();
        self.contexts_of.clear();
        Ok(Step::Continue)
    }

    /// Sends one reply to an option.
    pub(super) fn reply(
        &mut self,
        code: OptionCode,
        reply: ReplyType,
        payload: &[u8],
    ) -> io::Result<Step> {
        let mut bytes = Vec::new();
        OptionReplyHeader::encode(&mut bytes, code, reply, payload);
        self.send(&bytes)?;
        Ok(Step::Continue)
    }

    /// Sends bytes as they are.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.receiver.limit_send()?;
        self.sender.send(bytes)
    }
}

/// What breaks the protocol so that only the end of the connection can follow.
pub(super) fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
