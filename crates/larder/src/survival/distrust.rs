//! After a sync of the slots that failed: the system may have dropped what was written since the sync before, and shows older bytes from now on
//! or at any time. What is clean is forgotten, and a volume with data that only the slots had answers nothing any more: it cannot be told which of it is
//! still there. Until all slots have been looked at, nothing that is read from one is used.

use super::Survival;
use crate::directory::SlotNumber;
use crate::store::Store;
use crate::volume::Volume;

/// Nothing that is in a slot is what it was for sure.
pub(super) fn distrust_slots(store: &Store, survival: &Survival, why: &str) {
    let doubts = store.slots.doubts().note();
    for volume in store.volumes() {
        if volume.with_dirty(|dirty| !dirty.is_empty()) || volume.kept.is_sealed() {
            give_up(survival, &volume, why);
        }
    }
    for slot in (0..store.slots.numbered()).map(SlotNumber) {
        if survival.marks.is_unverified(slot) {
            // Nobody has written to it in this life, and whoever reads it first compares it with its checksums.
            continue;
        }
        let owner = store.directory.owner(slot);
        let volume = store.volume(owner.volume);
        let Some(volume) = volume.filter(|volume| can_be_pinned(volume)) else {
            continue;
        };
        if volume.index().has_slot(owner.number, &store.directory) {
            let pin = volume.pin(owner.number);
            let mut state = pin.latch();
            if state.slot == Some(slot) && !state.unsettled().is_empty() {
                // It was being written meanwhile, perhaps beside bytes that have gone.
                give_up(survival, &volume, why);
            } else if state.slot == Some(slot) {
                let clean = state.valid;
                state.drop_sectors(clean);
            }
        }
    }
    store.slots.doubts().decide(doubts);
}

/// It cannot be told what of the volume's own data is still there.
fn give_up(survival: &Survival, volume: &Volume, why: &str) {
    if volume.is_poisoned() {
        return;
    }
    let (name, path) = (volume.name(), &survival.path);
    volume.store().log.error(&format!(
        "volume '{name}' answers nothing any more: the cache directory '{path}' has failed ({why}), and what the origin does not have cannot be trusted"
    ));
    volume.poison();
}

/// What nobody has joined yet was verified by nobody either.
fn can_be_pinned(volume: &Volume) -> bool {
    let is_known = volume.is_private() || volume.kept.is_judged();
    is_known && volume.has_geometry() && volume.size() > 0 && !volume.is_poisoned()
}
