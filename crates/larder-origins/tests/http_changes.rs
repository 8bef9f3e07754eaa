//! The HTTP origin and objects that change, or whose server does not tell.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod http_support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_support::{ETAG, Opener, Reply, Server, answer, content, part, read};

/// Opens, reads, changes the object, and reads again.
fn after_change(before: (&'static str, &'static str), after: Vec<u8>) -> (io::Error, Vec<String>) {
    let server = Server::start(move |request| {
        Reply::Send(match request.number {
            // The object is back at last, which changes nothing any more.
            0 | 1 | 3 => part(request, &content(1000), before),
            _ => after.clone(),
        })
    });
    let opener = Opener::new();
    let origin = opener.origin(&server.url("/disk"));
    assert_eq!(read(&*origin, 10, 10).unwrap(), content(1000)[10..20]);
    let error = read(&*origin, 10, 10).unwrap_err();
    let again = read(&*origin, 20, 10).unwrap_err();
    assert_eq!(error.to_string(), again.to_string());
    assert_eq!(server.requests(), 3, "{error}");
    (error, opener.log.messages())
}

fn is_told_of(before: (&'static str, &'static str), after: Vec<u8>, expected: &str) {
    let (error, log) = after_change(before, after);
    let text = error.to_string();
    assert!(
        text.contains("has changed at the server") && text.contains(expected),
        "{text}"
    );
    let errors = log.iter().filter(|text| text.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{log:?}");
}

#[test]
fn a_change_at_the_server_ends_all_reading() {
    let time = ("Last-Modified", "Fri, 01 Aug 2025 10:00:00 GMT");
    let later = ("Last-Modified", "Fri, 01 Aug 2025 10:00:01 GMT");
    let sent = |headers: &[(&str, &str)]| answer("206 Partial Content", headers, &[7; 10]);
    let range = ("Content-Range", "bytes 10-19/1000");
    for (before, after, expected) in [
        (
            ETAG,
            sent(&[range, ("ETag", "\"two\"")]),
            "ETag was \"one\", is now \"two\"",
        ),
        (
            ETAG,
            sent(&[range, ("ETag", "W/\"one\"")]),
            "ETag was \"one\", is now W/\"one\"",
        ),
        (
            time,
            sent(&[range, later]),
            "10:00:00 GMT, is now Fri, 01 Aug 2025 10:00:01 GMT",
        ),
        (
            ETAG,
            sent(&[("Content-Range", "bytes 10-19/1001"), ETAG]),
            "its size was 1000 bytes, is now 1001",
        ),
        (
            ETAG,
            answer("200 OK", &[("ETag", "\"two\"")], b"other"),
            "is now \"two\"",
        ),
        (
            ETAG,
            answer("200 OK", &[ETAG], b"other"),
            "its size was 1000 bytes, is now 5",
        ),
        (
            ETAG,
            answer(
                "416 Range Not Satisfiable",
                &[("Content-Range", "bytes */5"), ETAG],
                b"",
            ),
            "is now 5",
        ),
        (
            ("X-No", "validator"),
            sent(&[("Content-Range", "bytes 10-19/999")]),
            "is now 999",
        ),
    ] {
        is_told_of(before, after, expected);
    }
}

#[test]
fn a_weak_etag_and_the_time_beside_it_must_both_stay() {
    let before = "W/\"one\"\r\nLast-Modified: Fri, 01 Aug 2025 10:00:00 GMT";
    for (etag, time, expected) in [
        (
            "W/\"two\"",
            "Fri, 01 Aug 2025 10:00:00 GMT",
            "ETag was W/\"one\", is now W/\"two\"",
        ),
        (
            "W/\"one\"",
            "Fri, 01 Aug 2025 10:00:01 GMT",
            "10:00:00 GMT, is now Fri, 01 Aug 2025 10:00:01 GMT",
        ),
    ] {
        let headers = [
            ("Content-Range", "bytes 10-19/1000"),
            ("ETag", etag),
            ("Last-Modified", time),
        ];
        let after = answer("206 Partial Content", &headers, &[7; 10]);
        is_told_of(("ETag", before), after, expected);
    }
}

#[test]
fn a_server_without_good_validators_is_warned_of_once() {
    let just_now = "Fri, 01 Aug 2025 10:00:00 GMT\r\nDate: Fri, 01 Aug 2025 10:00:01 GMT";
    for (validator, expected) in [
        (("ETag", "W/\"one\""), "weak ETag"),
        (
            ("Last-Modified", just_now),
            "10:00:00 GMT (not known to be over a second old: another change may look the same): only",
        ),
        (("X-No", "validator"), "no ETag"),
    ] {
        let server =
            Server::start(move |request| Reply::Send(part(request, &content(1000), validator)));
        let opener = Opener::new();
        let origin = opener.origin(&server.url("/disk"));
        for offset in 0..5 {
            read(&*origin, offset, 10).unwrap();
        }
        let log = opener.log.messages();
        assert!(
            log.len() == 1 && log[0].starts_with("warning: ") && log[0].contains(expected),
            "{log:?}"
        );
    }
}

#[test]
fn answers_that_do_not_tell_whose_they_are_end_with_the_deadline_and_not_for_good() {
    let is_away = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&is_away);
    let server = Server::start(move |request| {
        let page = match request.number % 2 {
            0 => answer("200 OK", &[("Server", "gateway")], b"log in"),
            _ => answer("412 Precondition Failed", &[], b""),
        };
        Reply::Send(match state.load(Ordering::SeqCst) {
            true => page,
            false => part(request, &content(1000), ETAG),
        })
    });
    let timeout = Duration::from_secs(1);
    let origin = Opener::new().timeout(timeout).origin(&server.url("/disk"));
    is_away.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let error = read(&*origin, 10, 10).unwrap_err();
    assert!(begun.elapsed() >= timeout, "{error}");
    assert!(!error.to_string().contains("has changed"), "{error}");
    is_away.store(false, Ordering::SeqCst);
    assert_eq!(read(&*origin, 10, 10).unwrap(), content(1000)[10..20]);
}
