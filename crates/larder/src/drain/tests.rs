//! Directories with written data, made through the code that makes real ones, and what becomes of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::inspect::tests::making::{
    ALL, BLOCK, Put, SECTOR, SIZE, User, clean, content_of, id, zeros,
};
use crate::inspect::{Detail, InspectedVolume, inspect};
use crate::origin::Origin;
use crate::persist::memory_medium::MemoryMedium;
use crate::persist::op::VolumeRecord;
use crate::persist::op::volume::RecordedVersion;
use crate::sector::Mask;

mod crashing;
mod failing;
mod origin;
mod queued;
mod refusing;

use origin::{Call, TestOrigin, UNTOUCHED};

/// The version of every volume's origin: none has been written to.
fn version() -> RecordedVersion {
    RecordedVersion {
        stable: b"inode 7".to_vec(),
        changing: b"0 changes".to_vec(),
    }
}

fn volume(number: u32) -> Op<'static> {
    Op::Volume(VolumeRecord {
        id: id(number),
        size_bytes: SIZE,
        sector_shift: 9,
        changed_since_version: false,
        has_queue: false,
        name: format!("disk{number}"),
        cache_id: String::new(),
        version: Some(version()),
    })
}

/// A block of volume 0, dirty in these sectors, of which the journal carries some.
fn dirty(slot: u32, block: u64, dirty: u128, inlined: u128) -> Put {
    Put {
        valid: ALL,
        dirty: Mask(dirty),
        inlined: Mask(inlined),
        content: 9,
        ..clean(slot, 0, block)
    }
}

/// The last block of the volume: its second sector is cut by the volume's end.
fn last() -> Put {
    Put {
        valid: Mask(0b11),
        ..dirty(3, 16, 0b10, 0)
    }
}

/// Written data of volume 0: in slots and in the journal, at the volume's end, and under zeros that are newer.
fn puts() -> Vec<Put> {
    vec![
        clean(0, 0, 0),
        dirty(1, 9, 0b1111_0000, 0b0011_0000),
        dirty(2, 2, 0b0000_0110, 0),
        last(),
        clean(4, 1, 0),
    ]
}

/// The first is over a dirty sector and two clean ones of block 2.
const ZEROS: [(u64, u64); 2] = [
    (2 * BLOCK + 2 * SECTOR, 2 * BLOCK + 5 * SECTOR),
    (4 * BLOCK, 6 * BLOCK),
];

fn story(user: &User) -> Vec<Op<'static>> {
    let mut said = vec![volume(0), volume(1)];
    said.extend(puts().into_iter().map(|put| user.put(put)));
    said.push(zeros(0, &ZEROS));
    said
}

/// Its user was killed.
fn crashed() -> MemoryMedium {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let said = story(&user);
    user.say(&said);
    drop(user);
    medium.take_changed();
    medium
}

/// Its user has closed it.
fn closed() -> MemoryMedium {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let said = story(&user);
    user.say(&said);
    puts().into_iter().for_each(|put| user.apply(put));
    user.close(&said);
    medium
}

/// What the origin of volume 0 must hold in the end.
fn expected() -> Vec<u8> {
    let mut bytes = vec![UNTOUCHED; SIZE as usize];
    for put in puts().into_iter().filter(|put| put.volume == 0) {
        for sector in crate::persist::op::each(put.dirty) {
            let start = (put.block * BLOCK + u64::from(sector) * SECTOR) as usize;
            let end = (start + SECTOR as usize).min(bytes.len());
            bytes[start..end].copy_from_slice(&content_of(put, sector)[..end - start]);
        }
    }
    for (start, end) in ZEROS {
        bytes[start as usize..end as usize].fill(0);
    }
    bytes
}

/// Written data and zeros of it.
const DIRTY_BYTES: u64 = 4 * SECTOR + SECTOR + 188;
const ZERO_BYTES: u64 = 3 * SECTOR + 2 * BLOCK;

fn origin() -> TestOrigin {
    TestOrigin::new(SIZE).with_version("inode 7")
}

fn open(medium: &MemoryMedium) -> Drain {
    Drain::open(Arc::new(medium.clone()), "pid 13 started 11:00").unwrap()
}

fn refusal(medium: &MemoryMedium) -> (DrainErrorKind, String) {
    let error = Drain::open(Arc::new(medium.clone()), "pid 13").unwrap_err();
    (error.kind(), error.to_string())
}

/// Writes volume 0 back and lets go of the directory.
fn write_back(
    medium: &MemoryMedium,
    origin: &TestOrigin,
    force: bool,
) -> Result<WrittenBack, DrainError> {
    let mut drain = open(medium);
    let asked = WriteBack {
        cache_id: None,
        force,
    };
    let mut told = Vec::new();
    let done = drain.write_back(0, origin, &asked, &mut |progress| told.push(progress));
    assert!(told.iter().all(|at| at.done_bytes <= at.total_bytes));
    drain.close().unwrap();
    done
}

/// What the directory has of volume 0.
fn held(medium: &MemoryMedium) -> InspectedVolume {
    let found = inspect(medium, Detail::DirtyRanges).unwrap();
    found.volumes[0].clone()
}

fn holding(medium: &MemoryMedium) -> Holding {
    open(medium).holdings()[0].clone()
}

#[test]
fn all_that_was_written_is_on_the_origin_and_the_directory_knows() {
    for medium in [crashed(), closed()] {
        let found = holding(&medium);
        assert_eq!(
            (found.dirty_bytes, found.zero_bytes),
            (DIRTY_BYTES, ZERO_BYTES)
        );
        let origin = origin();
        let done = write_back(&medium, &origin, false).unwrap();
        let all = WrittenBack {
            written_bytes: DIRTY_BYTES,
            zeroed_bytes: ZERO_BYTES,
            ..WrittenBack::default()
        };
        assert_eq!(done, all);
        assert_eq!(origin.durable(), expected());
        let held = held(&medium);
        assert_eq!((held.dirty_bytes, held.zero_bytes), (0, 0));
        assert!(holding(&medium).is_empty());
    }
}

#[test]
fn the_origin_is_asked_in_order_and_flushed_once() {
    let origin = origin();
    write_back(&crashed(), &origin, false).unwrap();
    let (block, sector) = (BLOCK, SECTOR);
    assert_eq!(
        origin.calls(),
        [
            Call::Write(2 * block + sector, sector),
            Call::Zero(2 * block + 2 * sector, 3 * sector, true),
            Call::Zero(4 * block, 2 * block, true),
            Call::Write(9 * block + 4 * sector, 4 * sector),
            Call::Write(16 * block + sector, 188),
            Call::Flush,
        ]
    );
}

/// What is clean is still the origin's, and the next start must believe it.
#[test]
fn what_is_clean_stays_with_the_version_that_the_origin_has_now() {
    let medium = crashed();
    let origin = origin();
    write_back(&medium, &origin, false).unwrap();
    let held = held(&medium);
    // Of blocks with dirty sectors nothing else, and nothing of what was zero: the slot has something older.
    assert_eq!(held.cached_bytes, BLOCK + DIRTY_BYTES);
    assert!(!held.changed_since_version);
    let recorded = held.version.unwrap().changing;
    let now = origin.version().unwrap().unwrap();
    assert_eq!(recorded.as_bytes(), now.changing);
    assert_eq!(
        crate::inspect::scrub(&medium, &mut |_| {})
            .unwrap()
            .bad_clean_sectors,
        0
    );
}

/// A slot has what was there before.
#[test]
fn what_was_zero_is_not_found_in_a_clean_slot_afterwards() {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let mut said = story(&user);
    said.push(user.put(clean(5, 0, 5)));
    user.say(&said);
    drop(user);
    write_back(&medium, &origin(), false).unwrap();
    let held = held(&medium);
    assert_eq!(
        (held.blocks, held.cached_bytes, held.zero_bytes),
        (4, BLOCK + DIRTY_BYTES, 0)
    );
}

#[test]
fn other_volumes_stay_as_they_are() {
    let medium = crashed();
    let before = inspect(&medium, Detail::DirtyRanges).unwrap().volumes[1].clone();
    write_back(&medium, &origin(), false).unwrap();
    let after = inspect(&medium, Detail::DirtyRanges).unwrap().volumes[1].clone();
    assert_eq!(before, after);
}

#[test]
fn where_there_is_nothing_the_origin_is_left_alone() {
    let medium = crashed();
    write_back(&medium, &origin(), false).unwrap();
    let origin = TestOrigin::new(1);
    let done = write_back(&medium, &origin, false).unwrap();
    assert_eq!(done, WrittenBack::default());
    assert_eq!(origin.calls(), []);
}

/// A drain that ended early has changed it, and so may anybody have done.
#[test]
fn an_origin_that_changed_while_nobody_was_there_to_see_is_told_of() {
    let medium = crashed();
    let image = Arc::new(Mutex::new(None));
    let (beside, during) = (medium.clone(), Arc::clone(&image));
    let first = origin().before(move |_| {
        *during.lock().unwrap() = Some(beside.image());
        Ok(())
    });
    let done = write_back(&medium, &first, false).unwrap();
    assert_eq!(done.assumed, None);
    let died = MemoryMedium::of(&image.lock().unwrap().take().unwrap());
    let changed = origin();
    changed.write(0, &[0], false).unwrap();
    let done = write_back(&died, &changed, false).unwrap();
    let what = "the origin's version was '0 changes', and is '1 changes' now";
    assert_eq!(done.assumed.as_deref(), Some(what));
    assert!(holding(&died).is_empty() && !held(&died).changed_since_version);
}

/// A start after a crash must not take the origin for one that somebody else has changed.
#[test]
fn the_directory_knows_that_the_origin_changes_before_it_does() {
    let medium = crashed();
    let seen = Arc::new(AtomicU32::new(0));
    let (beside, count) = (medium.clone(), Arc::clone(&seen));
    let origin = origin().before(move |_| {
        let image = MemoryMedium::of(&beside.image());
        assert!(held(&image).changed_since_version);
        assert_eq!(held(&image).dirty_bytes, DIRTY_BYTES);
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    write_back(&medium, &origin, false).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 6);
}

/// It was in another slot before, which is listed still.
#[test]
fn what_a_second_slot_lists_of_a_dirty_block_is_forgotten_before_the_origin_changes() {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let mut said = story(&user);
    said.push(user.put(clean(7, 0, 9)));
    user.say(&said);
    drop(user);
    let beside = medium.clone();
    let origin = origin().before(move |_| {
        assert_eq!(held(&MemoryMedium::of(&beside.image())).blocks, 4);
        Ok(())
    });
    assert_eq!(held(&medium).blocks, 5);
    write_back(&medium, &origin, false).unwrap();
    assert_eq!(held(&medium).blocks, 4);
    assert_eq!(origin.durable(), expected());
}

#[test]
fn zeros_are_written_where_the_origin_cannot_zero_and_requests_are_as_long_as_it_likes() {
    let mut origin = origin();
    origin.capabilities.zero = false;
    origin.capabilities.parallel = true;
    origin.limits.maximum = 1024;
    origin.limits.minimum = 512;
    // The volume's end is no multiple, and is the origin's end.
    write_back(&crashed(), &origin, false).unwrap();
    assert_eq!(origin.durable(), expected());
}

#[test]
fn an_origin_without_flush_is_not_flushed() {
    let mut origin = origin();
    origin.capabilities.flush = false;
    let done = write_back(&crashed(), &origin, false).unwrap();
    assert_eq!((done.written_bytes, done.left), (DIRTY_BYTES, Vec::new()));
}

#[test]
fn a_volume_is_discarded_whole_and_at_once() {
    let medium = crashed();
    let mut drain = open(&medium);
    drain.discard(0).unwrap();
    // As a crash right now would leave it.
    let image = MemoryMedium::of(&medium.image());
    for medium in [&image, &medium] {
        let found = inspect(medium, Detail::Figures).unwrap();
        let names: Vec<&str> = found.volumes.iter().map(|it| &*it.name).collect();
        assert_eq!((names, found.slots_used), (vec!["disk1"], 1));
    }
    assert_eq!(
        drain.discard(0).unwrap_err().to_string(),
        "it has no volume 0"
    );
    drain.close().unwrap();
    let found = inspect(&medium, Detail::Figures).unwrap();
    assert_eq!((found.volumes.len(), found.slots_used), (1, 1));
}

/// Bytes where they belong.
struct Sparse(Vec<u8>);

impl Output for Sparse {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

#[test]
fn an_export_has_what_the_origin_does_not_have_and_says_where() {
    for medium in [crashed(), closed()] {
        let before = held(&medium);
        let drain = open(&medium);
        let mut sparse = Sparse(vec![0; SIZE as usize]);
        let done = drain.export(0, &mut sparse, &mut |_| {}).unwrap();
        drain.close().unwrap();
        let mut expected = expected();
        expected
            .iter_mut()
            .filter(|it| **it == UNTOUCHED)
            .for_each(|it| *it = 0);
        assert!(sparse.0 == expected);
        let range = |start, length, is_zero| crate::inspect::DirtyRange {
            start,
            length,
            is_zero,
        };
        assert_eq!(
            done.ranges,
            [
                range(2 * BLOCK + SECTOR, SECTOR, false),
                range(2 * BLOCK + 2 * SECTOR, 3 * SECTOR, true),
                range(4 * BLOCK, 2 * BLOCK, true),
                range(9 * BLOCK + 4 * SECTOR, 4 * SECTOR, false),
                range(16 * BLOCK + SECTOR, 188, false),
            ]
        );
        assert_eq!(done.left, []);
        assert_eq!(held(&medium), before, "the directory keeps it");
    }
}
