//! What the toy writes: a table of all sectors, replaced as a whole, and a journal of changes since.

use std::collections::BTreeMap;

use larder_testing::crash::log::hash_of;
use larder_testing::random::mix;

/// A sector of a volume.
pub(super) type Key = (u32, u64);

/// Where the toy has a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub slot: u64,
    pub is_dirty: bool,
    pub sum: u64,
}

/// The sum of a sector that belongs there in that cache.
pub(super) fn sum_of(identity: u64, key: Key, sector: &[u8]) -> u64 {
    let owner = mix(identity, mix(u64::from(key.0), key.1));
    mix(owner, hash_of(sector))
}

pub(super) type Map = BTreeMap<Key, Entry>;

/// Two pieces, so that one can tear.
pub(super) const RECORD_BYTES: usize = 1024;
/// In the journal.
pub(super) const RECORDS: u64 = 48;

const MAGIC: u64 = 0x0079_6f74;

/// The words of an entry: gone, clean or dirty; where; its sum.
fn entry_words(entry: Option<&Entry>) -> [u64; 3] {
    entry.map_or([0; 3], |entry| {
        [1 + u64::from(entry.is_dirty), entry.slot, entry.sum]
    })
}

fn entry_from(words: &[u64]) -> Option<Entry> {
    (words[0] > 0).then(|| Entry {
        is_dirty: words[0] > 1,
        slot: words[1],
        sum: words[2],
    })
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words_of(bytes: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks_exact(8).map(word).collect()
}

/// Which record of which journal.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub identity: u64,
    pub generation: u64,
    pub number: u64,
}

/// A record: which one it is in its first piece, what it says in the second.
pub(super) fn encode_record(place: Place, key: Key, entry: Option<&Entry>) -> Vec<u8> {
    let mut words = [0; RECORD_BYTES / 8];
    words[..3].copy_from_slice(&[MAGIC, place.generation, place.number]);
    words[64..66].copy_from_slice(&[u64::from(key.0), key.1]);
    words[66..69].copy_from_slice(&entry_words(entry));
    words[127] = mix(place.identity, hash_of(&bytes_of(&words[..127])));
    bytes_of(&words)
}

/// What a record says, if it is the one that is wanted.
pub(super) fn decode_record(
    bytes: &[u8],
    place: Place,
    is_sum_checked: bool,
) -> Option<(Key, Option<Entry>)> {
    let words = words_of(bytes);
    let sum = mix(place.identity, hash_of(&bytes[..RECORD_BYTES - 8]));
    let is_whole = !is_sum_checked || words[127] == sum;
    let is_it = words[..3] == [MAGIC, place.generation, place.number];
    (is_whole && is_it).then(|| ((words[64] as u32, words[65]), entry_from(&words[66..69])))
}

pub(super) fn encode_table(identity: u64, generation: u64, map: &Map) -> Vec<u8> {
    let mut words = vec![MAGIC, identity, generation];
    for (key, entry) in map {
        words.extend([u64::from(key.0), key.1]);
        words.extend(entry_words(Some(entry)));
    }
    words.push(hash_of(&bytes_of(&words)));
    bytes_of(&words)
}

/// A table.
pub(super) struct Table {
    pub identity: u64,
    pub generation: u64,
    pub map: Map,
}

pub(super) fn decode_table(bytes: &[u8]) -> Result<Table, String> {
    let words = words_of(bytes);
    let (sum, words) = words.split_last().ok_or("the table is empty")?;
    if words.len() < 3
        || !bytes.len().is_multiple_of(8)
        || *sum != hash_of(&bytes_of(words))
        || words[0] != MAGIC
    {
        return Err("the table is damaged".to_owned());
    }
    let entries = words[3..].chunks_exact(5).filter_map(|words| {
        let entry = entry_from(&words[2..])?;
        Some(((words[0] as u32, words[1]), entry))
    });
    Ok(Table {
        identity: words[1],
        generation: words[2],
        map: entries.collect(),
    })
}
