//! The files of a cache directory that have a header, open.

use super::header::{Header, Page, Role};
use super::open_error::OpenError;
use super::refusal::{Finding, Refusal};
use super::shape::{PAGE_BYTES, Shape};
use super::sums::Uuid;
use super::superblock::Superblock;
use crate::medium::{Medium, MediumFile};

/// One handle for each role.
pub(super) struct Files {
    pub journal: Box<dyn MediumFile>,
    pub map: Box<dyn MediumFile>,
    pub map_copy: Box<dyn MediumFile>,
    pub sums: Box<dyn MediumFile>,
    pub volumes: Box<dyn MediumFile>,
    pub slots: Box<dyn MediumFile>,
}

impl Files {
    /// Opens those that the superblock speaks of. Writes nothing.
    ///
    /// # Errors
    /// One is missing, too short, or another's.
    pub(super) fn open(medium: &dyn Medium, superblock: &Superblock) -> Result<Self, OpenError> {
        let open = |role| {
            let file = open(medium, role)?;
            check(&*file, role, superblock)?;
            Ok::<_, OpenError>(file)
        };
        Ok(Self {
            journal: open(Role::Journal)?,
            map: open(Role::Map)?,
            map_copy: open(Role::MapCopy)?,
            sums: open(Role::Sums)?,
            volumes: open(Role::Volumes)?,
            slots: open(Role::Slots)?,
        })
    }
}

/// Opens the file of a role that must be there.
pub(super) fn open(medium: &dyn Medium, role: Role) -> Result<Box<dyn MediumFile>, OpenError> {
    open_named(medium, role.file_name())
}

/// Opens a file that must be there.
pub(super) fn open_named(
    medium: &dyn Medium,
    name: &str,
) -> Result<Box<dyn MediumFile>, OpenError> {
    medium.open(name).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => OpenError::of_file(name.to_owned(), Finding::Missing),
        _ => OpenError::io(name, "opened")(error),
    })
}

/// Whether it is that role's file of that cache, and as long as it must be.
fn check(file: &dyn MediumFile, role: Role, superblock: &Superblock) -> Result<(), OpenError> {
    let Superblock { uuid, shape, .. } = *superblock;
    let length = length(file, role)?;
    let (slots, journal) = (superblock.slots_numbered, superblock.journal_bytes);
    // What was cut is told to be cut, and not to be damaged.
    if length < PAGE_BYTES {
        shape.check_file_bytes(role, slots, journal, length)?;
    }
    let header = Header { role, uuid, shape };
    header
        .check(&*first_page(file, role)?)
        .map_err(|finding| Refusal::of(role, finding))?;
    shape.check_file_bytes(role, slots, journal, length)?;
    if role == Role::Volumes && length < superblock.volumes.end() {
        let expected = superblock.volumes.end();
        let found = length;
        return Err(Refusal::of(role, Finding::Short { found, expected }).into());
    }
    Ok(())
}

/// In bytes.
pub(super) fn length(file: &dyn MediumFile, role: Role) -> Result<u64, OpenError> {
    let unknown = OpenError::io(role.file_name(), "looked at");
    file.length().map_err(unknown)
}

/// The page in which a header is. The file is long enough.
pub(super) fn first_page(file: &dyn MediumFile, role: Role) -> Result<Box<Page>, OpenError> {
    let mut page = Box::new([0; PAGE_BYTES as usize]);
    let unread = OpenError::io(role.file_name(), "read");
    file.read(0, page.as_mut_slice()).map_err(unread)?;
    Ok(page)
}

/// What tells the files of a cache from those of others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub uuid: Uuid,
    pub shape: Shape,
}

impl Identity {
    /// The header of a role's file.
    pub(super) fn header(self, role: Role) -> Header {
        let Self { uuid, shape } = self;
        Header { role, uuid, shape }
    }
}
