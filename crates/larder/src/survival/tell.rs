//! Telling the directory: what is said of volumes, of blocks that are listed, and of slots that hold something else by now, in
//! one commit of the journal at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::freeze::{freeze, sync_slots};
use super::gone::Stamp;
use super::recording::{Asked, BlockKey, Recording};
use super::redo::{Redo, Redos};
use super::{Survival, lister};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::persist::batch::Batch;
use crate::persist::commit::{self, CommitWork, Durability, More};
use crate::persist::journal::{CommitError, Journal};
use crate::persist::op::{Op, VolumeRecord};
use crate::planted::{Bug, is_planted};
use crate::sector::Mask;
use crate::store::Store;
use crate::sync;
use crate::volume::Volume;

/// The most slots whose blocks have left that are told of in passing.
const AT_ONCE: usize = 4096;
/// So many are listed before the batch is looked at again: some kilobytes.
const LISTED_AT_ONCE: usize = 64;

/// What is to be told.
#[derive(Default)]
pub(crate) struct Scope {
    /// Slots that the directory must not list any more.
    pub unlist: BTreeSet<SlotNumber>,
    /// Volumes whose origins are about to change.
    pub changed: BTreeMap<VolumeNumber, Arc<Volume>>,
    /// Slots whose blocks can be listed.
    pub list: Vec<SlotNumber>,
    /// Volumes of which all that is so is to be durable.
    pub flush: BTreeSet<VolumeNumber>,
    /// Blocks of which something is to be said.
    pub record: BTreeMap<BlockKey, Asked>,
    /// What is to be overwritten of blocks by way of the journal. They are in `record` too.
    pub redo: Redos,
    /// A checkpoint is to take what is in the journal.
    pub freeze: bool,
}

impl Scope {
    pub(super) fn ask(&mut self, key: BlockKey, asked: Asked) {
        self.record.entry(key).or_default().join(asked);
    }
}

impl commit::Scope for Scope {
    fn join(&mut self, mut other: Self) {
        self.unlist.append(&mut other.unlist);
        self.changed.append(&mut other.changed);
        self.list.append(&mut other.list);
        self.flush.append(&mut other.flush);
        for (key, asked) in other.record {
            self.ask(key, asked);
        }
        self.redo.append(other.redo);
        self.freeze |= other.freeze;
    }
}

impl Survival {
    /// Tells the directory, durably. What it is still to hear of volumes, and of some slots whose blocks have left, goes along.
    pub(super) fn tell(&self, store: &Store, scope: Scope) -> Result<(), CommitError> {
        self.commits.commit(scope, |scope| {
            let mut telling = Telling {
                store,
                survival: self,
                scope,
                told: Told::default(),
                recording: Recording::new(self),
            };
            let run = commit::run(self.home.journal(), &mut telling, Durability::Now);
            match run {
                Ok(()) => self.note_told(telling.told),
                Err(_) => telling.give_up(),
            }
            if self.wants_checkpoint(store) {
                self.maintenance.wake();
            }
            run
        })
    }

    /// All of it is durable. Whoever calls has the commit token still.
    fn note_told(&self, mut told: Told) {
        told.listed.sort_unstable();
        for slot in &told.emptied {
            // Else it was said to be empty first, and to hold something else after that.
            if told.listed.binary_search(slot).is_err() {
                self.marks.unlisted(*slot);
            }
        }
        told.emptied.append(&mut told.listed);
        if let Some(until) = told.until {
            self.gone.told(&told.emptied, until);
        }
        for volume in told.changed {
            volume.kept.changes();
        }
        self.note_said(told.said);
        let is_summed =
            |slot: &&SlotNumber| self.marks.is_summed(**slot) && !self.marks.is_listed(**slot);
        let again = told.emptied.iter().filter(is_summed);
        sync::lock(&self.to_list).extend(again);
    }

    /// So many of what was to be said of volumes is durable.
    fn note_said(&self, count: usize) {
        sync::lock(&self.pending).drain(..count);
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

/// What frames of a commit say.
#[derive(Default)]
struct Told {
    emptied: Vec<SlotNumber>,
    listed: Vec<SlotNumber>,
    changed: Vec<Arc<Volume>>,
    /// Blocks that could be recorded, until that is durable: somebody may wait to hear of one that could not before.
    recorded: Vec<(BlockKey, Asked)>,
    /// So many of what is to be said of volumes. It waits on until it is durable, so that nothing of it is lost with a commit that fails.
    said: usize,
    /// When it began: what left its slot later is not told of for sure.
    until: Option<Stamp>,
}

/// A commit under way.
struct Telling<'s> {
    store: &'s Store,
    survival: &'s Survival,
    scope: Scope,
    told: Told,
    recording: Recording<'s>,
}

impl Telling<'_> {
    fn begin(&mut self) {
        self.told.until = Some(self.survival.gone.moment());
        // A block that is listed anew must not be listed in another slot too.
        let most = match self.scope.list.is_empty() {
            true => AT_ONCE,
            false => usize::MAX,
        };
        let gone = self.survival.gone.some(most);
        self.scope.unlist.extend(gone);
        for number in std::mem::take(&mut self.scope.flush) {
            let Some(volume) = self.store.volume(number) else {
                continue;
            };
            for block in volume.unrecorded.take() {
                self.scope.ask((number, block), Asked::SEAL);
            }
        }
    }

    /// What was not said is to be said another time.
    fn give_up(&mut self) {
        if self.survival.home.journal().failure().is_none() {
            self.recording.take_back();
        }
        for ((number, block), asked) in &self.scope.record {
            if asked.seal
                && let Some(volume) = self.store.volume(*number)
            {
                volume.unrecorded.insert(*block);
            }
        }
    }

    /// A block that is called dirty in its slot must not be listed in another one that it has left. It is pinned, so it leaves none meanwhile.
    fn make_gone(&mut self, (number, block): BlockKey, batch: &mut Batch) {
        for slot in self.survival.gone.of_blocks(number, block, block) {
            if !self.survival.marks.is_sealed(slot) && Self::push(batch, &Op::Empty(slot)).is_ok() {
                self.told.emptied.push(slot);
            }
        }
    }

    /// Says what is to be said of blocks.
    fn make_records(&mut self, batch: &mut Batch) {
        self.recording.begin();
        while !batch.is_full()
            && let Some((key, asked)) = self.scope.record.pop_first()
        {
            // Not beside what is released, which makes the op as long as it may be.
            let redos = match asked.release.is_empty() {
                true => self.scope.redo.take(key, self.survival.released_bytes()),
                false => Vec::new(),
            };
            let Some(volume) = self.store.volume(key.0) else {
                continue;
            };
            let _pin = volume.pin(key.1);
            self.make_gone(key, batch);
            self.make_record(&volume, key, (asked, &redos), batch);
        }
        // Of one block one thing is said in a batch: the next depends on it.
        let left: Vec<BlockKey> = self.scope.redo.blocks().collect();
        for key in left {
            self.scope.ask(key, Asked::default());
        }
    }

    fn make_record(
        &mut self,
        volume: &Arc<Volume>,
        key: BlockKey,
        (asked, redos): (Asked, &[Arc<Redo>]),
        batch: &mut Batch,
    ) {
        let made = self.recording.make(volume, key.1, (asked, redos), batch);
        let error = match made {
            Ok(said) => {
                self.told.recorded.push((key, asked));
                self.told.emptied.extend(said);
                return;
            }
            Err(error) => error,
        };
        let why = format!("block {} cannot be read: {error}", key.1.0);
        if !asked.release.is_empty() {
            self.survival.unreleasable.insert(key, why.clone());
            if asked.seal {
                // That may be so of what is to be released alone.
                let release = Mask::EMPTY;
                return self.make_record(volume, key, (Asked { release, ..asked }, redos), batch);
            }
        }
        if asked.seal {
            volume.unrecorded.insert(key.1);
            self.survival.unrecordable.insert(key, why.clone());
        }
        match asked.seal && !redos.is_empty() {
            // What is overwritten as a whole need not be read.
            true => self.make_record(volume, key, (Asked::default(), redos), batch),
            false => redos.iter().for_each(|redo| redo.fail(&why)),
        }
    }

    fn push(batch: &mut Batch, op: &Op<'_>) -> io::Result<()> {
        match batch.push(std::slice::from_ref(op)) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("what is said of a volume is too long")),
        }
    }

    /// Volumes come before slots that are said to hold something of them. False if there are more.
    fn make_volumes(&mut self, batch: &mut Batch) -> io::Result<bool> {
        for volume in std::mem::take(&mut self.scope.changed).into_values() {
            if !volume.kept.is_changed()
                && let Some(record) = self.survival.changed_record(&volume)
            {
                sync::lock(&self.survival.pending).push(Op::Volume(record));
                self.told.changed.push(volume);
            }
        }
        loop {
            let pending = sync::lock(&self.survival.pending);
            let Some(op) = pending.get(self.told.said).cloned() else {
                return Ok(true);
            };
            drop(pending);
            if batch.is_full() {
                return Ok(false);
            }
            Self::push(batch, &op)?;
            self.told.said += 1;
        }
    }

    fn make_empty(&mut self, batch: &mut Batch) -> io::Result<()> {
        while !batch.is_full()
            && let Some(slot) = self.scope.unlist.pop_first()
        {
            // What is called dirty there is another block, or not listed.
            if !self.survival.marks.is_sealed(slot) || is_planted(Bug::EmptyOverSealed) {
                Self::push(batch, &Op::Empty(slot))?;
            }
            self.told.emptied.push(slot);
        }
        Ok(())
    }

    /// After all that is to be emptied.
    fn make_listed(&mut self, batch: &mut Batch) -> io::Result<()> {
        if batch.is_full() || !self.scope.unlist.is_empty() {
            return Ok(());
        }
        while !batch.is_full() && !self.scope.list.is_empty() {
            let left = self.scope.list.len().saturating_sub(LISTED_AT_ONCE);
            let some = self.scope.list.split_off(left);
            for op in lister::slot_ops(self.store, self.survival, &some) {
                if let Op::Slot(slot) = &op {
                    self.told.listed.push(slot.slot);
                }
                Self::push(batch, &op)?;
            }
        }
        Ok(())
    }
}

impl CommitWork for Telling<'_> {
    fn batch(&self, journal: &Journal) -> Batch {
        let (ring, longest) = (journal.ring_bytes(), journal.longest_frame_bytes());
        match self.store.flushes_to_cache() {
            true => Batch::small(ring, longest),
            false => Batch::new(ring, longest),
        }
    }

    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        if self.told.until.is_none() {
            self.begin();
        }
        if !self.make_volumes(batch)? {
            return Ok(More::Yes);
        }
        self.make_empty(batch)?;
        self.make_records(batch);
        self.make_listed(batch)?;
        let scope = &self.scope;
        match scope.unlist.is_empty() && scope.record.is_empty() && scope.list.is_empty() {
            true => Ok(More::No),
            false => Ok(More::Yes),
        }
    }

    fn sync_slots(&mut self) -> io::Result<()> {
        let synced = sync_slots(self.store, self.survival);
        synced.map_err(|error| io::Error::other(error.to_string()))
    }

    fn appended(&mut self, frame: usize, _seq: u64) {
        self.recording.appended(frame);
    }

    fn durable(&mut self, _seq: u64) -> bool {
        self.recording.durable();
        for (key, asked) in self.told.recorded.drain(..) {
            if asked.seal {
                self.survival.unrecordable.remove(key);
            }
            if !asked.release.is_empty() {
                self.survival.unreleasable.remove(key);
            }
        }
        self.told.emptied.extend(self.survival.foreseen.take());
        self.survival.journaled.is_empty()
    }

    /// Where dirty blocks are recorded, frames have bytes that must be in the slots first. A freeze takes space itself, and nothing may come between
    /// what is made and its place in the journal: so it is done here, long before there is no room. A batch is at most an eighth of
    /// the ring, and so is the filler that it may need; what was recorded with bytes takes less than a fifth without.
    fn prepare(&mut self) -> Result<(), CommitError> {
        let journal = self.survival.home.journal();
        if !self.store.flushes_to_cache() {
            return Ok(());
        }
        if std::mem::take(&mut self.scope.freeze) {
            freeze(self.store, self.survival)?;
        }
        while journal.used_bytes() > journal.ring_bytes() / 2 {
            let used = journal.used_bytes();
            freeze(self.store, self.survival)?;
            self.checkpoint()?;
            if journal.used_bytes() >= used {
                return Err(CommitError::NoRoom);
            }
        }
        Ok(())
    }

    fn make_room(&mut self, _frame_bytes: u64) -> Result<(), CommitError> {
        if self.store.flushes_to_cache() {
            // What was made may be there in part.
            return Err(self.survival.home.journal().fail("the journal is full"));
        }
        match self.checkpoint()? {
            true => Ok(()),
            false => Err(CommitError::NoRoom),
        }
    }
}

impl Telling<'_> {
    fn checkpoint(&mut self) -> Result<bool, CommitError> {
        match self.survival.checkpoint(self.store) {
            Ok(is_done) => Ok(is_done),
            Err(error) => match self.survival.home.journal().failure() {
                Some(why) => Err(CommitError::Dead(why)),
                // The tables may be written another time.
                None => Err(io::Error::other(error.to_string()).into()),
            },
        }
    }
}
