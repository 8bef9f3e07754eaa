//! The servers that people run: nbdkit, qemu-nbd, nbd-server.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod nbd_support;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::{Fua, Origin, ZeroOptions};
use nbd_support::{
    Opened, Random, Scratch, nbdkit, open_socket, open_uri, pattern, qemu_nbd, read, run, try_open,
    wait_until,
};

const SIZE: u64 = 8 << 20;

/// Reads, writes, zeros, trims and flushes from eight threads, each in its own part, against a model.
fn torture(opened: &Opened, minimum: u64) {
    let handle = opened.handle();
    let part = handle.size() / 8 / minimum * minimum;
    let capabilities = handle.capabilities();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let handle = opened.handle();
            scope.spawn(move || {
                let mut random = Random::new(thread + 1);
                let base = thread * part;
                let mut model = read(&*handle, base, part as usize);
                for _ in 0..60 {
                    let at = random.below(part / minimum) * minimum;
                    let length = (minimum * (1 + random.below(64))).min(part - at);
                    let range = at as usize..(at + length) as usize;
                    let fua = random.below(4) == 0;
                    match random.below(6) {
                        0 | 1 => {
                            let data = pattern(random.below(1 << 40), length as usize);
                            handle.write(base + at, &data, fua).unwrap();
                            model[range].copy_from_slice(&data);
                        }
                        2 if capabilities.zero => {
                            let may_trim = random.below(2) == 0;
                            let options = ZeroOptions {
                                may_trim,
                                fua,
                                fast: false,
                            };
                            handle.zero(base + at, length, options).unwrap();
                            model[range].fill(0);
                        }
                        3 if capabilities.trim => {
                            handle.trim(base + at, length, fua).unwrap();
                            let now = read(&*handle, base + at, length as usize);
                            model[range].copy_from_slice(&now);
                        }
                        4 if capabilities.flush => handle.flush().unwrap(),
                        _ => assert!(read(&*handle, base + at, length as usize) == model[range]),
                    }
                }
                let now = read(&*handle, base, part as usize);
                assert!(now == model, "thread {thread}");
            });
        }
    });
    assert_eq!(opened.log.messages(), Vec::<String>::new());
}

/// The runs of the whole export: where, and whether it reads as zeros.
fn zero_runs(handle: &dyn Origin) -> Vec<(u64, u64, bool)> {
    let mut runs: Vec<(u64, u64, bool)> = Vec::new();
    let mut at = 0;
    while at < handle.size() {
        for run in handle.extents(at, handle.size() - at, false).unwrap() {
            match runs.last_mut() {
                Some(last) if last.2 == run.zero => last.1 += run.length,
                _ => runs.push((at, run.length, run.zero)),
            }
            at += run.length;
        }
    }
    assert_eq!(at, handle.size());
    runs
}

#[test]
fn nbdkit_memory() {
    let scratch = Scratch::new();
    let socket = scratch.path("s");
    let _peer = nbdkit(&socket, &["memory", "8M"]);
    let opened = open_socket(&socket);
    let handle = opened.handle();
    let capabilities = handle.capabilities();
    assert!(capabilities.write && capabilities.flush && capabilities.trim && capabilities.zero);
    assert!(capabilities.extents && capabilities.parallel && capabilities.multi_conn);
    assert_eq!((handle.size(), capabilities.fua), (SIZE, Fua::Native));
    assert_eq!(zero_runs(&*handle), [(0, SIZE, true)]);
    handle.write(1 << 20, &[1; 65536], false).unwrap();
    let runs = [
        (0, 1 << 20, true),
        (1 << 20, 65536, false),
        (1_114_112, SIZE - 1_114_112, true),
    ];
    assert_eq!(zero_runs(&*handle), runs);
    let one = handle.extents(0, SIZE, true).unwrap();
    assert_eq!((one.len(), one[0].length), (1, 1 << 20));
    torture(&opened, 1);
}

#[test]
fn nbdkit_file() {
    let scratch = Scratch::new();
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let _peer = nbdkit(&socket, &["file", image.to_str().unwrap()]);
    let opened = open_socket(&socket);
    let handle = opened.handle();
    assert!(read(&*handle, 12345, 100_000) == pattern(12345, 100_000));
    handle.write(5, b"durable", true).unwrap();
    assert_eq!(&fs::read(&image).unwrap()[5..12], b"durable");
    torture(&opened, 1);
}

#[test]
fn nbdkit_with_several_connections_and_delay_does_many_at_once() {
    let scratch = Scratch::new();
    let socket = scratch.path("s");
    let _peer = nbdkit(
        &socket,
        &["--filter=delay", "memory", "8M", "delay-read=100ms"],
    );
    let opened = open_socket(&socket);
    let handle = opened.handle();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| read(&*handle, 0, 512));
        }
    });
    assert!(
        began.elapsed() < Duration::from_millis(1600),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn block_sizes_are_found_and_kept_to() {
    let scratch = Scratch::new();
    let socket = scratch.path("s");
    let policy = [
        "--filter=blocksize-policy",
        "memory",
        "8M",
        "blocksize-minimum=4096",
        "blocksize-preferred=64K",
        "blocksize-maximum=1M",
        "blocksize-error-policy=error",
    ];
    let _peer = nbdkit(&socket, &policy);
    let opened = open_socket(&socket);
    let limits = opened.handle().limits();
    assert_eq!(
        (limits.minimum, limits.preferred, limits.maximum),
        (4096, 65536, 1 << 20)
    );
    let error = opened.handle().write(0, &[0; 100], false).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(22));
    assert!(
        opened
            .handle()
            .read(0, &mut vec![0; (1 << 20) + 4096])
            .is_err()
    );
    let opened = open_socket(&socket);
    torture(&opened, 4096);
}

#[test]
fn errors_of_the_server_reach_the_caller() {
    let scratch = Scratch::new();
    let socket = scratch.path("s");
    let arguments = [
        "--filter=error",
        "memory",
        "8M",
        "error=ENOSPC",
        "error-pwrite-rate=100%",
    ];
    let _peer = nbdkit(&socket, &arguments);
    let handle = open_socket(&socket).handle();
    let error = handle.write(0, &[0; 512], false).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(28));
    assert_eq!(read(&*handle, 0, 512), [0; 512]);
}

#[test]
fn without_write_zeroes_or_flush_there_is_no_such_capability() {
    let scratch = Scratch::new();
    let socket = scratch.path("s");
    let arguments = ["--filter=nozero", "--filter=fua", "memory", "8M"];
    let _peer = nbdkit(&socket, &arguments);
    let capabilities = open_socket(&socket).handle().capabilities();
    assert!(!capabilities.zero && !capabilities.fast_zero);
    assert_eq!(capabilities.fua, Fua::Emulated);
}

#[test]
fn a_read_only_server_is_opened_for_reading_only() {
    let scratch = Scratch::new();
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let _peer = nbdkit(&socket, &["-r", "file", image.to_str().unwrap()]);
    let uri = format!("nbd+unix:///?socket={}", socket.display());
    let error = try_open(&uri, |_| {}).err().unwrap();
    assert!(error.contains("--read-only would do"), "{error}");
    let opened = try_open(&uri, |options| options.read_only = true).unwrap();
    let handle = opened.handle();
    let capabilities = handle.capabilities();
    assert!(!capabilities.write && !capabilities.trim && !capabilities.zero);
    assert!(read(&*handle, 0, 4096) == pattern(0, 4096));
}

#[test]
fn what_is_not_there_is_named() {
    let scratch = Scratch::new();
    let socket = scratch.path("s");
    let uri = format!("nbd+unix:///no-such?socket={}", socket.display());
    let error = try_open(&uri, |_| {}).err().unwrap();
    assert!(error.contains("No such file or directory"), "{error}");
    let image = scratch.image("d", SIZE);
    let _peer = qemu_nbd(
        &socket,
        &["-f", "raw", "-x", "disk", image.to_str().unwrap()],
    );
    let error = try_open(&uri, |_| {}).err().unwrap();
    assert!(error.contains("no export 'no-such'"), "{error}");
}

#[test]
fn qemu_nbd_raw_and_qcow2() {
    for format in ["raw", "qcow2"] {
        let scratch = Scratch::new();
        let (socket, image) = (scratch.path("s"), scratch.path("d"));
        let path = image.to_str().unwrap();
        if format == "raw" {
            fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        } else {
            run(
                "qemu-img",
                "qemu-utils",
                &["create", "-q", "-f", format, path, "8M"],
            );
        }
        let _peer = qemu_nbd(
            &socket,
            &["-f", format, "-x", "disk", "--discard=unmap", path],
        );
        let opened = open_uri(&format!("nbd+unix:///disk?socket={}", socket.display()));
        let handle = opened.handle();
        assert_eq!(
            (handle.size(), handle.capabilities().fua),
            (SIZE, Fua::Native)
        );
        assert!(handle.capabilities().extents && handle.capabilities().zero);
        let is_new = qemu_version() >= (8, 2);
        assert_eq!(opened.log.has("extended headers"), is_new);
        assert!(opened.log.has("connections: 4"));
        handle.write(1 << 20, &[1; 65536], true).unwrap();
        let data: Vec<_> = zero_runs(&*handle)
            .into_iter()
            .filter(|run| !run.2)
            .collect();
        assert_eq!(data, [(1 << 20, 65536, false)], "{format}");
        torture(&opened, 512);
    }
}

/// Extended headers came with 8.2.
fn qemu_version() -> (u32, u32) {
    let output = Command::new("qemu-nbd").arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.split_whitespace().nth(1).unwrap();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_server_that_takes_two_connections_is_used_with_two() {
    let scratch = Scratch::new();
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let _peer = qemu_nbd(&socket, &["-e", "2", "-f", "raw", image.to_str().unwrap()]);
    let opened = open_socket(&socket);
    assert!(opened.log.has("connections: 2"));
    torture(&opened, 512);
}

#[test]
fn a_server_that_takes_fewer_connections_than_before_is_asked_for_more_once() {
    let scratch = Scratch::new();
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let start = |most| {
        let image = image.to_str().unwrap();
        qemu_nbd(&socket, &["-e", most, "-f", "raw", image])
    };
    let mut peer = start("4");
    let opened = open_socket(&socket);
    assert!(opened.log.has("connections: 4"));
    let handle = opened.handle();
    for _ in 0..2 {
        drop(peer);
        peer = start("2");
        assert!(read(&*handle, 4096, 512) == pattern(4096, 512));
        assert_eq!(opened.log.count("a further connection: "), 2);
    }
    assert_eq!(opened.log.count("connections: 2"), 2);
}

/// nbd-server, which runs in the background and serves each client in a process of its own.
struct NbdServer(String);

impl NbdServer {
    fn start(scratch: &Scratch, socket: &Path, image: &Path, more: &str) -> Self {
        let (configuration, pid) = (scratch.path("c"), scratch.path("pid"));
        let text = format!(
            "[generic]\nunixsock = {}\n[disk]\nexportname = {}\n{more}\n",
            socket.display(),
            image.display()
        );
        fs::write(&configuration, text).unwrap();
        let arguments = [
            "-C",
            configuration.to_str().unwrap(),
            "-p",
            pid.to_str().unwrap(),
        ];
        run("/usr/bin/nbd-server", "nbd-server", &arguments);
        wait_until("nbd-server listens", || {
            pid.exists() && UnixStream::connect(socket).is_ok()
        });
        Self(fs::read_to_string(&pid).unwrap().trim().to_owned())
    }
}

impl Drop for NbdServer {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(&self.0).status();
    }
}

#[test]
fn nbd_server_with_a_file() {
    let scratch = Scratch::new();
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let _peer = NbdServer::start(
        &scratch,
        &socket,
        &image,
        "flush = true\nfua = true\ntrim = true",
    );
    let opened = open_uri(&format!("nbd+unix:///disk?socket={}", socket.display()));
    let handle = opened.handle();
    assert!(read(&*handle, 12345, 100_000) == pattern(12345, 100_000));
    assert_eq!(
        (handle.size(), handle.capabilities().fua),
        (SIZE, Fua::Native)
    );
    assert!(handle.capabilities().flush && !handle.capabilities().extents);
    torture(&opened, 1);
}

#[test]
fn nbd_server_without_flush() {
    let scratch = Scratch::new();
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let _peer = NbdServer::start(&scratch, &socket, &image, "flush = false");
    let opened = open_uri(&format!("nbd+unix:///disk?socket={}", socket.display()));
    let capabilities = opened.handle().capabilities();
    assert!(!capabilities.flush && capabilities.fua == Fua::None);
    assert!(capabilities.tells_losses);
    torture(&opened, 1);
}

#[test]
fn tcp_and_many_handles() {
    let scratch = Scratch::new();
    let image = scratch.image("d", SIZE);
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut command = Command::new("nbdkit");
    let pid = scratch.path("pid");
    command
        .args(["-f", "-i", "127.0.0.1", "-p", &port.to_string(), "-P"])
        .arg(&pid);
    command.args(["file", image.to_str().unwrap()]);
    let mut child = command.spawn().expect("install the Debian package nbdkit");
    wait_until("nbdkit listens", || pid.exists());
    let opened = open_uri(&format!("nbd://localhost:{port}"));
    let handles: Vec<Arc<dyn Origin>> = (0..50).map(|_| opened.handle()).collect();
    for handle in &handles {
        assert!(read(&**handle, 4096, 512) == pattern(4096, 512));
    }
    torture(&opened, 1);
    drop((opened, handles));
    child.kill().unwrap();
    child.wait().unwrap();
}
