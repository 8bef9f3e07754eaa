//! What the engine asks of the directory where a flush is durable in it.

use super::Survival;
use super::recording::Asked;
use super::tell::Scope;
use crate::persist::journal::CommitError;
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// On return the directory has everything, durably, that was acknowledged before the call.
pub(crate) fn flush(volume: &Volume) -> Result<(), Error> {
    let mut scope = Scope::default();
    scope.flush.insert(volume.number());
    tell(volume, scope, "a flush")?;
    let unrecordable = volume.store().survival.as_ref();
    match unrecordable.and_then(|survival| survival.unrecordable.of(volume.number())) {
        Some(why) => Err(refused(volume, "a flush", &why)),
        None => Ok(()),
    }
}

/// The same of these bytes only.
pub(crate) fn record(volume: &Volume, start: u64, end: u64) -> Result<(), Error> {
    record_where(volume, known(volume, start, end), |_| true)
}

/// The origin has these bytes, durably: what the directory says of them must not come back.
pub(crate) fn unrecord(volume: &Volume, start: u64, end: u64) -> Result<(), Error> {
    unrecord_blocks(volume, known(volume, start, end))
}

/// The same of these blocks.
pub(crate) fn unrecord_blocks(volume: &Volume, blocks: Vec<BlockNumber>) -> Result<(), Error> {
    let directory = &volume.store().directory;
    let is_sealed = |number: &BlockNumber| {
        let state = volume.index().peek(*number, Mask::EMPTY, directory);
        !state.sealed.is_empty()
    };
    record_where(volume, blocks, is_sealed)
}

/// What only the slots have of a promise in these bytes goes into the journal too, so that it can be overwritten.
pub(crate) fn release(volume: &Volume, start: u64, end: u64) -> Result<(), Error> {
    let mut scope = Scope::default();
    let geometry = volume.geometry();
    for number in known(volume, start, end) {
        let touched = geometry.touched(&geometry.piece_within(number, start, end));
        let directory = &volume.store().directory;
        let state = volume.index().peek(number, Mask::EMPTY, directory);
        let release = state.sealed.barred() & touched;
        if !release.is_empty() {
            let asked = Asked {
                seal: false,
                release,
            };
            scope.ask((volume.number(), number), asked);
        }
    }
    tell(volume, scope, "an overwrite")
}

fn known(volume: &Volume, start: u64, end: u64) -> Vec<BlockNumber> {
    let geometry = volume.geometry();
    let first = geometry.block_of(start);
    let after = BlockNumber(geometry.block_of(end.saturating_sub(1).max(start)).0 + 1);
    let index = volume.index();
    index.known_within(first, after, &volume.store().directory)
}

fn record_where(
    volume: &Volume,
    blocks: Vec<BlockNumber>,
    is_meant: impl Fn(&BlockNumber) -> bool,
) -> Result<(), Error> {
    let mut scope = Scope::default();
    let meant: Vec<BlockNumber> = blocks.into_iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Ok(());
    }
    for number in &meant {
        let asked = Asked {
            seal: true,
            ..Asked::default()
        };
        scope.ask((volume.number(), *number), asked);
    }
    tell(volume, scope, "a durable request")?;
    let survival = volume.store().survival.as_ref();
    let why =
        survival.and_then(|survival| survival.unrecordable.of_blocks(volume.number(), &meant));
    match why {
        Some(why) => Err(refused(volume, "a durable request", &why)),
        None => Ok(()),
    }
}

fn tell(volume: &Volume, scope: Scope, what: &str) -> Result<(), Error> {
    let store = volume.store();
    let Some(survival) = &store.survival else {
        return Ok(());
    };
    if survival.is_closed() {
        return Err(refused(volume, what, "it is closed"));
    }
    survival
        .tell(store, scope)
        .map_err(|cause| refused(volume, what, &cause.to_string()))
}

fn refused(volume: &Volume, what: &str, why: &str) -> Error {
    let path = volume
        .store()
        .survival
        .as_ref()
        .map_or("", |survival| &survival.path);
    let message = format!(
        "volume '{}': {what} cannot be made durable in the cache directory '{path}': {why}",
        volume.name()
    );
    Error::new(ErrorKind::CacheFile, message)
}

impl Survival {
    /// For who looks after the directory: a freeze, so that a checkpoint has something to take.
    pub(super) fn freeze(&self, store: &crate::store::Store) -> Result<(), CommitError> {
        let scope = Scope {
            freeze: true,
            ..Scope::default()
        };
        self.tell(store, scope)
    }
}
