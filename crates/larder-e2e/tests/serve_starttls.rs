//! Nobody between client and server can strip TLS, or say something in the open that counts afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::path::PathBuf;

use hostile::raw::{Form, RawClient, opening};
use larder_e2e::{Larder, MIB, Scratch, Server, run, sparse_file};
use nbd_wire::{OptionCode, OptionHeader, ReplyType};

/// A directory with a certificate that names this machine.
fn certificates(scratch: &Scratch) -> PathBuf {
    let directory = scratch.make_dir("certificates");
    let path = |name: &str| directory.join(name).display().to_string();
    let (key, certificate) = (path("server-key.pem"), path("server-cert.pem"));
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt"];
    let kind = ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let whom = [
        "-subj",
        "/CN=localhost",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ];
    run("openssl", new.into_iter().chain(kind).chain(whom));
    directory
}

fn serve(scratch: &Scratch, policy: &str) -> Server {
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let directory = certificates(scratch);
    Larder::serve(scratch)
        .file(&image)
        .parameter(&format!("tls={policy}"))
        .parameter(&format!("tls-certificates={}", directory.display()))
        .start()
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
