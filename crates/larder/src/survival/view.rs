//! What an op says of a block, found from the block's state under its latch.

use std::sync::Arc;

use super::recording::Asked;
use super::redo::{self, Redo};
use super::{overwritten_bytes, sum};
use crate::latch::Latch;
use crate::persist::op::slot::each;
use crate::planted::{Bug, is_planted};
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;

/// Of what kind an op is.
#[derive(Clone, Copy)]
pub(super) enum Kind<'r> {
    /// With what is to be overwritten by way of the journal.
    Asked(Asked, &'r [Arc<Redo>]),
    /// What the journal has is to be in the slot alone.
    Freeze,
}

/// What an op says of a block.
pub(super) struct View {
    /// What it calls dirty.
    pub said: Mask,
    /// Those that it has sums of.
    pub fresh: Mask,
    /// Those whose bytes it brings into the journal although they are in the slot.
    pub released: Mask,
    /// Those whose bytes it brings into the journal before they are in the slot.
    pub redone: Mask,
}

impl Kind<'_> {
    /// What is to be overwritten by way of the journal.
    pub(super) fn redos(&self) -> &[Arc<Redo>] {
        match self {
            Self::Asked(_, redos) => redos,
            Self::Freeze => &[],
        }
    }
}

impl View {
    pub(super) fn of(
        state: &Latch<'_>,
        volume: &Volume,
        number: BlockNumber,
        kind: Kind<'_>,
    ) -> Self {
        let sealed = &state.sealed;
        let mut view = Self {
            said: sealed.sectors,
            fresh: Mask::EMPTY,
            released: Mask::EMPTY,
            redone: Mask::EMPTY,
        };
        match kind {
            Kind::Freeze => {
                view.fresh = sealed.changed;
                // What no slot has, and the origin has, or nobody was told that it would.
                view.said -= sealed.bad - state.unsettled();
            }
            Kind::Asked(asked, redos) => {
                if asked.seal {
                    let stay = may_not_leave(state, volume, number) - asked.settled;
                    view.said = dirty(state) | stay;
                    view.fresh = (view.said - sealed.sectors) | (view.said & sealed.changed);
                }
                let released = asked.release & sealed.barred() & view.said;
                view.released = lowest(released, most_released(volume));
                view.redone = redo::sectors(redos);
                view.said |= view.redone;
                view.fresh |= view.redone;
            }
        }
        if is_planted(Bug::ChangedForgotten) {
            view.fresh -= sealed.changed - view.redone;
        }
        view
    }
}

/// So many sectors at most are released at once.
fn most_released(volume: &Volume) -> u32 {
    let sectors = overwritten_bytes(volume) / volume.geometry().sector_bytes();
    u32::try_from(sectors).unwrap_or(u32::MAX)
}

/// The lowest `most` sectors of a set.
fn lowest(mask: Mask, most: u32) -> Mask {
    if mask.count() <= most {
        return mask;
    }
    let sectors = each(mask).take(most as usize);
    sectors.fold(Mask::EMPTY, |all, sector| {
        all | Mask::span(sector, sector + 1)
    })
}

fn dirty(state: &Latch<'_>) -> Mask {
    match is_planted(Bug::UndirtyBeforeFlush) {
        true => state.dirty,
        false => state.unsettled(),
    }
}

/// What the directory must go on calling dirty: the origin may still lose what came after it there.
fn may_not_leave(state: &Latch<'_>, volume: &Volume, number: BlockNumber) -> Mask {
    let leaving = state.sealed.sectors - state.unsettled();
    if leaving.is_empty() {
        return leaving;
    }
    match volume.unflushed.ranges() {
        Some(ranges) => leaving & sum::touched_by(volume, number, &ranges),
        None => leaving,
    }
}
