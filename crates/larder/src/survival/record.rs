//! What the engine asks of the directory where a flush is durable in it.

use std::sync::atomic::Ordering;

use super::Survival;
use super::recording::Asked;
use super::tell::Scope;
use crate::persist::journal::CommitError;
use crate::sector::{BlockNumber, Mask};
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// A client waits for the directory's disk.
pub(crate) fn note_asked(volume: &Volume) {
    if let Some(survival) = &volume.store().survival {
        survival.asked.fetch_add(1, Ordering::Relaxed);
    }
}

/// On return the directory has everything, durably, that was acknowledged before the call.
pub(crate) fn flush(volume: &Volume) -> Result<(), Error> {
    note_asked(volume);
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
    note_asked(volume);
    let blocks = volume.known_blocks(start, end).into_iter();
    record_blocks(volume, blocks.map(|number| (number, Asked::SEAL)).collect())
}

/// The origin has these bytes, durably: what the directory says of the whole sectors among them must not come back. Called with their range lock.
pub(crate) fn unrecord(volume: &Volume, start: u64, end: u64) -> Result<(), Error> {
    let geometry = volume.geometry();
    let blocks = volume.known_blocks(start, end).into_iter();
    let sealed = blocks.filter(|number| is_sealed(volume, *number));
    let asked = sealed.map(|number| {
        let piece = geometry.piece_within(number, start, end);
        let asked = Asked {
            settled: geometry.whole(&piece, volume.size()),
            ..Asked::SEAL
        };
        (number, asked)
    });
    record_blocks(volume, asked.collect())
}

/// These sectors are on the origin for good, unless they are dirty again. Whatever was changed there past the cache was changed before they were sent,
/// or durably, or was refused, and whoever asked for it was told.
pub(crate) fn unrecord_blocks(
    volume: &Volume,
    blocks: &[(BlockNumber, Mask)],
) -> Result<(), Error> {
    let sealed = blocks
        .iter()
        .filter(|(number, _)| is_sealed(volume, *number));
    let asked = sealed.map(|&(number, settled)| {
        let asked = Asked {
            settled,
            ..Asked::SEAL
        };
        (number, asked)
    });
    record_blocks(volume, asked.collect())
}

fn is_sealed(volume: &Volume, number: BlockNumber) -> bool {
    let directory = &volume.store().directory;
    let state = volume.index().peek(number, Mask::EMPTY, directory);
    !state.sealed.is_empty()
}

/// Whether the directory calls something dirty that is not, since the origin may still lose what came after it there. After a flush that means
/// that a promise is not kept.
pub(crate) fn keeps_what_is_older(volume: &Volume) -> bool {
    let Some(ranges) = volume.unflushed.ranges() else {
        return volume.kept.is_sealed();
    };
    let geometry = volume.geometry();
    let directory = &volume.store().directory;
    ranges.iter().any(|&(start, end)| {
        volume.known_blocks(start, end).into_iter().any(|number| {
            let touched = geometry.touched(&geometry.piece_within(number, start, end));
            let state = volume.index().peek(number, Mask::EMPTY, directory);
            !((state.sealed.sectors - state.unsettled()) & touched).is_empty()
        })
    })
}

fn record_blocks(volume: &Volume, blocks: Vec<(BlockNumber, Asked)>) -> Result<(), Error> {
    if blocks.is_empty() {
        return Ok(());
    }
    let mut scope = Scope::default();
    for (number, asked) in &blocks {
        scope.ask((volume.number(), *number), *asked);
    }
    let meant: Vec<BlockNumber> = blocks.into_iter().map(|(number, _)| number).collect();
    tell(volume, scope, "a durable request")?;
    check_recorded(volume, &meant)
}

/// Whether the directory could be told of these blocks.
fn check_recorded(volume: &Volume, blocks: &[BlockNumber]) -> Result<(), Error> {
    let survival = volume.store().survival.as_ref();
    let why =
        survival.and_then(|survival| survival.unrecordable.of_blocks(volume.number(), blocks));
    match why {
        Some(why) => Err(refused(volume, "a durable request", &why)),
        None => Ok(()),
    }
}

pub(super) fn tell(volume: &Volume, scope: Scope, what: &str) -> Result<(), Error> {
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

pub(super) fn refused(volume: &Volume, what: &str, why: &str) -> Error {
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
