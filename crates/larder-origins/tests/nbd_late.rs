//! A change that was given up may still be done later: what comes after it waits.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod nbd_support;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use larder::{Origin, ZeroOptions};
use nbd_support::scripted::{Disk, Offer, Scripted, hang_up};
use nbd_support::{Opened, Scratch, pattern, read, try_open, wait_until};
use nbd_wire::{Command, Request, TransmissionFlags};

const SIZE: usize = 1 << 20;
/// That of every request.
const TIMEOUT: Duration = Duration::from_millis(1200);
/// Where the reads are that keep the connection from being taken for dead.
const ELSEWHERE: u64 = 64 << 10;

/// What the server does with the write that it holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Do,
    HangUp,
}

/// A server that holds the first write until it is told to go on, and then for some reads more.
struct Late {
    server: Scripted,
    opened: Opened,
    /// How many changes came.
    changes: Arc<AtomicUsize>,
    /// How many reads are answered before the write is done. It counts down.
    reads_before: Arc<AtomicUsize>,
}

impl Late {
    fn start(scratch: &Scratch, then: Then) -> Self {
        let disk = Disk::new(pattern(0, SIZE));
        let changes = Arc::new(AtomicUsize::new(0));
        let reads_before = Arc::new(AtomicUsize::new(usize::MAX));
        let (counted, countdown) = (Arc::clone(&changes), Arc::clone(&reads_before));
        let held: Mutex<Option<(Request, Vec<u8>)>> = Mutex::default();
        let server = Scripted::start(
            &scratch.path("s"),
            Offer::default(),
            move |peer, request, data| {
                let is_read = request.command == Command::READ;
                if !is_read
                    && request.command != Command::FLUSH
                    && counted.fetch_add(1, Ordering::SeqCst) == 0
                {
                    *held.lock().unwrap() = Some((*request, data.to_owned()));
                    return Ok(());
                }
                if is_read && countdown.fetch_sub(1, Ordering::SeqCst) == 1 {
                    match (then, held.lock().unwrap().take()) {
                        (Then::Do, Some((late, data))) => disk.answer(peer, &late, &data)?,
                        _ => return Err(hang_up()),
                    }
                }
                disk.answer(peer, request, data)
            },
        );
        let uri = format!("nbd+unix:///?socket={}", server.socket.display());
        let opened = try_open(&uri, |options| options.timeout = TIMEOUT).unwrap();
        Self {
            server,
            opened,
            changes,
            reads_before,
        }
    }

    fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }
}

/// Runs while another thread reads, so that answers keep coming.
fn among_reads(handle: &dyn Origin, run: impl FnOnce()) {
    /// However it ends, so do the reads.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                read(handle, ELSEWHERE, 512);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let _done = Done(&is_done);
        run();
    });
}

fn assert_too_late(result: io::Result<()>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn regression_a_change_that_was_given_up_does_not_come_after_a_later_one() {
    let scratch = Scratch::new();
    let late = Late::start(&scratch, Then::Do);
    let handle = late.opened.handle();
    among_reads(&*handle, || {
        assert_too_late(handle.write(1024, &[1; 1024], false));
        handle.write(512, &[2; 512], false).unwrap();
        handle.write(2048, &[2; 512], true).unwrap();
        assert_eq!(late.changes(), 3);
        // Of any handle.
        let other = late.opened.handle();
        assert_too_late(other.write(2047, &[3; 10], true));
        assert_too_late(handle.zero(0, 1025, ZeroOptions::default()));
        assert_too_late(handle.trim(1500, 1, false));
        assert_eq!(late.changes(), 3, "nothing was sent");
        late.reads_before.store(20, Ordering::SeqCst);
        handle.write(1024, &[4; 1024], false).unwrap();
        handle.flush().unwrap();
        wait_until("the late write is done", || {
            late.reads_before.load(Ordering::SeqCst) > 20
        });
        assert_eq!(read(&*handle, 1024, 1024), [4; 1024]);
    });
    handle.write(1024, &[5; 1024], false).unwrap();
    assert_eq!(late.server.connections(), 1);
}

#[test]
fn a_change_that_waits_for_one_that_was_given_up_goes_to_the_next_session() {
    let scratch = Scratch::new();
    let late = Late::start(&scratch, Then::HangUp);
    let handle = late.opened.handle();
    among_reads(&*handle, || {
        assert_too_late(handle.write(0, &[1; 512], false));
        late.reads_before.store(20, Ordering::SeqCst);
        handle.write(0, &[2; 512], true).unwrap();
    });
    assert_eq!(read(&*handle, 0, 512), [2; 512]);
    assert_eq!((late.server.connections(), late.changes()), (2, 2));
}

#[test]
fn a_silent_connection_does_not_keep_changes_waiting_for_ever() {
    let scratch = Scratch::new();
    let late = Late::start(&scratch, Then::Do);
    let handle = late.opened.handle();
    among_reads(&*handle, || {
        assert_too_late(handle.write(0, &[1; 512], false))
    });
    assert_eq!(late.server.connections(), 1);
    assert_too_late(handle.write(0, &[2; 512], false));
    assert!(late.opened.log.has("no answer for"));
    handle.write(0, &[3; 512], false).unwrap();
    assert_eq!(read(&*handle, 0, 512), [3; 512]);
    assert_eq!(late.server.connections(), 2);
}

/// A read has no answer on one connection while a write takes long on another.
#[test]
fn regression_a_silent_connection_is_borne_while_changes_are_in_flight_on_another() {
    const LONG: Duration = Duration::from_millis(4000);
    let scratch = Scratch::new();
    let disk = Disk::new(pattern(0, SIZE));
    let asked = Arc::new(AtomicBool::new(false));
    let writes = Arc::new(AtomicUsize::new(0));
    let (was_asked, counted) = (Arc::clone(&asked), Arc::clone(&writes));
    let default = Offer::default();
    let offer = Offer {
        flags: default.flags | TransmissionFlags::CAN_MULTI_CONN,
        ..default
    };
    let server = Scripted::start(&scratch.path("s"), offer, move |peer, request, data| {
        if request.command == Command::READ && !was_asked.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        if request.command == Command::WRITE {
            counted.fetch_add(1, Ordering::SeqCst);
            // Longer than a connection may be silent that has only reads.
            thread::sleep(LONG * 5 / 8);
        }
        disk.answer(peer, request, data)
    });
    let uri = format!("nbd+unix:///?socket={}", server.socket.display());
    let opened = try_open(&uri, |options| options.timeout = LONG).unwrap();
    let handle = opened.handle();
    thread::scope(|scope| {
        let reader = scope.spawn(|| read(&*handle, ELSEWHERE, 512));
        wait_until("the read is sent", || asked.load(Ordering::SeqCst));
        handle.write(0, &[1; 512], false).unwrap();
        assert_eq!(writes.load(Ordering::SeqCst), 1, "not sent again");
        assert_eq!(server.connections(), 4);
        assert_eq!(reader.join().unwrap(), pattern(ELSEWHERE, 512));
    });
    assert_eq!(server.connections(), 8);
}
