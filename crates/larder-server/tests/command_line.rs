//! What may be typed on the command line and in a configuration file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;

use rustix::process::Signal;

use common::{Scratch, Server, larder, output, refusal, uri};

#[test]
fn help_and_version_are_given() {
    for (arguments, told) in [
        (&["--help"][..], "Usage: larder <COMMAND>"),
        (&["serve", "--help"], "--cache-max-size <SIZE>"),
        (&["serve", "-h"], "--listen <ADDRESS>"),
        (&["--version"], "larder 0."),
    ] {
        let output = output(arguments);
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(told), "{text}");
        assert!(output.stderr.is_empty());
    }
}

/// What is typed after `larder`, and how the refusal begins.
const WRONG: &[(&[&str], &str)] = &[
    (&[], "what to do is missing: "),
    (
        &["server"],
        "server: there is no such command; did you mean serve?",
    ),
    (&["serve"], "no origin given: "),
    (
        &["serve", "--cache-max-sise=1M", "memory:1M"],
        "--cache-max-sise: there is no such option; did you mean --cache-max-size?",
    ),
    (&["serve", "memory:1M", "-x"], "-x: there is no such option"),
    (
        &["serve", "--listen"],
        "a value is required for '--listen <ADDRESS>'",
    ),
    (
        &["serve", "memory:1M", "--cache=none"],
        "cache=none: must be writeback, writethrough or unsafe",
    ),
    (
        &["serve", "memory:1M", "--cache-min-block-size", "5K"],
        "cache-min-block-size=5K: must be a power of two from 4096 (4K)",
    ),
    (
        &[
            "serve",
            "memory:1M",
            "--cache-max-size=1M",
            "--cache-min-block-size=2M",
        ],
        "cache-max-size=1M: must be at least one block",
    ),
    (
        &["serve", "memory:1M", "--cache-exports=connection"],
        "cache-exports=connection: must be separate here",
    ),
    (
        &["serve", "memory:1M", "--cache-on-read=maybe"],
        "cache-on-read=maybe: must be true, false or a path that begins with /",
    ),
    (
        &["serve", "memory:1M", "--cache-flush=disk"],
        "cache-flush=disk: must be origin or cache",
    ),
    (
        &["serve", "disk", "--cache-flush=cache"],
        "cache-flush=cache: needs cache-dir=PATH, where flushed data is durable",
    ),
    (
        &[
            "serve",
            "disk",
            "--cache-flush=cache",
            "--cache-dir=/c",
            "--cache=writethrough",
        ],
        "cache-flush=cache: needs cache=writeback, not cache=writethrough",
    ),
    (
        &["serve", "memory:1M", "--cache-writeback=yes"],
        "cache-writeback=yes: must be unordered or ordered",
    ),
    (
        &["serve", "disk", "--cache-writeback=ordered"],
        "cache-writeback=ordered: needs cache-flush=cache",
    ),
    (
        &[
            "serve",
            "disk",
            "--cache-flush=cache",
            "--cache-dir=/c",
            "--cache-writeback=ordered",
            "--cache-dirty-share=20",
        ],
        "cache-dirty-share=20: must be left out with cache-writeback=ordered",
    ),
    (
        &["serve", "memory:1M", "--cache-dirty-share=0"],
        "cache-dirty-share=0: must be a whole number of percent, 1 to 100",
    ),
    (
        &["serve", "memory:1M", "--cache-dirty-share=101"],
        "cache-dirty-share=101: must be a whole number of percent, 1 to 100",
    ),
    (
        &["serve", "memory:1M", "--listen=10809"],
        "listen=10809: must be unix:PATH or tcp:HOST:PORT",
    ),
    (
        &["serve", "memory:1M", "--listen=unix:/no/such/socket"],
        "listen=unix:/no/such/socket: No such file or directory",
    ),
    (
        &["serve", "memory:1M", "--socket-mode=rw"],
        "socket-mode=rw: must be permissions in octal",
    ),
    (
        &[
            "serve",
            "memory:1M",
            "--socket-owner=no-such-user",
            "--listen=unix:/x",
        ],
        "socket-owner=no-such-user: there is no such entry in passwd",
    ),
    (
        &["serve", "memory:1M", "--max-connections=0"],
        "max-connections=0: ",
    ),
    (
        &["serve", "memory:1M", "--handshake-timeout=1m"],
        "handshake-timeout=1m: ",
    ),
    (
        &["serve", "memory:1M", "--read-only=perhaps"],
        "read-only=perhaps: ",
    ),
    (
        &["serve", "memory:1M", "--tls=maybe"],
        "tls=maybe: must be off, on or require",
    ),
    (
        &["serve", "memory:1M", "--tls=on"],
        "tls=on: needs tls-certificates=DIR",
    ),
    (
        &["serve", "memory:1M", "--tls-psk=keys"],
        "tls-psk=keys: pre-shared keys are not",
    ),
    (
        &["serve", "memory:1M", "memory:2M"],
        "export \"\": there are two of that name",
    ),
    (
        &["serve", "a=memory:1M", "a=memory:2M"],
        "export \"a\": there are two of that name",
    ),
    (&["serve", "memory:lots"], "memory:lots"),
    (&["serve", "/no/such/disk"], "/no/such/disk"),
    (
        &[
            "serve",
            "memory:1M",
            "--pidfile=/no/such/pid",
            "--listen=tcp:127.0.0.1:0",
        ],
        "pidfile=/no/such/pid: No such file or directory",
    ),
    (
        &["serve", "--config=/no/such.toml"],
        "config=/no/such.toml: No such file",
    ),
];

#[test]
fn what_is_wrong_is_told_in_one_line_before_anything_is_served() {
    for (arguments, told) in WRONG {
        let line = refusal(arguments);
        assert!(line.starts_with(told), "{arguments:?}: {line}");
    }
}

#[test]
fn a_header_that_is_wrong_is_not_shown() {
    let line = refusal(&["serve", "memory:1M", "--http-header=secret"]);
    assert!(
        line.starts_with("http-header: must be 'Name: value'"),
        "{line}"
    );
    assert!(!line.contains("secret"));
}

#[test]
fn where_no_cache_can_be_is_told() {
    let output = larder(&["serve", "memory:1M"])
        .env("TMPDIR", "/no/such")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "larder: cannot make the cache file in /no/such: No such file or directory; \
         TMPDIR must be a directory that can be written\n"
    );
}

#[test]
fn what_is_served_is_told_for_each_export() {
    let (server, lines) = Server::start(
        larder(&[
            "serve",
            "--listen=tcp:127.0.0.1:0",
            "--cache=unsafe",
            "--cache-max-size=3M",
            "-r",
            "memory:1M",
            "b=memory:2M",
        ])
        .env("TMPDIR", "/tmp"),
        2,
    );
    assert!(
        lines[0].starts_with("larder: serving memory:"),
        "{}",
        lines[0]
    );
    let details = "(1.00 MiB, read-only, unsafe, cache at most 3.00 MiB)";
    assert!(lines[0].contains(details), "{}", lines[0]);
    assert!(uri(&lines[0]).starts_with("nbd://127.0.0.1:"));
    assert!(uri(&lines[1]).ends_with("/b"));
    server.stop();
}

#[test]
fn without_a_limit_it_is_told_how_large_the_cache_may_become() {
    let (server, lines) = Server::start(
        larder(&["serve", "--listen=tcp:127.0.0.1:0", "memory:1M"]).env("TMPDIR", "/tmp"),
        1,
    );
    let line = &lines[0];
    assert!(line.contains("cache at most "), "{line}");
    assert!(
        line.contains(": half of what is free in /tmp) at"),
        "{line}"
    );
    server.stop();
}

#[test]
fn a_file_says_what_the_command_line_does_not() {
    let scratch = Scratch::new();
    let config = scratch.text("larder.toml");
    let socket = scratch.text("s");
    let text = format!(
        "cache = \"unsafe\"\ncache-max-size = \"4M\"\nlisten = [\"unix:{socket}\"]\n\
         [[export]]\nname = \"a\"\norigin = \"memory:1M\"\n\
         [[export]]\nname = \"b\"\norigin = \"memory:2M\"\n"
    );
    fs::write(&config, text).unwrap();
    let arguments = ["serve", "--config", &config, "--cache=writethrough"];
    let (server, lines) = Server::start(&mut larder(&arguments), 2);
    assert!(
        lines[0].contains("writethrough, cache at most 4.00 MiB"),
        "{}",
        lines[0]
    );
    assert_eq!(uri(&lines[1]), format!("nbd+unix:///b?socket={socket}"));
    server.stop();
    // Origins of the command line replace the file's.
    let (server, lines) =
        Server::start(&mut larder(&["serve", "--config", &config, "memory:3M"]), 1);
    assert_eq!(uri(&lines[0]), format!("nbd+unix:///?socket={socket}"));
    server.stop();
}

#[test]
fn what_is_wrong_in_a_file_is_told_by_line() {
    let scratch = Scratch::new();
    let config = scratch.text("larder.toml");
    for (text, told) in [
        (
            "origins = [\"memory:1M\"]\ncach = 1\n",
            "line 2: cach: there is no such option; did you mean cache?",
        ),
        (
            "origins = [\"memory:1M\"]\ncache = [1]\n",
            "line 2: cache=[1]: must be a text, a whole number or a boolean",
        ),
        ("origins = [\"memory:1M\"\n", "line "),
        (
            "[[export]]\nname = \"a\"\n",
            "line 1: missing field `origin`",
        ),
    ] {
        fs::write(&config, text).unwrap();
        let line = refusal(&["serve", "--config", &config]);
        assert!(
            line.starts_with(&format!("config={config}: {told}")),
            "{line}"
        );
    }
    fs::write(&config, "origins = [\"memory:1M\"]\ncache-dirty-age = 0\n").unwrap();
    let line = refusal(&["serve", "--config", &config]);
    assert!(
        line.starts_with(&format!(
            "config={config}: cache-dirty-age=0: must be off or"
        )),
        "{line}"
    );
    // What was typed is not the file's.
    let line = refusal(&["serve", "--config", &config, "--cache-dirty-age=none"]);
    assert!(
        line.starts_with("cache-dirty-age=none: must be off or"),
        "{line}"
    );
}

#[test]
fn what_the_command_line_says_wins_over_options_that_the_file_has_for_something_else() {
    let scratch = Scratch::new();
    let config = scratch.text("larder.toml");
    let socket = scratch.text("s");
    let text = format!(
        "origins = \"memory:1M\"\nread-only = true\nverbose = true\ntls = \"require\"\n\
         tls-certificates = \"/no/such/directory\"\ntls-verify-peer = true\n\
         listen = \"unix:{socket}\"\nsocket-mode = 600\nsocket-owner = \"root\"\n"
    );
    fs::write(&config, text).unwrap();
    let line = refusal(&["serve", "--config", &config]);
    assert!(line.contains("/no/such/directory"), "{line}");
    let mut command = larder(&[
        "serve",
        "--config",
        &config,
        "--tls=off",
        "--listen=tcp:127.0.0.1:0",
        "--read-only=false",
        "--verbose=no",
    ]);
    let (server, lines) = Server::start(&mut command, 1);
    assert!(!lines[0].contains("read-only"), "{}", lines[0]);
    // There is nothing else that it listens on.
    assert!(lines[0].contains(" at nbd://127.0.0.1:"), "{}", lines[0]);
    assert!(!scratch.path("s").exists());
    server.signal(Signal::TERM);
    let (status, told) = server.end();
    assert_eq!((status.code(), &*told), (Some(0), ""));
}
