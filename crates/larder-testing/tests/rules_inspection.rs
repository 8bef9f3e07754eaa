//! What `larder inspect` and `larder scrub` see of the engine's own directories.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use larder::inspect::{Detail, DirectoryState, Inspection, Scrub, inspect, scrub};
use larder::{CacheOnRead, Config, Medium};
use larder_testing::OriginSettings;
use larder_testing::random::content;
use larder_testing::surviving::{Life, Survivor};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = (4 << 20) + 700;

fn config() -> Config {
    Config {
        cache_on_read: CacheOnRead::Always,
        max_size_bytes: Some(40 << 20),
        cache_id: Some("the disk".to_owned()),
        ..Config::default()
    }
}

fn survivor() -> Survivor {
    let survivor = Survivor::new(OriginSettings::new(IMAGE));
    survivor.origin.set_version("inode 1", "monday");
    let bytes = content(1, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &bytes);
    survivor
}

fn inspected(survivor: &Survivor) -> Inspection {
    inspect(&survivor.machine.medium(), Detail::DirtyRanges).unwrap()
}

fn scrubbed(survivor: &Survivor) -> Scrub {
    scrub(&survivor.machine.medium(), &mut |_| {}).unwrap()
}

/// Until there is nothing to be listed any more.
fn rest(life: &Life) {
    for _ in 0..8 {
        assert!(life.cache.maintain_medium(Duration::ZERO));
    }
}

/// A life in which all of it was read.
fn warm(survivor: &Survivor) -> Life {
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client.leave().unwrap();
    life
}

#[test]
fn a_closed_directory_has_what_was_read() {
    let survivor = survivor();
    warm(&survivor).end();
    let found = inspected(&survivor);
    assert_eq!(found.state, DirectoryState::Clean);
    assert_eq!((found.journal.frames, found.journal.used_bytes), (0, 0));
    let [volume] = &found.volumes[..] else {
        panic!("{:?}", found.volumes);
    };
    assert_eq!((&*volume.name, &*volume.cache_id), ("volume", "the disk"));
    let version = volume.version.as_ref().unwrap();
    assert_eq!(
        (&*version.stable, &*version.changing),
        ("inode 1", "monday")
    );
    let blocks = IMAGE.div_ceil(BLOCK);
    assert_eq!(
        (volume.blocks, u64::from(found.slots_used)),
        (blocks, blocks)
    );
    assert_eq!((volume.size_bytes, volume.cached_bytes), (IMAGE, IMAGE));
    assert_eq!((volume.dirty_bytes, volume.zero_bytes), (0, 0));
    assert_eq!(volume.dirty_ranges.as_deref(), Some(&[][..]));
    let found = scrubbed(&survivor);
    assert_eq!((found.checked_bytes, found.bad_clean_bytes), (IMAGE, 0));
}

#[test]
fn a_directory_in_use_has_what_was_listed() {
    let survivor = survivor();
    let life = warm(&survivor);
    rest(&life);
    let found = inspected(&survivor);
    assert_eq!(found.state, DirectoryState::InUse);
    assert_eq!(found.user, "pid 7");
    assert_eq!(found.volumes[0].cached_bytes, IMAGE);
    assert!(found.journal.frames > 0);
    let before = scrubbed(&survivor);
    assert_eq!((before.checked_bytes, before.bad_clean_bytes), (IMAGE, 0));
    // Written in place, and the directory does not hear of it before the origin does.
    let client = life.client();
    client.put(BLOCK, &content(2, BLOCK, 1000)).unwrap();
    let found = scrubbed(&survivor);
    assert_eq!(found.state, DirectoryState::InUse);
    assert_eq!((found.bad_clean_sectors, found.bad_dirty.len()), (2, 0));
    client.flush().unwrap();
    client.leave().unwrap();
    drop(client);
    assert_eq!(scrubbed(&survivor).bad_clean_sectors, 0);
    let changed = inspected(&survivor);
    assert_eq!(changed.volumes[0].cached_bytes, IMAGE - BLOCK);
    assert!(changed.volumes[0].changed_since_version);
    life.end();
    assert_eq!(inspected(&survivor).volumes[0].cached_bytes, IMAGE);
}

#[test]
fn after_a_crash_it_is_told_what_a_start_would_find() {
    let survivor = survivor();
    let life = warm(&survivor);
    rest(&life);
    drop(life);
    let found = inspected(&survivor);
    assert_eq!(found.state, DirectoryState::AfterCrash);
    assert_eq!(scrubbed(&survivor).bad_clean_sectors, 0);
    drop(survivor.start(&config()));
    let recovered = inspected(&survivor);
    assert_eq!(recovered.volumes, found.volumes);
    assert_eq!(recovered.journal.frames, 0);
}

#[test]
fn a_flipped_bit_is_counted_and_read_from_the_origin_again() {
    let survivor = survivor();
    warm(&survivor).end();
    let slots = survivor.machine.medium().open("slots").unwrap();
    let at = (1 << 20) + 3 * BLOCK + 5000;
    let mut byte = [0];
    slots.read(at, &mut byte).unwrap();
    slots.write(at, &[byte[0] ^ 1]).unwrap();
    let found = scrubbed(&survivor);
    assert_eq!((found.bad_clean_sectors, found.bad_clean_bytes), (1, 512));
    assert!(found.bad_dirty.is_empty());
    let life = survivor.start(&config());
    let client = life.client();
    let bytes = client.get(0, IMAGE as usize).unwrap();
    assert!(bytes == content(1, 0, IMAGE as usize));
    assert_eq!(life.cache.stats().bad_clean_sectors, 1);
    client.leave().unwrap();
    drop(client);
    life.end();
    assert_eq!(scrubbed(&survivor).bad_clean_sectors, 0);
}
