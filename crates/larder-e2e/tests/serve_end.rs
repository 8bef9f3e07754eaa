//! The end of `larder serve`: what still runs, what is lost and what is left.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use larder_e2e::{
    Client, Exit, Larder, MIB, Mount, Nbdkit, Random, Request, Scratch, assert_filled, read_file,
    sparse_file, wait_until, write_at,
};

fn image(scratch: &Scratch, size: u64) -> PathBuf {
    let image = scratch.path("image");
    sparse_file(&image, size);
    image
}

#[test]
fn what_runs_when_the_signal_comes_is_finished_and_answered() {
    let scratch = Scratch::new();
    let image = image(&scratch, MIB);
    write_at(&image, 0, &[7; 4096]);
    let origin = Nbdkit::bare(&scratch)
        .logged()
        .below("delay")
        .parameter("rdelay=1")
        .file(&image)
        .start();
    let server = Larder::serve(&scratch).origin(origin.uri()).start();
    let mut client = Client::connect(server.socket());
    let cookie = client.submit(&Request::read(0, 4096)).unwrap();
    wait_until("the origin is asked", || {
        !origin.plugin_log().calls_of("Read").is_empty()
    });
    server.terminate();
    assert_filled("the answer", &client.wait(cookie).unwrap().data, 7);
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 0, "{}", exit.output);
}

#[test]
fn clients_that_do_nothing_do_not_hold_up_the_end() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:1M").start();
    let mut silent = UnixStream::connect(server.socket()).unwrap();
    let mut idle = Client::connect(server.socket());
    idle.read(0, 512).unwrap();
    server.stop();
    // The greeting, and then the end.
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(idle.read(0, 512).is_err());
}

/// The ranges that a server named as lost.
fn lost_ranges(exit: &Exit) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    for line in exit.output.lines().filter(|l| l.contains("lost, never")) {
        let (_, list) = line.rsplit_once("\": ").unwrap();
        for range in list.split(", ") {
            let (length, offset) = range.split_once(" bytes at ").unwrap();
            ranges.push((offset.parse().unwrap(), length.parse().unwrap()));
        }
    }
    ranges
}

#[test]
fn a_file_system_that_is_full_at_the_end_is_a_loss_by_range() {
    const SIZE: u64 = 8 * MIB;
    let scratch = Scratch::new();
    let full = scratch.make_dir("full");
    let mount = Mount::tmpfs(&full, 4 * MIB);
    let image = full.join("image");
    sparse_file(&image, SIZE);
    let server = Larder::serve(&scratch).file(&image).start();
    let bytes = Random::new(3).bytes(SIZE);
    let mut client = Client::connect(server.socket());
    client.write(0, &bytes).unwrap();
    server.terminate();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 1, "{}", exit.output);
    let mut is_lost = vec![false; SIZE as usize];
    for (offset, length) in lost_ranges(&exit) {
        is_lost[offset as usize..(offset + length) as usize].fill(true);
    }
    assert!(is_lost.contains(&true), "{}", exit.output);
    assert!(is_lost.contains(&false), "what had room is written");
    let on_disk = read_file(&image);
    let silent = (0..bytes.len()).find(|&at| !is_lost[at] && on_disk[at] != bytes[at]);
    assert_eq!(silent, None, "lost and not named, at this offset");
    drop(mount);
}

#[test]
fn a_loss_is_a_failure_though_the_command_ended_well() {
    let scratch = Scratch::new();
    let image = image(&scratch, MIB);
    let origin = Nbdkit::bare(&scratch)
        .below("error")
        .parameter("error-pwrite=ENOSPC")
        .parameter("error-pwrite-rate=100%")
        .file(&image)
        .start();
    let run = |status: u8| {
        // Without a flush: qemu-io would fail.
        let command = format!(
            "/usr/bin/python3 -m nbd -u \"$uri\" -c 'h.pwrite(b\"x\" * 4096, 8192)' && exit {status}"
        );
        let larder = Larder::serve(&scratch).origin(origin.uri());
        let output = larder.run_captive(&command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("4096 bytes at 8192"), "{output:?}");
        output.status.code()
    };
    assert_eq!(run(0), Some(1));
    assert_eq!(run(3), Some(3));
}

#[test]
fn nothing_is_left_behind() {
    let scratch = Scratch::new();
    let tmpdir = scratch.make_dir("tmpdir");
    let larder = Larder::serve(&scratch)
        .origin("memory:1M")
        .environment("TMPDIR", &tmpdir);
    let output = larder.run_captive("echo \"$unixsocket\"");
    let socket = String::from_utf8(output.stdout).unwrap();
    let directory = Path::new(socket.trim()).parent().unwrap();
    assert!(!directory.exists(), "{socket}");
    assert_eq!(fs::read_dir(&tmpdir).unwrap().count(), 0);
}
