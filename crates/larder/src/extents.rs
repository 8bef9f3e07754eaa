//! Block status: dirty is data, zero by state is zero, the rest is the origin's answer.
//!
//! What the cache knows is looked at *before* the origin is asked: a sector that is neither dirty nor
//! zero at the look has its truth on the origin, and whatever changes afterwards is concurrent with the
//! request. The other way round, what is written back between the two looks would show
//! as the hole it was.

use crate::client::Client;
use crate::origin::{Extent, MAX_RANGE_BYTES};
use crate::planted::{Bug, is_planted};
use crate::sector::BlockNumber;
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// The most parts of the cache's own that one answer names.
const MAX_PARTS: usize = 4096;

/// A part of the volume of which the cache knows better than the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    end: u64,
    /// None for data; whether it is a hole for zeros.
    zero: Option<bool>,
}

/// The status of the range.
pub(crate) fn extents(
    client: &Client,
    offset: u64,
    length: u64,
    one: bool,
) -> Result<Vec<Extent>, Error> {
    let volume = &*client.volume;
    // Widening to the origin's minimum must stay within one request.
    let length = length.min(MAX_RANGE_BYTES / 2);
    if length == 0 {
        return Ok(Vec::new());
    }
    if is_planted(Bug::ExtentsAfterOrigin) {
        let origin = ask_origin(client, offset, length, one)?;
        return Ok(merge(
            offset,
            &own_parts(volume, offset, offset + length).0,
            &origin,
        ));
    }
    let (parts, end) = own_parts(volume, offset, offset + length);
    let covered = parts
        .first()
        .filter(|part| one && part.start == offset)
        .map(|part| vec![data_extent(part.end - offset)]);
    let origin = match covered {
        // The first extent is the cache's own: no need to ask.
        Some(covered) => covered,
        None => ask_origin(client, offset, end - offset, one)?,
    };
    let mut extents = merge(offset, &parts, &origin);
    if one {
        extents.truncate(1);
    }
    Ok(extents)
}

fn data_extent(length: u64) -> Extent {
    Extent {
        length,
        hole: false,
        zero: false,
    }
}

fn ask_origin(client: &Client, offset: u64, length: u64, one: bool) -> Result<Vec<Extent>, Error> {
    let attached = &client.attached;
    if !attached.capabilities.extents {
        return Ok(vec![data_extent(length)]);
    }
    let minimum = u64::from(attached.limits.minimum.max(1));
    let first = offset / minimum * minimum;
    let last = ((offset + length).div_ceil(minimum) * minimum).min(attached.origin.size());
    let answer = attached
        .origin
        .extents(first, last - first, one)
        .map_err(|error| {
            let context = format!("status of {length} bytes at {offset} on the origin");
            Error::with_source(ErrorKind::Origin, context, error)
        })?;
    let mut skip = offset - first;
    let mut left = length;
    let mut extents = Vec::with_capacity(answer.len());
    for extent in answer {
        let skipped = skip.min(extent.length);
        skip -= skipped;
        let length = (extent.length - skipped).min(left);
        left -= length;
        if length > 0 {
            extents.push(Extent { length, ..extent });
        }
    }
    if extents.is_empty() {
        return Ok(vec![data_extent(length)]);
    }
    Ok(extents)
}

/// What the cache knows better between two offsets, in order, and how far that is complete.
fn own_parts(volume: &Volume, start: u64, end: u64) -> (Vec<Part>, u64) {
    let (zeros, zeros_end) = zero_parts(volume, start, end);
    let (data, data_end) = data_parts(volume, start, zeros_end);
    let end = zeros_end.min(data_end);
    let mut parts = Vec::with_capacity(zeros.len() + data.len());
    let mut before = data.iter().peekable();
    // Where both are, one became the other meanwhile; data is always true.
    for zero in zeros {
        let mut at = zero.start;
        while before.next_if(|part| part.end <= at).is_some() {}
        let mut over = before.clone();
        while let Some(data) = over.next_if(|part| part.start < zero.end) {
            if at < data.start {
                parts.push(Part {
                    start: at,
                    end: data.start,
                    ..zero
                });
            }
            at = at.max(data.end);
        }
        if at < zero.end {
            parts.push(Part { start: at, ..zero });
        }
    }
    parts.extend(data);
    parts.sort_unstable_by_key(|part| part.start);
    parts.retain(|part| part.start < end);
    if let Some(last) = parts.last_mut() {
        last.end = last.end.min(end);
    }
    (parts, end)
}

fn zero_parts(volume: &Volume, start: u64, end: u64) -> (Vec<Part>, u64) {
    if volume.zero_ranges() == 0 {
        return (Vec::new(), end);
    }
    let parts: Vec<Part> = volume.with_zeros(|zeros| {
        zeros
            .overlapping(start, end)
            .take(MAX_PARTS)
            .map(|range| Part {
                start: range.start,
                end: range.end,
                zero: Some(range.may_trim),
            })
            .collect()
    });
    let complete = match parts.last() {
        Some(last) if parts.len() == MAX_PARTS => last.end,
        _ => end,
    };
    (parts, complete)
}

fn data_parts(volume: &Volume, start: u64, end: u64) -> (Vec<Part>, u64) {
    let geometry = volume.geometry();
    let (first, last) = (
        geometry.block_of(start),
        geometry.block_of(end.saturating_sub(1).max(start)),
    );
    let numbers: Vec<BlockNumber> =
        volume.with_dirty(|dirty| dirty.within(first..=last).take(MAX_PARTS).collect());
    let mut complete = end;
    if numbers.len() == MAX_PARTS {
        let after = geometry
            .base(numbers[MAX_PARTS - 1])
            .saturating_add(geometry.block_bytes());
        complete = after.min(end);
    }
    let mut parts: Vec<Part> = Vec::new();
    for number in numbers {
        let unsettled = volume.pin(number).latch_shared().unsettled();
        for run in unsettled.runs() {
            let (from, to) = geometry.bytes_of(number, run, volume.size());
            let (from, to) = (from.max(start), to.min(end));
            match parts.last_mut() {
                Some(part) if part.end == from => part.end = to,
                _ if from < to => parts.push(Part {
                    start: from,
                    end: to,
                    zero: None,
                }),
                _ => {}
            }
        }
    }
    (parts, complete)
}

/// Lays the cache's parts over the origin's answer, and joins like neighbours.
fn merge(offset: u64, parts: &[Part], origin: &[Extent]) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    let mut push = |extent: Extent| match merged.last_mut() {
        Some(last) if (last.hole, last.zero) == (extent.hole, extent.zero) => {
            last.length += extent.length
        }
        _ if extent.length > 0 => merged.push(extent),
        _ => {}
    };
    let mut at = offset;
    let mut parts = parts.iter().peekable();
    for extent in origin {
        let end = at + extent.length;
        while at < end {
            while parts.next_if(|part| part.end <= at).is_some() {}
            match parts.peek() {
                Some(part) if part.start <= at => {
                    let stop = part.end.min(end);
                    push(Extent {
                        length: stop - at,
                        hole: part.zero == Some(true),
                        zero: part.zero.is_some(),
                    });
                    at = stop;
                }
                next => {
                    let stop = next.map_or(end, |part| part.start.min(end));
                    push(Extent {
                        length: stop - at,
                        ..*extent
                    });
                    at = stop;
                }
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(length: u64) -> Extent {
        Extent {
            length,
            hole: true,
            zero: true,
        }
    }

    #[test]
    fn parts_lie_over_the_origins_answer_and_are_cut_by_its_end() {
        let parts = [
            Part {
                start: 100,
                end: 200,
                zero: None,
            },
            Part {
                start: 200,
                end: 250,
                zero: Some(false),
            },
            Part {
                start: 900,
                end: 2000,
                zero: None,
            },
        ];
        let merged = merge(50, &parts, &[hole(500), data_extent(400)]);
        let zero = Extent {
            length: 50,
            hole: false,
            zero: true,
        };
        assert_eq!(
            merged,
            [
                hole(50),
                data_extent(100),
                zero,
                hole(300),
                data_extent(400)
            ]
        );
    }
}
