//! A directory that is made, found again, and refused. What crashes leave is the simulator's business.

use rustix::io::Errno;

use super::*;
use crate::medium::DirectoryMedium;
use crate::persist::batch::Batch;
use crate::persist::commit::{self, CommitWork, Durability, More};
use crate::persist::entry::Content;
use crate::persist::journal::CommitError;
use crate::persist::memory_medium::{Image, MemoryMedium};
use crate::persist::op::slot::sums_as_bytes;
use crate::persist::op::{Op, SlotOp, VolumeRecord, each};
use crate::persist::sums::{BlockSums, Occupant};
use crate::persist::testing::{Random, pool};
use crate::sector::{BlockNumber, Mask};

mod commits;
mod damage;
mod journal;

const JOURNAL: u64 = 64 << 10;
const SLOTS: u32 = 100;

fn wanted() -> Wanted {
    Wanted {
        block_bytes: None,
        default_block_bytes: 4096,
        max_size_bytes: Some(32 << 20),
        uuid_bits: 1,
        lock_text: "pid 12 started 10:00".to_owned(),
    }
}

fn open_as(medium: &MemoryMedium, wanted: &Wanted) -> Result<Opened, OpenError> {
    Home::open_with(Arc::new(medium.clone()), wanted, JOURNAL)
}

fn open(medium: &MemoryMedium) -> Opened {
    open_as(medium, &wanted()).unwrap()
}

fn refusal(medium: &MemoryMedium) -> String {
    open_as(medium, &wanted()).err().unwrap().to_string()
}

/// What a cache says that was opened.
fn entries(opened: &Opened) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut each = |slot: SlotNumber, entry| {
        assert_eq!(slot.0 as usize, entries.len());
        entries.push(entry);
    };
    let home = &opened.home;
    home.read_entries(0..7, &mut each).unwrap();
    home.read_entries(7..u32::MAX, &mut each).unwrap();
    entries
}

/// A volume for each of these numbers, which are their incarnations too.
fn volumes(count: u32) -> VolumeTable {
    let mut table = VolumeTable::default();
    for _ in 0..count {
        let record = |id| VolumeRecord {
            id,
            size_bytes: 1 << 30,
            sector_shift: 9,
            changed_since_version: false,
            has_queue: false,
            name: format!("disk{}", id.volume.0),
            cache_id: String::new(),
            version: None,
        };
        table.add(table.free_number(), record).unwrap();
    }
    table
}

fn occupant(table: &VolumeTable, volume: usize, block: u64) -> Occupant {
    let id = table.volumes().nth(volume).unwrap().record.id;
    Occupant {
        volume: id.volume,
        incarnation: id.incarnation,
        block: BlockNumber(block),
    }
}

fn random_entries(random: &mut Random, table: &VolumeTable, count: u32) -> Vec<Entry> {
    let entry = |number: u32| {
        let valid = random.some_of(Mask::span(0, 8));
        let content = Content {
            occupant: occupant(table, random.below(2) as usize, u64::from(number)),
            valid,
            dirty: random.some_of(valid),
            heat: 3,
        };
        Entry {
            seq: 5,
            content: random.chance(80).then_some(content),
        }
    };
    (0..count).map(entry).collect()
}

fn names(table: &VolumeTable) -> Vec<String> {
    let volumes = table.volumes();
    volumes.map(|volume| volume.record.name.clone()).collect()
}

/// A directory that was used and closed, and what it says.
fn closed(number: u64) -> (MemoryMedium, Vec<Entry>) {
    let medium = MemoryMedium::default();
    let opened = open(&medium);
    assert_eq!((opened.found, opened.slots_numbered), (Found::Made, 0));
    let table = volumes(2);
    let entries = random_entries(&mut Random::new(number), &table, SLOTS);
    opened.home.prepare_slots(SLOTS).unwrap();
    let mut all = entries.iter().copied();
    opened.home.close(&table, SLOTS, &mut all).unwrap();
    (medium, entries)
}

#[test]
fn a_directory_is_made_and_what_is_closed_is_found_again() {
    let (medium, expected) = closed(1);
    for sessions in 2..5 {
        let opened = open(&medium);
        assert_eq!((opened.found, opened.slots_numbered), (Found::Clean, SLOTS));
        assert_eq!(entries(&opened), expected);
        assert_eq!(names(&opened.volumes), ["disk0", "disk1"]);
        assert_eq!(opened.volumes.next_incarnation().0, 2);
        let superblock = opened.home.tables.superblocks().current().clone();
        assert_eq!(superblock.session, sessions);
        let mut all = expected.iter().copied();
        let home = opened.home;
        home.close(&opened.volumes, SLOTS, &mut all).unwrap();
    }
}

#[test]
fn what_was_not_closed_is_a_crash() {
    let (medium, expected) = closed(2);
    for _ in 0..2 {
        drop(open(&medium));
        let opened = open(&medium);
        assert_eq!(opened.found, Found::Crashed { frames: 0 });
        assert_eq!(entries(&opened), expected);
        assert_eq!(names(&opened.volumes), ["disk0", "disk1"]);
    }
}

#[test]
fn one_at_a_time_has_it_open_and_the_other_is_told_who() {
    let medium = MemoryMedium::default();
    let opened = open(&medium);
    let error = open_as(&medium, &wanted()).err().unwrap();
    assert!(matches!(&error, OpenError::InUse { by } if by == "pid 12 started 10:00"));
    drop(opened);
    let lock = medium.open("lock").unwrap();
    lock.set_length(0).unwrap();
    lock.write(0, b"pid \x1b[31m7\nanother line").unwrap();
    let _held = medium.lock("lock").unwrap();
    let error = open_as(&medium, &wanted()).err().unwrap();
    assert!(matches!(&error, OpenError::InUse { by } if by == "pid [31m7"));
}

#[test]
fn a_real_directory_is_made_locked_and_found_again() {
    let name = format!("larder-home-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).unwrap();
    let open = || {
        let medium = Arc::new(DirectoryMedium::open(&path).unwrap());
        Home::open_with(medium, &wanted(), wanted().journal_bytes())
    };
    let opened = open().unwrap();
    assert_eq!(
        (opened.found, opened.home.journal_bytes()),
        (Found::Made, 4 << 20)
    );
    let error = open().err().unwrap();
    assert!(matches!(&error, OpenError::InUse { by } if by == "pid 12 started 10:00"));
    opened.home.prepare_slots(70).unwrap();
    let nothing = Entry {
        seq: 0,
        content: None,
    };
    let mut entries = std::iter::repeat_n(nothing, 70);
    opened.home.close(&volumes(2), 70, &mut entries).unwrap();
    drop(opened);
    let again = open().unwrap();
    assert_eq!((again.found, again.slots_numbered), (Found::Clean, 70));
    assert_eq!(self::entries(&again), [nothing; 70]);
    drop(again);
    std::fs::remove_dir_all(&path).unwrap();
}

#[test]
fn slots_are_given_once_and_tables_have_room_for_what_is_numbered() {
    let medium = MemoryMedium::default();
    let mut opened = open(&medium);
    let home = &mut opened.home;
    assert!(home.take_slots_file().is_ok());
    let again = home.take_slots_file().err().unwrap();
    assert_eq!(
        again.to_string(),
        "its slots are in use by this process already"
    );
    assert_eq!(home.uuid(), Uuid::from_random(1));
    assert_eq!(
        (home.journal_bytes(), home.shape().block_bytes()),
        (JOURNAL, 4096)
    );
    let sums = [Sum(7), Sum(8)];
    home.prepare_slots(3).unwrap();
    home.prepare_slots(2).unwrap();
    home.write_sums(SlotNumber(2), 5, &sums).unwrap();
    home.prepare_slots(65).unwrap();
    home.sync_sums().unwrap();
    let mut read = [Sum(0); 3];
    home.read_sums(SlotNumber(2), 4, &mut read).unwrap();
    assert_eq!(read, [Sum(0), Sum(7), Sum(8)]);
    assert_eq!(home.seed(), Seed::of_cache(home.uuid()));
    let image = medium.image();
    let shape = home.shape();
    for role in Role::ALL {
        let length = image[role.file_name()].len() as u64;
        assert!(length >= shape.file_bytes(role, 65, JOURNAL), "{role:?}");
    }
    assert_eq!(image["map"].len(), 4096 + 128 * 64);
}

#[test]
fn what_cannot_be_asked_for_is_said_before_anything_is_touched() {
    let refused = |change: fn(&mut Wanted)| {
        let medium = MemoryMedium::default();
        let mut wanted = wanted();
        change(&mut wanted);
        let error = open_as(&medium, &wanted).err().unwrap();
        assert!(medium.image().is_empty());
        error.to_string()
    };
    let small = refused(|wanted| wanted.max_size_bytes = Some((32 << 20) - 1));
    assert!(small.ends_with("it needs at least 33554432"), "{small}");
    let block = refused(|wanted| wanted.block_bytes = Some(16 << 20));
    assert!(block.ends_with("from 4096 to 8388608"), "{block}");
}

#[test]
fn a_cache_of_another_size_is_refused() {
    let (medium, _) = closed(3);
    medium.take_changed();
    let refused = |change: fn(&mut Wanted)| {
        let mut wanted = wanted();
        change(&mut wanted);
        let error = open_as(&medium, &wanted).err().unwrap();
        assert_eq!(medium.take_changed(), ["lock"]);
        error.to_string()
    };
    let block = refused(|wanted| wanted.block_bytes = Some(65536));
    assert!(block.contains("blocks of 4096 bytes, and 65536"), "{block}");
    // What is only a default does not count.
    let mut other = wanted();
    (other.default_block_bytes, other.block_bytes) = (65536, None);
    assert!(open_as(&medium, &other).is_ok());
    other.block_bytes = Some(4096);
    assert!(open_as(&medium, &other).is_ok());
}

#[test]
fn a_long_journal_needs_a_limit_that_leaves_room() {
    let medium = MemoryMedium::default();
    let larger = Wanted {
        max_size_bytes: None,
        ..wanted()
    };
    let long = Home::open_with(Arc::new(medium.clone()), &larger, 20 << 20);
    drop(long.unwrap());
    assert!(refusal(&medium).ends_with("it needs at least 41943040"));
    assert!(open_as(&medium, &larger).is_ok());
}

#[test]
fn somebody_elses_directory_stays_as_it_is() {
    let image = Image::from([("notes.txt".to_owned(), vec![1])]);
    let medium = MemoryMedium::of(&image);
    assert!(refusal(&medium).starts_with("it holds \"notes.txt\", which is no file"));
    assert_eq!(medium.image(), image);
}

#[test]
fn what_is_missing_cut_or_another_caches_is_refused_by_name() {
    let (medium, _) = closed(4);
    let image = medium.image();
    let other = {
        let medium = MemoryMedium::default();
        let other = Wanted {
            uuid_bits: 2,
            ..wanted()
        };
        drop(open_as(&medium, &other).unwrap());
        medium.image()
    };
    let refused = |name: &str, change: &dyn Fn(&mut Image)| {
        let mut image = image.clone();
        change(&mut image);
        let medium = MemoryMedium::of(&image);
        let refusal = refusal(&medium);
        assert_eq!(medium.take_changed(), ["lock"]);
        assert!(refusal.starts_with(name), "{refusal}");
        refusal
    };
    for role in Role::ALL {
        let name = role.file_name();
        let gone = refused(name, &|image| drop(image.remove(name)));
        assert!(gone.contains("is missing: put it back"), "{gone}");
        for length in [0, 100, 4096, image[name].len() - 1] {
            let cut = |image: &mut Image| image.get_mut(name).unwrap().truncate(length);
            // Beyond the last numbered slot, and the volume tables, there is space and nothing in it.
            if length < 5000 || matches!(role, Role::Journal | Role::Slots) {
                assert!(refused(name, &cut).contains("was cut"));
            }
        }
        let swapped = refused(name, &|image| {
            image.insert(name.to_owned(), other[name].clone());
        });
        assert!(swapped.contains("belongs to the cache"), "{swapped}");
    }
    let superblock = refused("superblock", &|image| {
        image.get_mut("superblock").unwrap().fill(0);
    });
    assert!(superblock.ends_with("is no file of a Larder cache"));
    let cut = refused("superblock", &|image| {
        image.get_mut("superblock").unwrap().truncate(4000);
    });
    assert!(cut.contains("it has 4000 bytes instead of 8192"), "{cut}");
    refused("superblock", &|image| drop(image.remove("superblock")));
}

#[test]
fn one_damaged_copy_of_the_superblock_loses_nothing() {
    let (medium, expected) = closed(5);
    for copy in [0, 1] {
        let mut image = medium.image();
        image.get_mut("superblock").unwrap()[copy * 4096 + 50] ^= 1;
        let medium = MemoryMedium::of(&image);
        assert_eq!(entries(&open(&medium)), expected);
        // Both are whole again.
        let mut image = medium.image();
        image.get_mut("superblock").unwrap()[(1 - copy) * 4096 + 50] ^= 1;
        assert_eq!(entries(&open(&MemoryMedium::of(&image))), expected);
    }
}

#[test]
fn an_entry_is_taken_from_the_copy_and_refused_if_both_are_damaged() {
    let (medium, expected) = closed(6);
    let at = 4096 + 33 * 64;
    for (damaged, is_refused) in [
        (&["map"][..], false),
        (&["map.copy"], false),
        (&["map", "map.copy"], true),
    ] {
        let mut image = medium.image();
        for name in damaged {
            image.get_mut(*name).unwrap()[at] ^= 1;
        }
        let medium = MemoryMedium::of(&image);
        if is_refused {
            assert!(refusal(&medium).starts_with("map: entry 33 is damaged in both copies"));
            assert_eq!(medium.take_changed(), ["lock"]);
        } else {
            assert_eq!(entries(&open(&medium)), expected);
        }
    }
}

#[test]
fn making_that_failed_anywhere_leaves_something_that_the_next_start_makes_anew() {
    let count = {
        let medium = MemoryMedium::default();
        drop(open(&medium));
        medium.changes()
    };
    for change in 0..count {
        for many in [false, true] {
            let medium = MemoryMedium::default();
            medium.fail_after(change, Errno::NOSPC, many);
            let failed = open_as(&medium, &wanted())
                .err()
                .map(|error| error.to_string());
            // The text of the lock is only for people.
            let is_text = failed.is_none();
            assert!(!is_text || (1..=2).contains(&change), "{change}");
            if let Some(message) = failed {
                assert!(
                    message.contains("make room on its file system"),
                    "{message}"
                );
            }
            medium.fail_after(u64::MAX, Errno::NOSPC, false);
            let opened = open(&medium);
            assert_eq!(opened.volumes.volumes().count(), 0);
            assert_eq!(opened.slots_numbered, 0);
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn what_was_never_a_cache_is_made_anew_and_what_was_one_is_not() {
    let medium = MemoryMedium::default();
    drop(open(&medium));
    let mut image = medium.image();
    image.remove("superblock");
    let medium = MemoryMedium::of(&image);
    assert_eq!(open(&medium).found, Found::Made);
    let lost = "superblock is missing: put it back";
    let used: [(&str, &[u8]); 2] = [("journal", b"LJF1"), ("map", b"any")];
    for (name, bytes) in used {
        let mut image = image.clone();
        let file = image.get_mut(name).unwrap();
        file.resize(file.len().max(4096 + bytes.len()), 0);
        file[4096..4096 + bytes.len()].copy_from_slice(bytes);
        let medium = MemoryMedium::of(&image);
        assert!(refusal(&medium).starts_with(lost));
        assert_eq!(medium.take_changed(), ["lock"]);
    }
}

#[test]
fn a_file_system_that_cannot_be_written_to_is_said_to_be_one() {
    let (medium, _) = closed(7);
    medium.fail_after(0, Errno::ROFS, true);
    assert!(refusal(&medium).ends_with("on a file system that can be written to"));
}

#[test]
fn slots_that_are_given_up_hold_nothing_any_more() {
    let (medium, expected) = closed(10);
    let opened = open(&medium);
    let mut fewer = expected.iter().copied().take(30);
    opened.home.close(&opened.volumes, 30, &mut fewer).unwrap();
    drop(opened);
    let opened = open(&medium);
    assert_eq!((opened.found, opened.slots_numbered), (Found::Clean, SLOTS));
    let found = entries(&opened);
    assert_eq!(found[..30], expected[..30]);
    assert!(found[30..].iter().all(|entry| entry.content.is_none()));
}

/// How much a session writes into `map` and into its copy that ends with these entries.
fn written_at_the_end(medium: &MemoryMedium, opened: &Opened, entries: &[Entry]) -> [u64; 2] {
    let written = || ["map", "map.copy"].map(|name| medium.take_written(name));
    written();
    let mut all = entries.iter().copied();
    let count = entries.len() as u32;
    opened.home.close(&opened.volumes, count, &mut all).unwrap();
    written()
}

#[test]
fn an_end_writes_the_pages_that_say_something_new() {
    let (medium, mut expected) = closed(12);
    assert_eq!(
        written_at_the_end(&medium, &open(&medium), &expected),
        [0; 2]
    );
    // A page has 64 entries, and the second one 36.
    expected[99].content = None;
    expected[64] = expected[0];
    assert_eq!(
        written_at_the_end(&medium, &open(&medium), &expected),
        [36 * 64; 2]
    );
    assert_eq!(entries(&open(&medium)), expected);
}

#[test]
fn an_end_after_a_crash_writes_all_whatever_is_read() {
    let (medium, expected) = closed(13);
    drop(open(&medium));
    let crashed = open(&medium);
    assert_eq!(crashed.found, Found::Crashed { frames: 0 });
    assert_eq!(
        written_at_the_end(&medium, &crashed, &expected),
        [u64::from(SLOTS) * 64; 2]
    );
}

#[test]
fn an_end_makes_damaged_entries_whole_again() {
    let (medium, expected) = closed(14);
    for (name, at) in [("map", 4096 + 3 * 64 + 9), ("map.copy", 4096 + 80 * 64)] {
        let whole = medium.image();
        let file = medium.open(name).unwrap();
        file.write(at, &[!whole[name][at as usize]]).unwrap();
        written_at_the_end(&medium, &open(&medium), &expected);
        assert!(medium.image()[name] == whole[name], "{name}");
    }
}

#[test]
fn closing_with_too_few_entries_fails_and_nothing_is_appended_after_it() {
    let (medium, expected) = closed(8);
    let opened = open(&medium);
    let mut few = expected.iter().copied().take(50);
    let home = &opened.home;
    let error = home.close(&opened.volumes, SLOTS, &mut few).unwrap_err();
    assert!(error.to_string().contains("50 entries for 100 slots"));
    let mut work = journal::Saying::nothing(home);
    work.groups.push(vec![Op::Vouch]);
    let dead = commit::run(home.journal(), &mut work, Durability::Now);
    assert!(matches!(dead, Err(CommitError::Dead(_))));
    let again = home.close(&opened.volumes, 0, &mut std::iter::empty());
    assert!(matches!(again, Err(OpenError::JournalFailed(_))));
    drop(work);
    drop(opened);
    assert_eq!(entries(&open(&medium)), expected);
}
