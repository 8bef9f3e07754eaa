//! Telling the directory: what is said of volumes, of blocks that are listed, and of slots that hold something else by now, in
//! one commit of the journal at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::gone::Stamp;
use super::{Survival, lister};
use crate::directory::{SlotNumber, VolumeNumber};
use crate::persist::batch::Batch;
use crate::persist::commit::{self, CommitWork, Durability, More};
use crate::persist::journal::CommitError;
use crate::persist::op::{Op, VolumeRecord};
use crate::store::Store;
use crate::sync;
use crate::volume::Volume;

/// The most slots that are told of in one batch.
const AT_ONCE: usize = 4096;

/// What is to be told.
#[derive(Default)]
pub(crate) struct Scope {
    /// Slots that the directory must not list any more.
    pub unlist: BTreeSet<SlotNumber>,
    /// Volumes whose origins are about to change.
    pub changed: BTreeMap<VolumeNumber, Arc<Volume>>,
    /// Slots whose blocks can be listed.
    pub list: Vec<SlotNumber>,
}

impl commit::Scope for Scope {
    fn join(&mut self, mut other: Self) {
        self.unlist.append(&mut other.unlist);
        self.changed.append(&mut other.changed);
        self.list.append(&mut other.list);
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
            };
            commit::run(self.home.journal(), &mut telling, Durability::Now)
        })
    }

    fn next_pending(&self) -> Option<Op<'static>> {
        let mut pending = sync::lock(&self.pending);
        (!pending.is_empty()).then(|| pending.remove(0))
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

/// What is in frames that are not durable yet.
#[derive(Default)]
struct Told {
    emptied: Vec<SlotNumber>,
    listed: Vec<SlotNumber>,
    changed: Vec<Arc<Volume>>,
    /// What had left slots until then is told of.
    until: Option<Stamp>,
}

/// A commit under way.
struct Telling<'s> {
    store: &'s Store,
    survival: &'s Survival,
    scope: Scope,
    told: Told,
}

impl Telling<'_> {
    fn push(batch: &mut Batch, op: &Op<'_>) -> io::Result<()> {
        let pushed = batch.push(std::slice::from_ref(op));
        pushed.map_err(|_| io::Error::other("what is said of a volume is too long"))
    }

    /// Volumes come before slots that are said to hold something of them.
    fn make_volumes(&mut self, batch: &mut Batch) -> io::Result<()> {
        for volume in std::mem::take(&mut self.scope.changed).into_values() {
            if !volume.kept.is_changed()
                && let Some(record) = self.survival.changed_record(&volume)
            {
                sync::lock(&self.survival.pending).push(Op::Volume(record));
                self.told.changed.push(volume);
            }
        }
        while let Some(op) = self.survival.next_pending() {
            Self::push(batch, &op)?;
        }
        Ok(())
    }

    fn make_empty(&mut self, batch: &mut Batch) -> io::Result<()> {
        let mut slots = std::mem::take(&mut self.scope.unlist);
        slots.extend(self.survival.gone.some(AT_ONCE).0);
        for slot in slots {
            Self::push(batch, &Op::Empty(slot))?;
            self.told.emptied.push(slot);
        }
        Ok(())
    }

    fn make_listed(&mut self, batch: &mut Batch) -> io::Result<()> {
        let left = self.scope.list.len().saturating_sub(AT_ONCE);
        let some = self.scope.list.split_off(left);
        for op in lister::slot_ops(self.store, self.survival, &some) {
            if let Op::Slot(slot) = &op {
                self.told.listed.push(slot.slot);
            }
            Self::push(batch, &op)?;
        }
        Ok(())
    }
}

impl CommitWork for Telling<'_> {
    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        // Before anything is looked at: what leaves its slot from here on is not told of.
        self.told.until = Some(self.survival.gone.moment());
        self.make_volumes(batch)?;
        self.make_empty(batch)?;
        self.make_listed(batch)?;
        match self.scope.list.is_empty() {
            true => Ok(More::No),
            false => Ok(More::Yes),
        }
    }

    fn sync_slots(&mut self) -> io::Result<()> {
        self.store.slots.sync()
    }

    fn durable(&mut self, _seq: u64) -> bool {
        let mut told = std::mem::take(&mut self.told);
        let survival = self.survival;
        for slot in &told.emptied {
            survival.marks.unlisted(*slot);
        }
        told.emptied.append(&mut told.listed);
        if let Some(until) = told.until {
            survival.gone.told(&told.emptied, until);
        }
        for volume in told.changed {
            volume.kept.changes();
        }
        true
    }

    fn make_room(&mut self, _frame_bytes: u64) -> Result<(), CommitError> {
        match self.survival.checkpoint() {
            Ok(true) => Ok(()),
            Ok(false) => Err(CommitError::NoRoom),
            Err(error) => Err(CommitError::Dead(error.to_string().into())),
        }
    }
}
