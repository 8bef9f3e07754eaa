//! The fixed newstyle handshake, in any form of replies, with block status where the form has it.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;

use super::wire::{Form, protocol_error, read_bytes, read_u16, read_u32, read_u64};

const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
const FLAG_NO_ZEROES: u16 = 1 << 1;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_LIST: u32 = 3;
const OPTION_GO: u32 = 7;
const OPTION_STRUCTURED_REPLY: u32 = 8;
const OPTION_SET_META_CONTEXT: u32 = 10;
const OPTION_EXTENDED_HEADERS: u32 = 11;

const REPLY_ACK: u32 = 1;
const REPLY_SERVER: u32 = 2;
const REPLY_INFO: u32 = 3;
const REPLY_ERROR_BIT: u32 = 1 << 31;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

const META_CONTEXT: &str = "base:allocation";

/// What a server says of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Its size, in bytes.
    pub size: u64,
    /// Minimum, preferred and maximum request size, in bytes.
    pub block_size: Option<(u32, u32, u32)>,
    flags: u16,
}

impl Export {
    /// Whether nothing can be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.flags & (1 << 1) != 0
    }

    /// Whether it can be flushed.
    #[must_use]
    pub fn can_flush(&self) -> bool {
        self.flags & (1 << 2) != 0
    }

    /// Whether writes can be asked to be durable.
    #[must_use]
    pub fn can_fua(&self) -> bool {
        self.flags & (1 << 3) != 0
    }

    /// Whether it can be trimmed.
    #[must_use]
    pub fn can_trim(&self) -> bool {
        self.flags & (1 << 5) != 0
    }

    /// Whether it can be zeroed.
    #[must_use]
    pub fn can_zero(&self) -> bool {
        self.flags & (1 << 6) != 0
    }

    /// Whether one connection's flush covers all of them.
    #[must_use]
    pub fn can_multi_conn(&self) -> bool {
        self.flags & (1 << 8) != 0
    }

    /// Whether ranges can be fetched into the cache.
    #[must_use]
    pub fn can_cache(&self) -> bool {
        self.flags & (1 << 10) != 0
    }

    /// Whether it can be zeroed faster than by writing.
    #[must_use]
    pub fn can_fast_zero(&self) -> bool {
        self.flags & (1 << 11) != 0
    }
}

pub(super) struct Handshake<'a> {
    stream: &'a UnixStream,
}

impl<'a> Handshake<'a> {
    pub(super) fn begin(stream: &'a UnixStream) -> io::Result<Self> {
        if read_u64(stream)? != NBD_MAGIC || read_u64(stream)? != OPTION_MAGIC {
            return Err(protocol_error("this is no NBD server".to_owned()));
        }
        let flags = read_u16(stream)? & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        let mut writer = stream;
        writer.write_all(&u32::from(flags).to_be_bytes())?;
        Ok(Self { stream })
    }

    /// Chooses an export and begins transmission.
    pub(super) fn go(self, name: &str, form: Form) -> io::Result<Export> {
        match form {
            Form::Simple => {}
            Form::Structured => {
                self.option(OPTION_STRUCTURED_REPLY, &[])?;
                self.replies("structured replies")?;
            }
            Form::Extended => {
                self.option(OPTION_EXTENDED_HEADERS, &[])?;
                self.replies("extended headers")?;
            }
        }
        if form != Form::Simple {
            self.choose_block_status(name)?;
        }
        let mut request = string(name);
        request.extend_from_slice(&1_u16.to_be_bytes());
        request.extend_from_slice(&INFO_BLOCK_SIZE.to_be_bytes());
        self.option(OPTION_GO, &request)?;
        let mut export = Export::default();
        for (kind, body) in self.replies("the export")? {
            if kind == REPLY_INFO {
                read_info(&mut export, &body)?;
            }
        }
        Ok(export)
    }

    fn choose_block_status(&self, name: &str) -> io::Result<()> {
        let mut meta = string(name);
        meta.extend_from_slice(&1_u32.to_be_bytes());
        meta.extend_from_slice(&string(META_CONTEXT));
        self.option(OPTION_SET_META_CONTEXT, &meta)?;
        self.replies("block status")?;
        Ok(())
    }

    /// Chooses an export as old clients do.
    pub(super) fn export_name(self, name: &str) -> io::Result<Export> {
        self.option(OPTION_EXPORT_NAME, name.as_bytes())?;
        Ok(Export {
            size: read_u64(self.stream)?,
            flags: read_u16(self.stream)?,
            ..Export::default()
        })
    }

    /// The names of the exports.
    pub(super) fn list(self) -> io::Result<Vec<String>> {
        self.option(OPTION_LIST, &[])?;
        let mut names = Vec::new();
        for (kind, body) in self.replies("the list of exports")? {
            if kind == REPLY_SERVER {
                let length = read_u32(&body[..])? as usize;
                let name = body.get(4..4 + length).unwrap_or_default();
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        self.option(OPTION_ABORT, &[])?;
        Ok(names)
    }

    fn option(&self, option: u32, body: &[u8]) -> io::Result<()> {
        let mut message = OPTION_MAGIC.to_be_bytes().to_vec();
        message.extend_from_slice(&option.to_be_bytes());
        message.extend_from_slice(&(body.len() as u32).to_be_bytes());
        message.extend_from_slice(body);
        let mut writer = self.stream;
        writer.write_all(&message)
    }

    /// All replies to an option, up to the acknowledgement.
    fn replies(&self, what: &str) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let mut replies = Vec::new();
        loop {
            if read_u64(self.stream)? != OPTION_REPLY_MAGIC {
                return Err(protocol_error("option reply magic".to_owned()));
            }
            let _option = read_u32(self.stream)?;
            let kind = read_u32(self.stream)?;
            let length = read_u32(self.stream)? as usize;
            let body = read_bytes(self.stream, length)?;
            if kind & REPLY_ERROR_BIT != 0 {
                let reason = String::from_utf8_lossy(&body).into_owned();
                let message = format!("{what} refused: error {kind:#x} {reason}");
                return Err(io::Error::other(message));
            }
            if kind == REPLY_ACK {
                return Ok(replies);
            }
            replies.push((kind, body));
        }
    }
}

fn read_info(export: &mut Export, body: &[u8]) -> io::Result<()> {
    let mut body = body;
    match read_u16(&mut body)? {
        INFO_EXPORT => {
            export.size = read_u64(&mut body)?;
            export.flags = read_u16(&mut body)?;
        }
        INFO_BLOCK_SIZE => {
            export.block_size = Some((
                read_u32(&mut body)?,
                read_u32(&mut body)?,
                read_u32(&mut body)?,
            ));
        }
        _ => {}
    }
    Ok(())
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
