//! Valid messages, which mutation begins with.

use nbd_wire::{
    BASE_ALLOCATION, Chunk, ChunkFlags, Command, CommandFlags, Descriptor, ErrorCode,
    ExportRequest, Info, InfoType, MetaContext, MetaRequest, OptionCode, OptionHeader,
    OptionReplyHeader, ReplyType, Request, RequestFormat, SimpleReply, TransmissionFlags,
};

const FORMATS: [RequestFormat; 2] = [RequestFormat::Compact, RequestFormat::Extended];

/// Options, their payloads, and what they are answered with.
pub fn handshake() -> Vec<Vec<u8>> {
    let export = ExportRequest {
        name: "disk",
        infos: vec![InfoType::NAME, InfoType::BLOCK_SIZE, InfoType(77)],
    }
    .encode();
    let meta = MetaRequest {
        export: "",
        queries: vec!["base:", BASE_ALLOCATION, "larder:cache"],
    }
    .encode();
    let infos = [
        Info::Export {
            size_bytes: 1 << 40,
            flags: TransmissionFlags::HAS_FLAGS,
        },
        Info::Name("disk"),
        Info::Description("a disk"),
        Info::BlockSize {
            minimum: 1,
            preferred: 65536,
            maximum: 32 << 20,
        },
    ];
    let mut replies = Vec::new();
    for info in &infos {
        let payload = info.encode();
        OptionReplyHeader::encode(&mut replies, OptionCode::GO, ReplyType::INFO, &payload);
    }
    let context = MetaContext {
        id: 1,
        name: BASE_ALLOCATION,
    };
    let options = [
        OptionHeader::encode(OptionCode::STRUCTURED_REPLY, b""),
        OptionHeader::encode(OptionCode::SET_META_CONTEXT, &meta),
        OptionHeader::encode(OptionCode::GO, &export),
        OptionHeader::encode(OptionCode::EXPORT_NAME, b"disk"),
    ];
    let mut seeds = vec![options.concat(), replies, export, meta, context.encode()];
    seeds.extend(options);
    seeds.extend(infos.iter().map(Info::encode));
    seeds
}

/// Requests of every kind, alone and in streams.
pub fn requests() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for format in FORMATS {
        let mut stream = Vec::new();
        for command in 0..8 {
            let mut message = Vec::new();
            Request {
                flags: CommandFlags::from_bits_retain(1 << (command % 6)),
                command: Command(command),
                cookie: u64::from(command) << 40,
                offset: 1 << 20,
                length_bytes: 4096,
            }
            .encode(&mut message, format);
            stream.extend_from_slice(&message);
            seeds.push(message);
        }
        seeds.push(stream);
    }
    seeds
}

/// Replies of every kind, alone and in streams, and the payloads of chunks.
pub fn replies() -> Vec<Vec<u8>> {
    let run = |length_bytes, status| Descriptor {
        length_bytes,
        status,
    };
    let chunks = [
        Chunk::None,
        Chunk::Data {
            offset: 512,
            data: b"some data",
        },
        Chunk::Hole {
            offset: 4096,
            length_bytes: 65536,
        },
        Chunk::Status {
            context_id: 1,
            descriptors: vec![run(512, 3), run(1 << 20, 0), run(1 << 30, 2)],
        },
        Chunk::Error {
            error: ErrorCode::IO,
            message: "the origin is gone",
            offset: None,
        },
        Chunk::Error {
            error: ErrorCode::NO_SPACE,
            message: "",
            offset: Some(4096),
        },
    ];
    let mut seeds = Vec::new();
    for format in FORMATS {
        let mut stream = Vec::new();
        for chunk in &chunks {
            let mut message = Vec::new();
            chunk.encode(&mut message, format, ChunkFlags::DONE, (3, 1 << 20));
            stream.extend_from_slice(&message);
            let header = nbd_wire::ChunkHeader::bytes(format);
            seeds.push(message[header..].to_vec());
            seeds.push(message);
        }
        seeds.push(stream);
    }
    let simple = SimpleReply {
        error: ErrorCode::INVALID,
        cookie: 9,
    };
    seeds.push(simple.encode().to_vec());
    seeds
}
