//! What is found again after a restart, and what is not.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use larder::{CacheOnRead, Config, Found, Medium, Mode, ZeroOptions};
use larder_testing::crash::{CallKind, MediumFault};
use larder_testing::log::Level;
use larder_testing::random::content;
use larder_testing::rig::Client;
use larder_testing::surviving::{Life, Survivor};
use larder_testing::{Fault, Kind, OriginSettings, When};

const BLOCK: usize = 64 << 10;
const IMAGE: u64 = 4 << 20;

fn config() -> Config {
    Config {
        cache_on_read: CacheOnRead::Always,
        max_size_bytes: Some(40 << 20),
        cache_id: Some("the disk".to_owned()),
        ..Config::default()
    }
}

fn unnamed() -> Config {
    Config {
        cache_id: None,
        ..config()
    }
}

fn survivor() -> Survivor {
    let survivor = Survivor::new(OriginSettings::new(IMAGE));
    let bytes = content(1, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &bytes);
    survivor
}

/// Reads all of it, in one life.
fn warm(survivor: &Survivor, config: &Config) {
    let life = survivor.start(config);
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    leave(client);
    life.end();
    survivor.origin.calls().clear();
}

/// What a client reads in a new life, and how many reads the origin got for it.
fn read_again(survivor: &Survivor, config: &Config) -> (Vec<u8>, usize, Life) {
    let life = survivor.start(config);
    let client = life.client();
    survivor.origin.calls().clear();
    let bytes = client.get(0, IMAGE as usize).unwrap();
    let reads = survivor.origin.calls().count(Kind::Read);
    client.leave().unwrap();
    (bytes, reads, life)
}

/// Leaves for good: who is still there has the directory in use.
fn leave(client: Arc<Client>) {
    client.leave().unwrap();
}

fn warnings(life: &Life, part: &str) -> usize {
    let messages = life.log.messages(Level::Warning);
    messages
        .iter()
        .filter(|message| message.contains(part))
        .count()
}

#[test]
fn after_a_clean_end_the_origin_is_not_asked_again() {
    let survivor = survivor();
    let life = survivor.start(&config());
    assert_eq!(life.cache.found(), Some(Found::Made));
    life.end();
    warm(&survivor, &config());
    let (bytes, reads, life) = read_again(&survivor, &config());
    assert!(bytes == content(1, 0, IMAGE as usize));
    assert_eq!(reads, 0);
    let blocks = IMAGE / BLOCK as u64;
    assert_eq!(life.cache.found(), Some(Found::Kept { blocks }));
    assert_eq!(life.cache.stats().bad_clean_sectors, 0);
    life.end();
    // And again, although nobody changed anything.
    assert_eq!(read_again(&survivor, &config()).1, 0);
}

#[test]
fn what_was_written_is_found_too_in_parts_of_blocks_and_at_the_ragged_end() {
    let size = IMAGE + 700;
    let survivor = Survivor::new(OriginSettings::new(size));
    let life = survivor.start(&config());
    let client = life.client();
    client.put(1000, &content(2, 1000, 3000)).unwrap();
    client
        .put(size - 100, &content(2, size - 100, 100))
        .unwrap();
    client.flush().unwrap();
    leave(client);
    life.end();
    let life = survivor.start(&config());
    let client = life.client();
    survivor.origin.calls().clear();
    assert!(client.get(1024, 2560).unwrap() == content(2, 1024, 2560));
    assert!(client.get(size - 100, 100).unwrap() == content(2, size - 100, 100));
    assert_eq!(survivor.origin.calls().count(Kind::Read), 0);
    // The rest of the block is the origin's.
    assert!(client.get(0, 1000).unwrap() == [0; 1000]);
    assert!(client.get(1000, 3000).unwrap() == content(2, 1000, 3000));
}

#[test]
fn without_a_clean_end_the_truth_is_read() {
    let survivor = survivor();
    warm(&survivor, &config());
    let life = survivor.start(&config());
    let client = life.client();
    client.put(5000, &content(3, 5000, 9000)).unwrap();
    client.flush().unwrap();
    client.put(90_000, &content(4, 90_000, 5)).unwrap();
    client.leave().unwrap();
    drop((client, life));
    let (bytes, _, life) = read_again(&survivor, &config());
    assert!(matches!(life.cache.found(), Some(Found::Crashed { .. })));
    assert!(bytes == survivor.origin.disk().current(0, IMAGE as usize));
    assert!(bytes[5000..14_000] == content(3, 5000, 9000));
}

#[test]
fn another_version_of_the_origin_is_read_anew() {
    let survivor = survivor();
    survivor.origin.set_version("inode 1", "monday");
    warm(&survivor, &unnamed());
    let (_, reads, life) = read_again(&survivor, &unnamed());
    assert_eq!(reads, 0);
    life.end();
    let newer = content(9, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &newer);
    survivor.origin.set_version("inode 1", "tuesday");
    let (bytes, reads, life) = read_again(&survivor, &unnamed());
    assert!(bytes == newer && reads > 0);
    assert_eq!(warnings(&life, "'monday', and is 'tuesday' now"), 1);
    life.end();
    assert_eq!(read_again(&survivor, &unnamed()).1, 0);
}

#[test]
fn an_origin_that_says_nothing_of_itself_is_believed_for_a_cache_id_only() {
    let survivor = survivor();
    warm(&survivor, &unnamed());
    let (bytes, reads, life) = read_again(&survivor, &unnamed());
    assert!(bytes == content(1, 0, IMAGE as usize) && reads > 0);
    assert_eq!(warnings(&life, "no cache-id"), 1);
    life.end();
    let (_, reads, life) = read_again(&survivor, &config());
    assert!(reads > 0, "another cache-id than before");
    life.end();
    let (_, reads, life) = read_again(&survivor, &config());
    assert_eq!(reads, 0);
    life.end();
    let other = Config {
        cache_id: Some("another disk".to_owned()),
        ..config()
    };
    let (_, reads, life) = read_again(&survivor, &other);
    assert!(reads > 0);
    assert_eq!(
        warnings(&life, "cache-id was 'the disk', and is 'another disk' now"),
        1
    );
}

#[test]
fn another_size_is_another_disk() {
    let survivor = survivor();
    warm(&survivor, &config());
    let life = survivor.start(&config());
    let origin = survivor.origin.connect_as(|terms| terms.size = IMAGE / 2);
    let connection = life.volume.connect(origin).unwrap();
    assert_eq!(life.cache.stats().slots_used, 0);
    assert_eq!(
        warnings(&life, "the origin's size was 4194304, and is 2097152 now"),
        1
    );
    drop(connection);
}

#[test]
fn our_own_writes_change_the_version_and_nothing_is_dropped() {
    let survivor = survivor();
    survivor.origin.set_version("inode 1", "monday");
    let life = survivor.start(&unnamed());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client.put(0, &content(5, 0, BLOCK)).unwrap();
    client.flush().unwrap();
    survivor.origin.set_version("inode 1", "tuesday");
    leave(client);
    life.end();
    let (bytes, reads, _life) = read_again(&survivor, &unnamed());
    assert_eq!(reads, 0);
    assert!(bytes[..BLOCK] == content(5, 0, BLOCK));
}

#[test]
fn somebody_elses_changes_meanwhile_are_not_taken_for_ours() {
    let survivor = survivor();
    survivor.origin.set_version("inode 1", "monday");
    let life = survivor.start(&unnamed());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    let newer = content(9, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &newer);
    survivor.origin.set_version("inode 1", "tuesday");
    leave(client);
    life.end();
    assert!(read_again(&survivor, &unnamed()).0 == newer);
}

#[test]
fn clients_that_come_back_within_a_life_find_a_changed_origin_too() {
    let survivor = survivor();
    survivor.origin.set_version("inode 1", "monday");
    let life = survivor.start(&unnamed());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client.leave().unwrap();
    let newer = content(9, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &newer);
    survivor.origin.set_version("inode 2", "monday");
    let client = life.client();
    assert!(client.get(0, IMAGE as usize).unwrap() == newer);
}

/// Flips a bit of every slot's byte at that place.
fn damage_slots(survivor: &Survivor, at: u64) {
    let slots = survivor.machine.medium().open("slots").unwrap();
    for slot in 0..IMAGE / BLOCK as u64 {
        let offset = (1 << 20) + slot * BLOCK as u64 + at;
        let mut byte = [0];
        slots.read(offset, &mut byte).unwrap();
        slots.write(offset, &[byte[0] ^ 4]).unwrap();
    }
}

#[test]
fn what_is_not_as_it_was_written_is_read_from_the_origin_again_and_counted() {
    let survivor = survivor();
    warm(&survivor, &config());
    damage_slots(&survivor, 777);
    let (bytes, reads, life) = read_again(&survivor, &config());
    assert!(bytes == content(1, 0, IMAGE as usize));
    let blocks = IMAGE / BLOCK as u64;
    assert!(reads > 0);
    assert_eq!(life.cache.stats().bad_clean_sectors, blocks);
    assert_eq!(
        warnings(&life, "are read from the origin again"),
        blocks as usize
    );
    life.end();
    let (_, reads, life) = read_again(&survivor, &config());
    assert_eq!((reads, life.cache.stats().bad_clean_sectors), (0, 0));
}

#[test]
fn damage_is_not_made_good_by_a_write_beside_it() {
    let survivor = survivor();
    warm(&survivor, &config());
    damage_slots(&survivor, 777);
    let life = survivor.start(&config());
    let client = life.client();
    client.put(4096, &content(6, 4096, 512)).unwrap();
    client.flush().unwrap();
    leave(client);
    life.end();
    let (bytes, _, _life) = read_again(&survivor, &config());
    assert!(bytes[..4096] == content(1, 0, 4096));
    assert!(bytes[4096..4608] == content(6, 4096, 512));
    assert!(bytes[4608..] == content(1, 4608, IMAGE as usize - 4608));
}

#[test]
fn a_directory_has_one_user() {
    let survivor = survivor();
    let life = survivor.start(&config());
    let refused = survivor.try_start(config(), false);
    let message = refused.err().unwrap().to_string();
    assert!(
        message.contains("/cache") && message.contains("pid 7"),
        "{message}"
    );
    life.end();
    assert!(survivor.try_start(config(), false).is_ok());
}

#[test]
fn the_block_size_is_the_directorys_unless_another_is_given() {
    let survivor = survivor();
    let small = Config {
        block_bytes: 4096,
        ..config()
    };
    let life = survivor.try_start(small.clone(), true).unwrap();
    life.end();
    let life = survivor.try_start(config(), false).unwrap();
    assert_eq!(life.cache.config().block_bytes, 4096);
    life.end();
    let message = survivor
        .try_start(config(), true)
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.contains("4096") && message.contains("65536"),
        "{message}"
    );
    let tiny = Config {
        max_size_bytes: Some(16 << 20),
        ..config()
    };
    let message = survivor.try_start(tiny, false).err().unwrap().to_string();
    assert!(message.contains("33554432"), "{message}");
}

#[test]
fn a_smaller_limit_keeps_what_fits() {
    let survivor = Survivor::new(OriginSettings::new(48 << 20));
    let large = Config {
        max_size_bytes: Some(64 << 20),
        ..config()
    };
    let life = survivor.start(&large);
    let client = life.client();
    let bytes = content(1, 0, 48 << 20);
    survivor.origin.disk().fill(0, &bytes);
    client.get(0, 48 << 20).unwrap();
    leave(client);
    life.end();
    let life = survivor.start(&config());
    let Some(Found::Kept { blocks }) = life.cache.found() else {
        panic!("nothing was kept");
    };
    assert!((400..640).contains(&blocks), "{blocks}");
    let client = life.client();
    assert!(client.get(0, 48 << 20).unwrap() == bytes);
    assert!(life.cache.stats().slots_used < 640);
}

#[test]
fn unsafe_keeps_what_was_only_read() {
    let relaxed = Config {
        mode: Mode::Unsafe,
        ..config()
    };
    let survivor = survivor();
    warm(&survivor, &relaxed);
    let (_, reads, life) = read_again(&survivor, &relaxed);
    assert_eq!(reads, 0);
    let client = life.client();
    client.put(0, &[7; 4096]).unwrap();
    leave(client);
    life.end();
    let bytes = read_again(&survivor, &relaxed).0;
    assert!(bytes == content(1, 0, IMAGE as usize), "discarded, as ever");
}

#[test]
fn what_the_origin_refused_is_not_kept_and_was_told() {
    let survivor = survivor();
    warm(&survivor, &config());
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client.put(0, &content(7, 0, 4096)).unwrap();
    client
        .serve(|one| one.zero(BLOCK as u64, 8192, ZeroOptions::default()))
        .unwrap();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    survivor.origin.fault(Fault::new(Kind::Zero, When::Always));
    assert!(client.leave().is_err());
    drop(client);
    assert_eq!(life.cache.leftovers().len(), 1);
    life.end();
    survivor.origin.heal();
    let (bytes, _, _life) = read_again(&survivor, &config());
    assert!(bytes == survivor.origin.disk().current(0, IMAGE as usize));
}

#[test]
fn volumes_are_found_by_name_and_private_ones_not_at_all() {
    let survivor = survivor();
    let life = survivor.start(&config());
    let other = life.cache.volume("other");
    let private = life.cache.private_volume("volume");
    for volume in [&other, &private] {
        let client = life.client_of(volume);
        client.get(0, BLOCK).unwrap();
        client.leave().unwrap();
    }
    drop(private);
    drop(other);
    life.end();
    let life = survivor.start(&config());
    assert_eq!(life.cache.found(), Some(Found::Kept { blocks: 1 }));
    let client = life.client();
    survivor.origin.calls().clear();
    client.get(0, BLOCK).unwrap();
    assert_eq!(survivor.origin.calls().count(Kind::Read), 1);
    let other = life.cache.volume("other");
    let client = life.client_of(&other);
    survivor.origin.calls().clear();
    client.get(0, BLOCK).unwrap();
    assert_eq!(survivor.origin.calls().count(Kind::Read), 0);
}

#[test]
fn checksums_are_made_in_the_background_of_what_is_at_rest() {
    let survivor = survivor();
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    let before = survivor.machine.position();
    assert!(life.cache.maintain_medium(std::time::Duration::ZERO));
    let looked = survivor.machine.position();
    assert!(life.cache.maintain_medium(std::time::Duration::ZERO));
    let summed = survivor.machine.position();
    let blocks = (IMAGE / BLOCK as u64) as usize;
    // What has just come is left alone.
    assert!(looked - before < blocks, "{}", looked - before);
    assert!(summed - looked >= blocks, "{}", summed - looked);
    client.put(0, &[1; 512]).unwrap();
    client.flush().unwrap();
    leave(client);
    life.end();
    let (bytes, reads, life) = read_again(&survivor, &config());
    assert_eq!((reads, life.cache.stats().bad_clean_sectors), (0, 0));
    assert!(bytes[..512] == [1; 512] && bytes[512..] == content(1, 512, IMAGE as usize - 512));
}

/// Has everything listed that is at rest.
fn list(life: &Life) {
    for _ in 0..3 {
        assert!(life.cache.maintain_medium(std::time::Duration::ZERO));
    }
}

#[test]
fn what_was_listed_is_found_after_a_crash_too() {
    let survivor = survivor();
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    list(&life);
    drop((client, life));
    let (bytes, reads, life) = read_again(&survivor, &config());
    let blocks = IMAGE / BLOCK as u64;
    assert_eq!(life.cache.found(), Some(Found::Crashed { blocks }));
    assert_eq!((reads, life.cache.stats().bad_clean_sectors), (0, 0));
    assert!(bytes == content(1, 0, IMAGE as usize));
}

#[test]
fn what_changed_on_the_origin_is_not_found_after_a_crash() {
    for mode in [Mode::Writeback, Mode::Writethrough, Mode::Unsafe] {
        let survivor = survivor();
        let config = Config { mode, ..config() };
        warm(&survivor, &config);
        let life = survivor.start(&config);
        let client = life.client();
        client.put(0, &content(2, 0, 1000)).unwrap();
        client
            .serve(|one| one.write(BLOCK as u64, &content(2, BLOCK as u64, 512), true))
            .unwrap();
        client
            .serve(|one| one.zero(2 * BLOCK as u64, 4096, ZeroOptions::default()))
            .unwrap();
        client
            .serve(|one| one.trim(3 * BLOCK as u64, 4096, false))
            .unwrap();
        client.flush().unwrap();
        drop((client, life));
        let (bytes, reads, _life) = read_again(&survivor, &config);
        assert!(
            bytes == survivor.origin.disk().current(0, IMAGE as usize),
            "{mode:?}"
        );
        assert!(reads <= 4, "{mode:?}: {reads}");
    }
}

#[test]
fn a_dead_journal_lets_nothing_change_that_the_directory_lists_and_everything_else() {
    let survivor = survivor();
    warm(&survivor, &config());
    let life = survivor.start(&config());
    let client = life.client();
    client.put(0, &[1; 512]).unwrap();
    client.flush().unwrap();
    survivor
        .machine
        .fail(MediumFault::file("journal", CallKind::Sync, When::Nth(1)));
    client.put(5 * BLOCK as u64, &[2; 512]).unwrap();
    let message = client.flush().unwrap_err().to_string();
    assert!(
        message.contains("/cache") && message.contains("before the origin may change"),
        "{message}"
    );
    survivor.machine.heal();
    assert!(client.flush().is_err(), "for good");
    client.serve(|one| one.write(0, &[3; 512], true)).unwrap();
    assert_eq!(client.get(5 * BLOCK as u64, 512).unwrap(), [2; 512]);
    assert!(client.get(BLOCK as u64, BLOCK).unwrap() == content(1, BLOCK as u64, BLOCK));
    assert!(client.leave().is_err());
    drop(client);
    assert!(life.cache.close().is_err());
    drop(life);
    let bytes = read_again(&survivor, &config()).0;
    assert!(bytes == survivor.origin.disk().current(0, IMAGE as usize));
}

/// Writing into the entries fails until it is healed.
fn fail_entries(survivor: &Survivor) {
    for name in ["map", "map.copy"] {
        let fault = MediumFault::file(name, CallKind::Write, When::Always);
        survivor.machine.fail(fault);
    }
}

#[test]
fn an_end_writes_no_entry_that_is_there_already() {
    let survivor = survivor();
    let read = |life: &Life| {
        let client = life.client();
        assert!(client.get(0, 5 * BLOCK).unwrap() == content(1, 0, 5 * BLOCK));
        leave(client);
    };
    let life = survivor.start(&config());
    read(&life);
    life.end();
    fail_entries(&survivor);
    let life = survivor.start(&config());
    read(&life);
    life.end();
    // What is new is written, though.
    let life = survivor.start(&config());
    let client = life.client();
    client.get(9 * BLOCK as u64, BLOCK).unwrap();
    leave(client);
    life.cache.stop();
    let error = life.cache.close().unwrap_err().to_string();
    assert!(error.contains("map"), "{error}");
    drop(life);
    survivor.machine.heal();
    let (bytes, _, _life) = read_again(&survivor, &config());
    assert!(bytes == content(1, 0, IMAGE as usize));
}

#[test]
fn a_damaged_entry_refuses_the_directory_and_nothing_is_written_there() {
    let survivor = survivor();
    warm(&survivor, &config());
    let medium = survivor.machine.medium();
    let read = |name: &str| {
        let file = medium.open(name).unwrap();
        let mut bytes = vec![0; file.length().unwrap().min(1 << 20) as usize];
        file.read(0, &mut bytes).unwrap();
        bytes
    };
    for name in ["map", "map.copy"] {
        let entry = 4096 + 5 * 64;
        let byte = read(name)[entry + 20];
        let file = medium.open(name).unwrap();
        file.write(entry as u64 + 20, &[!byte]).unwrap();
    }
    let files = || {
        medium
            .names()
            .unwrap()
            .into_iter()
            .filter(|name| name != "lock")
    };
    let before: Vec<_> = files().map(|name| read(&name)).collect();
    // Also with a limit below what the directory has.
    for max_size_bytes in [config().max_size_bytes, Some(32 << 20)] {
        let wanted = Config {
            max_size_bytes,
            ..config()
        };
        let error = survivor.try_start(wanted, false).err().unwrap();
        assert!(error.to_string().contains("entry 5 is damaged"), "{error}");
        assert!(files().map(|name| read(&name)).eq(before.iter().cloned()));
    }
}
