//! Nobody between client and server can strip TLS, or say something in the open that counts afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostile::raw::{Form, RawClient, opening};
use hostile::spoilt::{Tally, Victim};
use hostile::tls::{start_tls, trusting};
use larder_e2e::{Certificates, Larder, MIB, Scratch, Server, random_file, read_file, sparse_file};
use nbd_wire::{
    Command, CommandFlags, ExportRequest, MetaRequest, OptionCode, OptionHeader, ReplyType,
};
use rustls::ClientConfig;

fn serve(scratch: &Scratch, policy: &str) -> Server {
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    start(scratch, &image, &[&format!("tls={policy}")]).0
}

/// A server with TLS over that image, and clients that trust it.
fn start(scratch: &Scratch, image: &Path, parameters: &[&str]) -> (Server, Arc<ClientConfig>) {
    let certificates = Certificates::make(scratch, "certificates");
    let directory = certificates.directory().display().to_string();
    let server = Larder::serve(scratch)
        .origin(format!("disk={}", image.display()))
        .parameter(&format!("tls-certificates={directory}"))
        .parameters(parameters)
        .start();
    (server, trusting(&certificates.file("ca-cert.pem")))
}

#[test]
fn nothing_is_had_without_tls_where_it_is_required() {
    let scratch = Scratch::new();
    let server = serve(&scratch, "require");
    let mut client = RawClient::greet(server.socket());
    for code in [3, 6, 7, 8, 9, 10, 11, 99].map(OptionCode) {
        let reply = client.last_reply(code, b"");
        assert_eq!(reply, ReplyType::ERR_TLS_REQD, "{code:?}");
    }
    let reply = client.last_reply(OptionCode::STARTTLS, b"x");
    assert_eq!(reply, ReplyType::ERR_INVALID);
    assert_eq!(client.last_reply(OptionCode::ABORT, b""), ReplyType::ACK);
    assert_eq!(client.rest(), b"");
    let mut client = RawClient::greet(server.socket());
    client.send(&OptionHeader::encode(OptionCode::EXPORT_NAME, b""));
    assert_eq!(client.rest(), b"");
}

#[test]
fn what_is_slipped_in_behind_starttls_is_no_option() {
    let scratch = Scratch::new();
    for (number, policy) in ["on", "require"].into_iter().enumerate() {
        let scratch = Scratch::under(&scratch.make_dir(&number.to_string()));
        let server = serve(&scratch, policy);
        let start = OptionHeader::encode(OptionCode::STARTTLS, b"");
        for form in Form::ALL {
            let mut client = RawClient::greet(server.socket());
            // In one piece, so that it has been received before TLS begins.
            client.send(&[start.clone(), opening("", form)].concat());
            let heard = client.rest();
            // The acknowledgement, and perhaps an alert; nothing that tells of an export.
            assert_eq!(
                heard[..20],
                *b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x05\0\0\0\x01\0\0\0\0"
            );
            let rest = &heard[20..];
            let is_alert = rest.is_empty() || rest[0] == 21;
            assert!(is_alert && rest.len() < 32, "{rest:02x?}");
        }
    }
}

#[test]
fn tls_may_be_left_out_where_it_is_offered_only() {
    let scratch = Scratch::new();
    let server = serve(&scratch, "on");
    let mut client = RawClient::open(server.socket(), "", Form::Structured);
    assert_eq!(client.read(0, 512).data, [0; 512]);
}

#[test]
fn what_was_agreed_on_in_the_open_does_not_count_inside_tls() {
    const EINVAL: u32 = 22;
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let (server, config) = start(&scratch, &image, &["tls=on"]);
    let contexts = MetaRequest {
        export: "disk",
        queries: vec!["base:allocation"],
    };
    let contexts = contexts.encode();
    let go = ExportRequest {
        name: "disk",
        infos: Vec::new(),
    };
    for option in [OptionCode::STRUCTURED_REPLY, OptionCode::EXTENDED_HEADERS] {
        for is_agreed_again in [false, true] {
            let mut client = RawClient::greet(server.socket());
            assert_eq!(client.last_reply(option, b""), ReplyType::ACK);
            let chosen = client.last_reply(OptionCode::SET_META_CONTEXT, &contexts);
            assert_eq!(chosen, ReplyType::ACK);
            start_tls(&mut client, &config);
            if is_agreed_again {
                let again = client.last_reply(OptionCode::STRUCTURED_REPLY, b"");
                assert_eq!(again, ReplyType::ACK, "{option:?}");
                client.form = Form::Structured;
            }
            let gone = client.last_reply(OptionCode::GO, &go.encode());
            assert_eq!(gone, ReplyType::ACK);
            let none = CommandFlags::empty();
            let status = client.call(Command::BLOCK_STATUS, none, (0, MIB), b"");
            assert_eq!(status.error, EINVAL, "{option:?}");
            assert_eq!(client.read(0, 512).data, [0; 512]);
        }
    }
    server.stop();
}

#[test]
fn tls_is_started_once() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let (server, config) = start(&scratch, &image, &["tls=require"]);
    let mut client = RawClient::greet(server.socket());
    start_tls(&mut client, &config);
    for _ in 0..2 {
        let again = client.last_reply(OptionCode::STARTTLS, b"");
        assert_eq!(again, ReplyType::ERR_INVALID);
    }
    client.go("disk", Form::Structured);
    assert_eq!(client.read(0, 512).data, [0; 512]);
    server.stop();
}

#[test]
fn spoilt_messages_inside_tls_are_answered() {
    const CONNECTIONS: u64 = 60;
    const MESSAGES_EACH: usize = 40;
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let content = random_file(&image, 16 * MIB, 1);
    let (server, config) = start(&scratch, &image, &["tls=require"]);
    let victim = Victim {
        name: "disk",
        content: &content,
    };
    let mut tally = Tally::default();
    for seed in 0..CONNECTIONS {
        let open = |name: &str, form| {
            let mut client = RawClient::greet(server.socket());
            start_tls(&mut client, &config);
            client.go(name, form);
            client
        };
        tally += victim.send_requests(open, seed, MESSAGES_EACH);
    }
    assert!(tally.done > 200 && tally.refused > 200, "{tally:?}");
    let exit = server.stop();
    assert!(!exit.output.contains("panic"), "{}", exit.output);
    victim.check(0, &read_file(&image));
}

#[test]
fn the_handshakes_deadline_is_that_of_tls_too() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let (server, config) = start(&scratch, &image, &["tls=require", "handshake-timeout=1"]);
    let begin = || {
        let mut client = RawClient::greet(server.socket());
        let reply = client.last_reply(OptionCode::STARTTLS, b"");
        assert_eq!(reply, ReplyType::ACK);
        client
    };
    let silent = begin();
    // A record of a handshake that takes a minute to come.
    let hello = [22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3];
    let slow = hello.into_iter().chain([0; 200]);
    let began = Instant::now();
    assert!(begin().trickle(slow), "it took its time");
    assert!(began.elapsed() >= Duration::from_secs(1), "something else");
    assert_eq!(silent.rest(), b"");
    // Nor may what follows take longer.
    let mut client = RawClient::greet(server.socket());
    start_tls(&mut client, &config);
    assert_eq!(client.rest(), b"");
    server.stop();
}
