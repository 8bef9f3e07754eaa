//! The clean end: everything that is clean goes into the tables, and the directory says that they are all there is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Survival, load, occupant, sum};
use crate::block::BlockState;
use crate::directory::{SlotNumber, VolumeNumber};
use crate::persist::entry::{Content, Entry};
use crate::persist::op::{Op, VolumeRecord};
use crate::sector::Mask;
use crate::slot_bits::SlotBits;
use crate::store::Store;
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind, Mode};

/// Ends the use of the directory. Nobody uses any volume any more. After a failure, and after a panic, the directory stays as
/// after a crash.
pub(crate) fn close(store: &Store, survival: &Survival) -> Result<(), Error> {
    if survival.is_closed() {
        return Ok(());
    }
    for volume in store.volumes() {
        if let Some(queue) = volume.queue.get() {
            queue.end_sender();
            // If it fails, the next start knows less of what was durable.
            let _ = queue.vouch();
        }
    }
    let promises = match store.flushes_to_cache() {
        true => keep_promises(store),
        false => Ok(Promises::default()),
    };
    survival.is_closed.store(true, Ordering::SeqCst);
    let path = &survival.path;
    if store.is_damaged() {
        let message =
            format!("cache directory '{path}': left as after a crash, because of a panic");
        return Err(Error::new(ErrorKind::Poisoned, message));
    }
    let promises = promises?;
    if promises.any {
        // As after a crash: the journal has them.
        survival
            .keeps_leftovers
            .store(promises.all_kept, Ordering::SeqCst);
        return Ok(());
    }
    // What is queued stays where it is, and the next start goes on with it.
    let is_all_queued = || store.volumes().iter().all(|volume| !volume.is_dirty());
    let keeps_leftovers = store.is_ordered() && is_all_queued();
    survival
        .keeps_leftovers
        .store(keeps_leftovers, Ordering::SeqCst);
    sum::sum_all(store, survival).map_err(|error| {
        let context = format!("cache directory '{path}': checksums of what is cached");
        Error::with_source(ErrorKind::CacheFile, context, error)
    })?;
    let volumes = leaving(store);
    for volume in store.volumes() {
        // What is queued for its origin belongs to it.
        if !volumes.contains_key(&volume.number()) && !volume.queue.has_any() {
            survival.forget(&volume);
        }
    }
    let mut table = sync::lock(&survival.volumes);
    for leaving in volumes.values() {
        update(&mut table, &leaving.volume);
    }
    let numbered = store.slots.numbered();
    let mut entries = (0..numbered).map(|slot| entry(store, survival, &volumes, SlotNumber(slot)));
    survival
        .home
        .close(&table, numbered, &mut entries)
        .map_err(|error| load::at_path(path, &error))
}

/// Whether the directory has something that the origin does not. All that can be made durable there is.
fn keep_promises(store: &Store) -> Result<Promises, Error> {
    let mut promises = Promises {
        any: false,
        all_kept: true,
    };
    // What of others can be kept is.
    let mut result = Ok(());
    for volume in store.volumes() {
        let is_poisoned = volume.is_poisoned();
        if volume.is_dirty() && volume.flushes_to_cache() && volume.kept.is_judged() && !is_poisoned
        {
            result = result.and(super::flush(&volume));
        }
        promises.any |= volume.kept.is_sealed() || volume.is_dirty() || is_poisoned;
        // One that the directory does not know has nothing there.
        let is_kept = volume.flushes_to_cache() || !volume.is_dirty();
        promises.all_kept &= is_kept && !is_poisoned;
    }
    result.map(|()| promises)
}

/// What the directory has that the origins do not.
#[derive(Default)]
struct Promises {
    any: bool,
    all_kept: bool,
}

/// A volume whose clean blocks are kept.
struct Leaving {
    volume: Arc<Volume>,
    full: Mask,
    /// Where nothing more need be asked of the index.
    plain: SlotBits,
    /// What the origin may still lose: not kept.
    uncertain: Vec<(u64, u64)>,
}

fn leaving(store: &Store) -> HashMap<VolumeNumber, Leaving> {
    let mut leaving = HashMap::new();
    for volume in store.volumes() {
        let is_uncertain = volume.kept.is_changed() && store.config.mode == Mode::Unsafe;
        let (Some(full), Some(uncertain)) = (full(&volume), volume.unflushed.ranges()) else {
            continue;
        };
        let may_be_lost = volume.kept.is_judged() && !volume.kept.is_flushed();
        if !volume.is_poisoned() && !is_uncertain && !may_be_lost {
            let number = volume.number();
            leaving.insert(
                number,
                Leaving {
                    plain: volume.index().plain(&store.directory),
                    volume,
                    full,
                    uncertain,
                },
            );
        }
    }
    leaving
}

/// All sectors of a block, if the directory knows the volume.
fn full(volume: &Volume) -> Option<Mask> {
    let found = volume.kept.found().map(|found| found.full);
    let joined = volume.has_geometry().then(|| volume.geometry().full());
    volume.kept.id(volume.number()).and(joined.or(found))
}

fn update(table: &mut crate::persist::volumes::VolumeTable, volume: &Volume) {
    let id = volume.kept.id(volume.number());
    let known = id
        .and_then(|id| table.get(id))
        .map(|known| known.record.clone());
    if let Some(record) = known {
        let record = VolumeRecord {
            size_bytes: match volume.kept.is_judged() {
                true => volume.size(),
                false => record.size_bytes,
            },
            changed_since_version: record.changed_since_version || volume.kept.is_changed(),
            ..record
        };
        // It cannot be refused: it is what it was, but for its size.
        let _ = table.apply(&Op::Volume(record));
    }
}

/// What the tables are to say of a slot.
fn entry(
    store: &Store,
    survival: &Survival,
    volumes: &HashMap<VolumeNumber, Leaving>,
    slot: SlotNumber,
) -> Entry {
    let content = content(store, survival, volumes, slot);
    Entry { seq: 0, content }
}

fn content(
    store: &Store,
    survival: &Survival,
    volumes: &HashMap<VolumeNumber, Leaving>,
    slot: SlotNumber,
) -> Option<Content> {
    if !survival.marks.is_summed(slot) {
        return None;
    }
    let owner = store.directory.owner(slot);
    let leaving = volumes.get(&owner.volume)?;
    let volume = &leaving.volume;
    let state = match leaving.plain.contains(slot) {
        true => BlockState::in_slot(slot, leaving.full, Mask::EMPTY, Mask::EMPTY),
        false => volume
            .index()
            .peek(owner.number, leaving.full, &store.directory),
    };
    if state.slot != Some(slot) {
        return None;
    }
    let mut valid = state.valid - state.unsettled();
    if !leaving.uncertain.is_empty() {
        valid -= sum::touched_by(volume, owner.number, &leaving.uncertain);
    }
    if valid.is_empty() {
        return None;
    }
    Some(Content {
        occupant: occupant(volume, owner.number)?,
        valid,
        dirty: Mask::EMPTY,
        heat: sync::lock(&store.eviction).heat(slot.0),
    })
}
