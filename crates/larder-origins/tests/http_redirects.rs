//! Redirects, credentials and proxies of the HTTP origin: who gets to see what.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod http_support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http_support::{ETAG, Opener, Reply, Request, Server, answer, content, part, read};

const SIZE: usize = 10_000;

fn object(request: &Request) -> Reply {
    Reply::Send(part(request, &content(SIZE), ETAG))
}

fn redirect(to: &str) -> Reply {
    Reply::Send(answer("302 Found", &[("Location", to)], b"there"))
}

fn forbidden() -> Reply {
    Reply::Send(answer("403 Forbidden", &[], b"expired"))
}

#[test]
fn credentials_reach_the_original_server_only() {
    let seen = |seen: &Arc<Mutex<Vec<String>>>, request: &Request| {
        let value = |name| request.header(name).unwrap_or("-").to_string();
        seen.lock()
            .unwrap()
            .push(format!("{} {}", value("authorization"), value("x-token")));
    };
    let (here, there) = (
        Arc::new(Mutex::new(Vec::new())),
        Arc::new(Mutex::new(Vec::new())),
    );
    let at_target = Arc::clone(&there);
    let target = Server::start(move |request| {
        seen(&at_target, request);
        object(request)
    });
    let onward = target.url("/object");
    let at_original = Arc::clone(&here);
    let original = Server::start(move |request| {
        seen(&at_original, request);
        match request.path.as_str() {
            "/disk" => redirect("/moved"),
            _ => redirect(&onward),
        }
    });
    let mut opener = Opener::new();
    opener
        .options
        .http_headers
        .push(("X-Token".into(), "t0ken".into()));
    let url = original
        .url("/disk")
        .replace("http://", "http://user:pass@");
    let origin = opener.origin(&url);
    assert_eq!(read(&*origin, 5, 50).unwrap(), content(SIZE)[5..55]);
    assert_eq!(
        *here.lock().unwrap(),
        ["Basic dXNlcjpwYXNz t0ken", "Basic dXNlcjpwYXNz t0ken"]
    );
    assert_eq!(*there.lock().unwrap(), ["- -", "- -"]);
}

#[test]
fn no_message_shows_a_secret() {
    let end = Arc::new(AtomicUsize::new(0));
    let phase = Arc::clone(&end);
    let target = Server::start(move |request| match phase.load(Ordering::SeqCst) {
        0 => object(request),
        1 => Reply::SendAndClose(Vec::new()),
        _ => Reply::Send(part(request, &content(SIZE), ("ETag", "\"two\""))),
    });
    let onward = target
        .url("/object?X-Signature=s3cret")
        .replace("http://", "http://a:s3cret@");
    let phase = Arc::clone(&end);
    let original = Server::start(move |_| match phase.load(Ordering::SeqCst) {
        3 => forbidden(),
        _ => redirect(&onward),
    });
    let mut opener = Opener::new().timeout(Duration::from_secs(2));
    opener
        .options
        .http_headers
        .push(("X-Token".into(), "s3cret".into()));
    let url = original
        .url("/disk?key=s3cret")
        .replace("http://", "http://s3cret:s3cret@");
    let source = opener.source(&url).unwrap();
    let origin = source.connect().unwrap();
    let mut texts = vec![format!("{source:?} {:?}", opener.options)];
    texts.push(
        larder_origins::HttpAddress::parse(&url)
            .unwrap()
            .to_string(),
    );
    for turn in [1, 3, 2] {
        end.store(turn, Ordering::SeqCst);
        texts.push(read(&*origin, 0, 10).unwrap_err().to_string());
        texts.push(
            opener
                .source(&url)
                .map_or_else(|error| error.to_string(), |source| format!("{source:?}")),
        );
    }
    texts.extend(opener.log.all());
    assert!(texts.len() >= 9, "{texts:#?}");
    for text in &texts {
        assert!(
            !text.contains("s3cret") && !text.contains("czNjcmV0"),
            "{text}"
        );
    }
    assert!(
        texts
            .iter()
            .any(|text| text.contains("redirected to http://")),
        "{texts:#?}"
    );
}

#[test]
fn where_redirects_led_is_asked_until_it_refuses() {
    let expired = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&expired);
    let target = Server::start(move |request| match request.path.as_str() {
        "/first" if state.load(Ordering::SeqCst) => forbidden(),
        _ => object(request),
    });
    let (first, second) = (target.url("/first"), target.url("/second"));
    let state = Arc::clone(&expired);
    let original = Server::start(move |_| {
        redirect(if state.load(Ordering::SeqCst) {
            &second
        } else {
            &first
        })
    });
    let opener = Opener::new();
    let origin = opener.origin(&original.url("/disk"));
    for offset in 0..5 {
        read(&*origin, offset, 10).unwrap();
    }
    assert_eq!((original.requests(), target.requests()), (1, 6));
    expired.store(true, Ordering::SeqCst);
    for offset in 0..5 {
        assert_eq!(
            read(&*origin, offset, 10).unwrap(),
            content(SIZE)[offset as usize..][..10]
        );
    }
    assert_eq!((original.requests(), target.requests()), (2, 12));
    assert!(
        opener.log.messages().is_empty(),
        "{:?}",
        opener.log.messages()
    );
}

#[test]
fn a_target_that_refuses_is_left() {
    let alone = Arc::new(AtomicBool::new(false));
    let (at_target, at_original) = (Arc::clone(&alone), Arc::clone(&alone));
    let target = Server::start(move |request| match at_target.load(Ordering::SeqCst) {
        true => forbidden(),
        false => object(request),
    });
    let onward = target.url("/disk");
    let original = Server::start(move |request| match at_original.load(Ordering::SeqCst) {
        true => object(request),
        false => redirect(&onward),
    });
    let origin = Opener::new().origin(&original.url("/disk"));
    read(&*origin, 0, 10).unwrap();
    alone.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        read(&*origin, 0, 10).unwrap();
    }
    assert_eq!((original.requests(), target.requests()), (6, 3));
}

#[test]
fn ten_redirects_are_followed_and_no_more() {
    let server = Server::start(|request| {
        let left: usize = request.path[1..].parse().unwrap();
        match left {
            0 => object(request),
            _ => redirect(&format!("{}", left - 1)),
        }
    });
    let origin = Opener::new().origin(&server.url("/10"));
    assert_eq!(read(&*origin, 1, 2).unwrap(), content(SIZE)[1..3]);
    // One connection: what a redirect says besides is read and thrown away.
    assert_eq!(server.connections(), 1);
    let error = Opener::new().refused(&server.url("/11"));
    assert!(error.ends_with("more than 10 redirects"), "{error}");
}

#[test]
fn every_kind_of_redirect_is_followed_and_nothing_else_is() {
    let statuses = [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ];
    let server = Server::start(move |request| {
        let status = statuses
            .iter()
            .find(|status| request.path[1..] == status[..3]);
        match (status, request.path.as_str()) {
            (Some(status), _) => Reply::Send(answer(status, &[("Location", "/disk")], b"there")),
            (None, "/disk") => object(request),
            (None, _) => Reply::Send(answer(
                "300 Multiple Choices",
                &[("Location", "/disk")],
                b"",
            )),
        }
    });
    for status in statuses {
        let origin = Opener::new().origin(&server.url(&format!("/{}", &status[..3])));
        assert_eq!(
            read(&*origin, 5, 50).unwrap(),
            content(SIZE)[5..55],
            "{status}"
        );
    }
    let error = Opener::new().refused(&server.url("/300"));
    assert!(error.contains("300 Multiple Choices"), "{error}");
}

#[test]
fn a_redirect_to_an_object_that_is_another_one_is_a_change() {
    let moved = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&moved);
    let server = Server::start(move |request| match request.path.as_str() {
        "/disk" if state.load(Ordering::SeqCst) => redirect("/new"),
        "/disk" => redirect("/old"),
        "/old" if !state.load(Ordering::SeqCst) => object(request),
        "/new" => Reply::Send(part(request, &content(SIZE), ("ETag", "\"new\""))),
        _ => Reply::Send(answer("404 Not Found", &[], b"")),
    });
    let origin = Opener::new().origin(&server.url("/disk"));
    read(&*origin, 0, 10).unwrap();
    moved.store(true, Ordering::SeqCst);
    let error = read(&*origin, 0, 10).unwrap_err().to_string();
    assert!(
        error.contains("has changed at the server (ETag was \"one\", is now \"new\")"),
        "{error}"
    );
}

/// The environment can only be set for a process: this test runs itself again.
#[test]
fn a_proxy_of_the_environment_is_used() {
    if std::env::var_os("LARDER_TEST_URL").is_some() {
        let origin = Opener::new().origin(&std::env::var("LARDER_TEST_URL").unwrap());
        assert_eq!(read(&*origin, 5, 50).unwrap(), content(SIZE)[5..55]);
        return;
    }
    let server = Server::start(object);
    let port = server.port();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let tunnels = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tunnels);
    thread::spawn(move || {
        for client in proxy.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || tunnel(client.unwrap(), port));
        }
    });
    let run = |no_proxy: &str| {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_proxy_of_the_environment_is_used"])
            .env("LARDER_TEST_URL", format!("http://127.0.0.1:{port}/disk"))
            .env("http_proxy", format!("http://user:pass@{address}"))
            .env("no_proxy", no_proxy)
            .status();
        assert!(status.unwrap().success());
    };
    run("127.0.0.1");
    assert_eq!(tunnels.load(Ordering::SeqCst), 0);
    run("");
    assert_eq!(tunnels.load(Ordering::SeqCst), 1);
}

/// Runs itself again, too.
#[test]
fn a_proxy_that_does_not_connect_is_told_of() {
    if let Ok(url) = std::env::var("LARDER_TEST_URL") {
        let error = Opener::new().refused(&url);
        assert!(error.contains("the proxy does not connect"), "{error}");
        assert!(error.contains("CONNECT, for http, too"), "{error}");
        return;
    }
    let proxy = Server::start(|_| forbidden());
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_proxy_that_does_not_connect_is_told_of"])
        .env("LARDER_TEST_URL", "http://example.com/disk")
        .env("http_proxy", proxy.url(""))
        .env("no_proxy", "")
        .status();
    assert!(status.unwrap().success());
    assert_eq!(proxy.requests(), 1);
}

/// Answers one CONNECT and carries the bytes both ways.
fn tunnel(mut client: TcpStream, port: u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(
        head.starts_with(&format!("CONNECT 127.0.0.1:{port} ")),
        "{head}"
    );
    assert!(
        head.contains("Proxy-Authorization: Basic dXNlcjpwYXNz"),
        "{head}"
    );
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || std::io::copy(&mut from, &mut to));
    let mut server = server;
    let _ = std::io::copy(&mut client, &mut server);
}

#[test]
fn a_slow_server_behind_a_redirect_is_read_each_time() {
    let timeout = Duration::from_secs(3);
    // More than what is waited for on a connection that may be dead.
    let target = Server::start(move |request| {
        thread::sleep(timeout * 9 / 20);
        object(request)
    });
    let onward = target.url("/object");
    let original = Server::start(move |_| redirect(&onward));
    let opener = Opener::new().timeout(timeout);
    let origin = opener.origin(&original.url("/disk"));
    for offset in [0, 500, 1000] {
        let bytes = read(&*origin, offset, 100).unwrap();
        assert_eq!(bytes, content(SIZE)[offset as usize..][..100]);
    }
}

#[test]
fn a_server_that_is_met_late_gets_what_is_left_of_the_time() {
    let timeout = Duration::from_secs(3);
    let target = Server::start(|_| Reply::SendAndHang(Vec::new()));
    let onward = target.url("/object");
    let original = Server::start(move |request| match request.number {
        0 => object(request),
        // Most of the time.
        1 => Reply::Send(answer("503 Busy", &[("Retry-After", "2")], b"")),
        _ => redirect(&onward),
    });
    let opener = Opener::new().timeout(timeout);
    let origin = opener.origin(&original.url("/disk"));
    let begun = Instant::now();
    let error = read(&*origin, 0, 100).unwrap_err();
    let took = begun.elapsed();
    assert!(target.requests() > 0, "{error}");
    // All of it again would be 5 seconds.
    assert!(
        took >= timeout && took < timeout * 3 / 2,
        "{took:?}: {error}"
    );
}
