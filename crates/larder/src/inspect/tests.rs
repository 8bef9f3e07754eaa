//! Directories of every state, looked at: nothing is written, and what is told is what a start would find.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::persist::home::Home;
use crate::persist::memory_medium::{Image, MemoryMedium};
use crate::persist::op::Op;
use crate::sector::Mask;

mod beside;
mod damage;
pub(crate) mod making;
mod queues;
mod scrubbing;

use making::{BLOCK, JOURNAL, Put, Random, SIZE, User, Watched, clean, id, volume, wanted, zeros};

/// What the directory of most tests is told: two volumes, five blocks of which two are partly dirty, zeros.
fn story(user: &User) -> Vec<Op<'static>> {
    let dirty = Put {
        valid: Mask(0b1111),
        dirty: Mask(0b0110),
        ..clean(2, 0, 2)
    };
    // Two of its sectors exist.
    let last = Put {
        valid: Mask(0b11),
        dirty: Mask(0b10),
        ..clean(3, 1, 16)
    };
    vec![
        volume(0),
        volume(1),
        user.put(clean(0, 0, 0)),
        user.put(clean(1, 0, 1)),
        user.put(dirty),
        user.put(last),
        Op::Empty(crate::directory::SlotNumber(4)),
        user.put(clean(5, 1, 0)),
        zeros(1, &[(8192, 9216), (12288, 16384)]),
    ]
}

/// A directory that was closed.
fn closed() -> MemoryMedium {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let said = story(&user);
    user.say(&said);
    user.close(&said);
    medium.take_changed();
    medium
}

/// One whose user was killed, with everything in the journal.
fn crashed() -> MemoryMedium {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let said = story(&user);
    user.say(&said);
    drop(user);
    medium.take_changed();
    medium
}

fn look(medium: &dyn Medium) -> Inspection {
    inspect(medium, Detail::DirtyRanges).unwrap()
}

fn refusal(medium: &MemoryMedium) -> (InspectErrorKind, String) {
    let error = inspect(medium, Detail::Figures).unwrap_err();
    assert_eq!(medium.take_changed(), [""; 0]);
    (error.kind(), error.to_string())
}

fn range(start: u64, length: u64, is_zero: bool) -> DirtyRange {
    DirtyRange {
        start,
        length,
        is_zero,
    }
}

#[test]
fn what_each_volume_has_is_told() {
    let medium = closed();
    let found = look(&medium);
    assert_eq!(medium.take_changed(), [""; 0]);
    assert_eq!((found.format, found.state), ((1, 0), DirectoryState::Clean));
    assert_eq!((found.slots_numbered, found.slots_used), (6, 5));
    assert_eq!((found.block_bytes, found.superblock_copies), (BLOCK, 2));
    assert_eq!((found.session, found.has_changed), (1, false));
    let unused = JournalUse {
        size_bytes: JOURNAL,
        used_bytes: 0,
        frames: 0,
    };
    assert_eq!(found.journal, unused);
    assert_eq!(found.uuid.len(), 36);
    let [first, second] = &found.volumes[..] else {
        panic!("{:?}", found.volumes);
    };
    let expected = InspectedVolume {
        number: 0,
        name: "disk0".to_owned(),
        cache_id: "id 0".to_owned(),
        version: None,
        changed_since_version: false,
        size_bytes: SIZE,
        sector_bytes: 512,
        blocks: 3,
        cached_bytes: 2 * 4096 + 4 * 512,
        dirty_bytes: 1024,
        zero_bytes: 0,
        queued_bytes: 0,
        queued_flushes: 0,
        dirty_ranges: Some(vec![range(2 * 4096 + 512, 1024, false)]),
    };
    assert_eq!(*first, expected);
    let expected = InspectedVolume {
        number: 1,
        name: "disk1".to_owned(),
        cache_id: "id 1".to_owned(),
        version: Some(InspectedVersion {
            stable: "device 1, inode 2".to_owned(),
            changing: "00ff".to_owned(),
        }),
        changed_since_version: true,
        size_bytes: SIZE,
        sector_bytes: 512,
        blocks: 2,
        cached_bytes: 4096 + 512 + 188,
        dirty_bytes: 188,
        zero_bytes: 1024 + 4096,
        queued_bytes: 0,
        queued_flushes: 0,
        dirty_ranges: Some(vec![
            range(8192, 1024, true),
            range(12288, 4096, true),
            range(16 * 4096 + 512, 188, false),
        ]),
    };
    assert_eq!(*second, expected);
}

#[test]
fn figures_come_without_ranges() {
    let found = inspect(&closed(), Detail::Figures).unwrap();
    assert!(
        found
            .volumes
            .iter()
            .all(|volume| volume.dirty_ranges.is_none())
    );
}

#[test]
fn each_file_is_told_with_its_length() {
    let medium = closed();
    let image = medium.image();
    let found = look(&medium);
    assert_eq!(found.files.len(), 7);
    for (name, bytes) in found.files {
        assert_eq!(bytes, image[&name].len() as u64, "{name}");
    }
}

#[test]
fn queues_are_files_of_a_cache() {
    let medium = closed();
    let files = look(&medium).files.len();
    let user = User::open(&medium);
    user.home.make_queue(id(2), JOURNAL).unwrap();
    medium.create("queue-3.new").unwrap();
    medium.take_changed();
    let found = look(&medium);
    assert_eq!(found.files.len(), files + 1);
    let queue = ("queue-2".to_owned(), 8192 + JOURNAL);
    assert_eq!(found.files.last(), Some(&queue));
    // A start would refuse it, and so nobody has left it so.
    let file = medium.open("queue-2").unwrap();
    file.write(0, &[1; 8192]).unwrap();
    for user in [Some(user), None] {
        medium.take_changed();
        let (kind, told) = refusal(&medium);
        assert_eq!(kind, InspectErrorKind::Refused);
        assert_eq!(told, "queue-2 is no file of a Larder cache");
        drop(user);
    }
}

#[test]
fn the_journal_is_folded_as_a_start_would() {
    let medium = crashed();
    let found = look(&medium);
    assert_eq!(medium.take_changed(), [""; 0]);
    assert_eq!(found.state, DirectoryState::AfterCrash);
    let used = JournalUse {
        size_bytes: JOURNAL,
        used_bytes: 4096,
        frames: 1,
    };
    assert_eq!(found.journal, used);
    assert_eq!((found.slots_numbered, found.slots_used), (6, 5));
    assert_eq!(found.volumes, look(&closed()).volumes);
    drop(User::open(&medium));
    let recovered = look(&medium);
    assert_eq!(recovered.volumes, found.volumes);
    assert_eq!(recovered.journal.frames, 0);
    assert_eq!(recovered.session, found.session + 1);
}

#[test]
fn who_has_it_open_is_told_and_not_disturbed() {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let said = story(&user);
    user.say(&said);
    medium.take_changed();
    let found = look(&medium);
    assert_eq!(medium.take_changed(), [""; 0]);
    assert_eq!(found.state, DirectoryState::InUse);
    assert_eq!(found.user, "pid 12 started 10:00");
    assert_eq!(found.volumes, look(&closed()).volumes);
    user.checkpoint();
    assert_eq!(look(&medium).volumes, found.volumes);
    user.close(&said);
    assert_eq!(look(&medium).state, DirectoryState::Clean);
}

/// The user makes a checkpoint each time that the volumes are read, as often as that.
fn restless(checkpoints: u64) -> Inspection {
    let medium = MemoryMedium::default();
    let user = Arc::new(User::open(&medium));
    user.say(&story(&user));
    let made = AtomicU64::new(0);
    let writer = Arc::clone(&user);
    let watched = Watched::new(&medium, move |name, offset| {
        if name == "volumes" && offset > 0 && made.fetch_add(1, Ordering::Relaxed) < checkpoints {
            writer.say(&[Op::Vouch]);
            writer.checkpoint();
        }
        Ok(())
    });
    look(&watched)
}

#[test]
fn what_changed_meanwhile_is_read_again_and_at_last_said() {
    let steady = look(&closed()).volumes;
    for checkpoints in [0, 1, 3] {
        let found = restless(checkpoints);
        assert!(!found.has_changed, "{checkpoints}");
        assert_eq!(found.volumes, steady, "{checkpoints}");
    }
    assert!(restless(u64::MAX).has_changed);
}

#[test]
fn one_copy_of_the_superblock_is_enough_and_its_loss_is_told() {
    let medium = closed();
    for copy in [0, 1] {
        let mut image = medium.image();
        image.get_mut("superblock").unwrap()[copy * 4096 + 50] ^= 1;
        let found = look(&MemoryMedium::of(&image));
        assert_eq!(found.superblock_copies, 1);
        assert_eq!(found.volumes, look(&medium).volumes);
    }
}

#[test]
fn a_directory_that_is_no_cache_is_told_as_that() {
    let of = |names: &[&str]| {
        let files = names.iter().map(|name| ((*name).to_owned(), Vec::new()));
        let (kind, told) = refusal(&MemoryMedium::of(&files.collect::<Image>()));
        assert_eq!(kind, InspectErrorKind::NoCache);
        assert!(
            told.ends_with("give the directory that was given as cache-dir"),
            "{told}"
        );
        told
    };
    assert!(of(&[]).starts_with("it is empty: "));
    assert!(of(&["notes.txt"]).starts_with("it holds \"notes.txt\", which is no file of"));
    assert!(of(&["lock", "journal"]).starts_with("its cache was never finished"));
}

#[test]
fn a_directory_that_is_being_made_is_told_as_that() {
    let medium = MemoryMedium::default();
    let lock = medium.lock("lock").unwrap();
    lock.write(0, b"pid 9 started 9:00\n").unwrap();
    medium.create("journal").unwrap();
    medium.take_changed();
    let (kind, told) = refusal(&medium);
    assert_eq!(kind, InspectErrorKind::NoCache);
    assert_eq!(
        told,
        "its cache is being made (pid 9 started 9:00): look again in a moment"
    );
}

#[test]
fn what_a_start_refuses_is_refused_in_the_same_words() {
    let image = closed().image();
    let refused = |change: &dyn Fn(&mut Image)| {
        let mut image = image.clone();
        change(&mut image);
        let medium = MemoryMedium::of(&image);
        let (kind, told) = refusal(&medium);
        assert_eq!(kind, InspectErrorKind::Refused);
        let start = Home::open_with(Arc::new(medium), &wanted(), JOURNAL);
        assert_eq!(told, start.err().unwrap().to_string());
        told
    };
    let missing = refused(&|image| drop(image.remove("map")));
    assert!(
        missing.starts_with("map is missing: put it back"),
        "{missing}"
    );
    let lost = refused(&|image| drop(image.remove("superblock")));
    assert!(lost.starts_with("superblock is missing"), "{lost}");
    let cut = refused(&|image| image.get_mut("slots").unwrap().truncate(5000));
    assert!(cut.starts_with("slots was cut"), "{cut}");
    let entry = refused(&|image| {
        for name in ["map", "map.copy"] {
            image.get_mut(name).unwrap()[4096 + 64 + 20] ^= 1;
        }
    });
    assert!(
        entry.starts_with("map: entry 1 is damaged in both copies"),
        "{entry}"
    );
}

#[test]
fn a_newer_format_is_refused_as_that() {
    let mut image = closed().image();
    for page in image.get_mut("superblock").unwrap().chunks_exact_mut(4096) {
        page[8] = 2;
        let sum = twox_hash::XxHash3_64::oneshot_with_seed(0, &page[..4088]);
        page[4088..].copy_from_slice(&sum.to_le_bytes());
    }
    let (kind, told) = refusal(&MemoryMedium::of(&image));
    assert_eq!(kind, InspectErrorKind::Refused);
    assert!(
        told.starts_with("superblock is of format 2.0, and this program knows"),
        "{told}"
    );
}
