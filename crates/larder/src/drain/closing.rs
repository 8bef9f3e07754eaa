//! The end: the tables are written anew, and say of what is on the origins that it is.
//!
//! While that happens an entry is the old one or the new one. Either is true: the origin has what the new one does not call dirty any more, and
//! what was zero stays recorded until the new volume table counts, which says so of all of it at once. So of sectors that were zero the new
//! entries say nothing: what slots hold of them is older.

use super::plan::Plan;
use super::{Drain, DrainError};
use crate::directory::SlotNumber;
use crate::persist::entry::{Content, Entry};
use crate::persist::open_error::OpenError;

/// So many entries are read at once.
const PART_SLOTS: u32 = 1 << 14;

impl Drain {
    /// Tells the directory what is on the origins, and lets go of it. Nothing was told before.
    ///
    /// # Errors
    /// It stays as after a crash: the next start, or the next time that it is drained, recovers it. What is still recorded as
    /// written may be on the origin too.
    pub fn close(self) -> Result<(), DrainError> {
        let mut entries = Entries {
            drain: &self,
            next: 0,
            part: Vec::new().into_iter(),
            failure: None,
        };
        let closed = self
            .home
            .close(&self.volumes, self.slots_numbered, &mut entries);
        match entries.failure {
            Some(error) => Err(error.into()),
            None => Ok(closed?),
        }
    }

    /// What the tables are to say of a slot of which they say this.
    fn closing(&self, slot: SlotNumber, entry: Entry) -> Entry {
        let content = entry.content.and_then(|content| {
            let id = content.occupant.volume_id();
            // Of a volume that is gone an entry says nothing.
            self.volumes.get(id)?;
            match self.plans.get(&id) {
                Some(plan) => of_plan(plan, slot, content),
                None => Some(content),
            }
        });
        Entry { content, ..entry }
    }
}

fn of_plan(plan: &Plan, slot: SlotNumber, content: Content) -> Option<Content> {
    let block = content.occupant.block;
    let known = plan.of_block(block);
    // The other slot has the newer bytes.
    if known.is_some_and(|known| known.slot != slot) {
        return None;
    }
    if !plan.is_settled {
        return Some(content);
    }
    // Beside what is dirty nothing is known for sure.
    let valid = match content.dirty.is_empty() {
        true => content.valid,
        false => content.dirty,
    };
    let content = Content {
        valid: plan.counting(block, valid),
        dirty: known.map(|known| known.dirty).unwrap_or_default(),
        ..content
    };
    (!content.valid.is_empty()).then_some(content)
}

/// The entries of all slots, read a part at a time ahead of what is written.
struct Entries<'d> {
    drain: &'d Drain,
    next: u32,
    part: std::vec::IntoIter<Entry>,
    failure: Option<OpenError>,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if let Some(entry) = self.part.next() {
            return Some(entry);
        }
        let end = self
            .next
            .saturating_add(PART_SLOTS)
            .min(self.drain.slots_numbered);
        let mut part = Vec::new();
        let read = self
            .drain
            .home
            .read_entries(self.next..end, &mut |slot, entry| {
                part.push(self.drain.closing(slot, entry));
            });
        self.failure = read.err();
        if self.failure.is_some() {
            return None;
        }
        self.next = end;
        self.part = part.into_iter();
        self.part.next()
    }
}
