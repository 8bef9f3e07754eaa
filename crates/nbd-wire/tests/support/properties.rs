//! What must hold of every input, whatever a peer sends: decoding ends without a panic, takes memory in
//! proportion to the input, and what it gave, encoded and decoded again, is the same.

use std::fmt::Debug;
use std::mem::size_of;

use nbd_wire::{
    Chunk, ChunkFlags, ChunkHeader, ChunkType, Descriptor, ErrorCode, ExportRequest, Info,
    InfoType, Malformed, MetaContext, MetaRequest, OPTION_HEADER_BYTES, OPTION_REPLY_HEADER_BYTES,
    OptionCode, OptionHeader, OptionReplyHeader, Request, RequestFormat, SIMPLE_REPLY_BYTES,
    SimpleReply,
};

const FORMATS: [RequestFormat; 2] = [RequestFormat::Compact, RequestFormat::Extended];

/// Memory that a decoded list may take: growing doubles it, and a short string on the wire is a whole slice here.
fn assert_bounded(bytes: usize, input: &[u8]) {
    let most = 16 * input.len() + 256;
    assert!(
        bytes <= most,
        "{bytes} bytes for an input of {}",
        input.len()
    );
}

/// What was decoded from exactly these bytes is encoded as exactly them.
fn assert_canonical(bytes: &[u8], encoded: &[u8]) {
    assert_eq!(encoded, bytes, "encoded otherwise than it was decoded from");
}

/// What a server receives before an export is chosen, and what it answers: a stream of options or of
/// their replies.
pub fn handshake(input: &[u8]) {
    option_stream(input);
    option_reply_stream(input);
    export_request(input);
    meta_request(input);
    information(input);
    if let Ok(context) = MetaContext::decode(input) {
        assert_canonical(input, &context.encode());
    }
    if let Ok(name) = ExportRequest::decode_bare_name(input) {
        assert_canonical(input, name.as_bytes());
    }
}

fn option_stream(mut input: &[u8]) {
    while let Some((header, rest)) = input.split_first_chunk::<OPTION_HEADER_BYTES>() {
        let Ok(option) = OptionHeader::decode(header) else {
            return;
        };
        let Some((payload, next)) = rest.split_at_checked(option.length_bytes as usize) else {
            return;
        };
        let whole = &input[..OPTION_HEADER_BYTES + payload.len()];
        assert_canonical(whole, &OptionHeader::encode(option.code, payload));
        match option.code {
            OptionCode::INFO | OptionCode::GO => export_request(payload),
            OptionCode::LIST_META_CONTEXT | OptionCode::SET_META_CONTEXT => meta_request(payload),
            _ => {}
        }
        input = next;
    }
}

fn option_reply_stream(mut input: &[u8]) {
    while let Some((header, rest)) = input.split_first_chunk::<OPTION_REPLY_HEADER_BYTES>() {
        let Ok(reply) = OptionReplyHeader::decode(header) else {
            return;
        };
        let Some((payload, next)) = rest.split_at_checked(reply.length_bytes as usize) else {
            return;
        };
        let mut encoded = Vec::new();
        OptionReplyHeader::encode(&mut encoded, reply.code, reply.reply, payload);
        let whole = &input[..OPTION_REPLY_HEADER_BYTES + payload.len()];
        assert_canonical(whole, &encoded);
        information(payload);
        input = next;
    }
}

fn export_request(input: &[u8]) {
    if let Ok(request) = ExportRequest::decode(input) {
        assert_bounded(request.infos.capacity() * size_of::<InfoType>(), input);
        assert_canonical(input, &request.encode());
    }
}

fn meta_request(input: &[u8]) {
    if let Ok(request) = MetaRequest::decode(input) {
        assert_bounded(request.queries.capacity() * size_of::<&str>(), input);
        assert_canonical(input, &request.encode());
    }
}

fn information(input: &[u8]) {
    if let Ok(info) = Info::decode(input) {
        assert_eq!(Info::decode(&info.encode()), Ok(info));
    }
}

/// What a server receives once an export is chosen, in both formats.
pub fn requests(input: &[u8]) {
    for format in FORMATS {
        let mut left = input;
        while let Some((header, rest)) = left.split_at_checked(format.header_bytes()) {
            let Ok(request) = Request::decode(header, format) else {
                break;
            };
            let mut encoded = Vec::new();
            request.encode(&mut encoded, format);
            assert_canonical(header, &encoded);
            left = rest;
        }
        // Too few bytes, or too many, are refused and nothing else.
        assert_refused_or_exact(input, format);
    }
}

fn assert_refused_or_exact(input: &[u8], format: RequestFormat) {
    let decoded: Result<Request, Malformed> = Request::decode(input, format);
    assert!(decoded.is_err() || input.len() == format.header_bytes());
}

/// What a client receives once an export is chosen, in both formats.
pub fn replies(input: &[u8]) {
    if let Some(header) = input.first_chunk::<SIMPLE_REPLY_BYTES>()
        && let Ok(reply) = SimpleReply::decode(header)
    {
        assert_canonical(header, &reply.encode());
        error_code(reply.error);
    }
    for format in FORMATS {
        chunk_stream(input, format);
    }
    // The payload alone, of each kind, and of one that the input names.
    let named = input
        .first_chunk()
        .map_or(99, |kind| u16::from_be_bytes(*kind));
    for kind in [0, 1, 2, 5, 6, 1 << 15 | 1, 1 << 15 | 2, named] {
        chunk(ChunkType(kind), input);
    }
}

fn chunk_stream(mut input: &[u8], format: RequestFormat) {
    while let Some((header, rest)) = input.split_at_checked(ChunkHeader::bytes(format)) {
        let Ok(decoded) = ChunkHeader::decode(header, format) else {
            return;
        };
        let mut encoded = Vec::new();
        decoded.encode(&mut encoded, format);
        assert_canonical(header, &encoded);
        let Ok(length) = usize::try_from(decoded.length_bytes) else {
            return;
        };
        let Some((payload, next)) = rest.split_at_checked(length) else {
            return;
        };
        chunk(decoded.kind, payload);
        input = next;
    }
}

fn chunk(kind: ChunkType, payload: &[u8]) {
    let Ok(chunk) = Chunk::decode(kind, payload) else {
        return;
    };
    let mut fits_compact = true;
    match &chunk {
        Chunk::Status { descriptors, .. } => {
            assert_bounded(descriptors.capacity() * size_of::<Descriptor>(), payload);
            let fits = |value: u64| u32::try_from(value).is_ok();
            fits_compact = descriptors
                .iter()
                .all(|run| fits(run.length_bytes) && fits(run.status));
        }
        Chunk::Error { error, .. } => error_code(*error),
        _ => {}
    }
    for format in FORMATS {
        if format == RequestFormat::Extended || fits_compact {
            assert_same_after_encoding(&chunk, format);
        }
    }
}

fn assert_same_after_encoding(chunk: &Chunk<'_>, format: RequestFormat) {
    let mut encoded = Vec::new();
    chunk.encode(&mut encoded, format, ChunkFlags::DONE, (7, 8));
    let (header, payload) = encoded.split_at(ChunkHeader::bytes(format));
    let header = ok(ChunkHeader::decode(header, format));
    assert_eq!(header.length_bytes, payload.len() as u64);
    assert_eq!(&ok(Chunk::decode(header.kind, payload)), chunk);
}

fn error_code(error: ErrorCode) {
    let errno = error.to_errno();
    assert!(errno > 0, "{error:?} became {errno}");
    assert_eq!(ErrorCode::from_errno(errno).to_errno(), errno);
}

fn ok<T: Debug>(result: Result<T, Malformed>) -> T {
    result.expect("what was encoded can be decoded")
}
