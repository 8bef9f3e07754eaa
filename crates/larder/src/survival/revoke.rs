//! Before the origin is asked to change: the directory must not list what will be old then.
//!
//! *Before*, and not only before the client is answered: a crash in between would show the old bytes from the cache, and the new
//! ones once those are evicted. Only the first change after a listing pays, since what is written all the time is never listed.

use super::Survival;
use super::tell::Scope;
use crate::planted::{Bug, is_planted};
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// The bytes of these ranges, as start and end, are about to change on the origin. On return the directory lists none of them, and says
/// that the origin's version is not what it was.
///
/// Called with the range lock of what changes, or with the pass token, so that nothing of it is listed anew until it has changed.
pub(crate) fn revoke(volume: &Volume, ranges: &[(u64, u64)]) -> Result<(), Error> {
    let store = volume.store();
    let Some(survival) = &store.survival else {
        return Ok(());
    };
    if volume.kept.id(volume.number()).is_none() || is_planted(Bug::RevokeLeftOut) {
        return Ok(());
    }
    let mut scope = Scope::default();
    for &(start, end) in ranges {
        survival.listed_within(volume, start, end, &mut scope);
    }
    if !volume.kept.is_changed() {
        let this = store.volume(volume.number());
        scope
            .changed
            .extend(this.map(|volume| (volume.number(), volume)));
    }
    if survival.is_closed() {
        let message = format!("cache directory '{}': it is closed", survival.path);
        return Err(Error::new(ErrorKind::CacheFile, message));
    }
    if scope.unlist.is_empty() && scope.changed.is_empty() {
        return Ok(());
    }
    survival.tell(store, scope).map_err(|cause| {
        let path = &survival.path;
        let name = volume.name();
        let message = format!(
            "cache directory '{path}': what it lists of volume '{name}' must be forgotten before the origin may change: {cause}"
        );
        Error::new(ErrorKind::CacheFile, message)
    })
}

impl Survival {
    /// The slots of which the directory may say that they hold something of these bytes.
    fn listed_within(&self, volume: &Volume, start: u64, end: u64, scope: &mut Scope) {
        let store = volume.store();
        let geometry = volume.geometry();
        let (first, last) = (geometry.block_of(start), geometry.block_of(end - 1));
        if self.marks.any_listed() {
            let after = BlockNumber(last.0 + 1);
            for number in volume.index().known_within(first, after, &store.directory) {
                let state = volume.index().peek(number, Mask::EMPTY, &store.directory);
                let listed = state.slot.filter(|slot| self.marks.is_listed(*slot));
                scope.unlist.extend(listed);
            }
        }
        // After the index: what is not there any more is here.
        scope
            .unlist
            .extend(self.gone.of_blocks(volume.number(), first, last));
    }
}
