//! What an engine makes of the entries of a directory that was closed.

use super::*;
use crate::directory::VolumeNumber;
use crate::index::Use;
use crate::persist::memory_medium::MemoryMedium;
use crate::persist::op::VolumeRecord;
use crate::persist::sums::{Incarnation, Occupant};
use crate::persist::volumes::VolumeTable;
use crate::sector::BlockNumber;
use crate::{Log, SystemClock};

const SLOTS: u32 = 1001;
const BLOCK_BYTES: u64 = 4096;
const FULL: Mask = Mask(0xff);
/// Slots from this one on are given up.
const LIMIT: u32 = 900;

struct Quiet;

impl Log for Quiet {
    fn error(&self, _: &str) {}
    fn warning(&self, _: &str) {}
    fn debug(&self, _: &str) {}
}

fn home(medium: &MemoryMedium, slots: u32) -> CacheHome {
    CacheHome {
        medium: Arc::new(medium.clone()),
        path: "here".to_owned(),
        block_is_given: true,
        uuid_bits: 1,
        lock_text: "a test".to_owned(),
        sizes: Some(HomeSizes {
            slots,
            journal_bytes: 64 << 10,
            queue_bytes: 64 << 10,
        }),
    }
}

fn config() -> Config {
    Config {
        block_bytes: BLOCK_BYTES,
        ..Config::default()
    }
}

/// A cache of so many slots at most, as `Cache::open` makes it.
fn start(medium: &MemoryMedium, slots: u32) -> (Arc<Store>, Vec<Arc<Volume>>) {
    let mut config = config();
    let opening = open(&mut config, home(medium, slots)).unwrap();
    let clock = Arc::new(SystemClock::default());
    let survival = Some(opening.survival);
    let store = Store::with_slots(config, opening.slots, survival, clock, Arc::new(Quiet));
    let store = Arc::new(store);
    let volumes = load(&store, &opening.loading).unwrap();
    (store, volumes)
}

/// Two volumes of 1000 blocks.
fn table() -> VolumeTable {
    let mut table = VolumeTable::default();
    for name in ["one", "two"] {
        let record = |id| VolumeRecord {
            id,
            size_bytes: 1000 * BLOCK_BYTES,
            sector_shift: 9,
            changed_since_version: false,
            has_queue: false,
            name: name.to_owned(),
            cache_id: String::new(),
            version: None,
        };
        table.add(table.free_number(), record).unwrap();
    }
    table
}

/// What a slot is said to hold: volume, block, valid sectors. Every tenth holds nothing; then come blocks in part, blocks of a volume
/// that is gone, and blocks beyond the end. Slots from 700 on have blocks that slots from 100 on have too.
fn content(slot: u32) -> Option<Content> {
    let twin = if (700..800).contains(&slot) {
        slot - 600
    } else {
        slot
    };
    let (volume, block) = (twin % 2, u64::from(twin) * 7 % 1000);
    let (incarnation, block) = match slot % 10 {
        2 => (volume + 5, block),
        3 => (volume, block + 1000),
        _ => (volume, block),
    };
    let content = Content {
        occupant: Occupant {
            volume: VolumeNumber(volume),
            incarnation: Incarnation(incarnation),
            block: BlockNumber(block),
        },
        valid: if slot % 10 == 1 { Mask(6) } else { FULL },
        dirty: Mask::EMPTY,
        heat: (slot % 8) as u8,
    };
    (!slot.is_multiple_of(10)).then_some(content)
}

fn is_wanted(slot: u32) -> bool {
    slot < LIMIT && !matches!(slot % 10, 0 | 2 | 3) && !(700..800).contains(&slot)
}

fn closed() -> MemoryMedium {
    let medium = MemoryMedium::default();
    let wanted = Wanted {
        block_bytes: Some(BLOCK_BYTES),
        default_block_bytes: BLOCK_BYTES,
        max_size_bytes: None,
        uuid_bits: 1,
        lock_text: "a test".to_owned(),
    };
    let opened = Home::open_with(Arc::new(medium.clone()), &wanted, 64 << 10).unwrap();
    opened.home.prepare_slots(SLOTS).unwrap();
    let entry = |slot| Entry {
        seq: 0,
        content: content(slot),
    };
    let mut entries = (0..SLOTS).map(entry);
    opened.home.close(&table(), SLOTS, &mut entries).unwrap();
    medium
}

#[test]
fn every_slot_that_is_wanted_is_found_and_every_other_one_is_free() {
    let (store, volumes) = start(&closed(), LIMIT);
    let survival = store.survival.as_ref().unwrap();
    let mut count = 0;
    for slot in 0..SLOTS {
        let Some(content) = content(slot) else {
            continue;
        };
        let (slot, number) = (SlotNumber(slot), content.occupant.block);
        let volume = &volumes[content.occupant.volume.0 as usize];
        let Use::Unpinned(state) = volume.index().find_use(number, FULL, &store.directory) else {
            panic!("nobody uses it");
        };
        let is_wanted = is_wanted(slot.0);
        assert_eq!(state.slot == Some(slot), is_wanted, "{slot:?}");
        assert_eq!(survival.marks.is_summed(slot), is_wanted, "{slot:?}");
        assert_eq!(survival.marks.is_listed(slot), is_wanted, "{slot:?}");
        assert_eq!(survival.marks.is_unverified(slot), is_wanted, "{slot:?}");
        if is_wanted {
            count += 1;
            assert_eq!(state.valid, content.valid, "{slot:?}");
            let heat = sync::lock(&store.eviction).heat(slot.0);
            assert_eq!(heat, content.heat, "{slot:?}");
        }
    }
    assert_eq!(sync::lock(&store.eviction).len(), count);
    assert_eq!(store.slots.usage().used, count as u64);
    assert_eq!(
        survival.found(),
        Found::Kept {
            blocks: count as u64
        }
    );
    assert_eq!(survival.marks.listed_slots(), count as u64);
    // Who changes such a block has the directory forget both slots.
    let twin = content(701).unwrap().occupant;
    let gone = survival.gone.of_blocks(twin.volume, twin.block, twin.block);
    assert_eq!(gone, [SlotNumber(701)]);
    let beyond = content(LIMIT + 5).unwrap().occupant;
    let gone = survival
        .gone
        .of_blocks(beyond.volume, beyond.block, beyond.block);
    assert_eq!(gone, [SlotNumber(LIMIT + 5)]);
}

#[test]
fn what_was_loaded_is_what_the_next_start_loads() {
    let medium = closed();
    let used = |limit| {
        let (store, volumes) = start(&medium, limit);
        let survival = store.survival.as_ref().unwrap();
        crate::survival::close(&store, survival).unwrap();
        drop(volumes);
        (store.slots.usage().used, survival.found())
    };
    let (first, _) = used(LIMIT);
    assert_eq!(used(LIMIT), (first, Found::Kept { blocks: first }));
    assert_eq!(used(SLOTS), (first, Found::Kept { blocks: first }));
}

#[test]
fn a_volume_that_ends_gives_its_slots_back_unless_all_ends_with_it() {
    let (store, mut volumes) = start(&closed(), LIMIT);
    let before = store.slots.usage().used;
    drop(volumes.pop());
    let after = store.slots.usage().used;
    assert!(0 < after && after < before, "{after} of {before}");
    assert_eq!(sync::lock(&store.eviction).len() as u64, after);
    crate::survival::close(&store, store.survival.as_ref().unwrap()).unwrap();
    drop(volumes);
    assert_eq!(store.slots.usage().used, after);
}
