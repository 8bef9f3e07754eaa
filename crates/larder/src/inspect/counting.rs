//! What a directory holds of each volume, counted entry by entry.

use std::collections::BTreeMap;

use super::{Detail, DirtyRange, InspectedVersion, InspectedVolume};
use crate::ordered::{Content, Held};
use crate::persist::entry::Entry;
use crate::persist::look::Look;
use crate::persist::op::volume::RecordedVersion;
use crate::persist::op::{VolumeId, VolumeRecord};
use crate::persist::volumes::TableVolume;
use crate::sector::{BlockNumber, Geometry, Mask};
use crate::zero_map::ZeroMap;

/// What was counted.
pub(super) struct Counted {
    pub slots_used: u32,
    pub volumes: Vec<InspectedVolume>,
}

/// What has been counted so far.
pub(super) struct Counting<'l> {
    slots_used: u32,
    volumes: BTreeMap<VolumeId, OfVolume<'l>>,
}

struct OfVolume<'l> {
    geometry: Geometry,
    /// They count more than what slots hold of the same sectors.
    zeros: &'l ZeroMap,
    found: InspectedVolume,
}

impl<'l> Counting<'l> {
    /// Of the volumes that there are. What slots hold of others is nobody's.
    pub(super) fn new(look: &'l Look, detail: Detail) -> Self {
        let of_volume = |volume: &'l TableVolume| {
            let geometry = look.geometry(&volume.record)?;
            let found = begin(volume, geometry, detail);
            let of_volume = OfVolume {
                geometry,
                zeros: &volume.zeros,
                found,
            };
            Some((volume.record.id, of_volume))
        };
        Self {
            slots_used: 0,
            volumes: look.volumes().volumes().filter_map(of_volume).collect(),
        }
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        let Some(content) = &entry.content else {
            return;
        };
        let Some(volume) = self.volumes.get_mut(&content.occupant.volume_id()) else {
            return;
        };
        if volume.add(content.occupant.block, content.valid, content.dirty) {
            self.slots_used += 1;
        }
    }

    /// What a queue holds comes after whatever its origin has.
    pub(super) fn add_queue(&mut self, id: VolumeId, held: &Held) {
        let Some(volume) = self.volumes.get_mut(&id) else {
            return;
        };
        let found = &mut volume.found;
        let (data, zeros) = held.bytes();
        found.dirty_bytes += data;
        found.zero_bytes += zeros;
        found.queued_bytes += held.waiting.bytes;
        found.queued_flushes += held.waiting.epochs;
        if let Some(ranges) = &mut found.dirty_ranges {
            ranges.extend(held.pieces.iter().map(|piece| DirtyRange {
                start: piece.start,
                length: piece.end - piece.start,
                is_zero: matches!(piece.content, Content::Zero { .. }),
            }));
        }
    }

    pub(super) fn finish(self) -> Counted {
        let volumes = self.volumes.into_values().map(|volume| {
            let mut found = volume.found;
            if let Some(ranges) = &mut found.dirty_ranges {
                join(ranges);
            }
            found
        });
        Counted {
            slots_used: self.slots_used,
            volumes: volumes.collect(),
        }
    }
}

impl OfVolume<'_> {
    /// False if nothing of it is within the volume and not zero.
    fn add(&mut self, block: BlockNumber, valid: Mask, dirty: Mask) -> bool {
        let (geometry, found) = (self.geometry, &mut self.found);
        let size = found.size_bytes;
        let existing = geometry.existing(block, size);
        let counting = existing - self.zeros.mask(geometry, block, size);
        let bytes_of = |run| geometry.bytes_of(block, run, size);
        let valid = valid & counting;
        for (start, end) in valid.runs().map(bytes_of) {
            found.cached_bytes += end - start;
        }
        for (start, end) in (dirty & counting).runs().map(bytes_of) {
            found.dirty_bytes += end - start;
            if let Some(ranges) = &mut found.dirty_ranges {
                ranges.push(DirtyRange {
                    start,
                    length: end - start,
                    is_zero: false,
                });
            }
        }
        let is_used = !valid.is_empty();
        found.blocks += u64::from(is_used);
        is_used
    }
}

/// A volume of which no slot has been seen yet: with its zeros, which need none.
fn begin(volume: &TableVolume, geometry: Geometry, detail: Detail) -> InspectedVolume {
    let VolumeRecord {
        id,
        size_bytes,
        sector_shift: _,
        changed_since_version,
        has_queue: _,
        name,
        cache_id,
        version,
    } = &volume.record;
    let zeros = volume.recorded_zeros(0, *size_bytes);
    let zeros: Vec<DirtyRange> = zeros
        .iter()
        .map(|zeros| DirtyRange {
            start: zeros.start,
            length: zeros.end - zeros.start,
            is_zero: true,
        })
        .collect();
    InspectedVolume {
        number: id.volume.0,
        name: name.clone(),
        cache_id: cache_id.clone(),
        version: version.as_ref().map(readable),
        changed_since_version: *changed_since_version,
        size_bytes: *size_bytes,
        sector_bytes: geometry.sector_bytes(),
        blocks: 0,
        cached_bytes: 0,
        dirty_bytes: 0,
        zero_bytes: zeros.iter().map(|zeros| zeros.length).sum(),
        queued_bytes: 0,
        queued_flushes: 0,
        dirty_ranges: (detail == Detail::DirtyRanges).then_some(zeros),
    }
}

fn readable(version: &RecordedVersion) -> InspectedVersion {
    InspectedVersion {
        stable: text(&version.stable),
        changing: text(&version.changing),
    }
}

/// Origins say versions as text if they can.
fn text(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Puts ranges into order, and neighbours of one kind together.
pub(crate) fn join(ranges: &mut Vec<DirtyRange>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let is_joined =
            before.start + before.length == next.start && before.is_zero == next.is_zero;
        if is_joined {
            before.length += next.length;
        }
        is_joined
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_text_or_digits() {
        assert_eq!(text(b"device 1, inode 2"), "device 1, inode 2");
        assert_eq!(text("größe".as_bytes()), "größe");
        assert_eq!(text(b"\x1b[31m"), "1b5b33316d");
        assert_eq!(text(&[0xff, 0]), "ff00");
        assert_eq!(text(b""), "");
    }

    #[test]
    fn neighbours_of_one_kind_are_one_range() {
        let range = |start, length, is_zero| DirtyRange {
            start,
            length,
            is_zero,
        };
        let mut ranges = vec![
            range(4096, 512, false),
            range(0, 4096, false),
            range(8192, 512, true),
            range(4608, 512, false),
            range(5120, 512, true),
        ];
        join(&mut ranges);
        assert_eq!(
            ranges,
            [
                range(0, 5120, false),
                range(5120, 512, true),
                range(8192, 512, true)
            ]
        );
    }
}
