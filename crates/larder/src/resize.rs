//! A volume whose origin has another size than it had for the last connection.
//!
//! Only done while nobody is being served.

use crate::attached::Attached;
use crate::client::Client;
use crate::config::Mode;
use crate::present::{self, Target};
use crate::sector::{BlockNumber, Mask, Piece};
use crate::unwritten;
use crate::volume::Volume;
use crate::write;
use crate::writeback::{self, Scope};

/// What was dirty in a sector that the old end cut, and could not be written back as it was.
pub(crate) struct Cut {
    start: u64,
    content: Vec<u8>,
}

/// Makes the volume as large as the origin is now. What is dirty beyond a shrunken end cannot be
/// written any more: it is reported by range and dropped. A sector that the old end cut is written
/// back and forgotten, since what now follows in it is the origin's; if it cannot be written now, it is
/// given back for [`rewrite`].
pub(crate) fn resize(volume: &Volume, attached: &Attached, size: u64) -> Option<Cut> {
    // Nobody writes back while ends move.
    let _running = volume.token.take();
    let old = volume.size();
    if size > old {
        return grow(volume, attached, old, size);
    }
    shrink(volume, old, size);
    None
}

/// Writes what the old end had cut into the sector as it is now.
pub(crate) fn rewrite(client: &Client, cut: &Cut) {
    if let Err(error) = write::write_cached(client, cut.start, &cut.content) {
        let volume = &client.volume;
        volume.store().log.error(&error.to_string());
        let what =
            "before the old end could not be kept, and are dropped now that the origin has grown";
        unwritten::report_ranges(volume, what, &[(cut.start, cut.content.len() as u64)]);
    }
}

fn grow(volume: &Volume, attached: &Attached, old: u64, size: u64) -> Option<Cut> {
    let geometry = volume.geometry();
    let tail = geometry.align_down(old);
    if tail == old {
        volume.set_size(size);
        return None;
    }
    if volume.is_dirty()
        && volume.store().config.mode == Mode::Writeback
        && attached.capabilities.write
    {
        writeback::pass(volume, attached, Scope::All, true);
    }
    let number = geometry.block_of(tail);
    let piece = Piece {
        number,
        start: tail - geometry.base(number),
        end: old - geometry.base(number),
    };
    let sector = geometry.touched(&piece);
    let pin = volume.pin(number);
    let mut state = pin.latch();
    let is_newer = !((state.unsettled() | volume.zero_mask(number)) & sector).is_empty();
    let mut content = vec![0; (old - tail) as usize];
    let mut target = Target::new(tail, &mut content);
    let is_lost = present::copy_latched(&state, &piece, &mut target).is_err();
    if is_newer && is_lost {
        let what = "cannot be read back from the cache file, and are dropped";
        unwritten::report_ranges(volume, what, &[(tail, old - tail)]);
    }
    state.changed(sector);
    state.drop_sectors(sector);
    volume.clear_zeros(number, sector);
    volume.set_size(size);
    (is_newer && !is_lost).then_some(Cut {
        start: tail,
        content,
    })
}

fn shrink(volume: &Volume, old: u64, size: u64) {
    let geometry = volume.geometry();
    let beyond: Vec<(u64, u64)> = unwritten::ranges(volume)
        .into_iter()
        .filter(|(offset, length)| offset + length > size)
        .map(|(offset, length)| (offset.max(size), offset + length - offset.max(size)))
        .collect();
    if !beyond.is_empty() {
        let what = "beyond the end of the origin, which has shrunk, are dropped";
        unwritten::report_ranges(volume, what, &beyond);
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
