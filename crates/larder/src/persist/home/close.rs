//! The clean end: the tables say all that is in memory, and the superblock that they are all there is.
//!
//! What a table says already is not written again, if what is read of it is sure to be durable: after a session that ended
//! properly. After any other, a sync may have failed, which leaves bytes in the system's memory that no later sync brings to the medium.

use super::Home;
use crate::directory::SlotNumber;
use crate::persist::entry::Entry;
use crate::persist::header::Role;
use crate::persist::open_error::OpenError;
use crate::persist::regions;
use crate::persist::superblock::{State, Superblock};
use crate::persist::volumes::VolumeTable;
use crate::sync;

impl Home {
    /// Ends the session. `entries` gives the entry of each slot below `slots_numbered`, in order. Slots above, where a session before had
    /// more, hold nothing from then on.
    ///
    /// The sums of all valid sectors must have been written, and nobody commits or does a checkpoint any more. A dirty sector must be in its
    /// slot, and what the medium is to say of it committed: a crash on the way finds the superblock "in use", the
    /// journal as it was, and of each slot that the journal does not speak of either entry. So an entry may differ from what the medium
    /// says only in what the origin has too; and slots and sums are durable before any entry says that they count.
    ///
    /// # Errors
    /// The state stays "in use", and the next start recovers.
    pub(crate) fn close(
        &self,
        volumes: &VolumeTable,
        slots_numbered: u32,
        entries: &mut dyn Iterator<Item = Entry>,
    ) -> Result<(), OpenError> {
        if let Some(why) = self.journal.failure() {
            return Err(OpenError::JournalFailed(why.to_string()));
        }
        let mut latest = sync::lock(&self.checkpoint);
        // One that is under way ends here.
        *latest += 1;
        let tail = self.journal.end();
        self.journal.fail("the cache directory is closed");
        let tables = &self.tables;
        tables.superblocks().settle()?;
        let current = tables.superblocks().current().clone();
        let numbered = slots_numbered.max(current.slots_numbered);
        let unprepared = OpenError::io(Role::Sums.file_name(), "extended");
        tables.prepare(numbered).map_err(unprepared)?;
        tables.sync(Role::Slots)?;
        tables.sync(Role::Sums)?;
        self.write_all(slots_numbered, numbered, entries)?;
        tables.sync(Role::Map)?;
        tables.sync(Role::MapCopy)?;
        let file = &*tables.files.volumes;
        let generation = current.generation + 1;
        let region = regions::write(file, current.volumes, generation, volumes, tables.seed)?;
        tables.sync(Role::Volumes)?;
        let mut superblocks = tables.superblocks();
        superblocks.write_first(Superblock {
            state: State::Clean,
            slots_numbered: numbered,
            tail,
            volumes: region,
            ..current
        })?;
        superblocks.settle()
    }

    fn write_all(
        &self,
        given: u32,
        numbered: u32,
        entries: &mut dyn Iterator<Item = Entry>,
    ) -> Result<(), OpenError> {
        let mut count = 0;
        let counted = (0..given).zip(entries).map(|(number, entry)| {
            count = number + 1;
            (SlotNumber(number), entry)
        });
        let above = (given..numbered).map(|number| (SlotNumber(number), Entry::EMPTY));
        let mut all = counted.chain(above);
        match self.is_read_durable {
            true => self.tables.update_entries(&mut all)?,
            false => self.tables.write_entries(all)?,
        }
        if count == given {
            return Ok(());
        }
        let error = std::io::Error::other(format!("{count} entries for {given} slots"));
        Err(OpenError::io(Role::Map.file_name(), "written")(error))
    }
}
