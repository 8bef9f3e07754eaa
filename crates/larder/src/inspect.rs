//! Looking at a cache directory without opening it: what is cached, what is dirty, and whether it is as it was written.
//!
//! Nothing is locked for longer than it takes to ask whether somebody else has it locked, and nothing is written, so that somebody may have
//! the directory open meanwhile. What such a user changes while it is read is read again, a few times.
//!
//! A directory that a start would refuse is refused here with the same sentence.

mod check;
mod counting;
mod error;
mod queues;
mod scrub;
mod steady;

pub use error::{InspectError, InspectErrorKind};
pub use scrub::{BadDirty, BadQueue, Progress, Scrub, scrub};

pub(crate) use counting::join;

use counting::Counting;
use queues::SeenQueues;
use steady::Steady;

use crate::medium::Medium;
use crate::persist::contents::Contents;
use crate::persist::look::{self, Keeping, Look};
use crate::persist::open_error::OpenError;
use crate::persist::queue_log::BadQueues;
use crate::persist::superblock::State;

/// How much is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Figures.
    Figures,
    /// Each volume's dirty ranges as well, which may be many.
    DirtyRanges,
}

/// What a cache directory is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryState {
    /// Nobody has it open, and whoever had it closed it.
    Clean,
    /// Somebody has it open.
    InUse,
    /// Nobody has it open, and whoever had it did not close it: the next start recovers it.
    AfterCrash,
}

/// What a cache directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The version of the format: major and minor.
    pub format: (u16, u16),
    /// Tells the cache from every other.
    pub uuid: String,
    /// Whether somebody has it open, or had when it stopped.
    pub state: DirectoryState,
    /// Who has it open, or had it last, as they said it: one line, or nothing.
    pub user: String,
    /// Somebody wrote to it each time that it was read: the figures may be of several moments.
    pub has_changed: bool,
    /// One more each time that the superblock is written.
    pub generation: u64,
    /// One more each time that the directory is opened.
    pub session: u64,
    /// How many copies of the superblock are whole, of two.
    pub superblock_copies: u32,
    /// The unit of caching.
    pub block_bytes: u64,
    /// Slots that have a place in the tables.
    pub slots_numbered: u32,
    /// Slots that hold something of a volume.
    pub slots_used: u32,
    /// What is not in the tables yet.
    pub journal: JournalUse,
    /// How long each file is, in bytes, by its name.
    pub files: Vec<(String, u64)>,
    /// By number.
    pub volumes: Vec<InspectedVolume>,
}

/// How full a journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalUse {
    /// The room for frames.
    pub size_bytes: u64,
    /// What they take of it.
    pub used_bytes: u64,
    /// How many there are.
    pub frames: u64,
}

/// What a cache directory holds of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedVolume {
    /// Its number in the cache.
    pub number: u32,
    /// The export's name.
    pub name: String,
    /// What the operator calls the origin; may be empty.
    pub cache_id: String,
    /// What the origin said of its content, as far as it can tell.
    pub version: Option<InspectedVersion>,
    /// The cache has written to the origin since the version was asked.
    pub changed_since_version: bool,
    /// In bytes.
    pub size_bytes: u64,
    /// The unit of knowing.
    pub sector_bytes: u64,
    /// Blocks of which something is cached.
    pub blocks: u64,
    /// What is cached, dirty or not.
    pub cached_bytes: u64,
    /// What was written and the origin does not have: of what is cached, and what is queued.
    pub dirty_bytes: u64,
    /// What is zero, and the origin does not know, beside what is cached.
    pub zero_bytes: u64,
    /// Data that waits in the volume's queue, what is written several times as often.
    pub queued_bytes: u64,
    /// Flushes that wait there: the origin gets one after the other.
    pub queued_flushes: u64,
    /// What the origin does not have, in order. None where only figures were asked for.
    pub dirty_ranges: Option<Vec<DirtyRange>>,
}

/// An origin's version as text: what is none is in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedVersion {
    /// What stays while the origin is written to.
    pub stable: String,
    /// What is another after each change.
    pub changing: String,
}

/// A range that the origin does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirtyRange {
    /// First byte, within the volume.
    pub start: u64,
    /// In bytes.
    pub length: u64,
    /// It is zeros, of which only the range is kept.
    pub is_zero: bool,
}

/// Looks at a directory. Writes nothing.
pub fn inspect(medium: &dyn Medium, detail: Detail) -> Result<Inspection, InspectError> {
    let (inspection, _) = inspect_with(medium, detail, BadQueues::Refuse)?;
    Ok(inspection)
}

/// The same with the queues, and what is wrong with them if that is to be told.
fn inspect_with(
    medium: &dyn Medium,
    detail: Detail,
    bad_queues: BadQueues,
) -> Result<(Inspection, SeenQueues), InspectError> {
    check_contents(medium)?;
    let read = steady::read(medium, Keeping::States, None, &mut |look| {
        let mut counting = Counting::new(look, detail);
        look.read_entries(0..u32::MAX, &mut |_, entry| counting.add(&entry))?;
        let queues = queues::read(medium, look, bad_queues)?;
        for (id, held) in &queues.held {
            counting.add_queue(*id, held);
        }
        let counted = counting.finish();
        Ok((counted, look.copies(medium)?, look.files(medium)?, queues))
    })?;
    let state = state(&read);
    let Steady { look, value, .. } = read;
    let (counted, copies, files, queues) = value;
    let superblock = look.superblock();
    let inspection = Inspection {
        format: (copies.version.major, copies.version.minor),
        uuid: superblock.uuid.to_string(),
        state,
        user: look::user(medium),
        has_changed: !read.is_steady,
        generation: superblock.generation,
        session: superblock.session,
        superblock_copies: copies.whole,
        block_bytes: look.shape().block_bytes(),
        slots_numbered: look.slots_numbered(),
        slots_used: counted.slots_used,
        journal: JournalUse {
            size_bytes: superblock.journal_bytes,
            used_bytes: look.journal_used_bytes(),
            frames: look.frames(),
        },
        files,
        volumes: counted.volumes,
    };
    Ok((inspection, queues))
}

/// What is no cache is told as that.
pub(crate) fn check_contents(medium: &dyn Medium) -> Result<(), InspectError> {
    match look::contents(medium)? {
        Contents::Cache => Ok(()),
        Contents::Empty => Err(InspectError::no_cache("it is empty")),
        Contents::Unfinished if look::is_in_use(medium)? => {
            Err(InspectError::unfinished(&look::user(medium)))
        }
        Contents::Unfinished => {
            let unfinished = "its cache was never finished, and the next start makes it anew";
            Err(InspectError::no_cache(unfinished))
        }
        Contents::Foreign(name) => {
            let name = String::from_utf8_lossy(&name).into_owned();
            let foreign = format!("it holds {name:?}, which is no file of a Larder cache");
            Err(InspectError::no_cache(&foreign))
        }
    }
}

fn state<T>(read: &Steady<T>) -> DirectoryState {
    match read.look.superblock().state {
        _ if read.is_in_use => DirectoryState::InUse,
        State::Clean => DirectoryState::Clean,
        State::InUse => DirectoryState::AfterCrash,
    }
}

/// What reading something of a directory gives.
type Reading<'r, T> = dyn FnMut(&Look) -> Result<T, OpenError> + 'r;

#[cfg(test)]
pub(crate) mod tests;
