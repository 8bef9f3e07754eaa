//! Row by row: every call to the next layer that nbdkit could abort on comes back as an error,
//! over plugins that lack this or that, and nbdkit goes on serving.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::Server;

/// What is the same everywhere: requests that are empty or beyond the end.
const ALWAYS_INVALID: &[&str] = &[
    "read-empty",
    "read-past-end",
    "read-overflow",
    "extents-empty",
    "extents-past-end",
    "cache-empty",
    "cache-past-end",
];

/// The same for requests that change something, where writing is possible at all.
const INVALID_IF_WRITABLE: &[&str] = &["write-empty", "write-past-end", "write-overflow"];

/// Runs the probe over a plugin, checks rows, and that nbdkit still reads and ends well.
fn check(arguments: &[&str], rows: &[(&str, &str)]) {
    let server = Server::probe("forbidden", arguments);
    server.client("assert len(h.pread(512, 0)) == 512\nh.shutdown()");
    let log = server.stop_well();
    assert!(log.contains("probe: rows done"), "{log}");
    let always = ALWAYS_INVALID.iter().map(|row| (*row, "EINVAL"));
    for (row, result) in always.chain(rows.iter().copied()) {
        let line = format!("probe: row {row}: {result}\n");
        assert!(log.contains(&line), "{arguments:?}: no {line:?} in:\n{log}");
    }
}

fn writable() -> impl Iterator<Item = (&'static str, &'static str)> {
    INVALID_IF_WRITABLE.iter().map(|row| (*row, "EINVAL"))
}

const ALL_WORKS: &[(&str, &str)] = &[
    ("read", "OK"),
    ("write", "OK"),
    ("write-fua", "OK"),
    ("flush", "OK"),
    ("trim", "OK"),
    ("trim-fua", "OK"),
    ("trim-empty", "EINVAL"),
    ("trim-past-end", "EINVAL"),
    ("zero", "OK"),
    ("zero-fua", "OK"),
    ("zero-fast", "OK"),
    ("zero-empty", "EINVAL"),
    ("zero-past-end", "EINVAL"),
    ("extents", "OK"),
    ("cache", "OK"),
];

const READ_ONLY: &[(&str, &str)] = &[
    ("read", "OK"),
    ("write", "EROFS"),
    ("write-fua", "EROFS"),
    ("write-empty", "EROFS"),
    ("write-past-end", "EROFS"),
    ("trim", "EROFS"),
    ("trim-fua", "EROFS"),
    ("zero", "EROFS"),
    ("zero-fua", "EROFS"),
    ("zero-fast", "EROFS"),
];

#[test]
fn memory_can_do_everything() {
    let rows: Vec<_> = ALL_WORKS.iter().copied().chain(writable()).collect();
    check(&["memory", "1M"], &rows);
}

#[test]
fn null_can_do_everything() {
    let rows: Vec<_> = ALL_WORKS.iter().copied().chain(writable()).collect();
    check(&["null", "1M"], &rows);
}

#[test]
fn pattern_is_read_only_and_lacks_flush_and_extents() {
    let lacks = [("flush", "EOPNOTSUPP"), ("extents", "EOPNOTSUPP")];
    let rows: Vec<_> = READ_ONLY.iter().copied().chain(lacks).collect();
    check(&["pattern", "1M"], &rows);
}

#[test]
fn a_read_only_connection_to_memory() {
    check(&["-r", "memory", "1M"], READ_ONLY);
}

#[test]
fn a_plugin_that_can_only_read_and_write() {
    // nbdkit emulates zeroing and caching. Writing is all the rest there is.
    let lacks = [
        ("read", "OK"),
        ("write", "OK"),
        ("write-fua", "EOPNOTSUPP"),
        ("flush", "EOPNOTSUPP"),
        ("trim", "EOPNOTSUPP"),
        ("trim-fua", "EOPNOTSUPP"),
        ("zero", "OK"),
        ("zero-fua", "EOPNOTSUPP"),
        ("extents", "EOPNOTSUPP"),
    ];
    let rows: Vec<_> = lacks.into_iter().chain(writable()).collect();
    check(
        &[
            "eval",
            "get_size=echo 1M",
            "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
            "pwrite=cat >/dev/null",
        ],
        &rows,
    );
}

#[test]
fn a_plugin_with_flush_but_no_fast_zero() {
    let rows = [
        ("write-fua", "OK"),
        ("flush", "OK"),
        ("trim", "EOPNOTSUPP"),
        ("zero", "OK"),
        ("zero-fua", "OK"),
        ("zero-fast", "EOPNOTSUPP"),
    ];
    check(
        &[
            "eval",
            "get_size=echo 1M",
            "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
            "pwrite=cat >/dev/null",
            "flush=exit 0",
            "zero=exit 0",
            "can_fast_zero=exit 3",
        ],
        &rows,
    );
}

#[test]
fn a_layer_below_without_zero_and_cache() {
    let server_rows = [("zero", "EOPNOTSUPP"), ("cache", "EOPNOTSUPP")];
    check(
        &[
            "--filter=nozero",
            "--filter=nocache",
            "memory",
            "1M",
            "cachemode=none",
        ],
        &server_rows,
    );
}

#[test]
fn a_client_is_refused_what_the_filter_promised_in_vain() {
    // The filter tells the client that writing works; each request then meets the check.
    let server = Server::probe("wrong:can-write", &["pattern", "1M"]);
    server.client("fails(errno.EPERM, lambda: h.pwrite(b'x' * 512, 0))\nh.pread(512, 0)");
    let log = server.stop_well();
    assert!(log.contains("pwrite: the next layer is read-only"), "{log}");
}
