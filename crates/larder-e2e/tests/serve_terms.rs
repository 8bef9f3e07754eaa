//! What client and server agree on, to the letter: exports and their contexts, sizes, and the form of replies.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use hostile::origins::Origin;
use hostile::raw::{Form, RawClient};
use larder_e2e::{
    KIB, Larder, MIB, Scratch, Server, assert_same_bytes, random_file, read_file, sparse_file,
    wait_until, write_at,
};
use nbd_wire::{
    Chunk, ChunkType, Command, CommandFlags, ExportRequest, Info, InfoType, MetaRequest,
    OptionCode, OptionHeader, ReplyType, TransmissionFlags,
};
use rustix::process::{Pid, Resource, getrlimit, prlimit};

const SIZE: u64 = 64 * MIB;
const LARGEST: u64 = 32 * MIB;
const NONE: CommandFlags = CommandFlags::empty();
const EIO: u32 = 5;
const EINVAL: u32 = 22;
const ENOTSUP: u32 = 95;

/// Forms that have chunks, and the option that a client asks for them with.
const CHUNKED: [(Form, OptionCode); 2] = [
    (Form::Structured, OptionCode::STRUCTURED_REPLY),
    (Form::Extended, OptionCode::EXTENDED_HEADERS),
];

fn serve_two(scratch: &Scratch) -> Server {
    Larder::serve(scratch)
        .origin("one=memory:1M")
        .origin("two=memory:1M")
        .start()
}

fn contexts(export: &str) -> Vec<u8> {
    MetaRequest {
        export,
        queries: vec!["base:allocation", "larder:cache"],
    }
    .encode()
}

fn export(name: &str, infos: Vec<InfoType>) -> Vec<u8> {
    ExportRequest { name, infos }.encode()
}

/// Goes, and asks for the block status.
fn status_of(mut client: RawClient, form: Form, name: &str) -> (u32, usize) {
    let go = client.last_reply(OptionCode::GO, &export(name, Vec::new()));
    assert_eq!(go, ReplyType::ACK);
    client.form = form;
    let answer = client.call(Command::BLOCK_STATUS, NONE, (0, MIB), b"");
    (answer.error, answer.status.len())
}

#[test]
fn contexts_count_for_the_export_that_they_were_chosen_for() {
    let scratch = Scratch::new();
    let server = serve_two(&scratch);
    for (form, option) in CHUNKED {
        for (name, expected) in [("one", (0, 2)), ("two", (EINVAL, 0))] {
            let mut client = RawClient::greet(server.socket());
            assert_eq!(client.last_reply(option, b""), ReplyType::ACK);
            let chosen = client.option(OptionCode::SET_META_CONTEXT, &contexts("one"));
            assert_eq!(chosen.len(), 3);
            assert_eq!(status_of(client, form, name), expected, "{form:?} {name}");
        }
    }
}

#[test]
fn a_choice_of_contexts_replaces_the_one_before_also_when_it_fails() {
    let scratch = Scratch::new();
    let server = serve_two(&scratch);
    let nothing = MetaRequest {
        export: "one",
        queries: vec!["base:none"],
    };
    for (form, option) in CHUNKED {
        for (second, expected) in [
            (contexts("three"), ReplyType::ERR_UNKNOWN),
            (b"x".to_vec(), ReplyType::ERR_INVALID),
            (nothing.encode(), ReplyType::ACK),
        ] {
            let mut client = RawClient::greet(server.socket());
            assert_eq!(client.last_reply(option, b""), ReplyType::ACK);
            let code = OptionCode::SET_META_CONTEXT;
            assert_eq!(client.last_reply(code, &contexts("one")), ReplyType::ACK);
            assert_eq!(client.last_reply(code, &second), expected);
            assert_eq!(status_of(client, form, "one"), (EINVAL, 0), "{expected:?}");
        }
    }
}

#[test]
fn who_does_not_do_without_zeros_gets_124_of_them() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:1M").start();
    for (flags, zeros) in [(1_u32, 124), (3, 0)] {
        let mut client = RawClient::connect(server.socket());
        client.receive(18).expect("a greeting");
        client.send(&flags.to_be_bytes());
        client.send(&OptionHeader::encode(OptionCode::EXPORT_NAME, b""));
        let reply = client.receive(10 + zeros).expect("an export");
        assert_eq!(reply[..8], MIB.to_be_bytes());
        assert_eq!(reply[10..], vec![0; zeros]);
        // What follows is the next reply, and nothing else.
        assert_eq!(client.read(0, 512).data, [0; 512]);
    }
}

#[test]
fn an_export_is_told_by_its_name_and_block_sizes() {
    let scratch = Scratch::new();
    let block_sizes = [("4K", 4 * KIB), ("64K", 64 * KIB), ("1M", MIB)];
    for (number, (text, preferred)) in block_sizes.into_iter().enumerate() {
        let scratch = Scratch::under(&scratch.make_dir(&number.to_string()));
        let server = Larder::serve(&scratch)
            .origin("disk=memory:8M")
            .parameter(&format!("cache-min-block-size={text}"))
            .start();
        for code in [OptionCode::INFO, OptionCode::GO] {
            let mut client = RawClient::greet(server.socket());
            let asked = export("", vec![InfoType::NAME, InfoType::BLOCK_SIZE]);
            let replies = client.option(code, &asked);
            let (last, infos) = replies.split_last().unwrap();
            assert_eq!(last.0, ReplyType::ACK);
            let infos: Vec<Info<'_>> = infos
                .iter()
                .map(|(_, payload)| Info::decode(payload).unwrap())
                .collect();
            assert!(infos.contains(&Info::Name("disk")), "{infos:?}");
            let sizes = Info::BlockSize {
                minimum: 1,
                preferred: preferred as u32,
                maximum: LARGEST as u32,
            };
            assert!(infos.contains(&sizes), "{infos:?}");
        }
    }
}

/// A file of random bytes, some of whose pieces of 64 KiB are zeros.
fn mixed_image(scratch: &Scratch) -> (PathBuf, Vec<u8>) {
    let image = scratch.path("image");
    let mut content = random_file(&image, SIZE, 1);
    for piece in [1, 3, 4, 9] {
        let start = piece * 64 * KIB;
        write_at(&image, start, &[0; 64 << 10]);
        content[start as usize..(start + 64 * KIB) as usize].fill(0);
    }
    (image, content)
}

#[test]
fn a_read_that_must_not_be_in_pieces_is_one_chunk() {
    let scratch = Scratch::new();
    let (image, content) = mixed_image(&scratch);
    let server = Larder::serve(&scratch).file(&image).start();
    for (form, _) in CHUNKED {
        let mut client = RawClient::open(server.socket(), "", form);
        // Missed at first, and cached then.
        for length in [MIB, LARGEST, MIB, LARGEST] {
            let expected = &content[..length as usize];
            client.submit(Command::READ, CommandFlags::DF, (0, length), b"");
            let chunks = client.chunks();
            assert_eq!(chunks.len(), 1, "{form:?} {length}");
            let (kind, payload) = &chunks[0];
            assert_eq!(*kind, ChunkType::OFFSET_DATA);
            assert_same_bytes("in one piece", &payload[8..], expected);
            // It may be in pieces otherwise, and is: this one has holes.
            client.submit(Command::READ, NONE, (0, length), b"");
            let chunks = client.chunks();
            let is_hole = |(kind, _): &&(ChunkType, Vec<u8>)| *kind == ChunkType::OFFSET_HOLE;
            assert_eq!(chunks.iter().filter(is_hole).count(), 4, "{form:?}");
            assert_same_bytes("in pieces", &put_together(0, &chunks), expected);
        }
    }
}

/// What the chunks of a read from `start` on hold, in whatever order, each byte once.
fn put_together(start: u64, chunks: &[(ChunkType, Vec<u8>)]) -> Vec<u8> {
    let mut pieces: Vec<(u64, Vec<u8>)> = chunks
        .iter()
        .map(
            |(kind, payload)| match Chunk::decode(*kind, payload).unwrap() {
                Chunk::Data { offset, data } => (offset, data.to_vec()),
                Chunk::Hole {
                    offset,
                    length_bytes,
                } => (offset, vec![0; length_bytes as usize]),
                other => panic!("{other:?}"),
            },
        )
        .collect();
    pieces.sort_by_key(|(offset, _)| *offset);
    let mut whole = Vec::new();
    for (offset, piece) in pieces {
        assert_eq!(offset, start + whole.len() as u64);
        whole.extend(piece);
    }
    whole
}

#[test]
fn an_error_in_the_middle_of_a_read_comes_after_what_is_right() {
    const CACHED: u64 = 512 * KIB;
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let content = random_file(&image, SIZE, 1);
    let switch = scratch.path("fails");
    let file = format!("error-pread-file={}", switch.display());
    let filter = [
        "--filter=error",
        "error=EIO",
        "error-pread-rate=100%",
        &file,
    ];
    let origin = Origin::nbdkit(&scratch, &image, &filter);
    let server = Larder::serve(&scratch)
        .origin(origin.address(""))
        .parameter("cache-readahead=off")
        .start();
    for (number, form) in Form::ALL.into_iter().enumerate() {
        let start = number as u64 * 4 * MIB;
        let expected = &content[start as usize..];
        let mut client = RawClient::open(server.socket(), "", form);
        assert_eq!(client.read(start, CACHED).error, 0);
        fs::write(&switch, b"").unwrap();
        let range = (start, CACHED + MIB);
        if form == Form::Simple {
            assert_eq!(client.call(Command::READ, NONE, range, b"").error, EIO);
        } else {
            client.submit(Command::READ, NONE, range, b"");
            let mut chunks = client.chunks();
            let (kind, payload) = chunks.pop().unwrap();
            let error = Chunk::decode(kind, &payload).unwrap();
            assert!(
                matches!(&error, Chunk::Error { error, .. } if error.0 == EIO),
                "{error:?}"
            );
            let read = put_together(start, &chunks);
            assert_same_bytes("before the error", &read, &expected[..CACHED as usize]);
            // Nothing of it where it must not be in pieces.
            client.submit(Command::READ, CommandFlags::DF, range, b"");
            let chunks = client.chunks();
            assert!(chunks.len() == 1 && chunks[0].0.is_error(), "{form:?}");
        }
        fs::remove_file(&switch).unwrap();
        // The connection goes on, and nothing wrong was kept.
        let read = client.read(start, MIB);
        assert_eq!(read.error, 0);
        assert_same_bytes("afterwards", &read.data, &expected[..MIB as usize]);
    }
}

/// The flags of the only export.
fn flags(server: &Server) -> TransmissionFlags {
    let mut client = RawClient::greet(server.socket());
    let replies = client.option(OptionCode::INFO, &export("", Vec::new()));
    let told = replies.iter().find_map(|(_, payload)| {
        let info = Info::decode(payload).ok()?;
        match info {
            Info::Export { flags, .. } => Some(flags),
            _ => None,
        }
    });
    told.expect("what the export can do")
}

#[test]
fn zeroing_that_would_be_slow_is_not_supported_where_it_must_be_fast() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    // What is zeroed in the cache alone is fast on any origin that could say so.
    let cases = [
        ("writethrough", "slow", false),
        ("writethrough", "ignore", true),
        ("writeback", "slow", true),
    ];
    for (number, (cache, mode, is_fast)) in cases.into_iter().enumerate() {
        let scratch = Scratch::under(&scratch.make_dir(&number.to_string()));
        let mode = format!("fastzeromode={mode}");
        let filter = ["--filter=nozero", "zeromode=notrim", &mode];
        let origin = Origin::nbdkit(&scratch, &image, &filter);
        let server = Larder::serve(&scratch)
            .origin(origin.address(""))
            .parameter(&format!("cache={cache}"))
            .start();
        assert!(flags(&server).contains(TransmissionFlags::SEND_FAST_ZERO));
        for form in Form::ALL {
            let mut client = RawClient::open(server.socket(), "", form);
            client.write(0, &[1; 4096]);
            let fast = CommandFlags::FAST_ZERO;
            let answer = client.call(Command::WRITE_ZEROES, fast, (0, 4096), b"");
            let expected = if is_fast { 0 } else { ENOTSUP };
            assert_eq!(answer.error, expected, "{form:?} {cache} {mode}");
            let left = if is_fast { 0 } else { 1 };
            assert_eq!(client.read(0, 4096).data, [left; 4096]);
        }
    }
}

fn allocated_bytes(image: &Path) -> u64 {
    fs::metadata(image).unwrap().blocks() * 512
}

#[test]
fn zeros_without_a_hole_stay_allocated() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    for form in Form::ALL {
        let scratch = Scratch::under(&scratch.make_dir(&format!("{form:?}")));
        let _ = random_file(&image, SIZE, 1);
        let server = Larder::serve(&scratch).file(&image).start();
        let mut client = RawClient::open(server.socket(), "", form);
        for (flags, holes) in [(CommandFlags::NO_HOLE, 0), (NONE, LARGEST)] {
            let range = (MIB, LARGEST);
            let zeroed = client.call(Command::WRITE_ZEROES, flags, range, b"");
            assert_eq!(zeroed.error, 0);
            let flushed = client.call(Command::FLUSH, NONE, (0, 0), b"");
            assert_eq!(flushed.error, 0);
            let read = read_file(&image);
            let zeros = &read[MIB as usize..(MIB + LARGEST) as usize];
            assert!(zeros.iter().all(|&byte| byte == 0));
            // The file system counts a page or two of its own.
            let allocated = allocated_bytes(&image);
            let least = SIZE - holes;
            assert!(
                (least..least + MIB).contains(&allocated),
                "{form:?} {flags:?} {allocated}"
            );
        }
        server.stop();
    }
}

#[test]
fn clients_wait_while_there_are_no_descriptors_and_are_served_then() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:1M").start();
    let mut served = RawClient::open(server.socket(), "", Form::Structured);
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw);
    let limit = |most: u64| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(most);
        prlimit(pid, Resource::Nofile, limit).expect("setting the server's limit")
    };
    // Its standard streams: poll(2) wants as many as it watches.
    let before = limit(3);
    let waiting: Vec<RawClient> = (0..20)
        .map(|_| RawClient::connect(server.socket()))
        .collect();
    wait_until("that is told", || {
        let told = "a client could not be accepted: Too many open files";
        server.output().contains(told)
    });
    // Others do not notice.
    assert_eq!(served.read(0, 4096).data, [0; 4096]);
    limit(before.current.unwrap_or(1 << 10));
    for mut client in waiting {
        assert_eq!(client.receive(18).expect("a greeting").len(), 18);
    }
    assert_eq!(served.read(0, 4096).data, [0; 4096]);
    server.stop();
}
