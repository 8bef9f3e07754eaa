//! The freeze: before frames of the journal may be taken into the tables, the slots must stand for the bytes that those frames have.
//!
//! Under each block's latch what was written since it was recorded is recorded once more, by its sums; from then on nothing of the block that is
//! recorded may be overwritten in the slot. Then the slots are synced, and the sums become durable. Whoever calls has the commit token.

use super::Survival;
use super::distrust::distrust_slots;
use super::recording::Recording;
use crate::persist::batch::Batch;
use crate::persist::journal::CommitError;
use crate::planted::{Bug, is_planted};
use crate::store::Store;

/// After this a checkpoint may take all frames that were there when it began.
pub(super) fn freeze(store: &Store, survival: &Survival) -> Result<(), CommitError> {
    let journal = survival.home.journal();
    journal.sync()?;
    let end = journal.end();
    if survival.journaled.is_empty() || is_planted(Bug::FreezeLeftOut) {
        journal.note_frozen(end);
        return Ok(());
    }
    if is_planted(Bug::FrozenAfterSync) {
        sync_slots(store, survival)?;
    }
    let mut recording = Recording::new(survival);
    let mut batch = Batch::new(journal.ring_bytes(), journal.longest_frame_bytes());
    for (number, block) in survival.journaled.all() {
        let Some(volume) = store.volume(number) else {
            continue;
        };
        if let Err(error) = recording.freeze(&volume, block, &mut batch) {
            recording.take_back();
            return Err(error.into());
        }
    }
    if !is_planted(Bug::FrozenAfterSync) {
        sync_slots(store, survival)?;
    }
    for (number, frame) in batch.into_frames().into_iter().enumerate() {
        // There is always room for this, see `prepare` in `tell.rs`.
        let appended = journal.append(frame);
        appended.map_err(|error| journal.fail(&error.to_string()))?;
        recording.appended(number);
    }
    journal.sync()?;
    journal.check()?;
    recording.durable();
    survival.journaled.clear();
    journal.note_frozen(end);
    Ok(())
}

/// Makes durable what the slots hold. If that fails, nobody knows what they hold.
pub(super) fn sync_slots(store: &Store, survival: &Survival) -> Result<(), CommitError> {
    let journal = survival.home.journal();
    journal.check()?;
    store.slots.sync().map_err(|error| {
        let failed = journal.fail(&format!("slots cannot be synced: {error}"));
        distrust_slots(store, survival, &error.to_string());
        failed
    })
}
