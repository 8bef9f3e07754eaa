//! Which files are served, and what is said of the others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use common::refusal;
use common::scratch::Scratch;

#[test]
fn what_cannot_be_served_is_refused_in_one_line() {
    let scratch = Scratch::on_disk();
    let missing = refusal(scratch.path("none"), false);
    assert!(
        missing.contains("none: no such file") && missing.contains("memory:SIZE"),
        "{missing}"
    );
    assert!(missing.contains("nbd+unix://"), "{missing}");
    let directory = refusal(scratch.path(""), false);
    assert!(directory.contains("a directory"), "{directory}");
    let device = refusal("/dev/null", false);
    assert!(
        device.contains("/dev/null is a character device"),
        "{device}"
    );
    let _listener = UnixListener::bind(scratch.path("socket")).unwrap();
    let socket = refusal(scratch.path("socket"), true);
    assert!(socket.contains("is a socket"), "{socket}");
    let fifo = scratch.path("fifo");
    common::run("coreutils", "mkfifo", &[fifo.as_os_str()]);
    for read_only in [false, true] {
        let fifo = refusal(&fifo, read_only);
        assert!(fifo.contains("is a FIFO"), "{fifo}");
    }
    let below_file = refusal(scratch.file("file", 1).join("disk"), false);
    assert!(
        below_file.contains("cannot be opened: Not a directory"),
        "{below_file}"
    );
}

#[test]
fn what_can_only_be_read_is_told_how_to_be_served() {
    // A program that runs cannot be written to, not even by root.
    let program = std::env::current_exe().unwrap();
    let error = refusal(&program, false);
    assert!(
        error.contains("--read-only") && error.contains("busy"),
        "{error}"
    );
    assert!(common::open(&program, true).is_ok());
}

#[test]
fn a_path_need_not_be_utf_8() {
    let scratch = Scratch::on_disk();
    let path = scratch.path("").join(OsStr::from_bytes(b"disk\xff"));
    std::fs::write(&path, b"content").unwrap();
    let source = common::open(&path, false).unwrap();
    assert_eq!(source.connect().unwrap().size(), 7);
}

#[test]
fn one_writes_or_many_read() {
    for scratch in [Scratch::on_disk(), Scratch::on_tmpfs()] {
        let path = scratch.file("disk", 1000);
        let writer = common::open(&path, false).unwrap();
        for read_only in [false, true] {
            let error = refusal(&path, read_only);
            assert!(
                error.contains("locked") && error.contains("disk"),
                "{error}"
            );
        }
        let handle = writer.connect().unwrap();
        drop(writer);
        // A handle holds the file on its own.
        refusal(&path, true);
        drop(handle);
        let readers = [
            common::open(&path, true).unwrap(),
            common::open(&path, true).unwrap(),
        ];
        let error = refusal(&path, false);
        assert!(error.contains("--read-only everywhere"), "{error}");
        drop(readers);
        common::open(&path, false).unwrap();
    }
}

#[test]
fn other_programs_read_a_file_that_is_served() {
    let scratch = Scratch::on_disk();
    let path = scratch.file("disk", 1 << 20);
    let source = common::open(&path, false).unwrap();
    let origin = source.connect().unwrap();
    origin.write(1000, b"content", true).unwrap();
    let copy = scratch.path("copy");
    let arguments = ["convert", "-f", "raw", "-O", "raw"].map(OsStr::new);
    let arguments = [&arguments[..], &[path.as_os_str(), copy.as_os_str()]].concat();
    common::run("qemu-utils", "qemu-img", &arguments);
    assert_eq!(&std::fs::read(&copy).unwrap()[1000..1007], b"content");
    let arguments = ["-r", "-U", "-", "file"].map(OsStr::new);
    let run = ["--run", "nbdinfo --size \"$uri\""].map(OsStr::new);
    let arguments = [&arguments[..], &[path.as_os_str()], &run].concat();
    assert_eq!(
        common::run("nbdkit and libnbd-bin", "nbdkit", &arguments),
        "1048576"
    );
}
