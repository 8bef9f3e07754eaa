//! Putting the checksums of clean blocks into the directory, in the background and at the end.

use std::io;
use std::sync::Mutex;

use crate::directory::SlotNumber;
use crate::latch::Latched;
use crate::planted::{Bug, is_planted};
use crate::scratch::Scratch;
use crate::sector::{BlockNumber, Mask};
use crate::store::Store;
use crate::survival::Survival;
use crate::sync;
use crate::volume::Volume;

/// So many slots are looked at each time.
const SLOTS_AT_ONCE: u32 = 65536;

/// Where the next look begins.
#[derive(Debug, Default)]
pub(crate) struct Cursor(Mutex<u32>);

/// Sums some blocks that nobody has written to since the last time that this came by, about so many bytes of them. True if there may
/// be more to do at once.
pub(super) fn sum_some(store: &Store, survival: &Survival, bytes: u64) -> io::Result<bool> {
    let numbered = store.slots.numbered();
    let mut cursor = sync::lock(&survival.cursor.0);
    let first = if *cursor >= numbered { 0 } else { *cursor };
    let end = numbered.min(first.saturating_add(SLOTS_AT_ONCE));
    let mut left_bytes = bytes;
    for slot in (first..end).map(SlotNumber) {
        *cursor = slot.0 + 1;
        if survival.marks.is_summed(slot) || !survival.marks.was_quiet(slot) {
            continue;
        }
        let owner = store.directory.owner(slot);
        if let Some(volume) = store.volume(owner.volume)
            && volume.kept.is_judged()
        {
            let bytes = sum(survival, &volume, owner.number, slot)?;
            left_bytes = left_bytes.saturating_sub(bytes);
        }
        if left_bytes == 0 {
            return Ok(true);
        }
    }
    Ok(end < numbered)
}

/// Sums what a slot holds of a block, if it still does. Gives how many bytes were summed.
fn sum(
    survival: &Survival,
    volume: &Volume,
    number: BlockNumber,
    slot: SlotNumber,
) -> io::Result<u64> {
    let store = volume.store();
    // A guess, so that free slots are not pinned in vain.
    if !volume.index().has_slot(number, &store.directory) || volume.is_poisoned() {
        return Ok(0);
    }
    let Some(sums) = survival.block_sums(volume, number) else {
        return Ok(0);
    };
    let pin = volume.pin(number);
    let state = pin.latch_shared();
    let clean = state.valid - state.unsettled();
    let is_clean = clean == state.valid || is_planted(Bug::ListedWhileWriting);
    // The checksums of what the directory calls dirty are those that were recorded.
    let is_settled = is_clean && state.slot == Some(slot) && state.sealed.is_empty();
    if !is_settled || clean.is_empty() || survival.marks.is_summed(slot) {
        return Ok(0);
    }
    let geometry = volume.geometry();
    let mut total = 0;
    for run in state.valid.runs() {
        let (start, end) = geometry.bytes_of(number, run, volume.size());
        let mut bytes = Scratch::new((end - start) as usize);
        if state
            .read_slot(start - geometry.base(number), &mut bytes)
            .is_err()
        {
            // Whoever reads it next has it fetched again.
            return Ok(0);
        }
        let sectors = (run.0..).zip(bytes.chunks(geometry.sector_bytes() as usize));
        let sums: Vec<_> = sectors
            .map(|(sector, bytes)| sums.of(sector, bytes))
            .collect();
        survival.home.write_sums(slot, run.0, &sums)?;
        total += end - start;
    }
    // Nobody writes to the slot while its latch is shared.
    survival.marks.summed(slot);
    sync::lock(&survival.to_list).push(slot);
    Ok(total)
}

/// Sums all that is not summed yet of a volume that nobody uses any more.
pub(super) fn sum_all(store: &Store, survival: &Survival) -> io::Result<()> {
    for slot in (0..store.slots.numbered()).map(SlotNumber) {
        if survival.marks.is_summed(slot) {
            continue;
        }
        let owner = store.directory.owner(slot);
        // What nobody has joined was summed before, or is in another slot too.
        if let Some(volume) = store.volume(owner.volume)
            && volume.has_geometry()
        {
            // Of dirty blocks the clean part is not worth the trouble.
            sum(survival, &volume, owner.number, slot)?;
        }
    }
    Ok(())
}

/// The sectors of a block within these bytes, also those that are only touched.
pub(super) fn touched_by(volume: &Volume, number: BlockNumber, ranges: &[(u64, u64)]) -> Mask {
    let geometry = volume.geometry();
    let base = geometry.base(number);
    let end = base.saturating_add(geometry.block_bytes());
    let within = ranges
        .iter()
        .filter(|range| range.0 < end && base < range.1);
    within.fold(Mask::EMPTY, |mask, range| {
        mask | geometry.touched(&geometry.piece_within(number, range.0, range.1))
    })
}
