//! Comparing what a slot holds with its checksums, before anybody uses what was found again.

use std::io;

use crate::directory::SlotNumber;
use crate::latch::Latched;
use crate::persist::sums::{BlockSums, Sum};
use crate::pin::Pin;
use crate::planted::{Bug, is_planted};
use crate::scratch::Scratch;
use crate::sector::{BlockNumber, Mask};
use crate::survival::Survival;
use crate::volume::Volume;

/// Verifies a block that was found again and that nobody has pinned since. What does not fit is forgotten if the origin has it, and else lost:
/// whoever reads it is told so.
pub(crate) fn verify(survival: &Survival, pin: &Pin<'_>, volume: &Volume) {
    let slot = pin.latch_shared().slot;
    if !slot.is_some_and(|slot| survival.marks.is_unverified(slot)) {
        return;
    }
    let mut state = pin.latch();
    let Some(slot) = state
        .slot
        .filter(|slot| survival.marks.is_unverified(*slot))
    else {
        // Somebody else was first.
        return;
    };
    let damaged = damaged(survival, pin, &state, slot);
    let lost = damaged & state.sealed.in_slot;
    if !lost.is_empty() {
        tell_lost(survival, volume, pin.number(), lost);
        state.sealed.bad |= lost;
    }
    // What was written since has no checksum yet.
    let damaged = damaged - state.unsettled() - lost;
    if !damaged.is_empty() {
        let (number, count) = (pin.number().0, damaged.count());
        volume.store().stats.bad_clean_sectors.add(u64::from(count));
        volume.store().log.warning(&format!(
            "volume '{}': {count} sectors of block {number} are not as they were written into the cache directory '{}': \
             they are read from the origin again",
            volume.name(),
            survival.path
        ));
        state.drop_sectors(damaged);
    }
    survival.marks.verified(slot);
}

/// Tells of what a promise was made for and that is lost.
pub(super) fn tell_lost(survival: &Survival, volume: &Volume, number: BlockNumber, lost: Mask) {
    for run in lost.runs() {
        let (start, end) = volume.geometry().bytes_of(number, run, volume.size());
        volume.store().log.error(&format!(
            "volume '{}': {} bytes at {start} that the origin does not have are not as they were written into the cache directory '{}': \
             they are lost, and reading them fails until they are overwritten",
            volume.name(),
            end - start,
            survival.path
        ));
    }
}

/// The valid sectors that are not what their checksums say, or cannot be read.
fn damaged(survival: &Survival, pin: &Pin<'_>, state: &impl Latched, slot: SlotNumber) -> Mask {
    let volume = state.volume();
    let Some(sums) = survival.block_sums(volume, pin.number()) else {
        return state.valid;
    };
    let mut damaged = Mask::EMPTY;
    let place = (slot, pin.number());
    for run in state.valid.runs() {
        damaged |= match damaged_of(survival, state, place, run, sums) {
            Ok(damaged) => damaged,
            // Those that can be read must not be lost with those that cannot.
            Err(_) => (run.0..run.1).fold(Mask::EMPTY, |damaged, sector| {
                let one = (sector, sector + 1);
                let of_one = damaged_of(survival, state, place, one, sums);
                damaged | of_one.unwrap_or(Mask::span(one.0, one.1))
            }),
        };
    }
    damaged
}

/// Those of a run.
fn damaged_of(
    survival: &Survival,
    state: &impl Latched,
    (slot, number): (SlotNumber, BlockNumber),
    run: (u32, u32),
    sums: BlockSums,
) -> io::Result<Mask> {
    let volume = state.volume();
    let geometry = volume.geometry();
    let (start, end) = geometry.bytes_of(number, run, volume.size());
    let mut recorded = vec![Sum(0); (run.1 - run.0) as usize];
    let mut bytes = Scratch::new((end - start) as usize);
    survival.home.read_sums(slot, run.0, &mut recorded)?;
    state.read_slot_in_doubt(start - geometry.base(number), &mut bytes)?;
    let sectors = bytes.chunks(geometry.sector_bytes() as usize);
    let mut damaged = Mask::EMPTY;
    for ((sector, bytes), recorded) in (run.0..).zip(sectors).zip(&recorded) {
        if sums.of(sector, bytes) != *recorded && !is_planted(Bug::VerifyLeftOut) {
            damaged |= Mask::span(sector, sector + 1);
        }
    }
    Ok(damaged)
}
