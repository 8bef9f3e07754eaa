//! Wrong answers and panics of a filter end a request or a connection, never nbdkit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::{Server, nbdkit_ends, text_of, with_filter};

/// The client reads with the wrong answer in the way, gets `EIO` or what is told, and others are
/// still served.
fn request_fails(mode: &str, script: &str, message: &str) {
    let server = Server::probe(mode, &["memory", "1M"]);
    server.client(script);
    server.client("assert h.get_size() == 1 << 20");
    let log = server.stop_well();
    assert!(log.contains(message), "{mode}: no {message:?} in:\n{log}");
}

/// The client cannot connect, and the server goes on.
fn connection_fails(mode: &str, message: &str) {
    let server = Server::probe(mode, &["memory", "1M"]);
    for _ in 0..2 {
        server.unconnected_client(
            "try: h.connect_uri(uri)\nexcept nbd.Error: pass\nelse: raise Exception('connected')",
        );
    }
    let log = server.stop_well();
    assert!(log.contains(message), "{mode}: no {message:?} in:\n{log}");
}

#[test]
fn an_errno_of_zero_becomes_eio() {
    request_fails(
        "wrong:errno",
        "fails(errno.EIO, lambda: h.pread(512, 0))",
        "",
    );
}

#[test]
fn unsupported_zero_becomes_eio_unless_fast() {
    let script = "fails(errno.EIO, lambda: h.zero(512, 0))\n\
                  fails(errno.ENOTSUP, lambda: h.zero(512, 0, nbd.CMD_FLAG_FAST_ZERO))";
    request_fails("wrong:zero-unsupported", script, "zero: not supported");
}

#[test]
fn a_message_is_logged_as_it_is() {
    let script = "fails(errno.ENOSPC, lambda: h.pread(512, 0))";
    request_fails("wrong:message", script, "100%s full \\0 of %n");
}

#[test]
fn lists_of_extents_that_make_nbdkit_abort() {
    let status = "h.block_status(4096, 8192, lambda *_: 0)";
    for (what, message) in [
        ("none", "the filter told none"),
        ("elsewhere", "one starts at 10240 where 8192 was due"),
        ("before", "one starts at 6144 where 8192 was due"),
        ("empty", "are none or too many"),
        ("gap", "one starts at 10241 where 10240 was due"),
        ("endless", "are none or too many"),
    ] {
        // What was told before the mistake must not reach the client either.
        let call = "h.block_status(4096, 8192, lambda *_: 0)";
        let script =
            format!("try: {call}\nexcept nbd.Error: pass\nelse: raise Exception('worked')");
        request_fails(&format!("wrong:extents-{what}"), &script, message);
    }
    for what in ["beyond", "two-parts"] {
        request_fails(&format!("wrong:extents-{what}"), status, "");
    }
}

#[test]
fn extents_arrive_as_told() {
    let server = Server::probe("wrong:extents-two-parts", &["memory", "1M"]);
    server.client(
        "h.pwrite(b'x' * 65536, 0)\n\
         got = []\n\
         h.block_status(65536, 0, lambda c, o, entries, e: got.extend(entries) or 0)\n\
         assert got == [32768, 2, 32768, 0], got",
    );
    server.stop_well();
}

#[test]
fn sizes_and_constraints_that_nothing_can_have() {
    connection_fails("wrong:size", "18446744073709551615 bytes are too many");
    let server = Server::probe("wrong:block-size", &["memory", "1M"]);
    server.unconnected_client("try: h.connect_uri(uri)\nexcept nbd.Error: pass");
    let log = server.stop_well();
    assert!(
        log.contains("block size 3/2/1: the minimum must be"),
        "{log}"
    );
}

#[test]
fn the_next_layer_is_opened_once_or_not_at_all() {
    connection_fails("wrong:open-twice", "the next layer is open already");
    connection_fails("wrong:open-late-error", "changed my mind");
    let server = Server::probe("wrong:open-readonly", &["memory", "1M"]);
    server.client("assert h.is_read_only()\nh.pread(512, 0)");
    server.stop_well();
}

#[test]
fn regression_a_refusal_to_open_that_the_filter_swallows_refuses_the_client() {
    let server = Server::probe(
        "wrong:open-swallowed",
        &[
            "eval",
            "open=if [ \"$3\" = closed ]; then echo EPERM not this one >&2; exit 1; fi",
            "get_size=echo 1M",
            "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
        ],
    );
    let closed = server.uri_of("closed");
    for _ in 0..2 {
        server.unconnected_client(&format!(
            "try: h.connect_uri({closed:?})\nexcept nbd.Error: pass\n\
             else: raise Exception('connected')",
        ));
        server.client("assert h.pread(512, 0) == bytes(512)");
    }
    let log = server.stop_well();
    assert!(log.contains("not this one"), "{log}");
}

#[test]
fn a_panic_while_serving_is_eio() {
    for (callback, call) in [
        ("pread", "h.pread(512, 0)"),
        ("pwrite", "h.pwrite(b'x' * 512, 0)"),
        ("flush", "h.flush()"),
        ("trim", "h.trim(512, 0)"),
        ("zero", "h.zero(512, 0)"),
        ("cache", "h.cache(512, 0)"),
    ] {
        let script = format!("for _ in range(2): fails(errno.EIO, lambda: {call})");
        let message = format!("{callback}: panic: as told, in {callback}");
        request_fails(&format!("panic:{callback}"), &script, &message);
    }
    let script = "try: h.block_status(512, 0, lambda *_: 0)\n\
                  except nbd.Error: pass\n\
                  else: raise Exception('worked')";
    request_fails("panic:extents", script, "extents: panic: as told");
}

#[test]
fn a_panic_while_connecting_refuses_the_client() {
    for callback in [
        "preconnect",
        "default_export",
        "open",
        "prepare",
        "get_size",
        "can_write",
    ] {
        connection_fails(
            &format!("panic:{callback}"),
            &format!("{callback}: panic: as told, in {callback}"),
        );
    }
}

#[test]
fn a_panic_while_leaving_ends_only_that_connection() {
    for callback in ["finalize", "close"] {
        let server = Server::probe(&format!("panic:{callback}"), &["memory", "1M"]);
        for _ in 0..2 {
            server.client("h.pread(512, 0)\nh.shutdown()");
        }
        let log = server.stop_well();
        assert!(
            log.contains(&format!("{callback}: panic: as told")),
            "{log}"
        );
    }
    for callback in ["cleanup", "unload"] {
        let server = Server::probe(&format!("panic:{callback}"), &["memory", "1M"]);
        let log = server.stop_well();
        assert!(
            log.contains(&format!("{callback}: panic: as told")),
            "{log}"
        );
    }
}

#[test]
fn a_panic_in_the_configuration_is_exit_status_1() {
    for callback in [
        "config",
        "config_complete",
        "thread_model",
        "get_ready",
        "after_fork",
    ] {
        let mode = format!("probe=panic:{callback}");
        let output = nbdkit_ends(&["-U", "-", &with_filter("probe"), "memory", "1M", &mode]);
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let message = format!("{callback}: panic: as told");
        assert!(text.contains(&message), "{text}");
    }
}
