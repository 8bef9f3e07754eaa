//! Finding a cache again: what its slots hold goes back into the index and the policy.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use super::{CacheHome, Complaints, Found, Gone, SlotMarks, Survival, by_number};
use crate::config::{Config, FlushTo};
use crate::directory::{Owner, SlotNumber};
use crate::persist::commit::CommitToken;
use crate::persist::entry::{Content, Entry};
use crate::persist::home::{self, Home, Wanted};
use crate::persist::open_error::OpenError;
use crate::persist::shape::{SLOTS_START, Shape};
use crate::persist::volumes::VolumeTable;
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
        is_ordered: false,
        uuid_bits: place.uuid_bits,
        lock_text: place.lock_text.clone(),
    };
    let medium = Arc::clone(&place.medium);
    let opened = match place.sizes {
        Some(sizes) => Home::open_with(medium, &wanted, sizes.journal_bytes),
        None => Home::open(medium, &wanted),
    };
    let opened = opened.map_err(failed)?;
    let mut home = opened.home;
    config.block_bytes = home.shape().block_bytes();
    config.check()?;
    let file = home.take_slots_file().map_err(failed)?;
    let limit = match place.sizes {
        Some(sizes) => sizes.slots,
        None => limit(config, home.shape(), home.journal_bytes()),
    };
    let numbered = opened.slots_numbered.min(limit);
    let home = Arc::new(home);
    let file = SlotsFile::new(file, Arc::clone(&home), limit, opened.slots_numbered);
    let promised = Promised::read(&home, opened.slots_numbered, &opened.volumes);
    let promised = promised.map_err(failed)?;
    promised.check(config, limit, &path)?;
    if numbered < opened.slots_numbered {
        let given_back = file.give_back(numbered, opened.slots_numbered);
        given_back.map_err(|error| io_at_path(&path, "cutting the slots", error))?;
    }
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
            checkpointing: Mutex::default(),
            journaled: super::Journaled::default(),
            unrecordable: super::Unrecordable::default(),
            complaints: Complaints::default(),
            to_list: Mutex::default(),
            maintenance: Maintenance::default(),
            is_closed: AtomicBool::new(false),
            cursor: super::sum::Cursor::default(),
        },
        slots,
        loading: Loading {
            slots_numbered: numbered,
            slots_recorded: opened.slots_numbered,
            limit,
        },
    })
}

/// What the directory has that the origins do not.
struct Promised {
    slots: u64,
    /// One more than the highest of the slots.
    end: u32,
}

impl Promised {
    fn read(home: &Home, numbered: u32, volumes: &VolumeTable) -> Result<Self, OpenError> {
        let (mut slots, mut end) = (0, 0);
        let is_promised = |content: Content| {
            !content.dirty.is_empty() && volumes.get(content.occupant.volume_id()).is_some()
        };
        home.read_entries(0..numbered, &mut |slot, entry| {
            if entry.content.is_some_and(is_promised) {
                slots += 1;
                end = slot.0 + 1;
            }
        })?;
        Ok(Self { slots, end })
    }

    /// Whether this life of the cache can take it over.
    fn check(&self, config: &Config, limit: u32, path: &str) -> Result<(), Error> {
        if self.slots == 0 {
            return Ok(());
        }
        let refuse = |why: &str| {
            let message = format!(
                "cache directory '{path}': {} of its blocks hold what was flushed into it and has not reached the origin: {why}",
                self.slots
            );
            Err(Error::new(ErrorKind::Config, message))
        };
        if config.flush_to != FlushTo::Cache {
            return refuse(WAYS_OUT);
        }
        if self.end > limit {
            return refuse(
                "it needs at least the cache-max-size that it had before, until that is written back (larder drain does it too)",
            );
        }
        Ok(())
    }
}

/// What an operator can do with a directory that has what the origin does not.
pub(super) const WAYS_OUT: &str = "use it with cache-flush=cache, or end that first: 'larder drain DIR ORIGIN' writes it back, \
     'larder drain --output FILE DIR' saves it to a file, 'larder drain --discard DIR' forgets it";

/// So many slots fit beside everything else.
fn limit(config: &Config, shape: Shape, journal_bytes: u64) -> u32 {
    let Some(max) = config.max_size_bytes else {
        return u32::MAX - 1;
    };
    // As for a cache file without a name: what the file system itself needs.
    let reserve = 8192 + max / 256;
    let left = max.saturating_sub(FIXED_BYTES + journal_bytes + reserve);
    (left / shape.bytes_per_slot()).clamp(1, u64::from(u32::MAX - 1)) as u32
}

pub(crate) fn at_path(path: &str, error: &OpenError) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("cache directory '{path}': {error}"),
    )
}

fn io_at_path(path: &str, doing: &str, error: std::io::Error) -> Error {
    let context = format!("cache directory '{path}': {doing}");
    Error::with_source(ErrorKind::CacheFile, context, error)
}

/// Gives the volumes that the directory knows, with their blocks in the index and in the policy.
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
    let mut loader = Loader {
        store,
        survival,
        volumes: &volumes,
        limit: loading.limit,
        free: BTreeSet::new(),
    };
    let slots = 0..loading.slots_recorded;
    let read = survival
        .home
        .read_entries(slots, &mut |slot, entry| loader.add(slot, entry));
    read.map_err(|error| at_path(&survival.path, &error))?;
    let free = loader.free;
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
    free: BTreeSet<SlotNumber>,
}

impl Loader<'_> {
    fn add(&mut self, slot: SlotNumber, entry: Entry) {
        let content = entry.content.filter(|content| !content.valid.is_empty());
        if !content.is_some_and(|content| self.put(slot, &content)) && slot.0 < self.limit {
            self.free.insert(slot);
        }
    }

    /// False if nobody wants what the slot holds. What the directory says of it stays there until it is told otherwise, though, also of slots
    /// above the limit: whoever changes the block must find it.
    fn put(&self, slot: SlotNumber, content: &Content) -> bool {
        let occupant = content.occupant;
        let Some(volume) = by_number(self.volumes, occupant.volume) else {
            return false;
        };
        let Some(found) = volume.kept.found() else {
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
        let valid = match content.dirty.is_empty() {
            true => content.valid,
            false => content.dirty,
        };
        if !is_of_volume {
            return false;
        }
        let owner = Owner {
            volume: occupant.volume,
            number: occupant.block,
        };
        if slot.0 >= self.limit {
            self.survival.gone.note(slot, owner);
            return false;
        }
        self.store.directory.set(slot, owner);
        let is_new = volume.index().load(
            occupant.block,
            slot,
            (valid, content.dirty, found.full),
            &self.store.directory,
        );
        if !is_new {
            self.survival.gone.note(slot, owner);
        } else {
            match content.dirty.is_empty() {
                true => self.survival.marks.found(slot),
                false => {
                    self.survival.marks.found_dirty(slot);
                    volume.kept.block_sealed();
                    volume.note_unsettled(occupant.block, Mask::EMPTY, content.dirty);
                }
            }
            let mut eviction = sync::lock(&self.store.eviction);
            eviction.found(slot.0, owner.key(), content.heat);
        }
        is_new
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
