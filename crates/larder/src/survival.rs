//! What makes a cache survive: the directory that it lives in, and what is known of how true that is.
//!
//! A clean block is *summed* while the checksums in the directory are those of what its slot holds; only summed blocks are found again.
//! One that was found again is *unverified* until it is first pinned: then all of it is compared with its checksums, and what
//! does not fit is forgotten before anybody has seen it.

mod carried;
mod close;
mod distrust;
mod foreseen;
mod freeze;
mod gone;
mod identity;
mod journaled;
mod lister;
mod load;
mod maintain;
mod marks;
mod promises;
mod record;
mod recording;
mod redo;
mod revoke;
mod slots_file;
mod sum;
mod tell;
mod unrecordable;
mod verify;
mod view;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::attached::Attached;
use crate::directory::{Owner, SlotNumber, VolumeNumber};
use crate::medium::Medium;
use crate::ordered::{QueuedOrigin, Queues};
use crate::origin::Origin;
use crate::persist::bytes::Malformed;
use crate::persist::commit::CommitToken;
use crate::persist::home::Home;
use crate::persist::op::Op;
use crate::persist::sums::{BlockSums, Incarnation, Occupant};
use crate::persist::volumes::VolumeTable;
use crate::planted::{Bug, is_planted};
use crate::sector::BlockNumber;
use crate::store::Maintenance;
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind};

pub(crate) use close::close;
pub(crate) use foreseen::foresee_flush;
use gone::Gone;
pub(crate) use identity::{Kept, check_found, judge, left, settle};
use journaled::Journaled;
pub(crate) use load::{at_path, load, open};
pub(crate) use maintain::maintain;
pub(crate) use marks::SlotMarks;
pub(crate) use record::{
    flush, keeps_what_is_older, note_asked, record, unrecord, unrecord_blocks,
};
pub(crate) use redo::{Redone, barred, overwrite, overwritten_bytes};
pub(crate) use revoke::revoke;
use unrecordable::Unrecordable;
pub(crate) use verify::verify;

/// The directory that a cache is to live in.
pub struct CacheHome {
    /// Its files.
    pub medium: Arc<dyn Medium>,
    /// What it is called in messages.
    pub path: String,
    /// The operator gave the block size, so that another one in the directory is refused. Else the directory's counts.
    pub block_is_given: bool,
    /// Random bits, of which a new cache's name is made.
    pub uuid_bits: u128,
    /// Who uses it: what others are told while it is locked. One line.
    pub lock_text: String,
    /// What is otherwise made of the limit.
    pub sizes: Option<HomeSizes>,
}

/// The sizes of a cache directory's parts, for tests of what happens where they end.
#[derive(Clone, Copy, Debug)]
pub struct HomeSizes {
    /// How many blocks there may be.
    pub slots: u32,
    /// Of the journal: whole pages of 4 KiB.
    pub journal_bytes: u64,
    /// Of each queue, where origins get everything in order: the same.
    pub queue_bytes: u64,
}

impl std::fmt::Debug for CacheHome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CacheHome")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What was found in a cache directory at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the cache was made.
    Made,
    /// A cache that was ended properly.
    Kept {
        /// So many blocks, each kept if its origin turns out to be the one that it came from.
        blocks: u64,
    },
    /// A cache that was in use when its process or the machine stopped.
    Crashed {
        /// As in [`Found::Kept`].
        blocks: u64,
    },
}

/// What makes a cache survive.
pub(crate) struct Survival {
    home: Arc<Home>,
    path: String,
    found: Found,
    found_blocks: AtomicU64,
    pub marks: Arc<SlotMarks>,
    /// The volumes as the directory is to have them.
    volumes: Mutex<VolumeTable>,
    /// What the journal is still to say of volumes.
    pending: Mutex<Vec<Op<'static>>>,
    /// Blocks that have left their slots while they were listed.
    gone: Gone,
    /// Who tells the directory something.
    commits: CommitToken<tell::Scope>,
    foreseen: foreseen::Foreseen,
    checkpointing: Mutex<()>,
    journaled: Journaled,
    unrecordable: Unrecordable,
    /// The same of what is to be overwritten in part.
    unreleasable: Unrecordable,
    complaints: Complaints,
    /// Slots that were summed and are not listed yet.
    to_list: Mutex<Vec<SlotNumber>>,
    /// Wakes the thread that looks after the directory.
    pub maintenance: Maintenance,
    /// How often a client wanted something to be durable here.
    asked: AtomicU64,
    is_closed: AtomicBool,
    /// All that the origins do not have is in the directory.
    keeps_leftovers: AtomicBool,
    cursor: sum::Cursor,
    queues: Queues,
}

impl Survival {
    pub(crate) fn found(&self) -> Found {
        let blocks = self.found_blocks.load(Ordering::SeqCst);
        match self.found {
            Found::Made => Found::Made,
            Found::Kept { .. } => Found::Kept { blocks },
            Found::Crashed { .. } => Found::Crashed { blocks },
        }
    }

    fn note_found(&self, blocks: u64) {
        self.found_blocks.store(blocks, Ordering::SeqCst);
    }

    /// Whether the directory says that it has been closed: nothing may change any more that it lists.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Whether the end has left everything there that the origins do not have.
    pub(crate) fn keeps_leftovers(&self) -> bool {
        self.keeps_leftovers.load(Ordering::SeqCst)
    }

    fn times_asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// A block is about to give its slot up. Called with its shard's lock held.
    pub(crate) fn leaving(&self, slot: SlotNumber, owner: Owner) {
        if self.marks.is_listed(slot) && !is_planted(Bug::GoneForgotten) {
            self.gone.note(slot, owner);
            self.marks.unlisted(slot);
        }
    }

    /// Sums a block of a volume that the directory knows.
    fn block_sums(&self, volume: &Volume, number: BlockNumber) -> Option<BlockSums> {
        let occupant = occupant(volume, number)?;
        Some(BlockSums::new(self.home.seed(), occupant))
    }

    /// Says something of a volume, which the journal is to say with the next that it says.
    fn say(&self, op: Op<'static>) -> Result<(), Malformed> {
        self.say_of_new(|_| op)
    }

    /// The same of a volume that gets an incarnation of its own.
    fn say_of_new(&self, op: impl FnOnce(Incarnation) -> Op<'static>) -> Result<(), Malformed> {
        let mut table = sync::lock(&self.volumes);
        let op = op(table.next_incarnation());
        table.apply(&op)?;
        sync::lock(&self.pending).push(op);
        Ok(())
    }

    /// A volume is forgotten, and all that slots hold of it.
    pub(crate) fn forget(&self, volume: &Volume) {
        if let Some(id) = volume.kept.id(volume.number()) {
            // It cannot be refused: nothing in it can be wrong.
            let _ = self.say(Op::VolumeGone(id));
        }
    }
}

/// A connection joins: with the queue before its origin, where that gets everything in order. Called with the lock on joining held, and once the
/// origin was judged.
///
/// # Errors
/// The origin cannot flush, or there is no space for a queue.
pub(crate) fn attach(
    volume: &Arc<Volume>,
    origin: Arc<dyn Origin>,
    joined: u64,
) -> Result<Arc<Attached>, Error> {
    let store = volume.store();
    let survival = store.survival.as_ref().filter(|_| store.is_ordered());
    let Some(survival) = survival.filter(|_| volume.kept.id(volume.number()).is_some()) else {
        return Ok(Attached::new(origin, joined));
    };
    let capabilities = origin.capabilities();
    if capabilities.write && !capabilities.flush {
        let message = format!(
            "cache-writeback=ordered needs an origin that can flush: that of volume '{}' cannot",
            volume.name()
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    if capabilities.write {
        survival
            .queues
            .provide(&survival.home, volume, &survival.path)?;
        identity::note_queue(survival, volume)?;
    }
    let queued = QueuedOrigin::new(Arc::clone(&volume.queue), origin);
    Ok(Attached::queued(Arc::new(queued), joined))
}

/// A block as the directory names it, if it knows the volume.
fn occupant(volume: &Volume, block: BlockNumber) -> Option<Occupant> {
    let id = volume.kept.id(volume.number())?;
    Some(Occupant {
        volume: id.volume,
        incarnation: id.incarnation,
        block,
    })
}

/// Where in volumes by number that one is, for those who look many up.
fn by_number(volumes: &[Arc<Volume>], number: VolumeNumber) -> Option<usize> {
    let at = volumes.binary_search_by_key(&number, |volume| volume.number());
    at.ok()
}

/// What an operator was told last, so that it is not told again and again.
#[derive(Debug, Default)]
struct Complaints(Mutex<String>);

impl Complaints {
    fn is_new(&self, message: &str) -> bool {
        let mut last = sync::lock(&self.0);
        let is_new = *last != message;
        message.clone_into(&mut last);
        is_new
    }
}
