//! Whose turn it is to receive, where the server stops in the middle of a reply or answers out of order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod nbd_support;

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nbd_support::scripted::{Disk, Offer, Peer, Scripted};
use nbd_support::{Opened, Scratch, pattern, read, try_open};
use nbd_wire::{Chunk, ChunkFlags, Command, Request};

const SIZE: usize = 1 << 20;

fn quick(scratch: &Scratch, timeout_ms: u64) -> Opened {
    let uri = format!("nbd+unix:///?socket={}", scratch.path("s").display());
    try_open(&uri, |options| {
        options.timeout = Duration::from_millis(timeout_ms);
    })
    .unwrap()
}

/// The first bytes of a reply, and nothing after them.
fn begin(peer: &mut Peer, request: &Request, chunk: &Chunk<'_>, bytes: usize) -> io::Result<()> {
    let mut whole = Vec::new();
    let cookie = (request.cookie, request.offset);
    chunk.encode(&mut whole, peer.format, ChunkFlags::DONE, cookie);
    peer.stream.write_all(&whole[..bytes])
}

#[test]
fn a_read_whose_reply_stops_in_its_middle_is_asked_for_again_on_another_connection() {
    // In the header, at its end, and in the data.
    for bytes in [1, 10, 28, 1000] {
        let scratch = Scratch::new();
        let disk = Disk::new(pattern(0, SIZE));
        let answered = AtomicUsize::new(0);
        let server = Scripted::start(
            &scratch.path("s"),
            Offer::default(),
            move |peer, request, data| {
                // The first ones are for those who wait to take over receiving.
                if answered.fetch_add(1, Ordering::SeqCst) != 2 {
                    return disk.answer(peer, request, data);
                }
                let data = disk.slice(request);
                let offset = request.offset;
                let chunk = Chunk::Data {
                    offset,
                    data: &data,
                };
                begin(peer, request, &chunk, bytes)
            },
        );
        let opened = quick(&scratch, 3000);
        let handle = opened.handle();
        for offset in [0, 4096, 8192, 12288] {
            assert_eq!(read(&*handle, offset, 4096), pattern(offset, 4096));
        }
        assert_eq!(server.connections(), 2, "{bytes} bytes");
    }
}

#[test]
fn a_change_whose_reply_stops_in_its_middle_fails_at_its_deadline() {
    let scratch = Scratch::new();
    let disk = Disk::new(pattern(0, SIZE));
    Scripted::start(
        &scratch.path("s"),
        Offer::default(),
        move |peer, request, data| match request.command {
            Command::WRITE => begin(peer, request, &Chunk::None, 7),
            _ => disk.answer(peer, request, data),
        },
    );
    let opened = quick(&scratch, 1000);
    let handle = opened.handle();
    read(&*handle, 0, 512);
    let began = Instant::now();
    let error = handle.write(0, b"x", false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert!(began.elapsed() >= Duration::from_millis(1000));
}

#[test]
fn replies_in_any_order_reach_those_who_wait_for_them() {
    const THREADS: usize = 8;
    let scratch = Scratch::new();
    let disk = Disk::new(pattern(0, SIZE));
    let held = Arc::new(Mutex::new(Vec::<Request>::new()));
    let server = Scripted::start(
        &scratch.path("s"),
        Offer::default(),
        move |peer, request, _| {
            let mut held = held.lock().unwrap();
            held.push(*request);
            // All threads wait then, and the last to ask is answered first.
            if held.len() == THREADS {
                for request in held.drain(..).rev() {
                    peer.data(&request, &disk.slice(&request))?;
                }
            }
            Ok(())
        },
    );
    let opened = quick(&scratch, 60_000);
    thread::scope(|scope| {
        for number in 0..THREADS as u64 {
            let handle = opened.handle();
            scope.spawn(move || {
                for round in 0..200 {
                    let offset = (number * 200 + round) * 512 % (SIZE as u64);
                    assert_eq!(read(&*handle, offset, 512), pattern(offset, 512));
                }
            });
        }
    });
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_read_whose_reply_trickles_in_ends_about_its_deadline() {
    let scratch = Scratch::new();
    let disk = Disk::new(pattern(0, SIZE));
    let answered = AtomicUsize::new(0);
    Scripted::start(
        &scratch.path("s"),
        Offer::default(),
        move |peer, request, data| {
            if answered.fetch_add(1, Ordering::SeqCst) < 2 {
                return disk.answer(peer, request, data);
            }
            let (offset, data) = (request.offset, disk.slice(request));
            let mut whole = Vec::new();
            let cookie = (request.cookie, request.offset);
            let chunk = Chunk::Data {
                offset,
                data: &data,
            };
            chunk.encode(&mut whole, peer.format, ChunkFlags::DONE, cookie);
            // So many bytes would take minutes.
            for byte in whole {
                peer.stream.write_all(&[byte])?;
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        },
    );
    let opened = quick(&scratch, 1000);
    let handle = opened.handle();
    for offset in [0, 4096] {
        assert_eq!(read(&*handle, offset, 4096), pattern(offset, 4096));
    }
    let began = Instant::now();
    let error = handle.read(8192, &mut [0; 4096]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert!(began.elapsed() < Duration::from_secs(20));
}
