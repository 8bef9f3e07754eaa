//! Listing: the directory is told, in the background, which clean blocks it holds, so that a crash finds them too.
//!
//! A block is listed when its checksums are there, it has been quiet, all of it is on the origin for good, and nobody is changing it there. From
//! then on whoever changes it on the origin has the directory forget it first (`revoke.rs`).

use std::io;

use super::{Survival, occupant};
use crate::config::Mode;
use crate::directory::SlotNumber;
use crate::persist::entry::Content;
use crate::persist::op::{Op, SlotOp};
use crate::sector::{BlockNumber, Mask};
use crate::store::Store;
use crate::sync;
use crate::volume::Volume;

/// The most blocks that are listed at once, and the most that have left their slots and are told of.
const AT_ONCE: usize = 4096;

/// Lists what has been summed since the last time. True if there may be more at once.
pub(crate) fn list_some(store: &Store, survival: &Survival) -> io::Result<bool> {
    let candidates = std::mem::take(&mut *sync::lock(&survival.to_list));
    let (gone, _) = survival.gone.some(AT_ONCE);
    if candidates.is_empty() && gone.is_empty() {
        return Ok(false);
    }
    if !candidates.is_empty() {
        // Data before what points to it. What is written from here on is not quiet any more.
        store.slots.sync()?;
        survival.home.sync_sums()?;
    }
    let mut rest = candidates.into_iter();
    loop {
        let some: Vec<SlotNumber> = rest.by_ref().take(AT_ONCE).collect();
        let is_more = list(store, survival, &some)?;
        if some.is_empty() {
            return Ok(is_more);
        }
    }
}

/// Lists these slots as far as that can be now, in one commit with what has left its slots. True if more had left.
fn list(store: &Store, survival: &Survival, candidates: &[SlotNumber]) -> io::Result<bool> {
    let mut journal = sync::lock(&survival.journal);
    let (mut told, until) = survival.gone.some(AT_ONCE);
    let is_more = told.len() == AT_ONCE;
    let mut ops: Vec<Op<'static>> = std::mem::take(&mut *sync::lock(&survival.pending));
    ops.extend(told.iter().map(|slot| Op::Empty(*slot)));
    let volumes = store.volumes();
    for volume in &volumes {
        ops.extend(slots_of(store, survival, volume, candidates));
    }
    if ops.is_empty() {
        return Ok(false);
    }
    journal.commit(&ops)?;
    let listed = ops.iter().filter_map(|op| match op {
        Op::Slot(op) => Some(op.slot),
        _ => None,
    });
    told.extend(listed);
    survival.gone.told(&told, until);
    Ok(is_more)
}

/// Marks the slots of a volume as listed and says what is to be listed of them. While somebody writes back or changes the volume's size,
/// none.
fn slots_of(
    store: &Store,
    survival: &Survival,
    volume: &Volume,
    candidates: &[SlotNumber],
) -> Vec<Op<'static>> {
    if store.config.mode == Mode::Unsafe || !volume.kept.is_judged() || volume.is_poisoned() {
        return Vec::new();
    }
    let (Some(_running), Some(uncertain)) = (volume.token.try_take(), volume.unflushed.ranges())
    else {
        return Vec::new();
    };
    let of_volume = |slot: &&SlotNumber| store.directory.owner(**slot).volume == volume.number();
    let slots = candidates.iter().filter(of_volume);
    slots
        .filter_map(|slot| {
            let number = store.directory.owner(*slot).number;
            slot_op(survival, volume, *slot, number, &uncertain)
        })
        .collect()
}

fn slot_op(
    survival: &Survival,
    volume: &Volume,
    slot: SlotNumber,
    number: BlockNumber,
    uncertain: &[(u64, u64)],
) -> Option<Op<'static>> {
    let store = volume.store();
    if !volume.index().has_slot(number, &store.directory) {
        return None;
    }
    let geometry = volume.geometry();
    let start = geometry.base(number);
    let _range = volume.ranges.try_lock(start, start + geometry.block_bytes())?;
    let pin = volume.pin(number);
    let state = pin.latch_shared();
    let is_settled = state.unsettled().is_empty() && state.slot == Some(slot);
    let is_certain = super::sum::touched_by(volume, number, uncertain).is_empty();
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
        sector_shift: geometry.sector_bytes().trailing_zeros() as u8,
        content,
        fresh: Mask::EMPTY,
        sums: Default::default(),
        inlined: Default::default(),
        bytes: Default::default(),
    }))
}
