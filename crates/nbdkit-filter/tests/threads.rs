//! The next layer called from threads of the filter's own, in parallel and in other models.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;

use common::{Folder, Server};

/// A client that reads once and stays until its standard input ends.
const READ_AND_STAY: &str = "h.pread(512, 0)\nsys.stdin.read()\nh.shutdown()";

#[test]
fn a_thread_may_linger_in_the_parallel_model_until_finalize() {
    let server = Server::probe("linger", &["--filter=delay", "memory", "1M", "rdelay=5ms"]);
    let mut client = server.client_in_background(READ_AND_STAY);
    server.await_log("probe: lingering read outside");
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
    // A read is in flight most of the time, so finalize met one and waited for it.
    server.await_log("probe: lingering ended: ESHUTDOWN, open=false");
    server.stop_well();
}

#[test]
fn two_connections_linger_each_to_its_own_end() {
    let server = Server::probe("linger", &["memory", "1M"]);
    let mut first = server.client_in_background(READ_AND_STAY);
    server.await_log("probe: lingering read outside");
    for _ in 0..20 {
        server.client("h.pread(512, 0)\nh.shutdown()");
    }
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    let log = server.stop_well();
    let ended = log.matches("probe: lingering ended: ESHUTDOWN").count();
    assert_eq!(ended, 21, "{log}");
}

#[test]
fn a_thread_that_lingers_is_refused_in_other_models() {
    for model in ["probe-model=requests", "probe-model=all-requests"] {
        let server = Server::probe("linger", &["memory", "1M", model]);
        let mut client = server.client_in_background(READ_AND_STAY);
        server.await_log("probe: lingering ended: EBUSY, open=true");
        drop(client.stdin.take());
        assert!(client.wait().unwrap().success());
        server.stop_well();
    }
}

#[test]
fn the_model_of_the_plugin_counts_too() {
    let arguments = ["--filter=noparallel", "memory", "1M", "serialize=requests"];
    let server = Server::probe("linger", &arguments);
    let mut client = server.client_in_background(READ_AND_STAY);
    server.await_log("probe: lingering ended: EBUSY, open=true");
    drop(client.stdin.take());
    assert!(client.wait().unwrap().success());
    let log = server.stop_well();
    assert!(log.contains("probe: ready SerializeRequests"), "{log}");
}

#[test]
fn helpers_of_a_callback_work_in_every_model() {
    for model in [
        "serialize=connections",
        "serialize=all-requests",
        "serialize=requests",
    ] {
        let arguments = ["--filter=noparallel", "pattern", "1M", model];
        let server = Server::probe("helpers", &arguments);
        server.client(CHECK_PATTERN);
        server.stop_well();
    }
    let server = Server::probe("helpers", &["pattern", "1M"]);
    server.client(CHECK_PATTERN);
    server.stop_well();
}

/// The pattern plugin's content: each 8 bytes are their own offset, big-endian.
const CHECK_PATTERN: &str = "\
import struct
for offset in (0, 4096, 1 << 19):
    data = h.pread(65536, offset)
    want = b''.join(struct.pack('>Q', offset + i) for i in range(0, 65536, 8))
    assert data == want
";

/// A helper's write in `finalize` arrives over the delay filter, whose sleep fails there on the
/// connection's own thread.
fn late_write_arrives(extra: &[&str]) {
    let folder = Folder::new();
    let file = folder.file("disk");
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    let path = file.to_str().unwrap();
    let mut arguments = vec!["--filter=delay"];
    let (filters, parameters): (Vec<&str>, Vec<&str>) = extra
        .iter()
        .partition(|argument| argument.starts_with("--"));
    arguments.extend(filters);
    arguments.extend(["file", path, "wdelay=10ms"]);
    arguments.extend(parameters);
    let server = Server::probe("late", &arguments);
    server.client("h.pread(512, 0)\nh.shutdown()");
    let log = server.stop_well();
    for line in [
        "probe: late from here: ESHUTDOWN",
        "probe: late from helper: OK",
        "probe: late flush: OK",
    ] {
        assert!(log.contains(line), "no {line:?} in:\n{log}");
    }
    let content = fs::read(&file).unwrap();
    assert_eq!(
        (&content[..4], &content[512..516]),
        (&[0; 4][..], &b"help"[..])
    );
}

#[test]
fn a_helper_writes_in_finalize_over_delay() {
    late_write_arrives(&[]);
}

#[test]
fn a_helper_writes_in_finalize_over_delay_in_a_serialised_model() {
    late_write_arrives(&["--filter=noparallel", "serialize=all-requests"]);
}
