//! Listing: the directory is told, in the background, which clean blocks it holds, so that a crash finds them too.
//!
//! A block is listed when its checksums are there, it has been quiet, all of it is on the origin for good, and nobody is changing it there. From
//! then on whoever changes it on the origin has the directory forget it first (`revoke.rs`).

use super::{Survival, occupant, sum};
use crate::config::Mode;
use crate::directory::SlotNumber;
use crate::persist::entry::Content;
use crate::persist::op::{Op, SlotOp};
use crate::planted::{Bug, is_planted};
use crate::sector::{BlockNumber, Mask};
use crate::store::Store;
use crate::sync;
use crate::volume::Volume;

/// Marks what of these slots can be listed now and says it. Whoever calls has the commit token, so that what is said stands in the order of
/// what becomes of it.
pub(super) fn slot_ops(
    store: &Store,
    survival: &Survival,
    candidates: &[SlotNumber],
) -> Vec<Op<'static>> {
    let mut ops = Vec::new();
    if candidates.is_empty() || store.config.mode == Mode::Unsafe {
        return ops;
    }
    for volume in store.volumes() {
        ops.extend(of_volume(survival, &volume, candidates));
    }
    ops
}

/// While somebody writes back in the volume, nothing: his range is not listed until it has changed.
fn of_volume(survival: &Survival, volume: &Volume, candidates: &[SlotNumber]) -> Vec<Op<'static>> {
    let kept = &volume.kept;
    if !kept.is_judged() || !kept.is_flushed() || volume.is_poisoned() {
        return Vec::new();
    }
    let Some(_running) = volume.token.try_take() else {
        return Vec::new();
    };
    let directory = &volume.store().directory;
    let owners = candidates
        .iter()
        .map(|slot| (*slot, directory.owner(*slot)));
    let of_volume = owners.filter(|(_, owner)| owner.volume == volume.number());
    of_volume
        .filter_map(|(slot, owner)| slot_op(survival, volume, slot, owner.number))
        .collect()
}

fn slot_op(
    survival: &Survival,
    volume: &Volume,
    slot: SlotNumber,
    number: BlockNumber,
) -> Option<Op<'static>> {
    let store = volume.store();
    if !volume.index().has_slot(number, &store.directory) {
        return None;
    }
    let geometry = volume.geometry();
    let start = geometry.base(number);
    let end = start.saturating_add(geometry.block_bytes());
    let _range = volume.ranges.try_lock(start, end)?;
    // With the range locked nothing is added to these that is in it.
    let uncertain = volume.unflushed.ranges()?;
    let pin = volume.pin(number);
    let state = pin.latch_shared();
    let is_clean = state.unsettled().is_empty() || is_planted(Bug::ListedWhileWriting);
    // Nor while the directory calls any of it dirty: that must be taken back first.
    let is_settled = is_clean && state.slot == Some(slot) && state.sealed.is_empty();
    let is_certain = sum::touched_by(volume, number, &uncertain).is_empty();
    if !is_settled || !is_certain || state.valid.is_empty() || !survival.marks.is_summed(slot) {
        return None;
    }
    let content = Content {
        occupant: occupant(volume, number)?,
        valid: state.valid,
        dirty: Mask::EMPTY,
        heat: sync::lock(&store.eviction).heat(slot.0),
    };
    survival.marks.listed(slot);
    Some(Op::Slot(SlotOp {
        slot,
        content,
        sector_shift: geometry.sector_bytes().trailing_zeros() as u8,
        fresh: Mask::EMPTY,
        inlined: Mask::EMPTY,
        sums: &[],
        bytes: &[],
    }))
}
