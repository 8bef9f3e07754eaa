//! The superblock's file: two copies, written and synced one after the other.
//!
//! The copy that is written is never the one that counts, unless both say the same. So whatever a crash tears, a whole copy is
//! left that the tables fit. Between the two writes the new copy counts already; before any table is
//! written for another superblock the second must follow ([`Superblocks::settle`]), since the older one may name what is then overwritten.
//!
//! A write or sync that fails is final: nobody knows which of the two the medium would show after a crash, so nothing may be
//! written that fits only one of them.

use std::io;

use super::header::Page;
use super::open_error::{OpenError, SYNCED};
use super::refusal::Finding;
use super::shape::PAGE_BYTES;
use super::superblock::{Chosen, FILE_NAME, Superblock};
use crate::medium::MediumFile;

/// Both copies.
pub(super) const SUPERBLOCK_FILE_BYTES: u64 = 2 * PAGE_BYTES;

/// What the file says, whoever wrote it.
pub(super) fn read(file: &dyn MediumFile) -> Result<Chosen, OpenError> {
    let unread = || OpenError::io(FILE_NAME, "read");
    let found = file.length().map_err(unread())?;
    let mut copies = [[0; PAGE_BYTES as usize]; 2];
    for (at, copy) in (0..).map(|copy| copy * PAGE_BYTES).zip(&mut copies) {
        let length = found.saturating_sub(at).min(PAGE_BYTES) as usize;
        if length > 0 {
            file.read(at, &mut copy[..length]).map_err(unread())?;
        }
    }
    let [first, second]: &[Page; 2] = &copies;
    let expected = SUPERBLOCK_FILE_BYTES;
    match Superblock::choose([first, second]) {
        Err(_) if found < expected => {
            let short = Finding::Short { found, expected };
            Err(OpenError::of_file(FILE_NAME, short))
        }
        chosen => Ok(chosen?),
    }
}

/// The open file, and what it says.
pub(super) struct Superblocks {
    file: Box<dyn MediumFile>,
    current: Superblock,
    /// The copy to be written next.
    spare: u64,
    /// Both copies say the same.
    is_settled: bool,
    has_failed: bool,
}

impl Superblocks {
    pub(super) fn new(file: Box<dyn MediumFile>, chosen: Chosen) -> Self {
        Self {
            file,
            current: chosen.superblock,
            spare: 1 - chosen.copy as u64,
            is_settled: chosen.other_is_as_new,
            has_failed: false,
        }
    }

    /// What counts.
    pub(super) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Whether a write or a sync has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// What counts becomes durable, as far as whoever was killed has only written it. It is written once more: a sync alone saves nothing of what an
    /// earlier sync has failed to save, though reads see it. If that is torn now, it was not durable, and the other copy
    /// is what a crash would have left.
    pub(super) fn renew(&mut self) -> Result<(), OpenError> {
        let counting = 1 - self.spare;
        let page = self.current.encode();
        let written = self.file.write(counting * PAGE_BYTES, page.as_slice());
        self.unless_failed(written, "written")?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), OpenError> {
        let synced = self.file.sync();
        self.unless_failed(synced, SYNCED)
    }

    /// Both copies say the same, and are durable.
    pub(super) fn settle(&mut self) -> Result<(), OpenError> {
        if self.is_settled {
            return Ok(());
        }
        let page = self.current.encode();
        self.write_spare(&page)?;
        self.is_settled = true;
        Ok(())
    }

    /// Writes a new superblock into one of the copies: it counts from then on. Both must have been the same.
    pub(super) fn write_first(&mut self, new: Superblock) -> Result<(), OpenError> {
        let new = Superblock {
            generation: self.current.generation + 1,
            ..new
        };
        self.write_spare(&new.encode())?;
        self.current = new;
        self.is_settled = false;
        Ok(())
    }

    fn write_spare(&mut self, page: &Page) -> Result<(), OpenError> {
        if self.has_failed {
            let error = io::Error::other("it failed before");
            return Err(OpenError::io(FILE_NAME, "written")(error));
        }
        let written = self.file.write(self.spare * PAGE_BYTES, page);
        self.unless_failed(written, "written")?;
        self.sync()?;
        self.spare = 1 - self.spare;
        Ok(())
    }

    fn unless_failed(
        &mut self,
        result: io::Result<()>,
        doing: &'static str,
    ) -> Result<(), OpenError> {
        self.has_failed |= result.is_err();
        result.map_err(OpenError::io(FILE_NAME, doing))
    }
}
