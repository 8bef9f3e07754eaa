//! What is refused, before anything is written.

use super::*;

fn refused(medium: &MemoryMedium, origin: &TestOrigin) -> (DrainErrorKind, String) {
    let before = held(medium);
    let error = write_back(medium, origin, false).unwrap_err();
    assert_eq!(origin.calls(), []);
    assert_eq!(held(medium), before);
    (error.kind(), error.to_string())
}

#[test]
fn another_origin_is_refused_and_nothing_is_written() {
    let medium = crashed();
    let other = TestOrigin::new(SIZE).with_version("inode 8");
    assert_eq!(
        refused(&medium, &other),
        (
            DrainErrorKind::OtherOrigin,
            "volume \"disk0\" was written for another origin: the origin was 'inode 7', and is 'inode 8' now"
                .to_owned()
        )
    );
    let changed = origin();
    changed.write(0, &[0], false).unwrap();
    let error = write_back(&medium, &changed, false).unwrap_err();
    assert_eq!(error.kind(), DrainErrorKind::OtherOrigin);
    assert!(
        error
            .to_string()
            .ends_with("was '0 changes', and is '1 changes' now")
    );
    let longer = TestOrigin::new(SIZE + 1).with_version("inode 7");
    assert!(refused(&medium, &longer).1.contains("size was"));
    assert_eq!(held(&medium).dirty_bytes, DIRTY_BYTES);
}

#[test]
fn an_origin_that_cannot_take_it_is_refused() {
    let medium = crashed();
    let mut origin = origin();
    origin.capabilities.write = false;
    assert_eq!(
        refused(&medium, &origin),
        (
            DrainErrorKind::Origin,
            "volume \"disk0\": its origin cannot be written to".to_owned()
        )
    );
    origin.capabilities.write = true;
    origin.limits.minimum = 4096;
    assert!(refused(&medium, &origin).1.contains("multiples of 4096"));
}

/// With force it gets everything, and nothing of the volume is kept, since no origin is the one that was cached any more.
#[test]
fn by_force_another_origin_gets_all_and_the_volume_is_forgotten() {
    let medium = crashed();
    let other = TestOrigin::new(SIZE).with_version("inode 8");
    let done = write_back(&medium, &other, true).unwrap();
    assert!(done.is_forced && done.left.is_empty());
    assert_eq!(other.durable(), expected());
    let found = inspect(&medium, Detail::Figures).unwrap();
    assert_eq!((found.volumes.len(), found.slots_used), (1, 1));
}

/// The end of a shorter one cannot be written: all of it stays, as it was.
#[test]
fn what_force_cannot_finish_stays_whole() {
    let medium = crashed();
    let before = held(&medium);
    let shorter = TestOrigin::new(SIZE - 1).with_version("inode 7");
    let done = write_back(&medium, &shorter, true).unwrap();
    assert_eq!(done.left.len(), 1);
    assert!(done.left[0].why.to_string().contains("the origin ends at"));
    assert_eq!(done.written_bytes, DIRTY_BYTES - 188);
    let after = held(&medium);
    assert_eq!(after.dirty_ranges, before.dirty_ranges);
    // Not even the one that it was written for is taken for it without being told so.
    let (kind, told) = refused(&medium, &origin());
    assert_eq!(kind, DrainErrorKind::OtherOrigin);
    assert!(told.contains("by force"), "{told}");
    let origin = origin();
    write_back(&medium, &origin, true).unwrap();
    assert_eq!(origin.durable(), expected());
}

#[test]
fn a_directory_in_use_is_refused_with_who_has_it() {
    let medium = crashed();
    let user = User::open(&medium);
    let (kind, told) = refusal(&medium);
    assert_eq!(kind, DrainErrorKind::InUse);
    assert!(
        told.starts_with("it is in use (pid 12 started 10:00)"),
        "{told}"
    );
    drop(user);
    open(&medium).close().unwrap();
}

#[test]
fn where_there_is_no_cache_none_is_made() {
    let medium = MemoryMedium::default();
    assert_eq!(refusal(&medium).0, DrainErrorKind::NoCache);
    assert_eq!(medium.take_changed(), [""; 0]);
}

#[test]
fn a_block_that_is_dirty_in_two_slots_is_refused() {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    let mut said = story(&user);
    said.push(user.put(dirty(8, 9, 1, 0)));
    user.say(&said);
    drop(user);
    assert_eq!(
        refusal(&medium),
        (
            DrainErrorKind::Refused,
            "volume \"disk0\" is damaged: its block 9 was written in two slots, 1 and 8".to_owned()
        )
    );
}

#[test]
fn zeros_that_no_sector_begins_with_are_refused() {
    let medium = MemoryMedium::default();
    let user = User::open(&medium);
    user.say(&[volume(0), zeros(0, &[(100, 512)])]);
    drop(user);
    let (kind, told) = refusal(&medium);
    assert_eq!(kind, DrainErrorKind::Refused);
    assert!(told.contains("begin and end with a sector"), "{told}");
}
