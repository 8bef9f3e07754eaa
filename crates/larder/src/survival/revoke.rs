//! Before the origin is asked to change: the directory must not list what will be old then.
//!
//! *Before*, and not only before the client is answered: a crash in between would show the old bytes from the cache, and the new
//! ones once those are evicted. Only the first change after a listing pays, since what is written all the time is never listed.

use super::Survival;
use crate::directory::SlotNumber;
use crate::index::Use;
use crate::persist::op::{Op, VolumeRecord};
use crate::sector::Mask;
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// The bytes of these ranges, as start and end, are about to change on the origin. On return the directory lists none of them, and says
/// that the origin's version is not what it was.
///
/// Called with the range lock of what changes, or with the pass token, so that nothing of it is listed anew until it has changed.
pub(crate) fn revoke(volume: &Volume, ranges: &[(u64, u64)]) -> Result<(), Error> {
    let Some(survival) = &volume.store().survival else {
        return Ok(());
    };
    if volume.kept.id(volume.number()).is_none() {
        return Ok(());
    }
    let mut slots = Vec::new();
    for &(start, end) in ranges {
        survival.listed_within(volume, start, end, &mut slots);
    }
    if slots.is_empty() && volume.kept.is_changed() {
        return Ok(());
    }
    survival.unlist(volume, &slots).map_err(|cause| {
        let path = &survival.path;
        let context = format!(
            "cache directory '{path}': it must forget what is cached of volume '{}' before the origin may change",
            volume.name()
        );
        Error::with_source(ErrorKind::CacheFile, context, cause)
    })
}

impl Survival {
    /// The slots of which the directory may say that they hold something of these bytes.
    fn listed_within(&self, volume: &Volume, start: u64, end: u64, slots: &mut Vec<SlotNumber>) {
        let store = volume.store();
        let geometry = volume.geometry();
        let (first, last) = (geometry.block_of(start), geometry.block_of(end - 1));
        if self.marks.any_listed() {
            let after = crate::sector::BlockNumber(last.0 + 1);
            for number in volume.index().known_within(first, after, &store.directory) {
                let state = volume.index().peek(number, Mask::EMPTY, &store.directory);
                slots.extend(state.slot.filter(|slot| self.marks.is_listed(*slot)));
            }
        }
        // After the index: what is not there any more is here.
        slots.extend(self.gone.of_blocks(volume.number(), first, last));
    }

    /// Has the directory forget what these slots hold, durably, and know that the volume's origin changes.
    fn unlist(&self, volume: &Volume, slots: &[SlotNumber]) -> std::io::Result<()> {
        sync::lock(&self.unlisting).extend(slots);
        let mut journal = sync::lock(&self.journal);
        // Somebody else may have done it with their own.
        let all = std::mem::take(&mut *sync::lock(&self.unlisting));
        let all: Vec<SlotNumber> = all.into_iter().collect();
        let changed = (!volume.kept.is_changed()).then(|| self.changed_record(volume)).flatten();
        if all.is_empty() && changed.is_none() {
            return journal.check();
        }
        let until = self.gone.moment();
        if let Some(record) = changed {
            sync::lock(&self.pending).push(Op::Volume(record));
        }
        let mut ops = std::mem::take(&mut *sync::lock(&self.pending));
        ops.extend(all.iter().map(|slot| Op::Empty(*slot)));
        journal.commit(&ops)?;
        for slot in &all {
            self.marks.unlisted(*slot);
        }
        self.gone.told(&all, until);
        volume.kept.changes();
        Ok(())
    }

    /// What the directory is to say of a volume whose origin is about to change.
    fn changed_record(&self, volume: &Volume) -> Option<VolumeRecord> {
        let mut table = sync::lock(&self.volumes);
        let id = volume.kept.id(volume.number())?;
        let record = VolumeRecord {
            changed_since_version: true,
            ..table.get(id)?.record.clone()
        };
        // It cannot be refused: it is what it was, but for that.
        let _ = table.apply(&Op::Volume(record.clone()));
        Some(record)
    }
}
