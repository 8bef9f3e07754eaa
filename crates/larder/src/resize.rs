//! A volume whose origin has another size than it had for the last connection.

use crate::attached::Attached;
use crate::config::Mode;
use crate::flush;
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;
use crate::writeback::{self, Scope};

/// Makes the volume as large as the origin is now. What is dirty beyond a shrunken end cannot be
/// written any more: it is reported by range and dropped. A sector that the old end cut is written
/// back and forgotten, since what now follows in it is the origin's.
pub(crate) fn resize(volume: &Volume, attached: &Attached, size: u64) {
    let old = volume.size();
    if size > old {
        grow(volume, attached, old, size);
    } else {
        shrink(volume, old, size);
    }
}

fn grow(volume: &Volume, attached: &Attached, old: u64, size: u64) {
    let geometry = volume.geometry();
    let tail = geometry.align_down(old);
    if tail == old {
        volume.set_size(size);
        return;
    }
    let number = geometry.block_of(old);
    if volume.is_dirty()
        && volume.store().config.mode == Mode::Writeback
        && attached.capabilities.write
    {
        let _running = volume.token.take();
        writeback::pass(volume, attached, Scope::All, true);
    }
    let sector = sector_at(volume, old);
    let pin = volume.pin(number);
    let mut state = pin.latch();
    let zeros_left = volume.zero_mask(number) & sector;
    if !((state.unsettled() & sector) | zeros_left).is_empty() {
        let range = [(tail, old - tail)];
        flush::report_ranges(
            volume,
            "before the old end could not be written, and are dropped now that the origin has grown",
            &range,
        );
    }
    state.changed(sector);
    state.drop_sectors(sector);
    volume.clear_zeros(number, sector);
    volume.set_size(size);
}

fn sector_at(volume: &Volume, offset: u64) -> Mask {
    let geometry = volume.geometry();
    let within = offset - geometry.base(geometry.block_of(offset));
    let sector = (within / geometry.sector_bytes()) as u32;
    Mask::span(sector, sector + 1)
}

fn shrink(volume: &Volume, old: u64, size: u64) {
    let geometry = volume.geometry();
    let beyond: Vec<(u64, u64)> = volume
        .dirty_ranges()
        .into_iter()
        .filter(|(offset, length)| offset + length > size)
        .map(|(offset, length)| (offset.max(size), offset + length - offset.max(size)))
        .collect();
    if !beyond.is_empty() {
        flush::report_ranges(
            volume,
            "beyond the end of the origin, which has shrunk, are dropped",
            &beyond,
        );
    }
    let end = geometry.align_up(size, u64::MAX);
    let first = geometry.block_of(size);
    let after = BlockNumber(geometry.block_of(old).0 + 1);
    for number in volume
        .index()
        .known_within(first, after, &volume.store().directory)
    {
        let from = end.saturating_sub(geometry.base(number)) / geometry.sector_bytes();
        let gone = Mask::span(from.min(128) as u32, 128);
        let pin = volume.pin(number);
        let mut state = pin.latch();
        state.changed(gone);
        state.drop_sectors(gone);
    }
    volume.with_zeros(|zeros| zeros.remove(size, u64::MAX));
    volume.set_size(size);
}
