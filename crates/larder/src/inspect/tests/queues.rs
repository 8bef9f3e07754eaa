//! Queues, looked at beside whoever changes them, and found damaged.

use std::sync::Mutex;

use super::*;
use crate::persist::frame::Position;
use crate::persist::op::VolumeRecord;
use crate::persist::queue_log::{Change, QueueLog, Wiping};

const RING: u64 = 64 << 10;
/// Two copies of the head come before it.
const RING_START: u64 = 8192;

fn write(log: &QueueLog, start: u64, value: u8) -> Position {
    let bytes = [value; 512];
    let change = Change::Data {
        start,
        bytes: &bytes,
    };
    log.append(&change).unwrap();
    let end = log.bound().unwrap();
    log.sync().unwrap();
    end
}

/// Volume 0 has three flushes in its queue, of the same sector twice, of another one and zeros. Where the first ends, too.
fn queued(medium: &MemoryMedium) -> (User, QueueLog, Position) {
    let user = User::open(medium);
    let Op::Volume(record) = volume(0) else {
        panic!("a volume");
    };
    let record = VolumeRecord {
        has_queue: true,
        ..record
    };
    let log = user.home.make_queue(id(0), RING).unwrap();
    user.say(&[Op::Volume(record)]);
    let first = write(&log, 0, 1);
    write(&log, 0, 2);
    let wipe = Change::Wipe {
        start: 4096,
        end: 8192,
        how: Wiping::Hole,
    };
    log.append(&wipe).unwrap();
    write(&log, 1024, 3);
    (user, log, first)
}

fn figures(found: &Inspection) -> (u64, u64, u64, u64) {
    let volume = &found.volumes[0];
    (
        volume.dirty_bytes,
        volume.zero_bytes,
        volume.queued_bytes,
        volume.queued_flushes,
    )
}

#[test]
fn what_is_queued_is_what_the_origin_does_not_have() {
    let medium = MemoryMedium::default();
    let (user, log, _) = queued(&medium);
    medium.take_changed();
    let found = look(&medium);
    assert_eq!(medium.take_changed(), [""; 0]);
    assert_eq!(found.state, DirectoryState::InUse);
    assert_eq!(figures(&found), (1024, 4096, 1536, 3));
    let ranges = vec![
        range(0, 512, false),
        range(1024, 512, false),
        range(4096, 4096, true),
    ];
    assert_eq!(found.volumes[0].dirty_ranges, Some(ranges));
    drop((user, log));
    let after = look(&medium);
    assert_eq!(after.state, DirectoryState::AfterCrash);
    assert_eq!(after.volumes, found.volumes);
}

/// A look while its user does something at the first read of the ring.
fn look_while(act: impl FnOnce(&QueueLog, Position) + Send + 'static) -> Inspection {
    let medium = MemoryMedium::default();
    let (user, log, first) = queued(&medium);
    let act = Mutex::new(Some((act, log)));
    let watched = Watched::new(&medium, move |name, offset| {
        if name == "queue-0"
            && offset >= RING_START
            && let Some((act, log)) = act.lock().unwrap().take()
        {
            act(&log, first);
        }
        Ok(())
    });
    let found = look(&watched);
    drop(user);
    found
}

#[test]
fn what_the_origin_gets_meanwhile_is_not_told() {
    let found = look_while(|log, first| log.advance(first).unwrap());
    assert_eq!(figures(&found), (1024, 4096, 1024, 2));
}

/// What was read first is not there any more.
#[test]
fn a_ring_that_is_written_over_meanwhile_is_read_again() {
    let found = look_while(|log, _| {
        let mut end = log.end();
        for round in 0..20 {
            log.advance(end).unwrap();
            end = write(log, 2048, round);
        }
    });
    assert_eq!(figures(&found), (512, 0, 512, 1));
}

fn spoil(medium: &MemoryMedium, at: u64) -> MemoryMedium {
    let mut image = medium.image();
    image.get_mut("queue-0").unwrap()[(RING_START + at) as usize] ^= 1;
    MemoryMedium::of(&image)
}

#[test]
fn a_scrub_compares_the_frames_of_queues() {
    let medium = MemoryMedium::default();
    drop(queued(&medium));
    let whole = scrub(&medium, &mut |_| {}).unwrap();
    assert_eq!((whole.queue_frames, whole.queue_bytes), (7, 7 * 4096));
    assert_eq!(whole.bad_queues, []);
    // The last frame, which no later one says to have been durable, is one that a crash has torn.
    let torn = scrub(&spoil(&medium, 6 * 4096 + 70), &mut |_| {}).unwrap();
    assert_eq!((torn.queue_frames, torn.bad_queues), (6, Vec::new()));
    // The data of the second change.
    let spoilt = spoil(&medium, 2 * 4096 + 300);
    let found = scrub(&spoilt, &mut |_| {}).unwrap();
    assert_eq!((found.queue_frames, found.bad_queues.len()), (0, 1));
    let bad = &found.bad_queues[0];
    assert_eq!((bad.number, bad.volume.as_deref()), (0, Some("disk0")));
    assert!(
        bad.why.starts_with("queue-0: frame 3 is damaged"),
        "{}",
        bad.why
    );
    // A start would refuse it, and so does a look.
    assert_eq!(refusal(&spoilt).1, bad.why);
}

#[test]
fn a_queue_that_is_gone_is_missed() {
    let medium = MemoryMedium::default();
    drop(queued(&medium));
    medium.remove("queue-0").unwrap();
    medium.take_changed();
    let (kind, told) = refusal(&medium);
    assert_eq!(kind, InspectErrorKind::Refused);
    assert!(
        told.starts_with("the queue of volume 'disk0' is missing"),
        "{told}"
    );
    let found = scrub(&medium, &mut |_| {}).unwrap();
    assert_eq!(found.bad_queues[0].why, told);
}
