//! Overwriting what only the slots have of a promise: the client's bytes go into the journal first, and when that is durable, whoever has committed
//! them writes them into the slots. So an overwrite and the flush after it are one sync.
//!
//! That is for whole sectors. Before a part of one is overwritten, the old bytes of it go into the journal: what the client leaves of them others may
//! change meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use super::recording::{Asked, BlockKey};
use super::tell::Scope;
use super::{Survival, record};
use crate::Error;
use crate::latch::Latch;
use crate::sector::{BlockNumber, Mask, Piece};
use crate::volume::Volume;

/// What became of a piece when it was its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redone {
    /// It is durable, and in its slot.
    Stored,
    /// The slot has refused it, and may have half of it.
    Refused,
}

/// A piece of a client's request, of whole sectors.
#[derive(Debug)]
pub(super) struct Redo {
    /// Where it begins in its block, in bytes.
    start: u64,
    bytes: Vec<u8>,
    sectors: Mask,
    /// None until it was its turn; an error if it could not be told to the directory.
    outcome: OnceLock<Result<Redone, String>>,
}

impl Redo {
    /// The sectors that it fills, side by side.
    pub(super) fn sectors(&self) -> Mask {
        self.sectors
    }

    /// What they will hold.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The directory cannot be told.
    pub(super) fn fail(&self, why: &str) {
        let _ = self.outcome.set(Err(why.to_owned()));
    }

    /// The journal has it, durably: the slot gets it too, and then has what was recorded last, as far as these sectors go.
    pub(super) fn carry_out(&self, state: &mut Latch<'_>) {
        state.sealed.reached_journal(self.sectors);
        let outcome = match state.store(self.start, &self.bytes) {
            Ok(()) => {
                state.sealed.changed -= self.sectors;
                Redone::Stored
            }
            Err(_) => {
                // What was not newer than the origin, or is no more since somebody has changed it there meanwhile: the slot may have something older.
                let older = self.sectors - state.unsettled();
                state.sealed.lost(older);
                Redone::Refused
            }
        };
        let _ = self.outcome.set(Ok(outcome));
    }
}

/// What they fill.
pub(super) fn sectors(redos: &[Arc<Redo>]) -> Mask {
    let sectors = redos.iter().map(|redo| redo.sectors);
    sectors.fold(Mask::EMPTY, |all, sectors| all | sectors)
}

/// Those that wait for a commit, of each block in the order in which they came.
#[derive(Default)]
pub(super) struct Redos(BTreeMap<BlockKey, VecDeque<Arc<Redo>>>);

impl Redos {
    pub(super) fn append(&mut self, other: Self) {
        for (key, mut redos) in other.0 {
            self.0.entry(key).or_default().append(&mut redos);
        }
    }

    /// The first ones of a block that fill different sectors, and not more than so many bytes unless that is one alone. What comes over one of them
    /// depends on it.
    pub(super) fn take(&mut self, key: BlockKey, most_bytes: u64) -> Vec<Arc<Redo>> {
        let Some(redos) = self.0.get_mut(&key) else {
            return Vec::new();
        };
        let (mut taken, mut filled, mut bytes) = (Vec::new(), Mask::EMPTY, 0);
        while let Some(next) = redos.front() {
            bytes += next.bytes.len() as u64;
            if !(next.sectors & filled).is_empty() || (!taken.is_empty() && bytes > most_bytes) {
                break;
            }
            filled |= next.sectors;
            taken.extend(redos.pop_front());
        }
        if redos.is_empty() {
            self.0.remove(&key);
        }
        taken
    }

    /// The blocks that are not done with.
    pub(super) fn blocks(&self) -> impl Iterator<Item = BlockKey> {
        self.0.keys().copied()
    }
}

/// So many bytes can be overwritten at a time, or made ready for it.
pub(crate) fn overwritten_bytes(volume: &Volume) -> u64 {
    let survival = volume.store().survival.as_ref();
    let most = survival.map_or(0, Survival::released_bytes);
    most.max(volume.geometry().sector_bytes())
}

/// Has the directory told of pieces that are to be overwritten, and of which only the slots have what was promised; [`overwritten_bytes`] at most.
/// Tells what became of each: nothing yet, where the old bytes are in the journal now, or where there are none in a slot any more.
pub(crate) fn overwrite(
    volume: &Volume,
    pieces: &[(Piece, &[u8])],
) -> Result<Vec<Option<Redone>>, Error> {
    record::note_asked(volume);
    let mut scope = Scope::default();
    let redos = pieces.iter().map(|piece| ask(volume, piece, &mut scope));
    let redos: Vec<Option<Arc<Redo>>> = redos.collect();
    let told = record::tell(volume, scope, WHAT);
    let outcomes = redos.iter().map(|redo| {
        let outcome = redo.as_ref().and_then(|redo| redo.outcome.get());
        let outcome = outcome.cloned().transpose();
        outcome.map_err(|why| record::refused(volume, WHAT, &why))
    });
    let outcomes: Vec<Option<Redone>> = outcomes.collect::<Result<_, _>>()?;
    // What is done is done, whatever became of others in the same commit.
    if outcomes.contains(&None) {
        told?;
        // Those of whole sectors need not be released: the next time they are not.
        let parts = pieces.iter().filter(|(piece, _)| !is_whole(volume, piece));
        let blocks: Vec<BlockNumber> = parts.map(|(piece, _)| piece.number).collect();
        if let Some(why) = unreleasable(volume, &blocks) {
            return Err(record::refused(volume, WHAT, &why));
        }
    }
    Ok(outcomes)
}

/// What is refused if it cannot be done.
const WHAT: &str = "an overwrite";

fn ask(volume: &Volume, (piece, bytes): &(Piece, &[u8]), scope: &mut Scope) -> Option<Arc<Redo>> {
    let geometry = volume.geometry();
    let sectors = geometry.touched(piece);
    let key = (volume.number(), piece.number);
    if !is_whole(volume, piece) || is_hardly_promised(volume, piece) {
        let release = Asked {
            release: sectors,
            ..Asked::default()
        };
        scope.ask(key, release);
        return None;
    }
    let redo = Arc::new(Redo {
        start: piece.start,
        bytes: bytes.to_vec(),
        sectors,
        outcome: OnceLock::new(),
    });
    scope.ask(key, Asked::default());
    let redos = scope.redo.0.entry(key).or_default();
    redos.push_back(Arc::clone(&redo));
    Some(redo)
}

fn is_whole(volume: &Volume, piece: &Piece) -> bool {
    let geometry = volume.geometry();
    geometry.touched(piece) == geometry.whole(piece, volume.size())
}

/// Why the old bytes of some of these blocks cannot go into the journal, if so.
fn unreleasable(volume: &Volume, blocks: &[BlockNumber]) -> Option<String> {
    let survival = volume.store().survival.as_ref()?;
    survival.unreleasable.of_blocks(volume.number(), blocks)
}

/// The sectors of a piece that must not be overwritten in the slot just now.
pub(crate) fn barred(volume: &Volume, piece: &Piece) -> Mask {
    let directory = &volume.store().directory;
    let state = volume.index().peek(piece.number, Mask::EMPTY, directory);
    state.sealed.barred() & volume.geometry().touched(piece)
}

/// Whether the old bytes are so few beside all that is overwritten that it is better to write those into the journal, if they can be read.
fn is_hardly_promised(volume: &Volume, piece: &Piece) -> bool {
    let sectors = volume.geometry().touched(piece);
    let is_little = barred(volume, piece).count() * 8 < sectors.count();
    is_little && unreleasable(volume, &[piece.number]).is_none()
}
