//! Finding a cache again: what its slots hold goes back into the index and the policy.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use super::promises::{Promise, Promises};
use super::{CacheHome, Complaints, Found, Gone, HomeSizes, SlotMarks, Survival, by_number};
use crate::block::BlockState;
use crate::config::{Config, Writeback};
use crate::directory::{Owner, SlotNumber};
use crate::halves::{both, halves};
use crate::index::Gathered;
use crate::ordered::{QueueSpace, Queues};
use crate::persist::commit::CommitToken;
use crate::persist::entry::{Content, Entry, MAX_HEAT};
use crate::persist::home::{self, Home, Wanted};
use crate::persist::open_error::OpenError;
use crate::persist::queue_log::FoundQueue;
use crate::persist::shape::{SLOTS_START, Shape};
use crate::planted::{Bug, is_planted};
use crate::sealed::Sealed;
use crate::sector::Mask;
use crate::slots::Slots;
use crate::store::{Maintenance, Store};
use crate::survival::slots_file::SlotsFile;
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// What files need beside slots and journal, in bytes: headers, superblock, volume tables.
const FIXED_BYTES: u64 = SLOTS_START + (1 << 20);

/// An opened directory and what the engine needs of it.
pub(crate) struct Opening {
    pub survival: Survival,
    pub slots: Slots,
    pub loading: Loading,
}

/// What is still to be loaded.
pub(crate) struct Loading {
    slots_numbered: u32,
    /// The directory says something of so many, perhaps beyond the limit.
    slots_recorded: u32,
    limit: u32,
}

/// Opens the directory, or makes it. `config` gets the block size that is in use.
pub(crate) fn open(config: &mut Config, place: CacheHome) -> Result<Opening, Error> {
    let path = place.path.clone();
    let failed = |error: OpenError| at_path(&path, &error);
    let wanted = Wanted {
        block_bytes: place.block_is_given.then_some(config.block_bytes),
        default_block_bytes: config.block_bytes,
        max_size_bytes: config.max_size_bytes,
        uuid_bits: place.uuid_bits,
        lock_text: place.lock_text.clone(),
    };
    let medium = Arc::clone(&place.medium);
    let journal_bytes = match place.sizes {
        Some(sizes) => sizes.journal_bytes,
        None => wanted.journal_bytes(),
    };
    let opened = Home::find(medium, &wanted, journal_bytes).map_err(failed)?;
    let mut home = opened.home;
    config.block_bytes = home.shape().block_bytes();
    config.check()?;
    let space = queue_space(config, place.sizes);
    let file = home.take_slots_file().map_err(failed)?;
    let limit = match place.sizes {
        Some(sizes) => sizes.slots,
        None => {
            let queues = queue_bytes(config, space, &opened.queues);
            limit(config, home.shape(), home.journal_bytes(), queues)
        }
    };
    let queues = Queues::find(opened.queues, &opened.volumes, config, space, &path)?;
    let numbered = opened.slots_numbered.min(limit);
    let home = Arc::new(home);
    let file = SlotsFile::new(file, Arc::clone(&home), limit, opened.slots_numbered);
    let marks = Arc::new(SlotMarks::default());
    let slots = Slots::with_limit(config, limit, Box::new(file)).marked(Arc::clone(&marks));
    let found = match opened.found {
        home::Found::Made => Found::Made,
        home::Found::Clean => Found::Kept { blocks: 0 },
        home::Found::Crashed { .. } => Found::Crashed { blocks: 0 },
    };
    Ok(Opening {
        survival: Survival {
            home,
            path,
            found,
            found_blocks: AtomicU64::new(0),
            marks,
            volumes: Mutex::new(opened.volumes),
            pending: Mutex::default(),
            gone: Gone::default(),
            commits: CommitToken::default(),
            foreseen: Default::default(),
            checkpointing: Mutex::default(),
            journaled: super::Journaled::default(),
            unrecordable: super::Unrecordable::default(),
            unreleasable: super::Unrecordable::default(),
            complaints: Complaints::default(),
            to_list: Mutex::default(),
            asked: AtomicU64::new(0),
            maintenance: Maintenance::default(),
            is_closed: AtomicBool::new(false),
            keeps_leftovers: AtomicBool::new(false),
            cursor: super::sum::Cursor::default(),
            queues,
        },
        slots,
        loading: Loading {
            slots_numbered: numbered,
            slots_recorded: opened.slots_numbered,
            limit,
        },
    })
}

fn queue_space(config: &Config, sizes: Option<HomeSizes>) -> QueueSpace {
    match sizes {
        Some(sizes) => QueueSpace {
            ring_bytes: sizes.queue_bytes,
            most: u64::MAX,
        },
        None => QueueSpace::of(config),
    }
}

/// What queues take of the limit: what is set aside for them, or those that are there, if that is more.
fn queue_bytes(config: &Config, space: QueueSpace, found: &[FoundQueue]) -> u64 {
    let there: u64 = found.iter().map(|queue| queue.ring_bytes).sum();
    match config.writeback {
        Writeback::Ordered => space.reserved_bytes().max(there),
        Writeback::Unordered => there,
    }
}

/// So many slots fit beside everything else.
fn limit(config: &Config, shape: Shape, journal_bytes: u64, queue_bytes: u64) -> u32 {
    let Some(max) = config.max_size_bytes else {
        return u32::MAX - 1;
    };
    // As for a cache file without a name: what the file system itself needs.
    let reserve = 8192 + max / 256;
    let left = max.saturating_sub(FIXED_BYTES + journal_bytes + reserve + queue_bytes);
    (left / shape.bytes_per_slot()).clamp(1, u64::from(u32::MAX - 1)) as u32
}

pub(crate) fn at_path(path: &str, error: &OpenError) -> Error {
    let way_out = match error.is_of_queue() {
        true => GIVING_UP,
        false => "",
    };
    Error::new(
        ErrorKind::Config,
        format!("cache directory '{path}': {error}{way_out}"),
    )
}

/// What can be done about a queue that is not to be mended.
const GIVING_UP: &str = "; put its file back, or give up what it held of that volume, and the volume with it: 'larder drain --discard DIR'";

/// Gives the volumes that the directory knows, with their blocks in the index and in the policy. Only after that anything is written there: an
/// entry that is damaged refuses the directory, which is left as it was.
pub(crate) fn load(store: &Arc<Store>, loading: &Loading) -> Result<Vec<Arc<Volume>>, Error> {
    let Some(survival) = &store.survival else {
        return Ok(Vec::new());
    };
    let mut volumes = Vec::new();
    {
        let table = sync::lock(&survival.volumes);
        for volume in table.volumes() {
            volumes.push(Volume::found(Arc::clone(store), &volume.record));
        }
    }
    volumes.sort_by_key(|volume| volume.number());
    let loader = Loader {
        store,
        survival,
        volumes: &volumes,
        limit: loading.limit,
    };
    let failed = |error: OpenError| at_path(&survival.path, &error);
    let free = loader.load(loading.slots_recorded)?;
    survival.home.begin().map_err(failed)?;
    survival
        .queues
        .load(&survival.home, &volumes, &survival.path)?;
    let given_up = loading.slots_numbered..loading.slots_recorded;
    if !given_up.is_empty() {
        survival.home.give_back(given_up).map_err(failed)?;
    }
    let found = u64::from(loading.slots_numbered) - free.len() as u64;
    store.slots.resume(loading.slots_numbered, free);
    survival.note_found(found);
    Ok(volumes)
}

/// Puts entries where they belong.
struct Loader<'s> {
    store: &'s Store,
    survival: &'s Survival,
    volumes: &'s [Arc<Volume>],
    limit: u32,
}

/// What was found in neighbouring slots.
struct Part {
    first: u32,
    /// For the index of each of the volumes.
    indexed: Vec<Gathered>,
    /// For the policy: of each slot how hot it is, or [`NOTHING`].
    heats: Vec<u8>,
    free: Vec<SlotNumber>,
    /// What the origins do not have.
    promised: Vec<Promise>,
    /// The same in slots above the limit.
    promised_beyond: u64,
    /// The same, where their volumes have no such place.
    promised_nowhere: u64,
}

/// A slot that holds nothing, or nothing that anybody wants: hotter than any.
const NOTHING: u8 = MAX_HEAT + 1;

impl Part {
    /// The slots that hold something, and how hot it is.
    fn found(&self) -> impl Iterator<Item = (SlotNumber, u8)> {
        let heats = (self.first..).zip(self.heats.iter().copied());
        let found = heats.filter(|(_, heat)| *heat != NOTHING);
        found.map(|(slot, heat)| (SlotNumber(slot), heat))
    }
}

impl Loader<'_> {
    /// Loads the entries of so many slots. Gives the slots that hold nothing.
    fn load(&self, slots: u32) -> Result<BTreeSet<SlotNumber>, Error> {
        let (lower, upper) = halves(0..slots);
        let (lower, upper) = both(slots, || self.read(lower), || self.read(upper));
        let failed = |error: OpenError| at_path(&self.survival.path, &error);
        let (mut lower, mut upper) = (lower.map_err(failed)?, upper.map_err(failed)?);
        lower.promised.append(&mut upper.promised);
        let beyond = lower.promised_beyond + upper.promised_beyond;
        let nowhere = lower.promised_nowhere + upper.promised_nowhere;
        for (indexed, later) in lower.indexed.iter_mut().zip(upper.indexed.drain(..)) {
            indexed.append(later);
        }
        let indexed = std::mem::take(&mut lower.indexed);
        let found = || lower.found().chain(upper.found());
        let (needless, ()) = both(slots, || self.index(indexed), || self.tell_policy(found()));
        let promises = Promises {
            kept: lower.promised,
            beyond,
            nowhere,
        };
        promises.check(&self.store.config, &needless, &self.survival.path)?;
        for slot in &needless {
            self.lose(*slot);
        }
        for promise in &promises.kept {
            self.take_over(promise);
        }
        let free = [lower.free, upper.free, needless];
        Ok(free.into_iter().flatten().collect())
    }

    fn read(&self, slots: Range<u32>) -> Result<Part, OpenError> {
        let volumes = self.volumes.iter();
        let mut part = Part {
            first: slots.start,
            indexed: volumes.map(|volume| volume.index().gather()).collect(),
            heats: Vec::with_capacity(slots.len()),
            free: Vec::new(),
            promised: Vec::new(),
            promised_beyond: 0,
            promised_nowhere: 0,
        };
        let add = &mut |slot, entry| self.add(slot, entry, &mut part);
        self.survival.home.read_entries(slots, add)?;
        self.survival
            .marks
            .found(part.found().map(|(slot, _)| slot));
        Ok(part)
    }

    fn add(&self, slot: SlotNumber, entry: Entry, part: &mut Part) {
        let content = entry.content.filter(|content| !content.valid.is_empty());
        let wanted = content.filter(|content| self.put(slot, content, part));
        if wanted.is_none() && slot.0 < self.limit {
            part.free.push(slot);
        }
        let heat = wanted.map_or(NOTHING, |content| content.heat);
        part.heats.push(heat);
    }

    /// False if nobody wants what the slot holds. What the directory says of it stays there until it is told otherwise, though, also of slots
    /// above the limit: whoever changes the block must find it.
    fn put(&self, slot: SlotNumber, content: &Content, part: &mut Part) -> bool {
        let occupant = content.occupant;
        let Some(at) = by_number(self.volumes, occupant.volume) else {
            return false;
        };
        let Some(found) = self.volumes[at].kept.found() else {
            return false;
        };
        let first_byte = occupant
            .block
            .0
            .saturating_mul(self.store.config.block_bytes);
        let is_of_volume = found.id == occupant.volume_id()
            && first_byte < found.size_bytes
            && (content.valid - found.full).is_empty();
        // Beside what is dirty nothing is known for sure.
        let valid = match content.dirty.is_empty() || is_planted(Bug::SealListsClean) {
            true => content.valid,
            false => content.dirty,
        };
        if !is_of_volume {
            let is_promised = found.id == occupant.volume_id() && !content.dirty.is_empty();
            part.promised_nowhere += u64::from(is_promised);
            return false;
        }
        let owner = Owner {
            volume: occupant.volume,
            number: occupant.block,
        };
        if slot.0 >= self.limit {
            part.promised_beyond += u64::from(!content.dirty.is_empty());
            self.survival.gone.note(slot, owner);
            return false;
        }
        self.store.directory.set(slot, owner);
        let mut state = BlockState::in_slot(slot, valid, content.dirty, Mask::EMPTY);
        state.sealed = Sealed::found(content.dirty);
        part.indexed[at].add(occupant.block, &state, found.full);
        if !content.dirty.is_empty() {
            part.promised.push(Promise {
                volume: at,
                block: occupant.block,
                slot,
                dirty: content.dirty,
            });
        }
        true
    }

    /// Gives the slots whose blocks are in another slot too.
    fn index(&self, indexed: Vec<Gathered>) -> Vec<SlotNumber> {
        let of_volumes = self.volumes.iter().zip(indexed);
        let needless = of_volumes
            .flat_map(|(volume, indexed)| volume.index().load(indexed, &self.store.directory));
        needless.collect()
    }

    fn tell_policy(&self, found: impl Iterator<Item = (SlotNumber, u8)>) {
        let mut eviction = sync::lock(&self.store.eviction);
        for (slot, heat) in found {
            let owner = self.store.directory.owner(slot);
            eviction.found(slot.0, owner.key(), heat);
        }
    }

    /// What was promised of a block is this life's to keep.
    fn take_over(&self, promise: &Promise) {
        let volume = &self.volumes[promise.volume];
        self.survival.marks.lost(promise.slot);
        self.survival.marks.found_dirty(promise.slot);
        volume.kept.block_sealed();
        volume.note_unsettled(promise.block, Mask::EMPTY, promise.dirty);
    }

    /// Nobody wants what was found in a slot after all.
    fn lose(&self, slot: SlotNumber) {
        let owner = self.store.directory.owner(slot);
        self.survival.marks.lost(slot);
        self.survival.gone.note(slot, owner);
        sync::lock(&self.store.eviction).removed(slot.0);
    }
}

/// What the index needs to know of a volume that nobody has joined yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundVolume {
    pub id: crate::persist::op::VolumeId,
    pub size_bytes: u64,
    /// All sectors of a block.
    pub full: Mask,
}

#[cfg(test)]
mod tests;
