//! A small volume whose flushes end in its cache's directory, for directed tests of what they promise.

use std::sync::Arc;
use std::time::Duration;

use larder::{CacheOnRead, Config, FlushTo, HomeSizes, Medium};

use crate::crash::{CallKind, Machine, walk::Walk};
use crate::origin::OriginSettings;
use crate::random::{Random, content};
use crate::rig::Client;
use crate::surviving::{Life, Survivor};

/// Bytes of a block.
pub const BLOCK: usize = 4096;
/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Bytes of the volume.
pub const IMAGE: u64 = 1 << 20;
/// Dirty data that is older than this is written back.
pub const AGE: Duration = Duration::from_secs(30);

/// How a log can fail: what it is asked, and the errno.
pub const LOG_FAILURES: [(CallKind, i32); 3] = [
    (CallKind::Write, libc::ENOSPC),
    (CallKind::Write, libc::EIO),
    (CallKind::Sync, libc::EIO),
];

/// Flushes end in the directory.
pub fn to_cache() -> Config {
    Config {
        flush_to: FlushTo::Cache,
        block_bytes: BLOCK as u64,
        cache_on_read: CacheOnRead::Always,
        max_size_bytes: Some(40 << 20),
        cache_id: Some("the disk".to_owned()),
        dirty_age: Some(AGE),
        ..Config::default()
    }
}

/// The same cache, but flushes end on the origin.
pub fn to_origin() -> Config {
    Config {
        flush_to: FlushTo::Origin,
        ..to_cache()
    }
}

/// An empty directory beside an origin that holds [`old`].
pub fn survivor() -> Survivor {
    survivor_beside(OriginSettings::new(IMAGE))
}

/// The same beside an origin like that, of [`IMAGE`] bytes.
pub fn survivor_beside(settings: OriginSettings) -> Survivor {
    let survivor = Survivor::new(settings);
    survivor.origin.disk().fill(0, &old(0, IMAGE as usize));
    survivor
}

/// What the origin holds at first.
pub fn old(offset: u64, length: usize) -> Vec<u8> {
    content(1, offset, length)
}

/// What clients write.
pub fn new(offset: u64, length: usize) -> Vec<u8> {
    content(2, offset, length)
}

/// What clients write over that.
pub fn newer(offset: u64, length: usize) -> Vec<u8> {
    content(3, offset, length)
}

/// So many slots, of one block each, and the shortest journal.
pub fn few(slots: u32) -> HomeSizes {
    HomeSizes {
        slots,
        journal_bytes: 64 << 10,
        queue_bytes: 64 << 10,
    }
}

/// A life with [`few`] slots.
pub fn small(survivor: &Survivor, slots: u32) -> Life {
    survivor
        .try_start_with(to_cache(), true, Some(few(slots)))
        .expect("a directory that can be used")
}

/// Everything dirty is too old, and written back by the next request.
pub fn age(life: &Life, client: &Client) {
    life.clock.advance(2 * AGE);
    client.get(IMAGE - 512, 512).expect("a read");
    assert_eq!(life.cache.stats().dirty_bytes, 0);
}

/// The last client leaves, and the cache ends.
pub fn end(life: Life, client: Arc<Client>) {
    client.leave().expect("an origin that takes everything");
    drop(client);
    life.end();
}

/// How many calls the machine got meanwhile, each of which is there with its beginning and its end.
pub fn calls(survivor: &Survivor, action: impl FnOnce()) -> usize {
    let before = survivor.machine.position();
    action();
    (survivor.machine.position() - before) / 2
}

/// Flips a bit in the sector of a slot that holds these bytes.
pub fn flip(survivor: &Survivor, sector: &[u8]) {
    let slots = survivor.machine.medium().open("slots").expect("a file");
    let length = slots.length().expect("its length");
    let mut found = vec![0; sector.len()];
    for at in (1 << 20..length).step_by(SECTOR) {
        slots.read(at, &mut found).expect("a sector");
        if found == sector {
            found[77] ^= 4;
            slots.write(at, &found).expect("a write");
            slots.sync().expect("a sync");
            return;
        }
    }
    panic!("no slot has it");
}

/// Crashes at every call since then, with several kinds of luck, and gives what is read of the range after each.
pub fn crashes(survivor: &Survivor, since: usize, (offset, length): (u64, usize)) -> Vec<Vec<u8>> {
    let recording = survivor.machine.recording();
    let mut walk = Walk::new(&recording);
    let mut found = Vec::new();
    for position in since..=recording.position() {
        walk.advance_to(position);
        for luck in 0..8 {
            let image = walk.crash(&mut Random::new(luck));
            let crashed = Survivor {
                origin: survivor.origin.clone(),
                machine: Machine::new(image, luck),
                violations: survivor.violations.clone(),
            };
            let life = crashed
                .try_start_with(to_cache(), true, Some(few(64)))
                .unwrap_or_else(|error| panic!("at {position}: {error}"));
            let client = life.client();
            found.push(client.get(offset, length).unwrap());
            // The origin is everybody's.
            crashed.origin.disk().crash(None);
            drop((client, life));
            crashed.origin.disk().restart();
        }
    }
    found
}

/// Every sector is one of the two, and both are met if they are to be.
pub fn assert_old_or_new(found: &[Vec<u8>], first: &[u8], second: &[u8], both: bool) {
    let (mut firsts, mut seconds) = (0, 0);
    for found in found {
        let pairs = first.chunks(SECTOR).zip(second.chunks(SECTOR));
        for (found, (first, second)) in found.chunks(SECTOR).zip(pairs) {
            assert!(found == first || found == second, "neither old nor new");
            firsts += usize::from(found == first);
            seconds += usize::from(found == second);
        }
    }
    assert!(seconds > 0 && (firsts > 0) == both, "{firsts} {seconds}");
}
