//! The options of the handshake that are about exports and replies, one function each.

use std::io;

use nbd_wire::{
    ExportRequest, Info, InfoType, MAX_PAYLOAD_BYTES, MetaContext, MetaRequest, OptionCode,
    OptionReplyHeader, ReplyType, RequestFormat, TransmissionFlags, encode_export_name_reply,
};

use super::contexts::Context;
use super::handshake::{Agreed, Handshake, Step, malformed};
use super::terms::Allowed;
use crate::export::Export;

/// Zeros that follow the answer to EXPORT_NAME for clients of old.
const ZEROES: [u8; 124] = [0; 124];

/// Answers an option that needs no encryption, or has it.
pub(super) fn answer(
    handshake: &mut Handshake<'_>,
    code: OptionCode,
    payload: &[u8],
) -> io::Result<Step> {
    let unknown = b"this server does not know the option";
    match code {
        OptionCode::EXPORT_NAME => export_name(handshake, payload),
        OptionCode::LIST => list(handshake, payload),
        OptionCode::INFO | OptionCode::GO => info_or_go(handshake, code, payload),
        OptionCode::STRUCTURED_REPLY => structured_reply(handshake, payload),
        OptionCode::EXTENDED_HEADERS => extended_headers(handshake, payload),
        OptionCode::LIST_META_CONTEXT => list_meta_context(handshake, payload),
        OptionCode::SET_META_CONTEXT => set_meta_context(handshake, payload),
        _ => handshake.reply(code, ReplyType::ERR_UNSUP, unknown),
    }
}

fn export_name(handshake: &mut Handshake<'_>, payload: &[u8]) -> io::Result<Step> {
    let name = ExportRequest::decode_bare_name(payload).map_err(|error| malformed(error.0))?;
    if handshake.terms.form.format == RequestFormat::Extended {
        return Err(malformed("EXPORT_NAME after extended headers"));
    }
    let export = handshake.exports.find(name);
    let export = export.ok_or_else(|| malformed("no export of that name"))?;
    let agreed = agree(handshake, export, name).map_err(io::Error::other)?;
    let flags = transmission_flags(handshake, export);
    let mut reply = encode_export_name_reply(agreed.allowed.size_bytes, flags).to_vec();
    if !handshake.without_zeroes {
        reply.extend_from_slice(&ZEROES);
    }
    handshake.send(&reply)?;
    Ok(Step::Go(Box::new(agreed)))
}

fn list(handshake: &mut Handshake<'_>, payload: &[u8]) -> io::Result<Step> {
    let code = OptionCode::LIST;
    if !payload.is_empty() {
        return handshake.reply(code, ReplyType::ERR_INVALID, b"LIST has no payload");
    }
    let mut replies = Vec::new();
    for export in handshake.exports.iter() {
        let mut entry = (export.name().len() as u32).to_be_bytes().to_vec();
        entry.extend_from_slice(export.name().as_bytes());
        entry.extend_from_slice(export.description().as_bytes());
        OptionReplyHeader::encode(&mut replies, code, ReplyType::SERVER, &entry);
    }
    handshake.send(&replies)?;
    handshake.reply(code, ReplyType::ACK, b"")
}

fn info_or_go(handshake: &mut Handshake<'_>, code: OptionCode, payload: &[u8]) -> io::Result<Step> {
    let request = match ExportRequest::decode(payload) {
        Ok(request) => request,
        Err(error) => return handshake.reply(code, ReplyType::ERR_INVALID, error.0.as_bytes()),
    };
    let Some(export) = handshake.exports.find(request.name) else {
        return handshake.reply(code, ReplyType::ERR_UNKNOWN, b"no export of that name");
    };
    let mut replies = Vec::new();
    for info in infos(handshake, export, &request.infos) {
        OptionReplyHeader::encode(&mut replies, code, ReplyType::INFO, &info.encode());
    }
    if code == OptionCode::INFO {
        handshake.send(&replies)?;
        return handshake.reply(code, ReplyType::ACK, b"");
    }
    match agree(handshake, export, request.name) {
        Ok(agreed) => {
            handshake.send(&replies)?;
            handshake.reply(code, ReplyType::ACK, b"")?;
            Ok(Step::Go(Box::new(agreed)))
        }
        Err(error) => {
            let message = error.to_string();
            handshake.reply(code, ReplyType::ERR_UNKNOWN, message.as_bytes())
        }
    }
}

/// Lets the client in.
fn agree(handshake: &Handshake<'_>, export: &Export, name: &str) -> Result<Agreed, larder::Error> {
    let client = export.connect_client()?;
    let mut terms = handshake.terms.clone();
    if handshake.contexts_of != name {
        // They were chosen for another export.
        terms.contexts.clear();
    }
    let offer = export.offer();
    let allowed = Allowed {
        size_bytes: export.size_bytes(),
        write: export.can_write(),
        flush: offer.flush,
        fua: offer.fua != larder::Fua::None,
        trim: offer.trim,
        fast_zero: offer.fast_zero,
    };
    Ok(Agreed {
        client,
        allowed,
        block_bytes: export.block_bytes(),
        terms,
    })
}

/// What is told of an export: size and flags always, and the block sizes, since most clients can use them; the
/// rest if it is asked for.
fn infos<'e>(handshake: &Handshake<'_>, export: &'e Export, asked: &[InfoType]) -> Vec<Info<'e>> {
    let mut infos = vec![Info::Export {
        size_bytes: export.size_bytes(),
        flags: transmission_flags(handshake, export),
    }];
    if asked.contains(&InfoType::NAME) {
        infos.push(Info::Name(export.name()));
    }
    if asked.contains(&InfoType::DESCRIPTION) {
        infos.push(Info::Description(export.description()));
    }
    // Beyond the payload there is nothing to prefer. Both are powers of two.
    let preferred = export.block_bytes().min(MAX_PAYLOAD_BYTES.into());
    infos.push(Info::BlockSize {
        minimum: 1,
        preferred: preferred as u32,
        maximum: MAX_PAYLOAD_BYTES,
    });
    infos
}

fn transmission_flags(handshake: &Handshake<'_>, export: &Export) -> TransmissionFlags {
    let offer = export.offer();
    let mut flags = TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_CACHE;
    flags.set(TransmissionFlags::READ_ONLY, !export.can_write());
    flags.set(TransmissionFlags::SEND_FLUSH, offer.flush);
    flags.set(TransmissionFlags::SEND_FUA, offer.fua != larder::Fua::None);
    flags.set(TransmissionFlags::SEND_TRIM, offer.trim);
    flags.set(TransmissionFlags::SEND_WRITE_ZEROES, offer.zero);
    flags.set(TransmissionFlags::SEND_FAST_ZERO, offer.fast_zero);
    flags.set(TransmissionFlags::SEND_DF, handshake.terms.form.chunks);
    flags.set(TransmissionFlags::CAN_MULTI_CONN, export.multi_conn());
    flags
}

fn structured_reply(handshake: &mut Handshake<'_>, payload: &[u8]) -> io::Result<Step> {
    let code = OptionCode::STRUCTURED_REPLY;
    let form = &mut handshake.terms.form;
    if form.format == RequestFormat::Extended {
        let reason = b"extended headers have been agreed on";
        return handshake.reply(code, ReplyType::ERR_EXT_HEADER_REQD, reason);
    }
    if form.chunks || !payload.is_empty() {
        let reason = b"agreed on already, or with a payload";
        return handshake.reply(code, ReplyType::ERR_INVALID, reason);
    }
    form.chunks = true;
    handshake.reply(code, ReplyType::ACK, b"")
}

fn extended_headers(handshake: &mut Handshake<'_>, payload: &[u8]) -> io::Result<Step> {
    let code = OptionCode::EXTENDED_HEADERS;
    let form = &mut handshake.terms.form;
    if form.format == RequestFormat::Extended || !payload.is_empty() {
        let reason = b"agreed on already, or with a payload";
        return handshake.reply(code, ReplyType::ERR_INVALID, reason);
    }
    form.chunks = true;
    form.format = RequestFormat::Extended;
    handshake.reply(code, ReplyType::ACK, b"")
}

/// No query lists all.
fn list_meta_context(handshake: &mut Handshake<'_>, payload: &[u8]) -> io::Result<Step> {
    let code = OptionCode::LIST_META_CONTEXT;
    let request = match MetaRequest::decode(payload) {
        Ok(request) => request,
        Err(error) => return handshake.reply(code, ReplyType::ERR_INVALID, error.0.as_bytes()),
    };
    if handshake.exports.find(request.export).is_none() {
        return handshake.reply(code, ReplyType::ERR_UNKNOWN, b"no export of that name");
    }
    let listed = Context::ALL.into_iter().filter(|context| {
        let queries = &request.queries;
        queries.is_empty() || queries.iter().any(|query| context.is_listed_by(query))
    });
    // A list is not a choice, so there is nothing that block status would call them.
    let listed = listed.map(|context| (context, 0));
    reply_contexts(handshake, code, listed)
}

/// What is chosen replaces what was chosen before, also when it fails.
fn set_meta_context(handshake: &mut Handshake<'_>, payload: &[u8]) -> io::Result<Step> {
    let code = OptionCode::SET_META_CONTEXT;
    handshake.terms.contexts.clear();
    handshake.contexts_of.clear();
    if !handshake.terms.form.chunks {
        let reason = b"metadata contexts need structured replies";
        return handshake.reply(code, ReplyType::ERR_INVALID, reason);
    }
    let request = match MetaRequest::decode(payload) {
        Ok(request) => request,
        Err(error) => return handshake.reply(code, ReplyType::ERR_INVALID, error.0.as_bytes()),
    };
    if handshake.exports.find(request.export).is_none() {
        return handshake.reply(code, ReplyType::ERR_UNKNOWN, b"no export of that name");
    }
    let is_chosen = |context: &Context| request.queries.contains(&context.name());
    let chosen: Vec<Context> = Context::ALL.into_iter().filter(is_chosen).collect();
    handshake.terms.contexts.clone_from(&chosen);
    request.export.clone_into(&mut handshake.contexts_of);
    let chosen = chosen.into_iter().map(|context| (context, context.id()));
    reply_contexts(handshake, code, chosen)
}

fn reply_contexts(
    handshake: &mut Handshake<'_>,
    code: OptionCode,
    contexts: impl Iterator<Item = (Context, u32)>,
) -> io::Result<Step> {
    let mut replies = Vec::new();
    for (context, id) in contexts {
        let payload = MetaContext {
            id,
            name: context.name(),
        };
        let reply = ReplyType::META_CONTEXT;
        OptionReplyHeader::encode(&mut replies, code, reply, &payload.encode());
    }
    handshake.send(&replies)?;
    handshake.reply(code, ReplyType::ACK, b"")
}
