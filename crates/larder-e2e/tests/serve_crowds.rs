//! Many clients that take what they can get: all together take bounded memory and threads, and others are served.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hostile::origins::Origin;
use hostile::raw::{Form, RawClient};
use hostile::usage::Usage;
use larder_e2e::{
    Larder, MIB, Random, Scratch, Server, assert_same_bytes, random_file, read_file, sparse_file,
    wait_until,
};
use nbd_wire::{Command, CommandFlags, Request};

const CROWD: u64 = 32;
/// What all clients together may have, in KiB: the budget, and of each a share, buffers and stacks.
const MOST_KIB: u64 = (256 << 10) + CROWD * (2 << 10) + (64 << 10);
const SIZE: u64 = 64 * MIB;

fn request(command: Command, offset: u64, length_bytes: u64, form: Form) -> Vec<u8> {
    let mut message = Vec::new();
    let is_flagged = command == Command::WRITE && form == Form::Extended;
    Request {
        flags: match is_flagged {
            true => CommandFlags::PAYLOAD_LEN,
            false => CommandFlags::empty(),
        },
        command,
        cookie: 1,
        offset,
        length_bytes,
    }
    .encode(&mut message, form.format());
    message
}

/// Sends the same message again and again until the server takes nothing for a while, or has taken `most` bytes.
fn send_until_stuck(client: &mut RawClient, message: &[u8], most: usize) {
    client.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut last) = (0, Instant::now());
    while sent < most && last.elapsed() < Duration::from_secs(1) {
        match client.stream.write(&message[sent % message.len()..]) {
            Ok(count) => (sent, last) = (sent + count, Instant::now()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
}

/// So many clients of an export that send the message as often as they can, and read nothing.
fn crowd(
    server: &Server,
    export: &str,
    message: impl Fn(Form) -> Vec<u8> + Sync,
    most: usize,
) -> Vec<RawClient> {
    thread::scope(|scope| {
        let coming: Vec<_> = (0..CROWD)
            .map(|number| {
                let message = &message;
                scope.spawn(move || {
                    let form = Form::ALL[number as usize % 3];
                    let mut client = RawClient::open(server.socket(), export, form);
                    send_until_stuck(&mut client, &message(form), most);
                    client
                })
            })
            .collect();
        coming
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    })
}

/// Every form of client gets large requests done, and right.
fn check_service(server: &Server, image: &Path) {
    let mut expected = read_file(image);
    for (number, form) in Form::ALL.into_iter().enumerate() {
        let mut client = RawClient::open(server.socket(), "calm", form);
        let bytes = Random::new(number as u64).bytes(9 * MIB);
        // Neither begins nor ends with a block or a sector.
        let offset = number as u64 * 5 * MIB + 700;
        assert_eq!(client.write(offset, &bytes).error, 0);
        expected[offset as usize..offset as usize + bytes.len()].copy_from_slice(&bytes);
        // Hits, misses, and both.
        for (offset, length) in [
            (offset, 9 * MIB),
            (40 * MIB + 5, 20 * MIB),
            (offset + MIB, 32 * MIB),
        ] {
            let read = client.read(offset, length);
            assert_eq!(read.error, 0);
            let expected = &expected[offset as usize..(offset + length) as usize];
            assert_same_bytes("what is read", &read.data, expected);
        }
        if form != Form::Simple {
            let status = client.call(Command::BLOCK_STATUS, CommandFlags::empty(), (0, SIZE), b"");
            assert!(
                status.error == 0 && status.status.len() == 2,
                "{}",
                status.error
            );
        }
        assert_eq!(
            client
                .call(Command::FLUSH, CommandFlags::empty(), (0, 0), b"")
                .error,
            0
        );
        assert_same_bytes("what was flushed", &read_file(image), &expected);
    }
}

#[test]
fn a_crowd_of_large_writes_at_a_stuck_origin_takes_bounded_memory_and_stops_nobody() {
    let scratch = Scratch::new();
    let (calm, stuck) = (scratch.path("calm"), scratch.path("stuck"));
    let _ = random_file(&calm, SIZE, 1);
    sparse_file(&stuck, SIZE);
    let origin = Origin::nbdkit(&scratch, &stuck, &["--filter=delay", "wdelay=600"]);
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", calm.display()))
        .origin(format!("stuck={}", origin.address("")))
        .parameters(["cache=writethrough", "origin-timeout=900"])
        .start();
    check_service(&server, &calm);
    let before = Usage::of(server.pid());
    let write = |form: Form| {
        let mut message = request(Command::WRITE, MIB, 8 * MIB, form);
        message.resize(message.len() + 8 * MIB as usize, 7);
        message
    };
    let greedy = crowd(&server, "stuck", write, 100 << 20);
    let now = Usage::of(server.pid());
    assert!(
        now.rss_anon_kib < before.rss_anon_kib + MOST_KIB,
        "{before:?} {now:?}"
    );
    // It is used up, or else this test is about nothing.
    assert!(
        now.rss_anon_kib > before.rss_anon_kib + (200 << 10),
        "{before:?} {now:?}"
    );
    let began = Instant::now();
    check_service(&server, &calm);
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    drop(greedy);
}

#[test]
fn a_crowd_that_does_not_read_takes_bounded_memory_and_stops_nobody() {
    let scratch = Scratch::new();
    let calm = scratch.path("calm");
    let _ = random_file(&calm, SIZE, 1);
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", calm.display()))
        .start();
    check_service(&server, &calm);
    let before = Usage::of(server.pid());
    let read = |form: Form| request(Command::READ, MIB, 2 * MIB, form).repeat(16);
    let silent = crowd(&server, "calm", read, 1 << 20);
    let now = Usage::of(server.pid());
    assert!(
        now.rss_anon_kib < before.rss_anon_kib + MOST_KIB,
        "{before:?} {now:?}"
    );
    assert!(
        now.rss_anon_kib > before.rss_anon_kib + (200 << 10),
        "{before:?} {now:?}"
    );
    check_service(&server, &calm);
    // All that was taken is given back.
    drop(silent);
    Usage::wait_for_return(server.pid(), &before, 64 << 10);
    check_service(&server, &calm);
    server.stop();
}

#[test]
fn regression_who_does_not_read_keeps_no_block_from_others() {
    const PIECE: u64 = 256 << 10;
    let scratch = Scratch::new();
    let calm = scratch.path("calm");
    let _ = random_file(&calm, SIZE, 1);
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", calm.display()))
        .start();
    for form in Form::ALL {
        // All of the image is asked for, none of it being cached at first, and no reply is taken.
        let mut silent = RawClient::open(server.socket(), "calm", form);
        let pieces = (0..SIZE / PIECE).map(|piece| piece * PIECE);
        let all = pieces.flat_map(|offset| request(Command::READ, offset, PIECE, form));
        let message: Vec<u8> = all.collect();
        send_until_stuck(&mut silent, &message, message.len());
        let began = Instant::now();
        check_service(&server, &calm);
        assert!(began.elapsed() < Duration::from_secs(60));
        drop(silent);
    }
    server.stop();
}

#[test]
fn a_crowd_that_waits_takes_bounded_threads_and_stops_nobody() {
    const THREADS: u64 = 2048;
    let scratch = Scratch::new();
    let (calm, stuck) = (scratch.path("calm"), scratch.path("stuck"));
    let _ = random_file(&calm, SIZE, 1);
    sparse_file(&stuck, SIZE);
    let origin = Origin::nbdkit(&scratch, &stuck, &["--filter=delay", "rdelay=600"]);
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", calm.display()))
        .origin(format!("stuck={}", origin.address("")))
        .parameters(["origin-timeout=900"])
        .start();
    // More than all may have.
    let crowds: Vec<_> = (0..2)
        .flat_map(|half| {
            let read = |form: Form| {
                (0..64)
                    .flat_map(|place| {
                        request(Command::READ, (half * 64 + place) % 64 * MIB, 512, form)
                    })
                    .collect()
            };
            crowd(&server, "stuck", read, 64 * 32)
        })
        .collect();
    // They come one after the other.
    let mut now = Usage::of(server.pid());
    wait_until("there are no more threads than a moment ago", || {
        thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut now, Usage::of(server.pid()));
        now.threads > THREADS && now.threads <= before.threads
    });
    let most = THREADS + crowds.len() as u64 * 6 + 100;
    assert!(now.threads < most && now.threads > THREADS, "{now:?}");
    check_service(&server, &calm);
}
