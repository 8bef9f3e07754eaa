//! The index: which blocks of a volume have a slot, and which are pinned.
//!
//! Sharded by block number, each shard under a short lock. While nobody uses a block its state is
//! compact: the slot's number, and masks only if it is not both wholly valid and clean. While
//! somebody does, the state is in a [`Block`] behind its latch, and the compact entry is
//! only a place holder. The pin count lives under the shard's lock, so eviction, which only looks at
//! compact entries, can never meet a block in use.

mod load;
mod plain;

use std::sync::{Arc, Mutex};

use hashbrown::HashMap;

use crate::block::{Block, BlockState};
use crate::directory::{Directory, SlotNumber};
use crate::planted::{Bug, is_planted};
use crate::sealed::Sealed;
use crate::sector::{BlockNumber, Mask};
use crate::slot_table::SlotTable;
use crate::sync;

pub(crate) use load::Gathered;

/// A shard's table grows under its lock. With so many blocks it is moved without anybody noticing.
const BLOCKS_PER_SHARD: u64 = 1 << 15;
/// As many as processors will ever want at once.
const FEWEST_SHARD_BITS: u32 = 7;
/// Each costs memory, also in an index that holds nothing.
const MOST_SHARD_BITS: u32 = 9;

/// So few blocks are looked up one by one rather than found by going through all.
const FEW_BLOCKS: u64 = 16384;

#[derive(Clone, Copy, Debug)]
struct Masks {
    valid: Mask,
    dirty: Mask,
    writing: Mask,
}

struct Pinned {
    block: Arc<Block>,
    count: u32,
}

struct Shard {
    /// Slots by the keys of the blocks that the directory says they hold.
    resident: SlotTable,
    shard_bits: u32,
    /// Only of blocks that are not both wholly valid and clean.
    masks: HashMap<SlotNumber, Masks>,
    /// Only of blocks that the cache directory calls dirty.
    sealed: HashMap<SlotNumber, Sealed>,
    pinned: HashMap<BlockNumber, Pinned>,
}

/// What became of an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evicted {
    /// The slot is the caller's.
    Yes,
    /// Somebody is using the block.
    Pinned,
    /// The block must be written back first.
    Dirty,
    /// The cache directory still calls it dirty.
    Sealed,
    /// The slot does not hold this block (any more).
    Gone,
}

/// The index of one volume.
pub(crate) struct Index {
    shards: Box<[Mutex<Shard>]>,
    shard_bits: u32,
}

/// Spreads block numbers over 64 bits (the finalizer of MurmurHash3).
pub(crate) fn hash(number: BlockNumber) -> u64 {
    let mut bits = number.0;
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// Which of so many shards, as a logarithm to base 2, has a block.
fn shard_of(number: BlockNumber, shard_bits: u32) -> usize {
    let key = number.0 >> shard_bits;
    (number.0 ^ hash(BlockNumber(key))) as usize & ((1 << shard_bits) - 1)
}

impl Index {
    /// For up to so many blocks at once. It takes more, but not as smoothly.
    pub(crate) fn new(capacity_blocks: u64) -> Self {
        let wanted = (capacity_blocks / BLOCKS_PER_SHARD + 1).ilog2();
        let shard_bits = wanted.clamp(FEWEST_SHARD_BITS, MOST_SHARD_BITS);
        Self {
            shards: (0..1 << shard_bits)
                .map(|_| Mutex::new(Shard::new(shard_bits)))
                .collect(),
            shard_bits,
        }
    }

    fn shard_of(&self, number: BlockNumber) -> usize {
        shard_of(number, self.shard_bits)
    }

    /// Prepares for a volume of so many blocks. The index takes others as well, but not as smoothly.
    pub(crate) fn expect(&self, blocks: u64, directory: &Directory) {
        let highest = blocks.saturating_sub(1) >> self.shard_bits;
        for shard in &self.shards {
            let mut shard = sync::lock(shard);
            let key_of = shard.key_of(directory);
            let bits = u64::BITS - highest.leading_zeros();
            shard.resident.widen(bits, key_of);
        }
    }

    fn shard(&self, number: BlockNumber) -> &Mutex<Shard> {
        &self.shards[self.shard_of(number)]
    }

    /// Pins a block, resident or not. `full` are all sectors of any block: the volume's last block, if the
    /// volume ends in it, always keeps its masks, so that a change of size changes nothing that is known.
    pub(crate) fn pin(&self, number: BlockNumber, full: Mask, directory: &Directory) -> Pinning {
        let mut shard = sync::lock(self.shard(number));
        if let Some(pinned) = shard.pinned.get_mut(&number) {
            pinned.count += 1;
            return Pinning {
                block: Arc::clone(&pinned.block),
                is_first: false,
            };
        }
        let block = Arc::new(Block::new(number, shard.state(number, full, directory)));
        let pinned = Pinned {
            block: Arc::clone(&block),
            count: 1,
        };
        shard.pinned.insert(number, pinned);
        Pinning {
            block,
            is_first: true,
        }
    }

    /// Lets go of a pin. `leaving` runs before anybody can see that a block has given its slot up.
    pub(crate) fn unpin(
        &self,
        block: &Block,
        full: Mask,
        directory: &Directory,
        leaving: impl FnOnce(SlotNumber),
    ) -> Unpinned {
        let number = block.number();
        let mut shard = sync::lock(self.shard(number));
        let Some(pinned) = shard.pinned.get_mut(&number) else {
            return Unpinned::Shared;
        };
        pinned.count -= 1;
        if pinned.count > 0 {
            return Unpinned::Shared;
        }
        shard.pinned.remove(&number);
        // Left as it is: whoever looks at the block without a pin must not find it empty.
        let state = block.look();
        if state.is_empty()
            && let Some(slot) = state.slot
        {
            leaving(slot);
        }
        shard.put_back(number, &state, full, directory)
    }

    /// Takes their slots away from all blocks that are neither pinned nor dirty, and gives the slots.
    pub(crate) fn drain_clean(&self, directory: &Directory) -> Vec<SlotNumber> {
        let mut drained = Vec::new();
        for shard in &self.shards {
            let mut shard = sync::lock(shard);
            let slots: Vec<SlotNumber> = shard.resident.iter().collect();
            for slot in slots {
                let number = directory.block(slot);
                let masks = shard.masks.get(&slot);
                let is_settled = masks.is_none_or(|masks| (masks.dirty | masks.writing).is_empty())
                    && !shard.sealed.contains_key(&slot);
                if is_settled && !shard.pinned.contains_key(&number) {
                    shard.masks.remove(&slot);
                    shard.remove(number, directory);
                    drained.push(slot);
                }
            }
        }
        drained
    }

    /// Takes a slot away from a block that is neither pinned nor dirty. `leaving` runs before anybody can see that.
    pub(crate) fn evict(
        &self,
        number: BlockNumber,
        slot: SlotNumber,
        directory: &Directory,
        leaving: impl FnOnce(),
    ) -> Evicted {
        let mut shard = sync::lock(self.shard(number));
        if shard.pinned.contains_key(&number) {
            return Evicted::Pinned;
        }
        if shard.find(number, directory) != Some(slot) {
            return Evicted::Gone;
        }
        if let Some(masks) = shard.masks.get(&slot)
            && !(masks.dirty | masks.writing_counts()).is_empty()
        {
            return Evicted::Dirty;
        }
        if shard.sealed.contains_key(&slot) {
            if !is_planted(Bug::SlotFreedSealed) {
                return Evicted::Sealed;
            }
            shard.sealed.remove(&slot);
        }
        leaving();
        shard.masks.remove(&slot);
        shard.remove(number, directory);
        Evicted::Yes
    }

    /// Whether a block has a slot. Only a hint: nothing keeps it so.
    pub(crate) fn has_slot(&self, number: BlockNumber, directory: &Directory) -> bool {
        self.peek(number, Mask::EMPTY, directory).slot.is_some()
    }

    /// A look at a block's state. Only a hint: nothing keeps it so.
    pub(crate) fn peek(
        &self,
        number: BlockNumber,
        full: Mask,
        directory: &Directory,
    ) -> BlockState {
        let shard = sync::lock(self.shard(number));
        match shard.pinned.get(&number) {
            None => shard.state(number, full, directory),
            Some(pinned) => {
                let block = Arc::clone(&pinned.block);
                drop(shard);
                block.look()
            }
        }
    }

    /// A look at a block that somebody may be using. Only a hint: nothing keeps it so.
    pub(crate) fn find_use(&self, number: BlockNumber, full: Mask, directory: &Directory) -> Use {
        let shard = sync::lock(self.shard(number));
        if shard.pinned.contains_key(&number) {
            return Use::Pinned;
        }
        Use::Unpinned(shard.state(number, full, directory))
    }

    /// Runs `action` on the slot of a block that nobody has pinned, if all of `sectors` are valid,
    /// with the shard's lock held.
    pub(crate) fn if_valid<R>(
        &self,
        number: BlockNumber,
        sectors: Mask,
        directory: &Directory,
        action: impl FnOnce(SlotNumber) -> Option<R>,
    ) -> Option<R> {
        let shard = sync::lock(self.shard(number));
        let slot = shard.find(number, directory)?;
        if !shard.pinned.is_empty() && shard.pinned.contains_key(&number) {
            return None;
        }
        if !shard.sealed.is_empty()
            && shard
                .sealed
                .get(&slot)
                .is_some_and(|sealed| !(sealed.bad & sectors).is_empty())
        {
            return None;
        }
        match shard.masks.get(&slot) {
            Some(masks) if !(sectors - masks.valid).is_empty() => None,
            _ => action(slot),
        }
    }

    /// Runs `action` if nothing is known of the block, and keeps it so meanwhile.
    pub(crate) fn if_unknown(
        &self,
        number: BlockNumber,
        directory: &Directory,
        action: impl FnOnce(),
    ) -> bool {
        let shard = sync::lock(self.shard(number));
        let unknown =
            !shard.pinned.contains_key(&number) && shard.find(number, directory).is_none();
        if unknown {
            action();
        }
        unknown
    }

    /// Runs `action` with the blocks from `first` up to, not including, `end` that are resident or pinned,
    /// and keeps it so meanwhile: all shards are held. For large ranges only.
    pub(crate) fn frozen(
        &self,
        first: BlockNumber,
        end: BlockNumber,
        directory: &Directory,
        action: impl FnOnce(&[BlockNumber]),
    ) {
        let range = first..end;
        let shards: Vec<_> = self.shards.iter().map(sync::lock).collect();
        let is_known = |number: &BlockNumber| {
            let shard = &shards[self.shard_of(*number)];
            shard.pinned.contains_key(number) || shard.find(*number, directory).is_some()
        };
        let mut known: Vec<BlockNumber> = if end.0 - first.0 <= FEW_BLOCKS {
            (first.0..end.0).map(BlockNumber).filter(is_known).collect()
        } else {
            let all = shards.iter().flat_map(|shard| shard.known(directory));
            all.filter(|number| range.contains(number)).collect()
        };
        known.sort_unstable();
        known.dedup();
        action(&known);
    }

    /// The blocks from `first` up to, not including, `end` that are resident or pinned.
    pub(crate) fn known_within(
        &self,
        first: BlockNumber,
        end: BlockNumber,
        directory: &Directory,
    ) -> Vec<BlockNumber> {
        let range = first..end;
        if end.0 - first.0 <= FEW_BLOCKS {
            let is_known = |number: &BlockNumber| !self.if_unknown(*number, directory, || {});
            return (first.0..end.0).map(BlockNumber).filter(is_known).collect();
        }
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = sync::lock(shard);
            found.extend(
                shard
                    .known(directory)
                    .filter(|number| range.contains(number)),
            );
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The lowest `most` blocks of those that [`Index::known_within`] gives.
    pub(crate) fn lowest_known_within(
        &self,
        first: BlockNumber,
        end: BlockNumber,
        directory: &Directory,
        most: usize,
    ) -> Vec<BlockNumber> {
        let mut found = Vec::new();
        if end.0 - first.0 <= FEW_BLOCKS {
            found = self.known_within(first, end, directory);
        } else {
            let range = first..end;
            for shard in &self.shards {
                let shard = sync::lock(shard);
                let known = shard.known(directory);
                found.extend(known.filter(|number| range.contains(number)));
                drop(shard);
                // A block is in one shard only, though perhaps twice.
                if found.len() > 2 * most {
                    found.sort_unstable();
                    found.dedup();
                    found.truncate(most);
                }
            }
            found.sort_unstable();
            found.dedup();
        }
        found.truncate(most);
        found
    }

    /// Whether no block is resident or pinned.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| {
            let shard = sync::lock(shard);
            shard.resident.is_empty() && shard.pinned.is_empty()
        })
    }

    /// Empties the index and gives its slots.
    pub(crate) fn drain(&mut self) -> Vec<SlotNumber> {
        self.shards
            .iter()
            .flat_map(|shard| {
                let empty = Shard::new(self.shard_bits);
                let shard = std::mem::replace(&mut *sync::lock(shard), empty);
                shard.resident.iter().collect::<Vec<_>>()
            })
            .collect()
    }
}

/// Whether somebody is using a block, and its state if not.
pub(crate) enum Use {
    Pinned,
    Unpinned(BlockState),
}

/// A pin as the index gives it.
pub(crate) struct Pinning {
    pub block: Arc<Block>,
    /// Nobody else had the block pinned.
    pub is_first: bool,
}

/// What became of letting go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpinned {
    /// Others still have it pinned.
    Shared,
    /// It was the last pin.
    Last,
    /// It was the last pin, and the block has no use for its slot any more.
    LastFreed(SlotNumber),
}

impl Masks {
    /// None if the block is both wholly valid and clean.
    fn of(state: &BlockState, full: Mask) -> Option<Self> {
        let is_plain = state.valid == full && state.unsettled().is_empty();
        (!is_plain).then_some(Self {
            valid: state.valid,
            dirty: state.dirty,
            writing: state.writing,
        })
    }

    fn writing_counts(&self) -> Mask {
        if is_planted(Bug::WrittenIsEvicted) {
            return Mask::EMPTY;
        }
        self.writing
    }
}

impl Shard {
    fn new(shard_bits: u32) -> Self {
        Self {
            resident: SlotTable::default(),
            shard_bits,
            masks: HashMap::new(),
            sealed: HashMap::new(),
            pinned: HashMap::new(),
        }
    }

    /// The blocks that are resident or pinned; some of them twice.
    fn known(&self, directory: &Directory) -> impl Iterator<Item = BlockNumber> {
        let resident = self.resident.iter().map(|slot| directory.block(slot));
        resident.chain(self.pinned.keys().copied())
    }

    /// What tells a block from the others of its shard. Shard and key together are the number.
    fn key(&self, number: BlockNumber) -> u64 {
        number.0 >> self.shard_bits
    }

    fn key_of<'d>(&self, directory: &'d Directory) -> impl Fn(SlotNumber) -> u64 + use<'d> {
        let shard_bits = self.shard_bits;
        move |slot| directory.block(slot).0 >> shard_bits
    }

    fn find(&self, number: BlockNumber, directory: &Directory) -> Option<SlotNumber> {
        self.resident.find(self.key(number), self.key_of(directory))
    }

    fn remove(&mut self, number: BlockNumber, directory: &Directory) {
        let key_of = self.key_of(directory);
        self.resident.remove(self.key(number), key_of);
    }

    fn state(&self, number: BlockNumber, full: Mask, directory: &Directory) -> BlockState {
        let Some(slot) = self.find(number, directory) else {
            return BlockState::default();
        };
        let mut state = match self.masks.get(&slot) {
            Some(masks) => BlockState::in_slot(slot, masks.valid, masks.dirty, masks.writing),
            None => BlockState::in_slot(slot, full, Mask::EMPTY, Mask::EMPTY),
        };
        if !self.sealed.is_empty() {
            state.sealed = self.sealed.get(&slot).copied().unwrap_or_default();
        }
        state
    }

    fn put_back(
        &mut self,
        number: BlockNumber,
        state: &BlockState,
        full: Mask,
        directory: &Directory,
    ) -> Unpinned {
        let Some(slot) = state.slot else {
            return Unpinned::Last;
        };
        if !state.sealed.is_empty() {
            self.sealed.insert(slot, state.sealed);
        } else if !self.sealed.is_empty() {
            self.sealed.remove(&slot);
        }
        if state.is_empty() {
            self.masks.remove(&slot);
            self.remove(number, directory);
            return Unpinned::LastFreed(slot);
        }
        if self.find(number, directory).is_none() {
            let key_of = self.key_of(directory);
            self.resident.insert(self.key(number), slot, key_of);
        }
        match Masks::of(state, full) {
            None => self.masks.remove(&slot),
            Some(masks) => self.masks.insert(slot, masks),
        };
        Unpinned::Last
    }
}
