//! The HTTP origin against a server that a test scripts: right answers, wrong ones, and none.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod http_support;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http_support::{ETAG, Opener, Reply, Request, Server, answer, content, part, read};

/// A server that answers rightly except where `script` has something else to say.
fn server_with(script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Server {
    let bytes = content(100_000);
    Server::start(move |request| {
        script(request).unwrap_or_else(|| Reply::Send(part(request, &bytes, ETAG)))
    })
}

#[test]
fn reads_are_the_ranges_asked_for_on_one_connection() {
    let server = server_with(|request| {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert!(request.header("user-agent").unwrap().starts_with("larder/"));
        None
    });
    let opener = Opener::new();
    let origin = opener.origin(&server.url("/disk"));
    assert_eq!(origin.size(), 100_000);
    let capabilities = origin.capabilities();
    assert!(
        capabilities.parallel
            && capabilities.multi_conn
            && !capabilities.write
            && !capabilities.extents
    );
    for (offset, length) in [
        (0, 1),
        (99_999, 1),
        (0, 100_000),
        (4096, 4096),
        (777, 12_345),
    ] {
        let bytes = read(&*origin, offset, length).unwrap();
        assert_eq!(bytes, content(100_000)[offset as usize..][..length]);
    }
    assert!(read(&*origin, 5, 0).unwrap().is_empty());
    assert!(read(&*origin, 99_999, 2).is_err());
    assert!(origin.write(0, b"x", false).is_err());
    assert_eq!((server.connections(), server.requests()), (1, 6));
    assert!(opener.log.messages().is_empty());
}

#[test]
fn many_reads_run_at_once_and_their_connections_are_used_again() {
    const THREADS: usize = 16;
    let arrived = Arc::new((Mutex::new(0), Condvar::new()));
    let meeting = Arc::clone(&arrived);
    let server = server_with(move |request| {
        if request.range() == (1, 1) {
            let (count, all) = &*meeting;
            let mut count = count.lock().unwrap();
            *count += 1;
            all.notify_all();
            let wait =
                all.wait_timeout_while(count, Duration::from_secs(10), |count| *count < THREADS);
            assert!(
                !wait.unwrap().1.timed_out(),
                "the reads came one after the other"
            );
        }
        None
    });
    let opener = Opener::new();
    let origin = opener.origin(&server.url("/disk"));
    let expected = content(100_000);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (origin, expected) = (&origin, &expected);
            scope.spawn(move || {
                assert_eq!(read(&**origin, 1, 1).unwrap(), expected[1..2]);
                for turn in 0..50 {
                    let offset = 2 + (thread * 50 + turn) * 100;
                    assert_eq!(
                        read(&**origin, offset as u64, 100).unwrap(),
                        expected[offset..][..100]
                    );
                }
            });
        }
    });
    assert!(
        server.connections() <= THREADS,
        "{} connections",
        server.connections()
    );
}

#[test]
fn a_server_gets_64_requests_at_a_time_and_no_more() {
    const THREADS: usize = 100;
    const AT_MOST: usize = 64;
    let gate = Arc::new((Mutex::new((0, false)), Condvar::new()));
    let at_server = Arc::clone(&gate);
    let server = server_with(move |request| {
        if request.number > 0 {
            let (state, changed) = &*at_server;
            let mut state = state.lock().unwrap();
            state.0 += 1;
            changed.notify_all();
            drop(changed.wait_while(state, |(_, is_open)| !*is_open).unwrap());
        }
        None
    });
    let origin = Opener::new().origin(&server.url("/disk"));
    let expected = content(100_000);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (origin, expected) = (&origin, &expected);
            scope.spawn(move || {
                let offset = thread * 100;
                let bytes = read(&**origin, offset as u64, 100).unwrap();
                assert_eq!(bytes, expected[offset..][..100]);
            });
        }
        let (state, changed) = &*gate;
        let patience = Duration::from_secs(5);
        let wait = |count: usize, patience| {
            let state = state.lock().unwrap();
            let waited = changed.wait_timeout_while(state, patience, |state| state.0 < count);
            waited.unwrap().0.0
        };
        assert_eq!(wait(AT_MOST, patience), AT_MOST);
        // One more would come at once.
        assert_eq!(wait(AT_MOST + 1, patience / 10), AT_MOST);
        state.lock().unwrap().1 = true;
        changed.notify_all();
    });
    assert!(server.connections() <= AT_MOST, "{}", server.connections());
}

#[test]
fn a_server_that_takes_its_time_for_each_answer_is_read() {
    let timeout = Duration::from_secs(5);
    // More than what is waited for on a connection that may be dead.
    let server = server_with(move |_| {
        thread::sleep(timeout * 9 / 20);
        None
    });
    let origin = Opener::new().timeout(timeout).origin(&server.url("/disk"));
    for offset in [0, 500] {
        let bytes = read(&*origin, offset, 100).unwrap();
        assert_eq!(bytes, content(100_000)[offset as usize..][..100]);
    }
}

#[test]
fn a_server_that_takes_its_time_between_header_and_body_is_read() {
    let timeout = Duration::from_secs(5);
    let server = server_with(move |request| {
        let mut header = part(request, &content(100_000), ETAG);
        let (first, last) = request.range();
        let body = header.split_off(header.len() - (last + 1 - first));
        Some(Reply::SendInTwo(header, timeout * 9 / 20, body))
    });
    let origin = Opener::new().timeout(timeout).origin(&server.url("/disk"));
    for offset in [0, 500] {
        let bytes = read(&*origin, offset, 100).unwrap();
        assert_eq!(bytes, content(100_000)[offset as usize..][..100]);
    }
    // Nothing is asked for in vain first.
    assert_eq!(server.requests(), 3);
}

#[test]
fn an_empty_object_has_size_0() {
    for empty in [
        answer(
            "416 Range Not Satisfiable",
            &[("Content-Range", "bytes */0")],
            b"no",
        ),
        answer("200 OK", &[], b""),
    ] {
        let server = Server::start(move |_| Reply::Send(empty.clone()));
        let opener = Opener::new();
        assert_eq!(opener.origin(&server.url("/empty")).size(), 0);
        assert!(opener.log.messages().is_empty());
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_a_sentence() {
    let range = |range: &str, more: (&str, &str)| {
        answer(
            "206 Partial Content",
            &[("Content-Range", range), more],
            b"x",
        )
    };
    for (reply, expected) in [
        (
            answer("200 OK", &[], b"all of it"),
            "does not support range requests",
        ),
        (
            range("bytes 0-0/*", ETAG),
            "does not tell the object's size",
        ),
        (
            range("bytes 0-0/9223372036854775808", ETAG),
            "larger than any disk",
        ),
        (
            range("bytes 1-1/9", ETAG),
            "another range than was asked for (1-1 instead of 0-0)",
        ),
        (
            range("chars 0-0/9", ETAG),
            "without a Content-Range that can be read",
        ),
        (
            range("bytes 0-0/9", ("Content-Encoding", "gzip")),
            "content encoding",
        ),
        (
            answer(
                "206 Partial Content",
                &[("Content-Range", "bytes 0-0/9")],
                b"xy",
            ),
            "announced 2 bytes for a range of 1",
        ),
        (
            answer("416 Range Not Satisfiable", &[], b""),
            "416 Range Not Satisfiable",
        ),
        (
            answer("401 Unauthorized", &[], b""),
            "401 Unauthorized (it wants a user and a password",
        ),
        (
            answer("403 Forbidden", &[], b""),
            "the server answered 403 Forbidden",
        ),
        (
            answer("404 Not Found", &[], b"gone"),
            "the server answered 404 Not Found",
        ),
        (
            answer("503 Service Unavailable", &[], b""),
            "the server answered 503 Service Unavailable",
        ),
        (
            answer("304 Not Modified", &[], b""),
            "the server answered 304 Not Modified",
        ),
        (
            answer("302 Found", &[], b""),
            "a redirect without an address",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not an HTTP answer"),
        (Vec::new(), "closed the connection early"),
    ] {
        let server = Server::start(move |_| Reply::SendAndClose(reply.clone()));
        let opener = Opener::new();
        let url = server.url("/disk");
        let error = opener.refused(&url);
        assert!(
            error.starts_with(&url) && error.contains(expected) && !error.contains('\n'),
            "{error}"
        );
        assert_eq!(server.requests(), 1, "{error}");
    }
}

#[test]
fn nobody_there_is_told_at_once() {
    // No test gets a port that low.
    let error = Opener::new().refused("http://127.0.0.1:1/disk");
    assert_eq!(error, "http://127.0.0.1:1/disk: connection refused");
}

/// Wrong answers to a request for 10 to 19, which are right the next time.
fn passing_failures() -> Vec<(&'static str, Reply)> {
    let right =
        |headers: &[(&str, &str)]| answer("206 Partial Content", headers, &content(1000)[10..20]);
    let range = ("Content-Range", "bytes 10-19/1000");
    let cut = |bytes: Vec<u8>, at: usize| Reply::SendAndClose(bytes[..bytes.len() - at].to_vec());
    vec![
        (
            "500",
            Reply::Send(answer("500 Internal Server Error", &[], b"oh")),
        ),
        (
            "502",
            Reply::SendAndClose(answer("502 Bad Gateway", &[], b"")),
        ),
        ("408", Reply::Send(answer("408 Request Timeout", &[], b""))),
        (
            "429",
            Reply::Send(answer(
                "429 Too Many Requests",
                &[("Retry-After", "0")],
                b"",
            )),
        ),
        ("closed", Reply::SendAndClose(Vec::new())),
        (
            "half a header",
            Reply::SendAndClose(b"HTTP/1.1 206 Part".to_vec()),
        ),
        ("half a body", cut(right(&[range, ETAG]), 5)),
        (
            "another range",
            Reply::Send(right(&[("Content-Range", "bytes 20-29/1000"), ETAG])),
        ),
        (
            "a shorter range",
            Reply::Send(answer(
                "206 Partial Content",
                &[("Content-Range", "bytes 10-14/1000"), ETAG],
                b"12345",
            )),
        ),
        (
            "gzip",
            Reply::Send(right(&[range, ETAG, ("Content-Encoding", "gzip")])),
        ),
        ("no range", Reply::Send(right(&[ETAG]))),
        (
            "no size",
            Reply::Send(right(&[("Content-Range", "bytes 10-19/*"), ETAG])),
        ),
        (
            "all of it",
            Reply::Send(answer("200 OK", &[ETAG], &content(1000))),
        ),
        (
            "refused range",
            Reply::Send(answer(
                "416 Range Not Satisfiable",
                &[("Content-Range", "bytes */1000"), ETAG],
                b"",
            )),
        ),
        ("noise", Reply::SendAndClose(vec![0xFF; 3000])),
    ]
}

/// Answers that do not tell which object they are of.
fn answers_of_nobody() -> Vec<(&'static str, Reply)> {
    let range = ("Content-Range", "bytes 10-19/1000");
    vec![
        (
            "somebody else's page",
            Reply::Send(answer("200 OK", &[("Server", "gateway")], b"log in")),
        ),
        (
            "412",
            Reply::Send(answer("412 Precondition Failed", &[], b"")),
        ),
        (
            "no validator",
            Reply::Send(answer(
                "206 Partial Content",
                &[range],
                &content(1000)[10..20],
            )),
        ),
        (
            "refused range without a size",
            Reply::Send(answer("416 Range Not Satisfiable", &[], b"")),
        ),
        (
            "refused range of nobody knows what",
            Reply::Send(answer(
                "416 Range Not Satisfiable",
                &[("Content-Range", "bytes */1000")],
                b"",
            )),
        ),
    ]
}

#[test]
fn what_may_pass_is_tried_again() {
    for (name, reply) in passing_failures().into_iter().chain(answers_of_nobody()) {
        let reply = Mutex::new(Some(reply));
        let server = Server::start(move |request| {
            let own = (request.number == 1)
                .then(|| reply.lock().unwrap().take())
                .flatten();
            own.unwrap_or_else(|| Reply::Send(part(request, &content(1000), ETAG)))
        });
        let origin = Opener::new().origin(&server.url("/disk"));
        let bytes = read(&*origin, 10, 10).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bytes, content(1000)[10..20], "{name}");
        assert_eq!(server.requests(), 3, "{name}");
    }
}

#[test]
fn a_read_goes_on_where_the_last_attempt_ended() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let server = server_with(move |request| {
        seen.lock().unwrap().push(request.range());
        let bytes = part(request, &content(100_000), ETAG);
        let (first, last) = request.range();
        // All but the last 10000 bytes of what is asked for.
        (last - first > 20_000).then(|| Reply::SendAndClose(bytes[..bytes.len() - 10_000].to_vec()))
    });
    let origin = Opener::new().origin(&server.url("/disk"));
    assert_eq!(
        read(&*origin, 1000, 50_000).unwrap(),
        content(100_000)[1000..51_000]
    );
    assert_eq!(
        *asked.lock().unwrap(),
        [(0, 0), (1000, 50_999), (41_000, 50_999)]
    );
}

#[test]
fn an_idle_connection_that_was_closed_hurts_nobody() {
    let server = server_with(|request| {
        // The connection takes one request, and the next finds it closed.
        (request.number == 1).then(|| Reply::SendAndClose(Vec::new()))
    });
    let opener = Opener::new();
    let origin = opener.origin(&server.url("/disk"));
    read(&*origin, 0, 100).unwrap();
    assert_eq!((server.connections(), server.requests()), (2, 3));
    // A pause would have been told.
    assert_eq!(opener.log.all(), [""; 0]);
}

#[test]
fn idle_connections_that_went_silent_cost_one_wait() {
    const THREADS: usize = 8;
    let arrived = Arc::new((Mutex::new(0), Condvar::new()));
    let silent = Arc::new(AtomicUsize::new(0));
    let (meeting, dead) = (Arc::clone(&arrived), Arc::clone(&silent));
    let server = server_with(move |request| {
        if request.connection < dead.load(Ordering::SeqCst) {
            let begun = part(request, &content(100_000), ETAG)[..150].to_vec();
            return Some(Reply::SendAndHang(begun));
        }
        if request.range() == (1, 1) {
            // All at once, so that each has a connection.
            let (count, all) = &*meeting;
            let mut count = count.lock().unwrap();
            *count += 1;
            all.notify_all();
            drop(all.wait_while(count, |count| *count < THREADS).unwrap());
        }
        None
    });
    let origin = Opener::new()
        .timeout(Duration::from_secs(3))
        .origin(&server.url("/disk"));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| read(&*origin, 1, 1).unwrap());
        }
    });
    silent.store(server.connections(), Ordering::SeqCst);
    assert!(server.connections() >= THREADS);
    // Longer than what comes of it.
    assert_eq!(read(&*origin, 5, 500).unwrap(), content(100_000)[5..505]);
}

#[test]
fn refusals_are_errors_at_once() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "410 Gone",
    ] {
        let server = server_with(move |request| {
            (request.number > 0).then(|| Reply::Send(answer(status, &[], b"no")))
        });
        let origin = Opener::new().origin(&server.url("/disk"));
        let error = read(&*origin, 0, 100).unwrap_err().to_string();
        assert!(error.contains(status), "{error}");
        assert_eq!(server.requests(), 2);
    }
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let server = server_with(|request| {
        let busy = answer("503 Service Unavailable", &[("Retry-After", "1")], b"");
        matches!(request.number, 1 | 2).then(|| Reply::Send(busy))
    });
    let opener = Opener::new();
    let origin = opener.origin(&server.url("/disk"));
    let begun = Instant::now();
    read(&*origin, 0, 100).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let log = opener.log.messages();
    let told = [
        "503 Service Unavailable; trying again for up to 20s",
        "answers again",
    ];
    assert!(
        log.len() == 2 && log[0].contains(told[0]) && log[1].contains(told[1]),
        "{log:?}"
    );
}

#[test]
fn errors_come_after_the_deadline_and_soon() {
    let timeout = Duration::from_millis(1500);
    for reply in [
        None,
        Some(answer("503 Service Unavailable", &[], b"")),
        Some(answer(
            "503 Service Unavailable",
            &[("Retry-After", "3600")],
            b"",
        )),
        Some(Vec::new()),
    ] {
        let server = server_with(move |request| {
            (request.number > 0).then(|| match &reply {
                None => Reply::SendAndHang(part(request, &content(100_000), ETAG)[..120].to_vec()),
                Some(bytes) => Reply::SendAndClose(bytes.clone()),
            })
        });
        let origin = Opener::new().timeout(timeout).origin(&server.url("/disk"));
        let begun = Instant::now();
        let error = read(&*origin, 0, 1000).unwrap_err();
        let took = begun.elapsed();
        // Nobody asks for less then, which would take as long again.
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("tried for 1.5s"), "{error}");
        let late = timeout * 3;
        assert!(took >= timeout && took < late, "{took:?}: {error}");
        assert!(!error.to_string().contains("no time left"), "{error}");
        assert!(server.requests() > 2, "{error}");
    }
}

#[test]
fn a_server_that_hangs_once_is_asked_again_within_the_deadline() {
    let server =
        server_with(|request| (request.number == 1).then(|| Reply::SendAndHang(Vec::new())));
    let origin = Opener::new()
        .timeout(Duration::from_secs(3))
        .origin(&server.url("/disk"));
    let begun = Instant::now();
    assert_eq!(read(&*origin, 7, 100).unwrap(), content(100_000)[7..107]);
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn chunked_answers_are_read() {
    let server = Server::start(|request| {
        let (first, last) = request.range();
        let bytes = &content(1000)[first..=last];
        let mut reply = format!(
            "HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\nETag: \"one\"\r\nContent-Range: bytes {first}-{last}/1000\r\n\r\n"
        )
        .into_bytes();
        for chunk in bytes.chunks(7) {
            reply.extend(format!("{:x}\r\n", chunk.len()).bytes());
            reply.extend(chunk);
            reply.extend(b"\r\n");
        }
        // One byte too many.
        if (first, last) == (500, 509) && request.number == 2 {
            reply.extend(b"1\r\nx\r\n");
        }
        reply.extend(b"0\r\n\r\n");
        Reply::Send(reply)
    });
    let origin = Opener::new().origin(&server.url("/disk"));
    assert_eq!(read(&*origin, 3, 100).unwrap(), content(1000)[3..103]);
    assert_eq!(read(&*origin, 500, 10).unwrap(), content(1000)[500..510]);
    // One for the open, the read and the one with too much; it is not used again after that.
    assert_eq!((server.connections(), server.requests()), (2, 4));
}

#[test]
fn noise_never_panics_and_is_never_taken_for_data() {
    let state = AtomicUsize::new(1);
    let random = move |below: usize| {
        let next = |state: usize| {
            Some(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407),
            )
        };
        let state = state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next)
            .unwrap();
        (state >> 33) % below
    };
    let damage = Arc::new(AtomicBool::new(false));
    let damaging = Arc::clone(&damage);
    let server = Server::start(move |request| {
        let mut bytes = part(request, &content(1000), ETAG);
        let (first, last) = request.range();
        if damaging.load(Ordering::SeqCst) {
            // The body stays right, or its damage could not be told from data.
            let header = bytes.len() - (last - first + 1);
            for _ in 0..=random(3) {
                match random(4) {
                    0 => bytes[random(header)] = random(256) as u8,
                    1 => {
                        bytes.remove(random(header - 8));
                    }
                    2 => bytes.insert(random(header), random(256) as u8),
                    _ => bytes.truncate(1 + random(header)),
                }
                if bytes.len() < header + 3 {
                    break;
                }
            }
        }
        Reply::SendAndClose(bytes)
    });
    let mut right = 0;
    for turn in 0..40 {
        damage.store(false, Ordering::SeqCst);
        // So little time that a busy machine may not answer in it.
        let opener = Opener::new().timeout(Duration::from_millis(200));
        let source = (0..100).find_map(|_| opener.source(&server.url("/disk")).ok());
        let origin = source.expect("the server answers").connect().unwrap();
        damage.store(true, Ordering::SeqCst);
        if let Ok(bytes) = read(&*origin, turn, 100) {
            assert_eq!(bytes, content(1000)[turn as usize..][..100]);
            right += 1;
        }
    }
    assert!(right > 0 && right < 40, "{right}");
}
