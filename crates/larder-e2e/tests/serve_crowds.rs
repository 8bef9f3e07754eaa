//! Many clients that take what they can get: all together take bounded memory and threads, and others are served.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
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
    let greedy = use_up(&server, "stuck");
    let now = Usage::of(server.pid());
    assert!(
        now.rss_anon_kib < before.rss_anon_kib + MOST_KIB,
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

/// Uses up the memory that all clients share, by writes at an origin that is stuck.
fn use_up(server: &Server, export: &str) -> Vec<RawClient> {
    let before = Usage::of(server.pid());
    let is_used_up = AtomicBool::new(false);
    thread::scope(|scope| {
        let coming: Vec<_> = (0..CROWD)
            .map(|number| {
                let is_used_up = &is_used_up;
                scope.spawn(move || {
                    let form = Form::ALL[number as usize % 3];
                    let mut client = RawClient::open(server.socket(), export, form);
                    let mut message = request(Command::WRITE, MIB, 8 * MIB, form);
                    message.resize(message.len() + 8 * MIB as usize, 7);
                    while !is_used_up.load(Ordering::SeqCst) {
                        send_until_stuck(&mut client, &message, 100 << 20);
                    }
                    client
                })
            })
            .collect();
        wait_until("the memory for all clients is used up", || {
            Usage::of(server.pid()).rss_anon_kib > before.rss_anon_kib + (250 << 10)
        });
        is_used_up.store(true, Ordering::SeqCst);
        let coming = coming.into_iter();
        coming.map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn regression_no_other_reply_comes_into_one_that_is_whole_and_sent_in_pieces() {
    const LARGE: u64 = 12 * MIB;
    const FEW: u64 = 64;
    let scratch = Scratch::new();
    let (slow, stuck) = (scratch.path("slow"), scratch.path("stuck"));
    let content = random_file(&slow, SIZE, 1);
    sparse_file(&stuck, SIZE);
    let place = Scratch::new();
    let slow = Origin::nbdkit(&place, &slow, &["--filter=delay", "rdelay=20ms"]);
    let stuck = Origin::nbdkit(&scratch, &stuck, &["--filter=delay", "wdelay=600"]);
    let server = Larder::serve(&scratch)
        .origin(format!("slow={}", slow.address("")))
        .origin(format!("stuck={}", stuck.address("")))
        .parameters(["cache=writethrough", "origin-timeout=900"])
        .start();
    let greedy = use_up(&server, "stuck");
    for (round, form) in Form::ALL.into_iter().enumerate() {
        let mut client = RawClient::open(server.socket(), "slow", form);
        let flags = match form {
            Form::Simple => CommandFlags::empty(),
            _ => CommandFlags::DF,
        };
        let base = round as u64 * 20 * MIB;
        // Misses, each of which is answered as soon as the origin has.
        let mut waiting: Vec<(u64, u64, u64)> = (0..FEW)
            .map(|number| (base + number * 65536 + 700, 512))
            .chain([(base + FEW * 65536 + 5, LARGE)])
            .map(|(offset, length)| {
                let flags = if length == LARGE {
                    flags
                } else {
                    CommandFlags::empty()
                };
                (
                    client.submit(Command::READ, flags, (offset, length), b""),
                    offset,
                    length,
                )
            })
            .collect();
        while !waiting.is_empty() {
            let answer = client.answer().expect("an answer");
            assert_eq!(answer.error, 0);
            let of = |&(cookie, ..): &(u64, u64, u64)| cookie == answer.cookie;
            let (_, offset, length) =
                waiting.swap_remove(waiting.iter().position(of).expect("asked"));
            let data = match form {
                Form::Simple => client.receive(length as usize).expect("the data"),
                _ => answer.data,
            };
            let expected = &content[offset as usize..(offset + length) as usize];
            assert_same_bytes("what is read", &data, expected);
        }
    }
    drop(greedy);
}

#[test]
fn a_client_that_stops_in_its_payload_has_no_more_than_it_has_sent() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let _ = random_file(&image, SIZE, 1);
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", image.display()))
        .start();
    let mut client = RawClient::open(server.socket(), "calm", Form::Structured);
    client.write(0, &[1; 4096]);
    // Together they announce far more than all clients may have. The answer to the read goes out once the write
    // has been begun.
    let silent: Vec<_> = (0..CROWD)
        .map(|number| {
            let form = Form::ALL[number as usize % 3];
            let mut client = RawClient::open(server.socket(), "calm", form);
            let read = request(Command::READ, 0, 512, form);
            let announced = if number < 8 { 32 * MIB } else { MIB };
            client.send(&[read, request(Command::WRITE, 0, announced, form)].concat());
            assert_eq!(client.answer().expect("an answer").error, 0);
            client
        })
        .collect();
    // Extents are told one by one where there is no memory for more.
    let status = client.call(Command::BLOCK_STATUS, CommandFlags::empty(), (0, SIZE), b"");
    let (_, cached) = &status.status[1];
    assert!(cached.len() > 1, "{cached:?}");
    drop(silent);
    server.stop();
}

#[test]
fn hints_at_a_stuck_origin_take_bounded_memory() {
    let scratch = Scratch::new();
    let (calm, stuck) = (scratch.path("calm"), scratch.path("stuck"));
    let _ = random_file(&calm, SIZE, 1);
    sparse_file(&stuck, 100 << 30);
    let origin = Origin::nbdkit(&scratch, &stuck, &["--filter=delay", "rdelay=600"]);
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", calm.display()))
        .origin(format!("stuck={}", origin.address("")))
        .parameters(["origin-timeout=900"])
        .start();
    check_service(&server, &calm);
    let before = Usage::of(server.pid());
    // More than one client may have under way, each for another place.
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let hint = |number: u64| {
                let offset = (client * 400 + number) * 32 * MIB;
                request(Command::CACHE, offset % (99 << 30), 1 << 30, Form::Simple)
            };
            let message: Vec<u8> = (0..400).flat_map(hint).collect();
            let mut client = RawClient::open(server.socket(), "stuck", Form::Simple);
            send_until_stuck(&mut client, &message, message.len());
            client
        })
        .collect();
    // All of them are worked on at some time.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let now = Usage::of(server.pid());
        assert!(
            now.rss_anon_kib < before.rss_anon_kib + MOST_KIB,
            "{before:?} {now:?}"
        );
    }
    check_service(&server, &calm);
    drop(clients);
}

#[test]
fn more_hints_than_may_be_under_way_do_not_hold_up_the_end() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 1 << 40);
    let server = Larder::serve(&scratch)
        .file(&image)
        .parameter("cache-max-size=64M")
        .start();
    let mut client = RawClient::open(server.socket(), "", Form::Extended);
    let read = request(Command::READ, 0, 512, Form::Extended);
    let hint = request(Command::CACHE, 0, 1 << 40, Form::Extended);
    client.send(&[read, hint.repeat(400)].concat());
    // All have come when the first is answered: they were sent together.
    assert_eq!(client.answer().expect("an answer").error, 0);
    thread::scope(|scope| {
        // Who does not take replies would be waited for.
        scope.spawn(|| client.rest());
        server.stop();
    });
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
    // All that the first ones took is given back, and may be taken once more.
    for _ in 0..2 {
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
        drop(silent);
        Usage::wait_for_return(server.pid(), &before, 64 << 10);
        check_service(&server, &calm);
    }
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
    let origin = Origin::qemu(&scratch, &stuck);
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", calm.display()))
        .origin(format!("stuck={}", origin.address("")))
        .parameters(["origin-timeout=900", "cache-on-read=false"])
        .start();
    check_service(&server, &calm);
    let before = Usage::of(server.pid());
    // All that the first ones took is given back, and may be taken once more.
    for _ in 0..2 {
        origin.stall();
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
        wait_until("they have all threads that they may have together", || {
            Usage::of(server.pid()).threads > THREADS
        });
        // Which gives them time to take more than that.
        check_service(&server, &calm);
        let now = Usage::of(server.pid());
        let most = THREADS + crowds.len() as u64 * 6 + 100;
        assert!(now.threads < most && now.threads > THREADS, "{now:?}");
        drop(crowds);
        origin.go_on();
        Usage::wait_for_return(server.pid(), &before, 64 << 10);
    }
    server.stop();
}
