//! A queue that is made, written to, found again, and refused.

use rustix::io::Errno;

use super::*;
use crate::directory::VolumeNumber;
use crate::persist::home::{Home, Opened, Wanted};
use crate::persist::memory_medium::{Image, MemoryMedium};
use crate::persist::open_error::OpenError;
use crate::persist::sums::Incarnation;
use crate::persist::testing::{Random, pool};
use crate::persist::volumes::VolumeTable;

mod damage;
mod failures;
mod story;

const RING: u64 = 64 << 10;
const NAME: &str = "queue-3";

fn id(volume: u32, incarnation: u32) -> VolumeId {
    VolumeId {
        volume: VolumeNumber(volume),
        incarnation: Incarnation(incarnation),
    }
}

fn open(medium: &MemoryMedium) -> Result<Opened, OpenError> {
    let wanted = Wanted {
        block_bytes: None,
        default_block_bytes: 4096,
        max_size_bytes: Some(32 << 20),
        uuid_bits: 1,
        lock_text: "pid 12 started 10:00".to_owned(),
    };
    Home::open_with(Arc::new(medium.clone()), &wanted, 64 << 10)
}

/// A directory with an empty queue.
fn made() -> (MemoryMedium, Home, QueueLog) {
    let medium = MemoryMedium::default();
    let opened = open(&medium).unwrap();
    assert!(opened.queues.is_empty());
    let log = opened.home.make_queue(id(3, 4), RING).unwrap();
    (medium, opened.home, log)
}

/// What the next start makes of a directory: the one queue that there is.
fn found(image: &Image) -> (Home, FoundQueue) {
    let Opened { home, queues, .. } = open(&MemoryMedium::of(image)).unwrap();
    let [queue] = <[FoundQueue; 1]>::try_from(queues).ok().unwrap();
    (home, queue)
}

fn begin(image: &Image) -> (Home, Vec<FoundChange>, QueueLog) {
    let (home, mut queue) = found(image);
    let changes = std::mem::take(&mut queue.found);
    let log = queue.begin(&home).unwrap();
    (home, changes, log)
}

fn refusal(image: &Image) -> String {
    let medium = MemoryMedium::of(image);
    let refused = open(&medium).err().unwrap().to_string();
    let mut after = medium.image();
    // Who has tried last.
    after.insert("lock".to_owned(), image["lock"].clone());
    assert_eq!(&after, image, "a refusal writes nothing");
    refused
}

fn data(start: u64, bytes: &[u8]) -> Change<'_> {
    Change::Data { start, bytes }
}

fn wipe(start: u64, end: u64, how: Wiping) -> Change<'static> {
    Change::Wipe { start, end, how }
}

/// What a start finds of a change that was put there.
fn as_found(change: &Change<'_>, placed: Placed) -> FoundChange {
    let Placed { seq, offset } = placed;
    let (start, end, content) = match *change {
        Change::Data { start, bytes } => {
            let end = start + bytes.len() as u64;
            (start, end, FoundContent::Data { offset })
        }
        Change::Wipe { start, end, how } => (start, end, FoundContent::Wipe(how)),
    };
    FoundChange::Change {
        seq,
        start,
        end,
        content,
    }
}

fn bytes_at(log: &QueueLog, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    log.read(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_said_is_found_again_after_a_kill_at_any_frame() {
    let (medium, _home, log) = made();
    let changes = [
        data(512, &[1; 512]),
        wipe(0, 1 << 40, Wiping::Hole),
        data(7, &[2; 9000]),
        wipe(4096, 8192, Wiping::Zero),
        wipe(4096, 8192, Wiping::Hole),
        data(1 << 50, &[3]),
    ];
    let mut expected = Vec::new();
    for (number, change) in changes.iter().enumerate() {
        let placed = log.append(change).unwrap();
        expected.push(as_found(change, placed));
        if let Change::Data { bytes, .. } = change {
            assert_eq!(bytes_at(&log, placed.offset, bytes.len()), *bytes);
        }
        assert_eq!(found(&medium.image()).1.found, expected);
        if number % 2 == 1 {
            let place = log.bound().unwrap();
            expected.push(FoundChange::Boundary(place));
            assert_eq!((place, place.seq), (log.end(), placed.seq + 2));
        }
        let (_home, again, log) = begin(&medium.image());
        assert_eq!(again, expected);
        assert_eq!(
            (log.end(), log.synced_seq() + 1),
            (log.end(), log.end().seq)
        );
    }
    assert_eq!(log.sync().unwrap(), log.end().seq - 1);
    assert_eq!(log.synced_seq(), log.end().seq - 1);
    let (_home, queue) = found(&medium.image());
    assert_eq!((queue.id, queue.ring_bytes), (id(3, 4), RING));
    assert!(!queue.is_empty());
}

#[test]
fn a_directory_that_is_closed_keeps_its_queue() {
    let (medium, home, log) = made();
    let change = data(0, &[1; 5000]);
    let placed = log.append(&change).unwrap();
    log.sync().unwrap();
    let table = VolumeTable::default();
    home.close(&table, 0, &mut std::iter::empty()).unwrap();
    let (home, changes, log) = begin(&medium.image());
    assert_eq!(changes, [as_found(&change, placed)]);
    assert_eq!(sync::lock(&log.heads).current().session, home.session());
    assert_eq!(bytes_at(&log, placed.offset, 5000), [1; 5000]);
}

#[test]
fn what_the_origin_has_is_not_found_again() {
    let (medium, _home, log) = made();
    log.append(&data(0, &[1; 512])).unwrap();
    let first = log.bound().unwrap();
    let change = data(512, &[2; 512]);
    let placed = log.append(&change).unwrap();
    log.sync().unwrap();
    log.advance(first).unwrap();
    assert_eq!(found(&medium.image()).1.found, [as_found(&change, placed)]);
    // Told once more, or of less, it is no news.
    let used = log.used_bytes();
    log.advance(first).unwrap();
    assert_eq!((log.used_bytes(), used), (PAGE_BYTES, PAGE_BYTES));
    // The beginning of an epoch that has no end.
    log.advance(log.end()).unwrap();
    let (_home, queue) = found(&medium.image());
    assert!(queue.is_empty() && queue.found.is_empty());
    assert_eq!(log.used_bytes(), 0);
}

#[test]
fn there_is_one_boundary_behind_a_change() {
    let (medium, _home, log) = made();
    assert_eq!(log.bound().unwrap(), Position::FIRST);
    log.append(&data(0, &[1])).unwrap();
    let place = log.bound().unwrap();
    assert_eq!(log.bound().unwrap(), place);
    assert_eq!(place.seq, 3);
    let (_home, changes, again) = begin(&medium.image());
    assert_eq!(changes.len(), 2);
    assert_eq!(again.bound().unwrap(), place);
    again.append(&data(0, &[1])).unwrap();
    assert_eq!(again.bound().unwrap().seq, 5);
}

#[test]
fn a_full_ring_takes_a_boundary_and_nothing_else() {
    let (medium, _home, log) = made();
    let mut appended = 0;
    while log.has_room(1) {
        log.append(&data(0, &[1])).unwrap();
        appended += 1;
    }
    assert_eq!(appended, RING / PAGE_BYTES - 1);
    for change in [data(0, &[1]), wipe(0, 512, Wiping::Zero)] {
        assert!(matches!(log.append(&change), Err(CommitError::NoRoom)));
    }
    assert!(log.failure().is_none());
    let (_home, _, again) = begin(&medium.image());
    assert!(!again.has_room(0));
    for log in [&log, &again] {
        let place = log.bound().unwrap();
        assert_eq!(log.used_bytes(), RING);
        assert_eq!(log.sync().unwrap(), place.seq - 1);
        assert!(matches!(
            log.append(&data(0, &[1])),
            Err(CommitError::NoRoom)
        ));
    }
    let full = medium.image();
    assert_eq!(found(&full).1.found.len() as u64, appended + 1);
    log.advance(log.end()).unwrap();
    assert_eq!((log.used_bytes(), log.ring_bytes()), (0, RING));
    assert!(log.has_room(RING - 2 * PAGE_BYTES) && !log.has_room(RING - PAGE_BYTES));
}

#[test]
fn room_is_counted_as_it_is_taken() {
    let (_medium, _home, log) = made();
    let mut random = Random::new(1);
    for _ in 0..2000 {
        let length = match random.below(3) {
            0 => 4096 * (1 + random.below(8)) - DATA_AT - 8 + random.below(16),
            _ => 1 + random.below(40_000),
        };
        let bytes = pool(&mut random, length as usize);
        let (has_room, appended) = (log.has_room(length), log.append(&data(0, bytes)));
        assert_eq!(appended.is_ok(), has_room, "{length}");
        match appended {
            Ok(placed) => assert_eq!(bytes_at(&log, placed.offset, bytes.len()), bytes),
            Err(CommitError::NoRoom) => {
                let place = log.bound().unwrap();
                log.advance(place).unwrap();
                // Less than half of it fits wherever the next frame is.
                assert!(log.has_room(24 << 10));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn what_is_no_change_is_not_taken() {
    let (_medium, _home, log) = made();
    let long = vec![0; MAX_DATA_BYTES as usize + 1];
    for change in [
        data(0, &[]),
        data(0, &long),
        data(1 << 63, &[1]),
        wipe(1, 1, Wiping::Hole),
    ] {
        assert!(matches!(log.append(&change), Err(CommitError::Making(_))));
    }
    assert_eq!(log.used_bytes(), 0);
}

#[test]
fn the_largest_change_fits_into_the_smallest_ring_wherever_it_is() {
    let medium = MemoryMedium::default();
    let home = open(&medium).unwrap().home;
    let longest = (MAX_DATA_BYTES + DATA_AT).next_multiple_of(PAGE_BYTES);
    let log = home.make_queue(id(0, 0), 2 * longest + PAGE_BYTES).unwrap();
    let bytes = vec![7; MAX_DATA_BYTES as usize];
    for _ in 0..600 {
        log.append(&data(0, &[1])).unwrap();
        log.advance(log.end()).unwrap();
        assert!(log.has_room(MAX_DATA_BYTES));
    }
    let placed = log.append(&data(5, &bytes)).unwrap();
    assert_eq!(
        found(&medium.image()).1.found,
        [as_found(&data(5, &bytes), placed)]
    );
}

#[test]
fn queues_are_apart_and_go_away() {
    let (medium, home, log) = made();
    let other = home.make_queue(id(1, 9), RING).unwrap();
    log.append(&data(0, &[3])).unwrap();
    let queues = open(&MemoryMedium::of(&medium.image())).unwrap().queues;
    let ids: Vec<VolumeId> = queues.iter().map(|queue| queue.id).collect();
    assert_eq!(ids, [id(1, 9), id(3, 4)]);
    assert!(queues[0].is_empty() && !queues[1].is_empty());
    drop(other);
    home.remove_queue(VolumeNumber(1)).unwrap();
    home.remove_queue(VolumeNumber(1)).unwrap();
    assert_eq!(found(&medium.image()).1.id, id(3, 4));
}

#[test]
fn a_queue_is_made_anew_only_if_it_holds_nothing() {
    let (medium, home, log) = made();
    log.append(&data(0, &[3])).unwrap();
    let place = log.bound().unwrap();
    let before = medium.image();
    let refused = home.make_queue(id(3, 5), RING).err().unwrap();
    assert_eq!(
        refused.to_string(),
        "queue-3 holds changes that the origin does not have, and cannot be made anew before it has them"
    );
    assert_eq!(medium.image(), before);
    log.advance(place).unwrap();
    drop(log);
    let new = home.make_queue(id(3, 5), 2 * RING).unwrap();
    assert_eq!(
        (new.id(), new.ring_bytes(), new.used_bytes()),
        (id(3, 5), 2 * RING, 0)
    );
    // What the file held before means nothing, wherever it lies.
    let mut image = medium.image();
    let old = &before[NAME][RING_START as usize..];
    image.get_mut(NAME).unwrap()[RING_START as usize..][..old.len()].copy_from_slice(old);
    assert!(found(&image).1.is_empty());
}

#[test]
fn a_ring_of_no_pages_is_an_error() {
    let (_medium, home, _log) = made();
    for ring_bytes in [0, 4097, u64::MAX] {
        let refused = home.make_queue(id(1, 1), ring_bytes).err().unwrap();
        let expected = format!("queue-1 cannot be made: its ring cannot have {ring_bytes} bytes");
        assert!(refused.to_string().starts_with(&expected), "{refused}");
    }
}
