//! Making a cache directory: all files, synced, and last the superblock, which makes it one.
//!
//! Until the superblock has its name the directory was never a cache, whatever else is in it, and whoever comes next makes it anew. All
//! other names are durable before that, so that a superblock is never found without its files.

use std::io;

use super::chain::was_used;
use super::files::{self, Identity};
use super::frame::Position;
use super::header::{Header, Role};
use super::open_error::{OpenError, SYNCED, THE_DIRECTORY};
use super::queue_log::volume_of;
use super::refusal::{Finding, Refusal};
use super::shape::{PAGE_BYTES, SLOTS_START};
use super::sums::Seed;
use super::superblock::{FILE_NAME, NEW_FILE_NAME, State, Superblock};
use super::volumes::{Region, VolumeTable};
use crate::cache_file::write_zeros;
use crate::medium::{Medium, MediumFile};

/// Room for the tables of some hundred volumes, twice.
const TABLES_BYTES: u64 = 128 << 10;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub identity: Identity,
    /// The length of the journal's ring: whole pages.
    pub journal_bytes: u64,
}

/// Makes the files of a cache that nobody has opened yet, over what was left of an attempt that was not finished.
///
/// # Errors
/// The attempt was finished, and its superblock was lost; or the system refused, and what was made is taken away again.
pub(super) fn make(medium: &dyn Medium, plan: Plan) -> Result<(), OpenError> {
    check_unfinished(medium)?;
    let made = make_files(medium, plan).and_then(|()| make_superblock(medium, plan));
    if made.is_err() {
        take_away(medium);
        return made;
    }
    let unnamed = OpenError::io(FILE_NAME, "named");
    medium.rename(NEW_FILE_NAME, FILE_NAME).map_err(unnamed)?;
    sync_names(medium)
}

/// Whether what is there was never a cache.
pub(super) fn check_unfinished(medium: &dyn Medium) -> Result<(), OpenError> {
    let unread = OpenError::io(THE_DIRECTORY, "read");
    let names = medium.names().map_err(unread)?;
    if names.iter().any(|name| volume_of(name).is_some()) {
        // Queues are made of a cache that is in use.
        return Err(OpenError::of_file(FILE_NAME, Finding::Missing));
    }
    for role in Role::ALL {
        let Some(file) = found(medium, role.file_name())? else {
            continue;
        };
        let length = files::length(&*file, role)?;
        if length < PAGE_BYTES {
            continue;
        }
        let header = Header::decode(&*files::first_page(&*file, role)?);
        if let Err(newer @ Finding::Newer(_)) = header {
            return Err(Refusal::of(role, newer).into());
        }
        let was_in_use = match role {
            // Its header alone is made; entries come once somebody has opened it.
            Role::Map => length > PAGE_BYTES,
            Role::Journal => begins_with_frame(&*file, length)?,
            _ => false,
        };
        if was_in_use {
            return Err(OpenError::of_file(FILE_NAME, Finding::Missing));
        }
    }
    Ok(())
}

fn begins_with_frame(journal: &dyn MediumFile, length: u64) -> Result<bool, OpenError> {
    let mut page = vec![0; length.saturating_sub(PAGE_BYTES).min(PAGE_BYTES) as usize];
    if page.is_empty() {
        return Ok(false);
    }
    let unread = OpenError::io(Role::Journal.file_name(), "read");
    journal.read(PAGE_BYTES, &mut page).map_err(unread)?;
    Ok(was_used(&page))
}

/// The file, if there is one.
fn found(medium: &dyn Medium, name: &str) -> Result<Option<Box<dyn MediumFile>>, OpenError> {
    match medium.open(name) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(name, "opened")(error)),
    }
}

/// An empty file, whether there is one or not.
pub(super) fn empty(medium: &dyn Medium, name: &str) -> Result<Box<dyn MediumFile>, OpenError> {
    if let Some(file) = found(medium, name)? {
        file.set_length(0).map_err(OpenError::io(name, "cut"))?;
        return Ok(file);
    }
    medium.create(name).map_err(OpenError::io(name, "made"))
}

fn make_files(medium: &dyn Medium, plan: Plan) -> Result<(), OpenError> {
    for role in Role::ALL {
        let name = role.file_name();
        let file = empty(medium, name)?;
        let header = plan.identity.header(role).encode();
        fill(&*file, role, plan, header.as_slice()).map_err(OpenError::io(name, "written"))?;
        file.sync().map_err(OpenError::io(name, SYNCED))?;
    }
    // Names that a crash could still lose would leave a superblock without its files.
    sync_names(medium)
}

/// What a new file holds.
fn fill(file: &dyn MediumFile, role: Role, plan: Plan, header: &[u8]) -> io::Result<()> {
    file.write(0, header)?;
    match role {
        // Written, and not only promised, so that a sync of a frame is about the frame alone.
        Role::Journal => write_zeros(file, PAGE_BYTES, plan.journal_bytes),
        Role::Volumes => {
            // So that a full disk does not stop a clean end.
            write_zeros(file, PAGE_BYTES, TABLES_BYTES)?;
            file.write(PAGE_BYTES, &first_table(plan).1)
        }
        Role::Slots => file.set_length(SLOTS_START),
        Role::Map | Role::MapCopy | Role::Sums => Ok(()),
    }
}

/// The table of a cache without volumes.
fn first_table(plan: Plan) -> (Region, Vec<u8>) {
    let table = VolumeTable::default();
    let region = Region {
        offset: PAGE_BYTES,
        bytes: table.encoded_bytes(),
        generation: 1,
    };
    let seed = Seed::of_cache(plan.identity.uuid);
    (region, table.encode(region.generation, seed, region.offset))
}

fn make_superblock(medium: &dyn Medium, plan: Plan) -> Result<(), OpenError> {
    let superblock = Superblock {
        uuid: plan.identity.uuid,
        shape: plan.identity.shape,
        state: State::Clean,
        generation: 1,
        session: 0,
        slots_numbered: 0,
        journal_bytes: plan.journal_bytes,
        tail: Position::FIRST,
        volumes: first_table(plan).0,
    };
    let page = superblock.encode();
    let both = [page.as_slice(), page.as_slice()].concat();
    let file = empty(medium, NEW_FILE_NAME)?;
    file.write(0, &both)
        .map_err(OpenError::io(NEW_FILE_NAME, "written"))?;
    file.sync().map_err(OpenError::io(NEW_FILE_NAME, SYNCED))
}

/// What was made is of no use, and may have filled the disk.
fn take_away(medium: &dyn Medium) {
    let names = Role::ALL.into_iter().map(Role::file_name);
    for name in names.chain([NEW_FILE_NAME]) {
        // Whoever comes next makes them anew if they stay.
        let _ = medium.remove(name);
    }
}

pub(super) fn sync_names(medium: &dyn Medium) -> Result<(), OpenError> {
    let unsynced = OpenError::io(THE_DIRECTORY, SYNCED);
    medium.sync().map_err(unsynced)
}
