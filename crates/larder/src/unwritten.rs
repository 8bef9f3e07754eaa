//! What the origin does not have: by range, for the log and for whoever asks.

use crate::volume::Volume;

/// The most ranges that are named one by one.
const RANGES_TO_NAME: usize = 64;

/// Everything the origin does not have, as byte ranges in order: offset and length.
pub(crate) fn ranges(volume: &Volume) -> Vec<(u64, u64)> {
    // Before its origin was accepted only the directory knows it.
    let is_known = volume.has_geometry() && volume.size() > 0;
    let queued = volume.queue.get();
    let mut all = queued.map_or_else(Vec::new, |queue| queue.ranges(0, u64::MAX));
    match is_known {
        true => all.extend(known_ranges(volume)),
        false => all.extend(found_ranges(volume)),
    }
    join(all)
}

/// What the origin has acknowledged and may lose, as byte ranges in order: offset and length.
pub(crate) fn unflushed_ranges(volume: &Volume) -> Vec<(u64, u64)> {
    let everything = || vec![(0, volume.size())];
    join(volume.unflushed.ranges().unwrap_or_else(everything))
}

/// What is dirty, as start and end.
fn known_ranges(volume: &Volume) -> Vec<(u64, u64)> {
    let (geometry, size) = (volume.geometry(), volume.size());
    let mut ranges: Vec<(u64, u64)> = volume.with_zeros(|zeros| {
        zeros
            .overlapping(0, u64::MAX)
            .map(|range| (range.start, range.end))
            .collect()
    });
    for number in volume.with_dirty(|dirty| dirty.all()) {
        let state = volume.pin(number).latch_shared().clone();
        ranges.extend(
            state
                .unsettled()
                .runs()
                .map(|run| geometry.bytes_of(number, run, size)),
        );
    }
    ranges
}

/// The same of a volume that was found in the cache directory, and that nobody has joined.
fn found_ranges(volume: &Volume) -> Vec<(u64, u64)> {
    let Some(found) = volume.kept.found() else {
        return Vec::new();
    };
    let store = volume.store();
    let block_bytes = store.config.block_bytes;
    let sector_bytes = block_bytes / u64::from(found.full.count());
    let mut ranges = Vec::new();
    for number in volume.with_dirty(|dirty| dirty.all()) {
        let state = volume.index().peek(number, found.full, &store.directory);
        let base = number.0 * block_bytes;
        ranges.extend(state.unsettled().runs().map(|(first, end)| {
            let (start, end) = (
                u64::from(first) * sector_bytes,
                u64::from(end) * sector_bytes,
            );
            (base + start, (base + end).min(found.size_bytes))
        }));
    }
    ranges
}

/// In order, neighbours together, each as offset and length.
fn join(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
        .into_iter()
        .map(|(start, end)| (start, end - start))
        .collect()
}

/// Logs what the origin does not have, by range.
pub(crate) fn report(volume: &Volume) {
    let ranges = ranges(volume);
    report_ranges(volume, "not written to the origin", &ranges);
}

/// Logs ranges, given as offset and length.
pub(crate) fn report_ranges(volume: &Volume, what: &str, ranges: &[(u64, u64)]) {
    let log = &volume.store().log;
    let bytes: u64 = ranges.iter().map(|(_, length)| length).sum();
    log.error(&format!(
        "volume '{}': {bytes} bytes {what}, in {} ranges",
        volume.name(),
        ranges.len()
    ));
    for (offset, length) in ranges.iter().take(RANGES_TO_NAME) {
        log.error(&format!(
            "volume '{}': {length} bytes at offset {offset} {what}",
            volume.name()
        ));
    }
    if ranges.len() > RANGES_TO_NAME {
        let last = ranges[ranges.len() - 1];
        let more = ranges.len() - RANGES_TO_NAME;
        log.error(&format!(
            "volume '{}': {more} more ranges {what}, up to offset {}",
            volume.name(),
            last.0 + last.1
        ));
    }
}
