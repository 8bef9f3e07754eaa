//! A cache directory made byte by byte, as FORMAT.md has it and by none of the engine's code, so that it can hold whatever the format has.
//!
//! Blocks of 4 KiB, sectors of 512 bytes, a ring of 16 pages, nothing in the journal.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use twox_hash::XxHash3_64;

pub(crate) const BLOCK: u64 = 4096;
pub(crate) const PAGE: usize = 4096;
const RING: u64 = 64 << 10;
const SLOTS_START: u64 = 1 << 20;
pub(crate) const UUID: [u8; 16] =
    *b"\x01\x02\x03\x04\x05\x06\x47\x08\x89\x0a\x0b\x0c\x0d\x0e\x0f\x10";

/// What a volume is to be.
pub(crate) struct Volume {
    pub(crate) name: &'static str,
    pub(crate) cache_id: &'static str,
    pub(crate) size: u64,
    /// Stable and changing.
    pub(crate) version: Option<(&'static str, &'static str)>,
    pub(crate) is_changed: bool,
    /// From first to last byte, and one more.
    pub(crate) zeros: Vec<(u64, u64)>,
}

/// What a slot is to hold.
pub(crate) struct Slot {
    pub(crate) volume: u32,
    pub(crate) block: u64,
    pub(crate) valid: u128,
    pub(crate) dirty: u128,
}

pub(crate) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

pub(crate) fn cache() -> u64 {
    hash(0, &UUID)
}

/// A page with its checksum.
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut page = bytes.to_vec();
    page.resize(PAGE - 8, 0);
    let sum = hash(0, &page);
    page.extend(sum.to_le_bytes());
    page
}

fn header(role: u32) -> Vec<u8> {
    let mut bytes = b"LARDERF\0".to_vec();
    bytes.extend(role.to_le_bytes());
    bytes.extend([1, 0, 0, 0]);
    bytes.extend(UUID);
    bytes.extend([12, 3]);
    sealed(&bytes)
}

/// A copy of the superblock.
pub(crate) fn superblock(major: u8, is_clean: bool, slots: u32, table_bytes: u64) -> Vec<u8> {
    let mut bytes = b"LARDERSB".to_vec();
    bytes.extend([major, 0, 0, 0]);
    bytes.extend(0u32.to_le_bytes());
    bytes.extend([12, 3, u8::from(is_clean), 0, 0, 0, 0, 0]);
    bytes.extend(UUID);
    let numbers = |bytes: &mut Vec<u8>, numbers: &[u64]| {
        for number in numbers {
            bytes.extend(number.to_le_bytes());
        }
    };
    numbers(&mut bytes, &[7, 2, slots.into(), RING]);
    let tail = [0, 1, 0];
    numbers(&mut bytes, &tail);
    numbers(&mut bytes, &[PAGE as u64, table_bytes, 5]);
    numbers(&mut bytes, &tail);
    sealed(&bytes)
}

pub(crate) fn op(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend([0, 0]);
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

pub(crate) fn ids(volume: u32) -> Vec<u8> {
    [volume.to_le_bytes(), volume.to_le_bytes()].concat()
}

fn volume_ops(number: u32, volume: &Volume) -> Vec<u8> {
    let mut payload = ids(number);
    payload.extend(volume.size.to_le_bytes());
    let flags = u8::from(volume.is_changed) | u8::from(volume.version.is_some()) << 1;
    payload.extend([9, flags, 0, 0]);
    let (stable, changing) = volume.version.unwrap_or_default();
    let texts = [volume.name, volume.cache_id, stable, changing];
    for text in texts {
        payload.extend((text.len() as u32).to_le_bytes());
    }
    payload.extend(texts.concat().as_bytes());
    let mut ops = op(4, &payload);
    if !volume.zeros.is_empty() {
        let mut payload = ids(number);
        payload.extend(0u64.to_le_bytes());
        payload.extend(volume.size.to_le_bytes());
        for (start, end) in &volume.zeros {
            payload.extend(start.to_le_bytes());
            payload.extend(end.to_le_bytes());
        }
        ops.extend(op(3, &payload));
    }
    ops
}

/// The volume table, and how many bytes of it count.
fn table(volumes: &[Volume]) -> (Vec<u8>, u64) {
    let ops: Vec<u8> = (0..)
        .zip(volumes)
        .flat_map(|(number, it)| volume_ops(number, it))
        .collect();
    let used = (64 + ops.len()) as u64;
    let mut bytes = b"LVT1".to_vec();
    bytes.extend((volumes.len() as u32).to_le_bytes());
    bytes.extend(used.to_le_bytes());
    bytes.extend(5u64.to_le_bytes());
    bytes.resize(56, 0);
    let place = hash(cache(), &(PAGE as u64).to_le_bytes());
    let sum = hash(hash(place, &bytes), &ops);
    bytes.extend(sum.to_le_bytes());
    bytes.extend(ops);
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    (bytes, used)
}

fn entry(number: u32, slot: &Option<Slot>) -> Vec<u8> {
    let mut body = Vec::new();
    match slot {
        None => {
            body.extend(2u32.to_le_bytes());
            body.resize(60, 0);
        }
        Some(slot) => {
            body.extend(1u32.to_le_bytes());
            body.extend(ids(slot.volume));
            body.extend(slot.block.to_le_bytes());
            body.extend(0u64.to_le_bytes());
            body.extend(slot.valid.to_le_bytes());
            body.extend(slot.dirty.to_le_bytes());
        }
    }
    let sum = hash(hash(cache(), &number.to_le_bytes()), &body) as u32;
    [&sum.to_le_bytes()[..], &body[..]].concat()
}

/// What a sector holds.
fn content(slot: &Slot, sector: u64) -> Vec<u8> {
    vec![(slot.block * 8 + sector) as u8; 512]
}

/// The sums of a slot.
fn sums(slot: &Slot, volume: &Volume) -> Vec<u8> {
    let occupant = [ids(slot.volume), slot.block.to_le_bytes().to_vec()].concat();
    let block = hash(cache(), &occupant);
    let sum = |sector: u64| {
        let start = slot.block * BLOCK + sector * 512;
        let length = volume.size.saturating_sub(start).min(512) as usize;
        let seed = hash(block, &(sector as u32).to_le_bytes());
        hash(seed, &content(slot, sector)[..length]).to_le_bytes()
    };
    (0..8).flat_map(sum).collect()
}

/// Makes the directory: closed, or as a user leaves it that is killed.
pub(crate) fn make(path: &Path, is_clean: bool, volumes: &[Volume], slots: &[Option<Slot>]) {
    fs::create_dir(path).unwrap();
    let write = |name: &str, parts: &[&[u8]]| fs::write(path.join(name), parts.concat()).unwrap();
    let (table, table_bytes) = table(volumes);
    let page = superblock(1, is_clean, slots.len() as u32, table_bytes);
    write("superblock", &[&page, &page]);
    write("journal", &[&header(1), &vec![0; RING as usize]]);
    let entries: Vec<u8> = (0..)
        .zip(slots)
        .flat_map(|(number, it)| entry(number, it))
        .collect();
    write("map", &[&header(2), &entries]);
    write("map.copy", &[&header(3), &entries]);
    let of_slot = |slot: &Option<Slot>| match slot {
        None => vec![0; 64],
        Some(slot) => sums(slot, &volumes[slot.volume as usize]),
    };
    let all: Vec<u8> = slots.iter().flat_map(of_slot).collect();
    write("sums", &[&header(4), &all]);
    write("volumes", &[&header(5), &table]);
    write("slots", &[&header(6)]);
    let file = fs::File::options()
        .write(true)
        .open(path.join("slots"))
        .unwrap();
    file.set_len(SLOTS_START + slots.len() as u64 * BLOCK)
        .unwrap();
    for (number, slot) in (0..).zip(slots) {
        let Some(slot) = slot else { continue };
        let block: Vec<u8> = (0..8).flat_map(|sector| content(slot, sector)).collect();
        file.write_all_at(&block, SLOTS_START + number * BLOCK)
            .unwrap();
    }
    write("lock", &[b"pid 4711 started 2026-01-02 03:04:05 UTC\n"]);
}

/// Flips a bit of a slot's byte.
pub(crate) fn flip(path: &Path, slot: u64, within: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path.join("slots"))
        .unwrap();
    let at = SLOTS_START + slot * BLOCK + within;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}
