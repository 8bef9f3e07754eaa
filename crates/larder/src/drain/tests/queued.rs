//! What is queued: sent in order, copied, given up.

use rustix::io::Errno;

use super::origin::eio;
use super::*;
use crate::inspect::{DirtyRange, inspect};
use crate::persist::queue_log::{Change, QueueLog, Wiping};

const RING: u64 = 128 << 10;
const NAME: &str = "queue-0";

type Write = (u64, u64, u8);

/// What was flushed, write by write, and what was not.
const EPOCHS: [&[Write]; 4] = [
    &[(0, 1024, 1), (4096, 512, 2)],
    &[(512, 1024, 3), (8192, 4096, 0)],
    &[(0, 512, 4)],
    &[(20480, 512, 5)],
];
const DATA_BYTES: u64 = 4 * 512 + 512;
const QUEUED_ZEROS: u64 = 4096;
const QUEUED_BYTES: u64 = 1024 + 512 + 1024 + 512 + 512;

fn with_queue(number: u32) -> Op<'static> {
    match volume(number) {
        Op::Volume(record) => Op::Volume(VolumeRecord {
            has_queue: true,
            ..record
        }),
        other => other,
    }
}

fn append(log: &QueueLog, &(start, length, value): &Write) {
    let bytes = vec![value; length as usize];
    let change = match value {
        0 => Change::Wipe {
            start,
            end: start + length,
            how: Wiping::Hole,
        },
        _ => Change::Data {
            start,
            bytes: &bytes,
        },
    };
    log.append(&change).unwrap();
}

/// Its user was killed. The last epoch had not ended.
fn queued() -> MemoryMedium {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let said = [with_queue(0), volume(1), user.put(clean(0, 0, 0))];
    let log = user.home.make_queue(id(0), RING).unwrap();
    user.say(&said);
    for (number, epoch) in EPOCHS.iter().enumerate() {
        epoch.iter().for_each(|write| append(&log, write));
        if number < 3 {
            log.bound().unwrap();
        }
    }
    log.sync().unwrap();
    drop((log, user));
    medium.take_changed();
    medium
}

/// What an origin holds that has got so many epochs.
fn after(epochs: usize) -> Vec<u8> {
    let mut bytes = vec![UNTOUCHED; SIZE as usize];
    for (start, length, value) in EPOCHS[..epochs].iter().copied().flatten() {
        bytes[*start as usize..][..*length as usize].fill(*value);
    }
    bytes
}

/// How many epochs the origin has, durably.
fn epochs_of(origin: &TestOrigin) -> usize {
    let durable = origin.durable();
    let known = (0..=4).rev().find(|epochs| after(*epochs) == durable);
    known.expect("a completed flush")
}

/// Nothing is queued, nothing refuses the directory, and nothing is missed in it.
fn assert_empty(medium: &MemoryMedium) {
    let held = held(medium);
    assert_eq!((held.dirty_bytes, held.zero_bytes), (0, 0));
    assert_eq!((held.queued_bytes, held.queued_flushes), (0, 0));
    assert!(holding(medium).is_empty());
}

#[test]
fn what_is_queued_is_told() {
    let medium = queued();
    let found = holding(&medium);
    assert_eq!(
        (found.dirty_bytes, found.zero_bytes, found.lost_queue),
        (DATA_BYTES, QUEUED_ZEROS, None)
    );
    let held = held(&medium);
    assert_eq!(
        (held.dirty_bytes, held.zero_bytes),
        (DATA_BYTES, QUEUED_ZEROS)
    );
    assert_eq!((held.queued_bytes, held.queued_flushes), (QUEUED_BYTES, 3));
}

#[test]
fn the_origin_gets_one_flush_after_the_other() {
    let medium = queued();
    let origin = origin();
    let done = write_back(&medium, &origin, false).unwrap();
    let all = WrittenBack {
        written_bytes: DATA_BYTES,
        zeroed_bytes: QUEUED_ZEROS,
        ..WrittenBack::default()
    };
    assert_eq!(done, all);
    assert_eq!(
        origin.calls(),
        [
            Call::Write(0, 1024),
            Call::Write(4096, 512),
            Call::Flush,
            Call::Write(512, 1024),
            Call::Zero(8192, 4096, true),
            Call::Flush,
            Call::Write(0, 512),
            Call::Flush,
            Call::Write(20480, 512),
            Call::Flush,
        ]
    );
    assert_eq!(epochs_of(&origin), 4);
    assert_empty(&medium);
    let held = held(&medium);
    // What is clean is still the origin's, which is known as it is now; the queue stays, for whoever comes next.
    assert_eq!(held.cached_bytes, BLOCK);
    assert!(!held.changed_since_version);
    let now = origin.version().unwrap().unwrap();
    assert_eq!(held.version.unwrap().changing.as_bytes(), now.changing);
    assert!(medium.image().contains_key(NAME));
}

#[test]
fn progress_is_told_after_each_flush() {
    let mut drain = open(&queued());
    let mut told = Vec::new();
    let mut tell = |at: Progress| told.push((at.done_bytes, at.total_bytes));
    let asked = WriteBack::default();
    drain.write_back(0, &origin(), &asked, &mut tell).unwrap();
    let done: Vec<u64> = told.iter().map(|at| at.0).collect();
    assert_eq!(done, [0, 1536, 1536 + 1024 + 4096, 7168, 7680]);
    assert!(told.iter().all(|at| at.1 == QUEUED_BYTES + QUEUED_ZEROS));
}

/// When an epoch is begun the directory says that the origin changes, and has all that the origin has not.
#[test]
fn the_directory_knows_before_the_origin_changes_and_begins_behind_each_flush() {
    let medium = queued();
    let beside = medium.clone();
    let flushes = AtomicU32::new(0);
    let origin = origin().before(move |call| {
        let held = held(&MemoryMedium::of(&beside.image()));
        assert!(held.changed_since_version);
        let left = 3 - u64::from(flushes.load(Ordering::Relaxed).min(3));
        assert_eq!(held.queued_flushes, left);
        if *call == Call::Flush {
            flushes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    });
    write_back(&medium, &origin, false).unwrap();
    assert_eq!(epochs_of(&origin), 4);
}

/// One that refuses this, once.
fn refusing(refused: Call) -> TestOrigin {
    let count = AtomicU32::new(0);
    origin().before(move |call| {
        match *call == refused && count.fetch_add(1, Ordering::Relaxed) == 0 {
            true => Err(eio()),
            false => Ok(()),
        }
    })
}

#[test]
fn a_refusal_leaves_the_rest_and_the_origin_at_a_flush() {
    let left = |start, length| Left {
        start,
        length,
        why: Why::Refused(eio().to_string()),
    };
    let second = vec![left(0, 1536), left(8192, 4096), left(20480, 512)];
    let third = vec![left(0, 512), left(20480, 512)];
    for (refused, epochs, expected, written) in [
        (Call::Zero(8192, 4096, true), 1, second, (512, 0)),
        (Call::Write(0, 512), 2, third, (512 + 1024, 4096)),
    ] {
        let medium = queued();
        let origin = refusing(refused);
        let done = write_back(&medium, &origin, false).unwrap();
        assert_eq!(epochs_of(&origin), epochs);
        assert_eq!(done.left, expected);
        assert_eq!((done.written_bytes, done.zeroed_bytes), written);
        let found = holding(&medium);
        let all = (DATA_BYTES, QUEUED_ZEROS);
        let both = (found.dirty_bytes + written.0, found.zero_bytes + written.1);
        assert_eq!(both, all);
        assert!(held(&medium).changed_since_version);
        assert_eq!(write_back(&medium, &origin, false).unwrap().left, []);
        assert_eq!(epochs_of(&origin), 4);
        assert_empty(&medium);
    }
}

#[test]
fn an_origin_that_cannot_take_it_in_order_is_refused() {
    let medium = queued();
    let refused = |origin: &TestOrigin, told: &str| {
        let error = write_back(&medium, origin, true).unwrap_err();
        assert_eq!(error.kind(), DrainErrorKind::Origin);
        assert!(error.to_string().contains(told), "{error}");
        assert_eq!(origin.calls(), []);
    };
    let mut flushless = origin();
    flushless.capabilities.flush = false;
    refused(&flushless, "cannot flush");
    let short = TestOrigin::new(10_000).with_version("inode 7");
    refused(
        &short,
        "it was written from 8192 to 12288, and its origin ends at 10000",
    );
    assert_eq!(holding(&medium).dirty_bytes, DATA_BYTES);
}

#[test]
fn by_force_another_origin_gets_all_of_it_and_the_volume_is_forgotten() {
    let medium = queued();
    let other = TestOrigin::new(SIZE).with_version("inode 8");
    let error = write_back(&medium, &other, false).unwrap_err();
    assert_eq!(error.kind(), DrainErrorKind::OtherOrigin);
    assert_eq!(other.calls(), []);
    let done = write_back(&medium, &other, true).unwrap();
    assert!(done.is_forced && done.left.is_empty());
    assert_eq!(
        (done.written_bytes, done.zeroed_bytes),
        (DATA_BYTES, QUEUED_ZEROS)
    );
    assert_eq!(epochs_of(&other), 4);
    let flushes = other
        .calls()
        .iter()
        .filter(|it| **it == Call::Flush)
        .count();
    assert_eq!(flushes, 4);
    let found = inspect(&medium, Detail::Figures).unwrap();
    assert_eq!((found.volumes.len(), found.volumes[0].number), (1, 1));
    assert!(!medium.image().contains_key(NAME));
}

/// The other origin has a flush, the queue has everything, and no origin is taken for the right one without force.
#[test]
fn what_force_cannot_finish_stays_whole_and_queued() {
    let medium = queued();
    let other = TestOrigin::new(SIZE).with_version("inode 8");
    let other = other.before(|call| match call {
        Call::Zero(..) => Err(eio()),
        _ => Ok(()),
    });
    let done = write_back(&medium, &other, true).unwrap();
    assert_eq!(epochs_of(&other), 1);
    assert!(done.is_forced && !done.left.is_empty());
    assert_eq!(held(&medium).queued_bytes, QUEUED_BYTES);
    let refused = write_back(&medium, &origin(), false).unwrap_err();
    assert_eq!(refused.kind(), DrainErrorKind::OtherOrigin);
    let origin = origin();
    write_back(&medium, &origin, true).unwrap();
    assert_eq!(epochs_of(&origin), 4);
}

#[test]
fn an_export_has_the_last_change_of_each_byte() {
    let medium = queued();
    let drain = open(&medium);
    let mut sparse = Sparse(vec![UNTOUCHED; SIZE as usize]);
    let done = drain.export(0, &mut sparse, &mut |_| {}).unwrap();
    drain.close().unwrap();
    let range = |start, length, is_zero| DirtyRange {
        start,
        length,
        is_zero,
    };
    assert_eq!(
        done.ranges,
        [
            range(0, 1536, false),
            range(4096, 512, false),
            range(8192, 4096, true),
            range(20480, 512, false),
        ]
    );
    sparse.0[8192..12288].fill(0);
    assert!(sparse.0 == after(4));
    assert_eq!(held(&medium).dirty_ranges, Some(done.ranges));
    assert_eq!(held(&medium).queued_flushes, 3, "the directory keeps it");
}

/// From the change after so many on nothing reaches the directory.
fn changed_until(
    medium: &MemoryMedium,
    changes: u64,
    work: impl FnOnce(&mut Drain) -> Result<(), DrainError>,
) -> bool {
    medium.fail_after(changes, Errno::IO, true);
    let Ok(mut drain) = Drain::open_to_discard(Arc::new(medium.clone()), "pid 13") else {
        return false;
    };
    work(&mut drain).is_ok() & drain.close().is_ok()
}

#[test]
fn whichever_call_is_the_last_the_origin_is_at_a_flush_and_nothing_is_lost() {
    let mut changes = 0;
    loop {
        let (medium, origin) = (queued(), origin());
        let has_ended = changed_until(&medium, changes, |drain| {
            let asked = WriteBack::default();
            drain.write_back(0, &origin, &asked, &mut |_| {}).map(drop)
        });
        let now = MemoryMedium::of(&medium.image());
        epochs_of(&origin);
        assert_eq!(write_back(&now, &origin, false).unwrap().left, []);
        assert_eq!(epochs_of(&origin), 4);
        assert_empty(&now);
        if has_ended && medium.changes() <= changes {
            break;
        }
        changes += 1;
    }
    assert!(changes > 30, "{changes}");
}

#[test]
fn whichever_call_is_the_last_of_a_discard_a_start_takes_what_is_left() {
    let mut changes = 0;
    loop {
        let medium = queued();
        let has_ended = changed_until(&medium, changes, |drain| drain.discard(0));
        let now = MemoryMedium::of(&medium.image());
        let found = open(&now).holdings();
        let disk = found.iter().find(|it| it.number == 0);
        let is_whole = disk.is_some_and(|it| it.dirty_bytes == DATA_BYTES);
        assert!(is_whole || disk.is_none_or(Holding::is_empty));
        if has_ended {
            assert!(disk.is_none() && !now.image().contains_key(NAME));
            if medium.changes() <= changes {
                break;
            }
        }
        changes += 1;
    }
    assert!(changes > 8, "{changes}");
}

fn without_queue() -> MemoryMedium {
    let mut image = queued().image();
    image.remove(NAME);
    MemoryMedium::of(&image)
}

fn spoilt() -> MemoryMedium {
    let mut image = queued().image();
    image.get_mut(NAME).unwrap()[..2 * 4096].fill(7);
    MemoryMedium::of(&image)
}

#[test]
fn a_queue_that_is_missing_or_damaged_can_be_given_up_and_nothing_else_be_done() {
    for (make, why) in [
        (
            without_queue as fn() -> MemoryMedium,
            "the queue of volume 'disk0' is missing",
        ),
        (spoilt, "queue-0 is "),
    ] {
        let mut changes = 0;
        loop {
            let medium = make();
            let (kind, told) = refusal(&medium);
            assert_eq!(kind, DrainErrorKind::Queue);
            assert!(told.starts_with(why), "{told}");
            let has_ended = changed_until(&medium, changes, |drain| {
                let found = &drain.holdings()[0];
                assert!(found.lost_queue.as_ref().unwrap().starts_with(why));
                drain.discard(0)
            });
            // It can be done again, however far it came.
            let now = MemoryMedium::of(&medium.image());
            let mut drain = Drain::open_to_discard(Arc::new(now.clone()), "pid 13").unwrap();
            if drain.holdings()[0].number == 0 {
                drain.discard(0).unwrap();
            }
            drain.close().unwrap();
            let names: Vec<String> = open(&now)
                .holdings()
                .into_iter()
                .map(|it| it.name)
                .collect();
            assert_eq!(names, ["disk1"]);
            assert!(!now.image().contains_key(NAME));
            if has_ended && medium.changes() <= changes {
                break;
            }
            changes += 1;
        }
    }
}

#[test]
fn a_queue_of_no_volume_can_be_given_up() {
    let medium = queued();
    // Its volume goes without it.
    let user = User::open(&medium);
    user.say(&[Op::VolumeGone(id(0))]);
    drop(user);
    let (kind, told) = refusal(&medium);
    assert_eq!(kind, DrainErrorKind::Queue);
    assert!(
        told.contains("of a volume that the directory does not know"),
        "{told}"
    );
    let mut drain = Drain::open_to_discard(Arc::new(medium.clone()), "pid 13").unwrap();
    let strays = drain.strays();
    assert_eq!((strays.len(), strays[0].number), (1, 0));
    drain.discard_stray(0).unwrap();
    assert_eq!(drain.strays(), []);
    drain.close().unwrap();
    assert_eq!(open(&medium).holdings().len(), 1);
}

/// Nobody could tell which of them is newer.
#[test]
fn written_data_of_both_orders_is_refused() {
    let medium = queued();
    let user = User::open(&medium);
    user.say(&[user.put(dirty(1, 9, 1, 0))]);
    drop(user);
    let (kind, told) = refusal(&medium);
    assert_eq!(kind, DrainErrorKind::Refused);
    assert!(told.contains("with an order and without one"), "{told}");
}
