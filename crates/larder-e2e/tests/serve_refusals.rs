//! What makes no sense is refused with the error that the protocol names for it, and the connection
//! goes on; what cannot be refused ends the connection.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::path::Path;

use hostile::raw::{Form, RawClient};
use larder_e2e::{Larder, MIB, Scratch, Server, read_file, sparse_file};
use nbd_wire::{
    Command, CommandFlags, ExportRequest, InfoType, MetaRequest, OptionCode, OptionHeader,
    ReplyType,
};

const SIZE: u64 = 64 * MIB;
const LARGEST: u64 = 32 * MIB;
const NONE: CommandFlags = CommandFlags::empty();
const EPERM: u32 = 1;
const EINVAL: u32 = 22;
const ENOSPC: u32 = 28;
const EOVERFLOW: u32 = 75;

fn serve(scratch: &Scratch, parameters: &[&str]) -> Server {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let mut larder = Larder::serve(scratch).file(&image);
    for parameter in parameters {
        larder = larder.parameter(parameter);
    }
    larder.start()
}

fn export(name: &str) -> Vec<u8> {
    ExportRequest {
        name,
        infos: vec![InfoType::BLOCK_SIZE],
    }
    .encode()
}

fn contexts(export: &str, queries: &[&str]) -> Vec<u8> {
    MetaRequest {
        export,
        queries: queries.to_vec(),
    }
    .encode()
}

/// An export request whose parts are as long as it says, and whose name is any bytes.
fn named(name: &[u8]) -> Vec<u8> {
    [&(name.len() as u32).to_be_bytes()[..], name, &[0, 0]].concat()
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let mut client = RawClient::greet(server.socket());
    let allocation = ["base:allocation"];
    let long = vec![b'x'; 4097];
    let lies = [&[0xff; 4][..], b"x", &[0, 0]].concat();
    let cut = &export("")[..3];
    let spare = [export(""), vec![0]].concat();
    for (code, payload, expected) in [
        (OptionCode::LIST, &b"x"[..], ReplyType::ERR_INVALID),
        (OptionCode(4), b"", ReplyType::ERR_UNSUP),
        (OptionCode(0), b"", ReplyType::ERR_UNSUP),
        (OptionCode(u32::MAX), b"any", ReplyType::ERR_UNSUP),
        (OptionCode::STARTTLS, b"", ReplyType::ERR_POLICY),
        (OptionCode::INFO, &export("other"), ReplyType::ERR_UNKNOWN),
        (OptionCode::GO, &export("other"), ReplyType::ERR_UNKNOWN),
        (OptionCode::GO, b"", ReplyType::ERR_INVALID),
        (OptionCode::GO, cut, ReplyType::ERR_INVALID),
        (OptionCode::GO, &spare, ReplyType::ERR_INVALID),
        (OptionCode::GO, &lies, ReplyType::ERR_INVALID),
        (OptionCode::GO, &named(b"a\0b"), ReplyType::ERR_INVALID),
        (OptionCode::GO, &named(b"\xff"), ReplyType::ERR_INVALID),
        (OptionCode::GO, &named(&long), ReplyType::ERR_INVALID),
        (OptionCode::GO, &vec![0; 65537], ReplyType::ERR_TOO_BIG),
        (OptionCode(99), &vec![0; 1 << 20], ReplyType::ERR_TOO_BIG),
        (
            OptionCode::SET_META_CONTEXT,
            &contexts("", &allocation),
            ReplyType::ERR_INVALID,
        ),
        (OptionCode::STRUCTURED_REPLY, b"x", ReplyType::ERR_INVALID),
        (OptionCode::STRUCTURED_REPLY, b"", ReplyType::ACK),
        (OptionCode::STRUCTURED_REPLY, b"", ReplyType::ERR_INVALID),
        (OptionCode::SET_META_CONTEXT, b"", ReplyType::ERR_INVALID),
        (
            OptionCode::SET_META_CONTEXT,
            &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
            ReplyType::ERR_INVALID,
        ),
        (
            OptionCode::SET_META_CONTEXT,
            &contexts("other", &allocation),
            ReplyType::ERR_UNKNOWN,
        ),
        (
            OptionCode::LIST_META_CONTEXT,
            &contexts("other", &[]),
            ReplyType::ERR_UNKNOWN,
        ),
        (OptionCode::EXTENDED_HEADERS, b"x", ReplyType::ERR_INVALID),
        (OptionCode::EXTENDED_HEADERS, b"", ReplyType::ACK),
        (OptionCode::EXTENDED_HEADERS, b"", ReplyType::ERR_INVALID),
        (
            OptionCode::STRUCTURED_REPLY,
            b"",
            ReplyType::ERR_EXT_HEADER_REQD,
        ),
        (OptionCode::INFO, &export(""), ReplyType::ACK),
        (OptionCode::GO, &export(""), ReplyType::ACK),
    ] {
        let reply = client.last_reply(code, payload);
        assert_eq!(reply, expected, "{code:?} {} bytes", payload.len());
    }
    client.form = Form::Extended;
    assert_eq!(client.read(0, 4096).data, [0; 4096]);
}

#[test]
fn contexts_are_listed_and_chosen_by_name() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let mut client = RawClient::greet(server.socket());
    client.last_reply(OptionCode::STRUCTURED_REPLY, b"");
    for (queries, count) in [
        (&[][..], 2),
        (&["base:"], 1),
        (&["larder:", "base:"], 2),
        (&["qemu:dirty-bitmap:x"], 0),
    ] {
        let replies = client.option(OptionCode::LIST_META_CONTEXT, &contexts("", queries));
        assert_eq!(replies.len(), count + 1, "{queries:?}");
        let ids = replies[..count].iter().map(|(_, payload)| &payload[..4]);
        assert!(
            ids.eq(std::iter::repeat_n(&[0; 4][..], count)),
            "{queries:?}"
        );
    }
    // The last choice counts, also one of nothing.
    let both = contexts("", &["base:allocation", "larder:cache", "base:allocation"]);
    assert_eq!(client.option(OptionCode::SET_META_CONTEXT, &both).len(), 3);
    let none = contexts("", &[]);
    assert_eq!(client.option(OptionCode::SET_META_CONTEXT, &none).len(), 1);
    client.last_reply(OptionCode::GO, &export(""));
    client.form = Form::Structured;
    let status = client.call(Command::BLOCK_STATUS, NONE, (0, 4096), b"");
    assert_eq!(status.error, EINVAL);
}

#[test]
fn what_cannot_be_refused_ends_the_connection() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let unknown_flags = RawClient::connect(server.socket());
    let mut client = unknown_flags;
    client.receive(18).unwrap();
    client.send(&[0, 0, 0, 7]);
    assert_eq!(client.rest(), b"");
    let extended = OptionHeader::encode(OptionCode::EXTENDED_HEADERS, b"");
    for (what, bytes, replies) in [
        ("no magic", vec![0; 16], 0),
        (
            "no such export",
            OptionHeader::encode(OptionCode::EXPORT_NAME, b"other"),
            0,
        ),
        (
            "a name that is no name",
            OptionHeader::encode(OptionCode::EXPORT_NAME, b"\xff"),
            0,
        ),
        (
            "a name that is much too long",
            OptionHeader::encode(OptionCode::EXPORT_NAME, &vec![b'x'; 65537]),
            0,
        ),
        (
            "a name after extended headers",
            [extended, OptionHeader::encode(OptionCode::EXPORT_NAME, b"")].concat(),
            20,
        ),
        (
            "an option without an end",
            [&b"IHAVEOPT\0\0\0\x63\xff\xff\xff\xff"[..]].concat(),
            0,
        ),
        ("half an option", b"IHAVEOPT\0\0".to_vec(), 0),
    ] {
        let mut client = RawClient::greet(server.socket());
        client.send(&bytes);
        if what == "half an option" {
            client.end_sending();
        }
        assert_eq!(client.rest().len(), replies, "{what}");
    }
    RawClient::open(server.socket(), "", Form::Structured).read(0, 512);
}

#[test]
fn an_abort_is_acknowledged() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let mut client = RawClient::greet(server.socket());
    assert_eq!(client.last_reply(OptionCode::ABORT, b""), ReplyType::ACK);
    assert_eq!(client.rest(), b"");
}

/// Requests that make no sense in any form, and their errors.
fn nonsense() -> Vec<(Command, CommandFlags, (u64, u64), u32)> {
    let unknown = CommandFlags::from_bits_retain(1 << 12);
    let mut requests = vec![
        (Command(8), NONE, (0, 512), EINVAL),
        (Command(u16::MAX), NONE, (0, 512), EINVAL),
        (Command::READ, unknown, (0, 512), EINVAL),
        (Command::READ, CommandFlags::REQ_ONE, (0, 512), EINVAL),
        (Command::READ, CommandFlags::NO_HOLE, (0, 512), EINVAL),
        (Command::FLUSH, unknown, (0, 0), EINVAL),
        (Command::TRIM, CommandFlags::FAST_ZERO, (0, 512), EINVAL),
        (Command::READ, NONE, (0, LARGEST + 1), EOVERFLOW),
        (Command::READ, NONE, (0, u64::from(u32::MAX)), EOVERFLOW),
    ];
    for (command, error) in [
        (Command::READ, EINVAL),
        (Command::TRIM, EINVAL),
        (Command::CACHE, EINVAL),
        (Command::WRITE_ZEROES, ENOSPC),
    ] {
        for range in [(SIZE, 1), (SIZE - 511, 512), (u64::MAX, 1), (1 << 63, 512)] {
            requests.push((command, NONE, range, error));
        }
        requests.push((command, NONE, (0, 0), EINVAL));
    }
    requests
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    for form in Form::ALL {
        let mut client = RawClient::open(server.socket(), "", form);
        for (command, flags, range, error) in nonsense() {
            let answer = client.call(command, flags, range, b"");
            assert_eq!(
                answer.error, error,
                "{form:?} {command:?} {flags:?} {range:?}"
            );
        }
        let status = client.call(Command::BLOCK_STATUS, NONE, (SIZE, 512), b"");
        assert_eq!(status.error, EINVAL, "{form:?}");
        assert_eq!(client.read(SIZE - 512, 512).data, [0; 512], "{form:?}");
    }
    let mut simple = RawClient::open(server.socket(), "", Form::Simple);
    let df = simple.call(Command::READ, CommandFlags::DF, (0, 512), b"");
    assert_eq!(df.error, EINVAL);
}

#[test]
fn payloads_that_are_refused_are_taken_away() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    for form in Form::ALL {
        let mut client = RawClient::open(server.socket(), "", form);
        let flags = client.write_flags();
        let unknown = flags | CommandFlags::from_bits_retain(1 << 12);
        for (flags, range, error) in [
            (flags, (0, LARGEST + 1), EINVAL),
            (flags, (SIZE - 511, 512), ENOSPC),
            (flags, (u64::MAX, 70_000), ENOSPC),
            (unknown, (0, 100_000), EINVAL),
            (flags, (0, 0), EINVAL),
        ] {
            let payload = vec![7; range.1 as usize];
            let answer = client.call(Command::WRITE, flags, range, &payload);
            assert_eq!(answer.error, error, "{form:?} {range:?}");
        }
        let largest = vec![form as u8 + 1; LARGEST as usize];
        assert_eq!(client.write(MIB, &largest).error, 0);
        let read = client.read(MIB, LARGEST);
        assert_eq!((read.error, read.data.len()), (0, largest.len()));
        assert!(read.data == largest, "{form:?}");
        assert_eq!(client.read(0, 512).data, [0; 512]);
        client.call(Command::WRITE_ZEROES, NONE, (0, SIZE), b"");
    }
}

#[test]
fn a_payload_where_none_belongs_is_refused_and_taken_away() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let flagged = CommandFlags::PAYLOAD_LEN;
    let others = [0, 3, 4, 5, 6, 7, 8].map(Command);
    let mut extended = RawClient::open(server.socket(), "", Form::Extended);
    for command in others {
        for length in [1, 4096, 100_000] {
            let payload = vec![0x21; length];
            let answer = extended.call(command, flagged, (0, length as u64), &payload);
            assert_eq!(answer.error, EINVAL, "{command:?} {length}");
        }
    }
    assert_eq!(extended.read(0, 512).data, [0; 512]);
    // A write without the flag has its payload all the same.
    let plain = extended.call(Command::WRITE, NONE, (0, 3), b"abc");
    assert_eq!(
        (plain.error, extended.read(0, 3).data),
        (0, b"abc".to_vec())
    );
    // In the short headers there is no such flag.
    let mut structured = RawClient::open(server.socket(), "", Form::Structured);
    for command in others {
        let answer = structured.call(command, flagged, (0, 512), b"");
        assert_eq!(answer.error, EINVAL, "{command:?}");
    }
    let write = structured.call(Command::WRITE, flagged, (0, 3), b"xyz");
    assert_eq!(
        (write.error, structured.read(0, 3).data),
        (EINVAL, b"abc".to_vec())
    );
}

#[test]
fn every_request_may_ask_for_durability() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let image = scratch.path("image");
    for form in Form::ALL {
        let mut client = RawClient::open(server.socket(), "", form);
        let fua = CommandFlags::FUA;
        let flags = fua | client.write_flags();
        let payload = vec![form as u8 + 1; 5000];
        let write = client.call(Command::WRITE, flags, (MIB, 5000), &payload);
        assert_eq!(write.error, 0, "{form:?}");
        let at = MIB as usize;
        assert_eq!(&read_file(&image)[at..at + 5000], payload);
        for (command, length) in [
            (Command::FLUSH, 0),
            (Command::TRIM, 512),
            (Command::CACHE, 512),
            (Command::WRITE_ZEROES, 512),
        ] {
            let answer = client.call(command, fua, (0, length), b"");
            assert_eq!(answer.error, 0, "{form:?} {command:?}");
        }
        if form != Form::Simple {
            let read = client.call(Command::READ, fua, (MIB, 5000), b"");
            assert_eq!(read.data, payload);
            let status = client.call(Command::BLOCK_STATUS, fua, (0, 512), b"");
            assert_eq!(status.error, 0);
        }
    }
}

#[test]
fn a_read_only_export_is_not_changed() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["read-only"]);
    for form in Form::ALL {
        let mut client = RawClient::open(server.socket(), "", form);
        assert_eq!(client.write(0, &[1; 512]).error, EPERM);
        assert_eq!(client.write(0, &vec![1; 200_000]).error, EPERM);
        for command in [Command::TRIM, Command::WRITE_ZEROES] {
            let answer = client.call(command, NONE, (0, 512), b"");
            assert_eq!(answer.error, EPERM, "{command:?}");
        }
        assert_eq!(client.read(0, 512).data, [0; 512]);
    }
}

#[test]
fn a_status_covers_no_more_than_asked_and_one_extent_where_one_is_wanted() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    for form in [Form::Structured, Form::Extended] {
        let mut client = RawClient::open(server.socket(), "", form);
        client.write(MIB, &[1; 4096]);
        client.write(3 * MIB, &[1; 4096]);
        for (flags, most) in [(NONE, usize::MAX), (CommandFlags::REQ_ONE, 1)] {
            for range in [
                (0, SIZE),
                (1, 1),
                (MIB - 1, 3),
                (SIZE - 1, 1),
                (777, SIZE - 777),
            ] {
                let status = client.call(Command::BLOCK_STATUS, flags, range, b"").status;
                let ids: Vec<u32> = status.iter().map(|(id, _)| *id).collect();
                assert_eq!(ids, [1, 2], "{form:?} {range:?}");
                for (_, extents) in status {
                    let total: u64 = extents.iter().map(|extent| extent.length_bytes).sum();
                    assert!((1..=range.1).contains(&total), "{range:?} {extents:?}");
                    assert!((1..=most).contains(&extents.len()), "{extents:?}");
                }
            }
        }
    }
}

/// Everything that was asked is answered, in whatever order, and then the connection ends.
fn assert_all_answered(mut client: RawClient, requests: u64) {
    let mut cookies: Vec<u64> = (0..requests)
        .map(|_| client.answer().expect("an answer").cookie)
        .collect();
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(1..=requests));
    assert_eq!(client.rest(), b"");
}

/// As much as fits into the sockets, since nothing is read meanwhile.
fn ask_much(socket: &Path) -> RawClient {
    let mut client = RawClient::open(socket, "", Form::Structured);
    for number in 0..20 {
        let offset = number * 600_000;
        client.submit(Command::READ, NONE, (offset, 4096), b"");
        client.submit(Command::WRITE, NONE, (offset, 5000), &[9; 5000]);
        client.submit(Command::WRITE_ZEROES, NONE, (offset + 5000, 5000), b"");
        client.submit(Command::FLUSH, NONE, (0, 0), b"");
    }
    client
}

#[test]
fn who_leaves_with_requests_under_way_gets_all_answers_and_loses_no_write() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["cache=writeback", "cache-dirty-age=off"]);
    let image = scratch.path("image");
    let mut polite = ask_much(server.socket());
    polite.submit(Command::DISCONNECT, NONE, (0, 0), b"");
    assert_all_answered(polite, 80);
    // The last client has gone, and the connection ended after what it wrote had been written back.
    assert_eq!(&read_file(&image)[11_400_000..11_405_000], &[9; 5000]);
    let half_closed = ask_much(server.socket());
    half_closed.end_sending();
    assert_all_answered(half_closed, 80);
    let mut broken = ask_much(server.socket());
    broken.send(&[0; 28]);
    assert_all_answered(broken, 80);
}

#[test]
fn regression_a_client_that_sends_everything_before_it_takes_a_reply_is_served() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let mut client = RawClient::open(server.socket(), "", Form::Structured);
    let content = vec![7; MIB as usize];
    assert_eq!(client.write(0, &content).error, 0);
    let mut expected = Vec::new();
    for _ in 0..16 {
        expected.push(client.submit(Command::READ, NONE, (0, MIB), b""));
    }
    // More than sockets hold: they go through only if the server receives while its replies wait.
    for number in 1..=16 {
        let range = (number * MIB, MIB);
        expected.push(client.submit(Command::WRITE, NONE, range, &content));
    }
    while !expected.is_empty() {
        let answer = client.answer().unwrap();
        assert_eq!(answer.error, 0);
        assert!(answer.data.is_empty() || answer.data == content);
        expected.retain(|cookie| *cookie != answer.cookie);
    }
}
