//! A commit of everything.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::block::{BLOCK_BYTES, Block, SECTOR_BYTES, Sector};
use super::{Key, Trial, eio};
use crate::directory::SlotNumber;
use crate::persist::batch::Batch;
use crate::persist::commit::{self, CommitWork, Durability, More};
use crate::persist::entry::Content;
use crate::persist::journal::CommitError;
use crate::persist::op::slot::sums_as_bytes;
use crate::persist::op::{Op, RecordedZeros, SlotOp, ZeroOp, each};
use crate::sector::Mask;

/// What a frame says of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub key: Key,
    /// Within its batch, until it has a number.
    frame: usize,
    seq: Option<u64>,
    dirty: Mask,
    listed: Mask,
    zeros: Mask,
}

/// A commit under way.
struct Work<'t> {
    trial: &'t mut Trial,
    keys: Vec<Key>,
    /// This block is listed, if it can be.
    listing: Option<Key>,
}

/// What an op says of a slot, and the bytes that it borrows.
struct Said {
    slot: SlotNumber,
    content: Content,
    fresh: Mask,
    inlined: Mask,
    sums: Vec<u8>,
    bytes: Vec<u8>,
}

impl Said {
    fn op(&self) -> Op<'_> {
        Op::Slot(SlotOp {
            slot: self.slot,
            content: self.content,
            sector_shift: 9,
            fresh: self.fresh,
            inlined: self.inlined,
            sums: &self.sums,
            bytes: &self.bytes,
        })
    }
}

impl Trial {
    /// The medium says what is so, durably.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        let keys = self.unrecorded.iter().copied().collect();
        self.commit_all(keys, None, Durability::Now)
    }

    /// The medium says of a block that it is clean and valid, after the next commit.
    pub(super) fn list(&mut self, key: Key) -> io::Result<()> {
        self.commit_all(vec![key], Some(key), Durability::WithTheNext)
    }

    fn commit_all(
        &mut self,
        keys: Vec<Key>,
        listing: Option<Key>,
        durability: Durability,
    ) -> io::Result<()> {
        let home = Arc::clone(&self.home);
        let mut work = Work {
            keys: keys.clone(),
            trial: self,
            listing,
        };
        let result = commit::run(home.journal(), &mut work, durability);
        if result.is_err() {
            self.unrecorded.extend(keys);
        }
        result.map_err(|error| match error {
            CommitError::Making(error) => io::Error::new(error.kind(), error.to_string()),
            CommitError::Dead(_) | CommitError::NoRoom => eio(),
        })
    }
}

impl CommitWork for Work<'_> {
    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        if !self.trial.has_volumes {
            let volumes = self.trial.volumes.volumes();
            let records = volumes.map(|volume| Op::Volume(volume.record.clone()));
            let records: Vec<_> = records.collect();
            batch.push(&records).map_err(|_| eio())?;
            self.trial.has_volumes = true;
        }
        // Before what is said of slots: a block must not be in two of them.
        for slot in std::mem::take(&mut self.trial.empties) {
            batch.push(&[Op::Empty(slot)]).map_err(|_| eio())?;
        }
        while let Some(key) = self.keys.pop() {
            self.say(key, batch)?;
            if batch.is_full() {
                return Ok(More::Yes);
            }
        }
        Ok(More::No)
    }

    fn sync_slots(&mut self) -> io::Result<()> {
        self.trial.slots.sync()
    }

    fn appended(&mut self, frame: usize, seq: u64) {
        let made = self.trial.made.iter_mut();
        made.filter(|made| made.seq.is_none() && made.frame == frame)
            .for_each(|made| made.seq = Some(seq));
    }

    fn durable(&mut self, seq: u64) -> bool {
        let made = std::mem::take(&mut self.trial.made);
        for made in made {
            if made.seq.is_none_or(|number| number > seq) {
                self.trial.made.push(made);
            } else if let Some(block) = self.trial.blocks.get_mut(&made.key) {
                block.sealed = made.dirty;
                block.listed = made.listed;
                block.sealed_zeros = made.zeros;
                block.is_appliable = true;
            }
        }
        self.trial.apply()
    }

    fn make_room(&mut self, _: u64) -> Result<(), CommitError> {
        self.trial.checkpoint = None;
        let home = &self.trial.home;
        match home.checkpoint() {
            Ok(true) => Ok(()),
            Ok(false) => Err(home
                .journal()
                .fail("there is nothing that a checkpoint could take")),
            Err(error) => Err(home.journal().fail(&error.to_string())),
        }
    }
}

impl Work<'_> {
    /// Puts into the batch what is so of a block.
    fn say(&mut self, key: Key, batch: &mut Batch) -> io::Result<()> {
        let Some(block) = self.trial.blocks.get(&key).cloned() else {
            return Ok(());
        };
        let is_listing = self.listing == Some(key);
        if is_listing && !can_be_listed(&block) {
            return Ok(());
        }
        self.trial.unrecorded.remove(&key);
        let zeros = self.zeros_of(key, &block)?;
        let said = match block.slot {
            Some(slot) => Some(self.said_of(key, slot, &block, is_listing)?),
            None => None,
        };
        let ops: Vec<Op<'_>> = zeros
            .into_iter()
            .chain(said.as_ref().map(Said::op))
            .collect();
        let frame = batch.push(&ops).map_err(|_| eio())?;
        let content = said.as_ref().map(|said| said.content);
        let dirty = content.map_or(Mask::EMPTY, |content| content.dirty);
        let valid = content.map_or(Mask::EMPTY, |content| content.valid);
        let made = Made {
            key,
            frame,
            seq: None,
            dirty,
            listed: valid - dirty,
            zeros: block.zeros,
        };
        self.note(made);
        if let Some(slot) = block.slot {
            self.trial.empties.remove(&slot);
        }
        Ok(())
    }

    /// Memory says at least as much as the medium may.
    fn note(&mut self, made: Made) {
        if let Some(block) = self.trial.blocks.get_mut(&made.key) {
            block.sealed |= made.dirty;
            block.listed |= made.listed;
            block.sealed_zeros |= made.zeros;
            let held = std::mem::take(&mut block.held);
            block.committing.extend(held);
            block.is_appliable = false;
        }
        self.trial.made.push(made);
    }

    /// The exact zeros of the block, unless there are none and the medium knows of none.
    fn zeros_of(&self, key: Key, block: &Block) -> io::Result<Option<Op<'static>>> {
        if (block.zeros | block.sealed_zeros).is_empty() {
            return Ok(None);
        }
        let start = key.1 * BLOCK_BYTES;
        let at = |sector: u32| start + u64::from(sector) * SECTOR_BYTES as u64;
        let zeros = block.zeros.runs().map(|(first, end)| RecordedZeros {
            start: at(first),
            end: at(end),
            may_trim: false,
        });
        Ok(Some(Op::Zero(ZeroOp {
            id: self.trial.occupant(key)?.volume_id(),
            start,
            end: start + BLOCK_BYTES,
            zeros: zeros.collect(),
        })))
    }

    fn said_of(
        &mut self,
        key: Key,
        slot: SlotNumber,
        block: &Block,
        is_listing: bool,
    ) -> io::Result<Said> {
        let held = sectors_of(&block.held);
        let pending = held | sectors_of(&block.committing);
        let held = held & block.dirty;
        let new = block.dirty - block.sealed - pending;
        let (listed, fresh) = match is_listing {
            true => (block.valid, block.valid),
            false => (
                block.listed & (block.valid - block.dirty - pending),
                new | held,
            ),
        };
        let inlined = match self.trial.coin() % 3 {
            0 => held,
            _ => held | new,
        };
        let mut said = Said {
            slot,
            content: Content {
                occupant: self.trial.occupant(key)?,
                valid: listed | block.dirty,
                dirty: block.dirty,
                heat: 1,
            },
            fresh,
            inlined,
            sums: Vec::new(),
            bytes: Vec::new(),
        };
        let block_sums = self.trial.sums_of(key)?;
        let mut sums = Vec::new();
        for sector in each(fresh) {
            let mut bytes = [0; SECTOR_BYTES];
            match block.in_memory(sector) {
                Some(found) => bytes = found,
                None => self
                    .trial
                    .slots
                    .read(self.trial.offset(slot, sector), &mut bytes)?,
            }
            sums.push(block_sums.of(sector, &bytes));
            if inlined.has(sector) {
                said.bytes.extend_from_slice(&bytes);
            }
        }
        said.sums = sums_as_bytes(sums);
        Ok(said)
    }
}

fn sectors_of(bytes: &BTreeMap<u32, Sector>) -> Mask {
    bytes.keys().fold(Mask::EMPTY, |mask, sector| {
        mask | Mask::span(*sector, *sector + 1)
    })
}

/// Whether the origin has all of it, and it was looked at.
fn can_be_listed(block: &Block) -> bool {
    block.is_evictable()
        && block.slot.is_some()
        && !block.valid.is_empty()
        && block.unverified.is_empty()
}

impl Trial {
    /// Puts bytes that only the journal has into their slots. True if there are none left.
    fn apply(&mut self) -> bool {
        let mut is_all = true;
        let shape = self.home.shape();
        for block in self.blocks.values_mut() {
            let Some(slot) = block.slot else { continue };
            let start = shape.slot_offset(slot);
            if block.is_appliable {
                let slots = &self.slots;
                block.committing.retain(|sector, bytes| {
                    let offset = start + u64::from(*sector) * SECTOR_BYTES as u64;
                    slots.write(offset, bytes).is_err()
                });
            }
            is_all &= block.committing.is_empty();
        }
        is_all
    }
}
