//! Bad sectors and origins that refuse: nothing else stops, and what is not there stays dirty.

use std::io;

use super::origin::eio;
use super::*;

/// Flips a bit of a slot.
fn flip(medium: &MemoryMedium, slot: u64, within: u64) -> MemoryMedium {
    let mut image = medium.image();
    let at = (1 << 20) + slot * BLOCK + within;
    image.get_mut("slots").unwrap()[at as usize] ^= 4;
    MemoryMedium::of(&image)
}

fn left(start: u64, length: u64, why: Why) -> Left {
    Left { start, length, why }
}

#[test]
fn what_does_not_fit_its_checksum_stays_and_is_named() {
    // The sixth sector of block 9, the middle of what is in its slot and not in the journal.
    let medium = flip(&crashed(), 1, 6 * SECTOR);
    let origin = origin();
    let done = write_back(&medium, &origin, false).unwrap();
    let bad = 9 * BLOCK + 6 * SECTOR;
    assert_eq!(done.left, [left(bad, SECTOR, Why::Damaged)]);
    assert_eq!(done.written_bytes, DIRTY_BYTES - SECTOR);
    let mut expected = expected();
    expected[bad as usize..][..SECTOR as usize].fill(UNTOUCHED);
    assert_eq!(origin.durable(), expected);
    let held = held(&medium);
    assert_eq!((held.dirty_bytes, held.zero_bytes), (SECTOR, 0));
    assert!(held.changed_since_version, "not all of it is there");
    // It can be tried again, and it can be mended.
    let again = write_back(&medium, &origin, false).unwrap();
    assert_eq!(again.left, done.left);
    let mended = flip(&medium, 1, 6 * SECTOR);
    assert_eq!(write_back(&mended, &origin, false).unwrap().left, []);
    assert_eq!(origin.durable(), super::expected());
}

/// What is zero is newer than the sector.
#[test]
fn damage_under_zeros_is_none() {
    let medium = flip(&crashed(), 2, 2 * SECTOR);
    let scrub = crate::inspect::scrub(&medium, &mut |_| {}).unwrap();
    assert_eq!((scrub.bad_dirty, scrub.bad_clean_sectors), (Vec::new(), 0));
    let origin = origin();
    assert_eq!(write_back(&medium, &origin, false).unwrap().left, []);
    assert_eq!(origin.durable(), expected());
}

#[test]
fn an_export_leaves_out_what_is_damaged() {
    let medium = flip(&crashed(), 3, SECTOR);
    let drain = open(&medium);
    let mut sparse = Sparse(vec![0; SIZE as usize]);
    let done = drain.export(0, &mut sparse, &mut |_| {}).unwrap();
    assert_eq!(done.left, [left(16 * BLOCK + SECTOR, 188, Why::Damaged)]);
    assert_eq!(done.ranges.len(), 4);
}

#[test]
fn what_the_origin_refuses_stays_and_is_named() {
    let medium = crashed();
    let origin = origin().before(|call| match call {
        Call::Write(offset, _) if *offset > 9 * BLOCK && *offset < 10 * BLOCK => Err(eio()),
        Call::Zero(offset, ..) if *offset == 4 * BLOCK => Err(eio()),
        _ => Ok(()),
    });
    let done = write_back(&medium, &origin, false).unwrap();
    let refused = || Why::Refused(eio().to_string());
    assert_eq!(
        done.left,
        [
            left(4 * BLOCK, 2 * BLOCK, refused()),
            left(9 * BLOCK + 4 * SECTOR, 4 * SECTOR, refused()),
        ]
    );
    let found = holding(&medium);
    assert_eq!(
        (found.dirty_bytes, found.zero_bytes),
        (4 * SECTOR, 2 * BLOCK)
    );
    let whole = super::origin();
    write_back(&medium, &whole, false).unwrap();
    assert_eq!(whole.calls().len(), 3);
}

#[test]
fn without_its_flush_nothing_counts() {
    let medium = crashed();
    let origin = origin().before(|call| match call {
        Call::Flush => Err(eio()),
        _ => Ok(()),
    });
    let done = write_back(&medium, &origin, false).unwrap();
    assert_eq!((done.written_bytes, done.zeroed_bytes), (0, 0));
    let lengths = done.left.iter().map(|left| left.length);
    assert_eq!(lengths.sum::<u64>(), DIRTY_BYTES + ZERO_BYTES);
    let found = holding(&medium);
    assert_eq!(
        (found.dirty_bytes, found.zero_bytes),
        (DIRTY_BYTES, ZERO_BYTES)
    );
    write_back(&medium, &super::origin(), false).unwrap();
    assert!(holding(&medium).is_empty());
}

#[test]
fn what_the_origin_lost_with_its_connection_is_sent_again() {
    let medium = crashed();
    let flushes = AtomicU32::new(0);
    let origin = origin().before(move |call| match call {
        Call::Flush if flushes.fetch_add(1, Ordering::Relaxed) < 2 => {
            Err(io::ErrorKind::ConnectionReset.into())
        }
        _ => Ok(()),
    });
    let done = write_back(&medium, &origin, false).unwrap();
    assert_eq!((done.written_bytes, done.left.len()), (DIRTY_BYTES, 0));
    assert_eq!(origin.calls().len(), 3 * 6);
    assert_eq!(origin.durable(), expected());
}

/// Sixteen blocks, all dirty.
fn many() -> MemoryMedium {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let mut said = vec![volume(0)];
    said.extend((0..16).map(|n| user.put(dirty(n, u64::from(n), 0xff, 0))));
    user.say(&said);
    drop(user);
    medium
}

#[test]
fn an_origin_that_refuses_everything_is_not_asked_for_all_of_it() {
    let medium = many();
    let refuses = |call: &Call| match call {
        Call::Write(..) => Err(eio()),
        _ => Ok(()),
    };
    let origin = origin().before(refuses);
    let done = write_back(&medium, &origin, false).unwrap();
    assert_eq!(origin.calls().len(), 8 + 1);
    let refused = Why::Refused(eio().to_string());
    assert_eq!(
        done.left,
        [
            left(0, 8 * BLOCK, refused),
            left(8 * BLOCK, 8 * BLOCK, Why::NotTried)
        ]
    );
    let silent = |call: &Call| match call {
        Call::Write(..) => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    };
    let origin = super::origin().before(silent);
    write_back(&medium, &origin, false).unwrap();
    assert_eq!(origin.calls().len(), 1 + 1);
    assert_eq!(holding(&medium).dirty_bytes, 16 * BLOCK);
}

#[test]
fn requests_in_flight_fail_each_for_itself() {
    let medium = many();
    let mut origin = origin().before(|call| match call {
        Call::Write(offset, _) if *offset == 5 * BLOCK => Err(eio()),
        _ => Ok(()),
    });
    origin.capabilities.parallel = true;
    let done = write_back(&medium, &origin, false).unwrap();
    assert_eq!(done.left.len(), 1);
    assert_eq!(done.written_bytes, 15 * BLOCK);
    assert_eq!(holding(&medium).dirty_bytes, BLOCK);
    assert_eq!(done.left[0].start, 5 * BLOCK);
}
