//! Sectors that are as they were recorded, and others.

use std::io;
use std::sync::Mutex;

use super::making::ALL;
use super::*;

fn scrubbed(medium: &dyn Medium) -> Scrub {
    let mut told = Vec::new();
    let found = scrub(medium, &mut |progress| told.push(progress)).unwrap();
    assert!(told.iter().all(|at| at.done_bytes <= at.total_bytes));
    assert!(told.is_sorted_by_key(|at| at.done_bytes));
    found
}

/// Flips a bit of a slot.
fn flip(medium: &MemoryMedium, slot: u64, within: u64) -> MemoryMedium {
    let mut image = medium.image();
    let at = (1 << 20) + slot * BLOCK + within;
    image.get_mut("slots").unwrap()[at as usize] ^= 4;
    MemoryMedium::of(&image)
}

fn bad(number: u32, start: u64, length: u64) -> BadDirty {
    BadDirty {
        number,
        volume: format!("disk{number}"),
        start,
        length,
    }
}

/// What has been found of a directory in which nothing is wrong.
fn whole(state: DirectoryState) -> Scrub {
    Scrub {
        state,
        user: "pid 12 started 10:00".to_owned(),
        checked_sectors: 3 * 8 + 4 + 2,
        checked_bytes: 3 * 4096 + 4 * 512 + 512 + 188,
        bad_clean_sectors: 0,
        bad_clean_bytes: 0,
        unreadable_sectors: 0,
        bad_dirty: Vec::new(),
        busy_blocks: 0,
        queue_frames: 0,
        queue_bytes: 0,
        bad_queues: Vec::new(),
    }
}

#[test]
fn what_is_as_it_was_written_fits_wherever_it_is_recorded() {
    for (medium, state) in [
        (closed(), DirectoryState::Clean),
        (crashed(), DirectoryState::AfterCrash),
    ] {
        assert_eq!(scrubbed(&medium), whole(state));
        assert_eq!(medium.take_changed(), [""; 0]);
    }
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    user.say(&story(&user));
    assert_eq!(scrubbed(&medium), whole(DirectoryState::InUse));
    user.checkpoint();
    assert_eq!(scrubbed(&medium), whole(DirectoryState::InUse));
}

#[test]
fn progress_ends_with_everything() {
    let mut last = None;
    scrub(&closed(), &mut |progress| last = Some(progress)).unwrap();
    let total_bytes = whole(DirectoryState::Clean).checked_bytes;
    let done_bytes = total_bytes;
    let expected = Progress {
        done_bytes,
        total_bytes,
    };
    assert_eq!(last, Some(expected));
}

#[test]
fn damage_of_what_the_origin_has_is_counted() {
    for (medium, state) in [
        (closed(), DirectoryState::Clean),
        (crashed(), DirectoryState::AfterCrash),
    ] {
        let two = flip(&flip(&medium, 0, 0), 0, 5 * 512);
        let expected = Scrub {
            bad_clean_sectors: 2,
            bad_clean_bytes: 1024,
            ..whole(state)
        };
        assert_eq!(scrubbed(&two), expected);
    }
}

#[test]
fn damage_of_what_only_the_cache_has_is_named() {
    for medium in [closed(), crashed()] {
        let first = flip(&medium, 2, 512);
        assert_eq!(scrubbed(&first).bad_dirty, [bad(0, 8192 + 512, 512)]);
        let both = flip(&first, 2, 2 * 512);
        assert_eq!(scrubbed(&both).bad_dirty, [bad(0, 8192 + 512, 1024)]);
        // Beside them is a clean one, and the last of the volume is cut by its end.
        let more = flip(&flip(&both, 2, 0), 3, 512 + 187);
        let found = scrubbed(&more);
        assert_eq!(
            found.bad_dirty,
            [bad(0, 8192 + 512, 1024), bad(1, 16 * 4096 + 512, 188)]
        );
        assert_eq!(found.bad_clean_sectors, 1);
        assert_eq!(found.checked_sectors, 30);
    }
}

#[test]
fn what_lies_beyond_the_end_of_a_volume_or_is_not_recorded_does_not_count() {
    let medium = closed();
    let beyond = flip(&medium, 3, 512 + 188);
    assert_eq!(scrubbed(&beyond), whole(DirectoryState::Clean));
    let absent = flip(&medium, 2, 4 * 512);
    assert_eq!(scrubbed(&absent), whole(DirectoryState::Clean));
    let empty = flip(&medium, 4, 0);
    assert_eq!(scrubbed(&empty), whole(DirectoryState::Clean));
}

#[test]
fn a_checksum_that_is_damaged_is_as_bad_as_a_sector() {
    let mut image = closed().image();
    // Slot 2, sector 1: dirty.
    image.get_mut("sums").unwrap()[4096 + 2 * 64 + 8] ^= 1;
    let found = scrubbed(&MemoryMedium::of(&image));
    assert_eq!(found.bad_dirty, [bad(0, 8192 + 512, 512)]);
}

#[test]
fn what_cannot_be_read_is_bad_by_the_sector() {
    let unreadable = |slot: u64, sector: u64| {
        let at = (1 << 20) + slot * BLOCK + sector * 512;
        Watched::new(&closed(), move |name, offset| {
            // A read of all that the slot has begins before it.
            let start = (1 << 20) + slot * BLOCK;
            match name == "slots" && (offset == at || offset == start) {
                true => Err(io::Error::from_raw_os_error(5)),
                false => Ok(()),
            }
        })
    };
    let found = scrubbed(&unreadable(0, 3));
    assert_eq!((found.bad_clean_sectors, found.unreadable_sectors), (2, 2));
    let found = scrubbed(&unreadable(2, 1));
    assert_eq!(found.bad_dirty, [bad(0, 8192 + 512, 512)]);
    assert_eq!((found.bad_clean_sectors, found.unreadable_sectors), (1, 2));
    let no_sums = Watched::new(&closed(), |name, offset| {
        match name == "sums" && offset > 0 {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    });
    assert_eq!(scrubbed(&no_sums).unreadable_sectors, 30);
}

/// What the journal carries is not in its slot yet, and a start would put it there.
#[test]
fn bytes_in_the_journal_count_instead_of_the_slots() {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let put = Put {
        dirty: Mask(0b1001),
        inlined: Mask(0b1000),
        ..clean(0, 0, 0)
    };
    user.say(&[volume(0), user.put(put)]);
    user.write_sector(0, 3, &[9; 512]);
    assert!(scrubbed(&medium).bad_dirty.is_empty());
    user.apply(put);
    user.checkpoint();
    assert_eq!(scrubbed(&medium).checked_sectors, 8);
    assert!(scrubbed(&medium).bad_dirty.is_empty());
    // Now the slot is all there is.
    user.write_sector(0, 3, &[9; 512]);
    assert_eq!(scrubbed(&medium).bad_dirty, [bad(0, 3 * 512, 512)]);
}

#[test]
fn what_a_user_has_written_since_it_was_listed_is_no_damage_of_what_only_the_cache_has() {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    user.say(&story(&user));
    user.checkpoint();
    user.write_sector(1, 2, &[77; 512]);
    let expected = Scrub {
        bad_clean_sectors: 1,
        bad_clean_bytes: 512,
        ..whole(DirectoryState::InUse)
    };
    assert_eq!(scrubbed(&medium), expected);
}

/// The directory of somebody who does something before each read of slots, given how often it was read before.
fn beside(act: impl Fn(&User, u64) + Send + Sync + 'static) -> (Watched, Arc<User>) {
    let medium = MemoryMedium::default();
    let user = Arc::new(User::open(&medium));
    user.say(&story(&user));
    user.checkpoint();
    let (count, writer) = (AtomicU64::new(0), Arc::clone(&user));
    let watched = Watched::new(&medium, move |name, offset| {
        if name == "slots" && offset > 0 {
            act(&writer, count.fetch_add(1, Ordering::Relaxed));
        }
        Ok(())
    });
    (watched, user)
}

fn rewritten(content: u8) -> Put {
    Put {
        dirty: ALL,
        content,
        ..clean(0, 0, 0)
    }
}

#[test]
fn what_was_recorded_anew_while_it_was_read_is_read_again() {
    // Slot 0 is read first. Its record changes before that, as long as the number says.
    for changes in [1, 2, 3] {
        let (watched, _user) = beside(move |user, read| {
            let is_first = read == 0 || read >= 5;
            let change = if read == 0 { 1 } else { read.saturating_sub(3) };
            if is_first && change <= changes {
                user.say(&[user.put(rewritten(10 + change as u8))]);
            }
        });
        assert_eq!(
            scrubbed(&watched),
            whole(DirectoryState::InUse),
            "{changes}"
        );
    }
}

#[test]
fn what_is_recorded_anew_each_time_is_busy_and_not_bad() {
    let (watched, _user) = beside(|user, read| {
        if read == 0 || read >= 5 {
            user.say(&[user.put(rewritten(10 + read as u8))]);
        }
    });
    let found = scrubbed(&watched);
    assert_eq!(found.busy_blocks, 1);
    assert_eq!(found.bad_clean_sectors, 0);
    assert_eq!((found.bad_dirty.len(), found.checked_sectors), (0, 30 - 8));
}

#[test]
fn a_slot_that_was_given_away_while_it_was_read_is_not_bad() {
    let (watched, _user) = beside(|user, read| {
        if read == 0 {
            user.write_sector(0, 0, &[66; 512]);
            user.say(&[Op::Empty(crate::directory::SlotNumber(0))]);
        }
    });
    let found = scrubbed(&watched);
    assert_eq!((found.bad_clean_sectors, found.busy_blocks), (0, 0));
    assert_eq!(found.checked_sectors, 30 - 8);
}

/// The frames that carried the bytes go into the tables and are written over, after the scrub has seen where they were.
#[test]
fn bytes_that_leave_the_journal_while_it_is_read_are_found_in_their_slot() {
    let medium = MemoryMedium::default();
    let user = Arc::new(User::open(&medium));
    let put = Put {
        dirty: ALL,
        inlined: Mask(0b0100),
        ..clean(1, 0, 1)
    };
    user.say(&[volume(0), user.put(clean(0, 0, 0)), user.put(put)]);
    let (writer, is_done) = (Arc::clone(&user), Mutex::new(false));
    let watched = Watched::new(&medium, move |name, offset| {
        let mut is_done = is_done.lock().unwrap();
        if name == "slots" && offset > 0 && !std::mem::replace(&mut *is_done, true) {
            writer.apply(put);
            // All around the ring.
            for _ in 0..JOURNAL / 4096 + 1 {
                writer.say(&[Op::Vouch]);
                writer.checkpoint();
            }
        }
        Ok(())
    });
    let found = scrubbed(&watched);
    assert_eq!((found.checked_sectors, found.busy_blocks), (16, 0));
    assert_eq!((found.bad_clean_sectors, found.bad_dirty.len()), (0, 0));
}

/// Checksums of clean data are written before anything is said of it.
#[test]
fn what_got_another_checksum_while_it_was_read_is_read_again() {
    let (watched, _user) = beside(|user, read| {
        if read == 0 {
            let Op::Slot(op) = user.put(rewritten(10)) else {
                return;
            };
            let sums: Vec<_> = op.sums().map(|(_, sum)| sum).collect();
            user.home.write_sums(op.slot, 0, &sums).unwrap();
        }
    });
    assert_eq!(scrubbed(&watched), whole(DirectoryState::InUse));
}

/// In between it was nobody's, and the slot held something else.
#[test]
fn what_was_recorded_the_same_again_while_it_was_read_is_read_again() {
    let medium = MemoryMedium::default();
    let user = Arc::new(User::open(&medium));
    let put = rewritten(10);
    user.say(&[volume(0), user.put(put)]);
    let (writer, is_taken) = (Arc::clone(&user), Mutex::new(false));
    let watched = Watched::new(&medium, move |name, offset| {
        let mut is_taken = is_taken.lock().unwrap();
        if name == "slots" && offset > 0 && !*is_taken {
            *is_taken = true;
            writer.say(&[Op::Empty(crate::directory::SlotNumber(0))]);
            writer.write_sector(0, 0, &[99; 512]);
        } else if name == "superblock" && *is_taken {
            writer.say(&[writer.put(put)]);
        }
        Ok(())
    });
    let found = scrubbed(&watched);
    assert_eq!((found.bad_dirty.len(), found.checked_sectors), (0, 8));
}
