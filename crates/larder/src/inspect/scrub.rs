//! Reading all that a cache directory holds, and comparing it with the checksums that were recorded of it. Nothing is written.
//!
//! Beside somebody who has the directory open, what does not fit is not damage yet: its record may have changed before or while it was
//! read. So its record is looked at again, afterwards. If that is still the same, then
//!
//! - a *dirty* sector is damaged: as long as it is recorded as dirty nobody writes to its place, since a flush has promised it;
//! - a *clean* sector is damaged, or was written since it was recorded: its place is written without another record, because the
//!   origin has what was recorded. Nobody can tell these apart. After a crash that holds too; only in a directory that was closed is it damage.
//!   Either way it is read from the origin again.
//!
//! The frames of queues are compared too. What a crash tore off the end of one is no damage; that one is missing which had been durable is.
//!
//! If the record has changed, the new one is tried, a few times. Then the block is given up as busy.

use super::check::{Evidence, Found, Recorded};
use super::queues::SeenQueues;
use super::{
    Detail, DirectoryState, InspectError, InspectErrorKind, Inspection, Reading, inspect_with,
    steady,
};
use crate::directory::SlotNumber;
use crate::medium::Medium;
use crate::persist::entry::{Content, Entry};
use crate::persist::look::{Keeping, Look};
use crate::persist::queue_log::BadQueues;

/// So many slots are checked between two looks at the tables: a mebibyte of entries.
const PART_SLOTS: u32 = 1 << 14;

/// How often a block whose record keeps changing is tried again.
const RETRIES: u32 = 3;

/// How far a scrub has come, in bytes of what was cached when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// That were read.
    pub done_bytes: u64,
    /// All.
    pub total_bytes: u64,
}

/// What a scrub has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// What the directory was: in use if it was at any time while it was read.
    pub state: DirectoryState,
    /// Who has it open, or had it last, as they said it: one line, or nothing.
    pub user: String,
    /// Of which it is known whether they are as recorded.
    pub checked_sectors: u64,
    /// The same in bytes.
    pub checked_bytes: u64,
    /// That the origin has too, and that do not fit: damaged or, unless the directory was closed, written since.
    pub bad_clean_sectors: u64,
    /// The same in bytes.
    pub bad_clean_bytes: u64,
    /// Those of the bad ones, clean or dirty, that cannot be read at all.
    pub unreadable_sectors: u64,
    /// That only the cache has, and that are damaged: by volume, in order.
    pub bad_dirty: Vec<BadDirty>,
    /// Blocks whose records changed each time that they were looked at.
    pub busy_blocks: u64,
    /// Of the queues, whole ones.
    pub queue_frames: u64,
    /// The same in bytes.
    pub queue_bytes: u64,
    /// Queues that a start would refuse the directory for.
    pub bad_queues: Vec<BadQueue>,
}

/// A queue of which nobody knows any more what only the cache had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadQueue {
    /// The number of the volume in the cache.
    pub number: u32,
    /// The export's name, if there is one of that number.
    pub volume: Option<String>,
    /// What is wrong with it.
    pub why: String,
}

/// A range that only the cache had, and that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BadDirty {
    /// The number of the volume in the cache.
    pub number: u32,
    /// The export's name.
    pub volume: String,
    /// First byte, within the volume.
    pub start: u64,
    /// In bytes.
    pub length: u64,
}

/// Checks everything. `progress` is called often.
pub fn scrub(
    medium: &dyn Medium,
    progress: &mut dyn FnMut(Progress),
) -> Result<Scrub, InspectError> {
    let (inspection, queues) = look_at_queues(medium)?;
    let cached = inspection.volumes.iter().map(|volume| volume.cached_bytes);
    let mut scrubber = Scrubber {
        medium,
        progress,
        told: Progress {
            done_bytes: 0,
            total_bytes: cached.sum(),
        },
        buffer: Vec::new(),
        scrub: Scrub {
            state: inspection.state,
            user: inspection.user,
            checked_sectors: 0,
            checked_bytes: 0,
            bad_clean_sectors: 0,
            bad_clean_bytes: 0,
            unreadable_sectors: 0,
            bad_dirty: Vec::new(),
            busy_blocks: 0,
            queue_frames: queues.frames,
            queue_bytes: queues.bytes,
            bad_queues: queues.bad,
        },
    };
    let mut look = None;
    let mut first: u32 = 0;
    loop {
        let slots = first..first.saturating_add(PART_SLOTS);
        first = slots.end;
        let read = scrubber.read(look.take(), &mut |look| {
            let mut entries = Vec::new();
            look.read_entries(slots.clone(), &mut |slot, entry| {
                entries.push((slot, entry))
            })?;
            Ok(entries)
        });
        let (entries, now) = read?;
        let is_last = now.slots_numbered() <= first;
        let suspects = scrubber.check(&entries, &now);
        look = Some(scrubber.judge(suspects, now)?);
        if is_last {
            break;
        }
    }
    let mut scrub = scrubber.scrub;
    join(&mut scrub.bad_dirty);
    Ok(scrub)
}

/// What is wrong with a queue keeps nobody from looking at everything else. But it is looked at twice, beside a user.
fn look_at_queues(medium: &dyn Medium) -> Result<(Inspection, SeenQueues), InspectError> {
    match inspect_with(medium, Detail::Figures, BadQueues::Refuse) {
        Err(error) if error.kind() != InspectErrorKind::NoCache => {
            inspect_with(medium, Detail::Figures, BadQueues::Tell)
        }
        inspected => inspected,
    }
}

/// Slots and what they are said to hold.
type Entries = Vec<(SlotNumber, Entry)>;

struct Scrubber<'s> {
    medium: &'s dyn Medium,
    progress: &'s mut dyn FnMut(Progress),
    told: Progress,
    buffer: Vec<u8>,
    scrub: Scrub,
}

/// A slot in which something did not fit.
struct Suspect {
    slot: SlotNumber,
    found: Found,
    /// What was recorded of what did not fit.
    evidence: Evidence,
}

impl Scrubber<'_> {
    /// Reads entries as they are now.
    fn read(
        &mut self,
        earlier: Option<Look>,
        read: &mut Reading<'_, Entries>,
    ) -> Result<(Entries, Look), InspectError> {
        let read = steady::read(self.medium, Keeping::StatesAndSums, earlier, read)?;
        if read.is_in_use {
            self.scrub.state = DirectoryState::InUse;
        }
        Ok((read.value, read.look))
    }

    /// Checks slots for the first time.
    fn check(&mut self, entries: &[(SlotNumber, Entry)], look: &Look) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        for (slot, entry) in entries {
            let Some(recorded) = Recorded::new(look, *slot, entry) else {
                continue;
            };
            suspects.extend(self.check_one(*slot, entry, &recorded));
            self.told.done_bytes += recorded.length_of(recorded.content.valid);
            // What came in meanwhile makes no more than all of it.
            self.told.total_bytes = self.told.total_bytes.max(self.told.done_bytes);
            (self.progress)(self.told);
        }
        suspects
    }

    fn check_one(
        &mut self,
        slot: SlotNumber,
        entry: &Entry,
        recorded: &Recorded<'_>,
    ) -> Option<Suspect> {
        let found = recorded.check(&mut self.buffer);
        if found.bad.is_empty() {
            self.count(recorded);
            return None;
        }
        Some(Suspect {
            slot,
            found,
            evidence: recorded.evidence(entry, found.bad),
        })
    }

    /// Finds out what is the matter with slots in which something did not fit. Gives the newest look.
    fn judge(&mut self, mut suspects: Vec<Suspect>, mut look: Look) -> Result<Look, InspectError> {
        for _ in 0..=RETRIES {
            if suspects.is_empty() {
                return Ok(look);
            }
            let (entries, now) = self.read(Some(look), &mut |look| {
                let mut entries = Vec::new();
                for suspect in &suspects {
                    let entry = look.entry(suspect.slot)?;
                    entries.extend(entry.map(|entry| (suspect.slot, entry)));
                }
                Ok(entries)
            })?;
            suspects = self.judge_once(suspects, &entries, &now);
            look = now;
        }
        self.scrub.busy_blocks += suspects.len() as u64;
        Ok(look)
    }

    /// Those whose records have changed, and do not fit now either. Whoever is not among the entries is gone.
    fn judge_once(
        &mut self,
        suspects: Vec<Suspect>,
        entries: &[(SlotNumber, Entry)],
        look: &Look,
    ) -> Vec<Suspect> {
        let mut left = Vec::new();
        let mut suspects = suspects.into_iter().peekable();
        for (slot, entry) in entries {
            while suspects.next_if(|suspect| suspect.slot < *slot).is_some() {}
            let suspect = suspects.next_if(|suspect| suspect.slot == *slot);
            let (Some(suspect), Some(recorded)) = (suspect, Recorded::new(look, *slot, entry))
            else {
                continue;
            };
            if recorded.evidence(entry, suspect.found.bad) == suspect.evidence {
                self.convict(&recorded, suspect.found);
            } else {
                left.extend(self.check_one(*slot, entry, &recorded));
            }
        }
        left
    }

    fn count(&mut self, recorded: &Recorded<'_>) {
        let valid = recorded.content.valid;
        self.scrub.checked_sectors += u64::from(valid.count());
        self.scrub.checked_bytes += recorded.length_of(valid);
    }

    fn convict(&mut self, recorded: &Recorded<'_>, found: Found) {
        self.count(recorded);
        let Content {
            occupant, dirty, ..
        } = recorded.content;
        let clean = found.bad - dirty;
        self.scrub.bad_clean_sectors += u64::from(clean.count());
        self.scrub.bad_clean_bytes += recorded.length_of(clean);
        self.scrub.unreadable_sectors += u64::from(found.unreadable.count());
        for run in (found.bad & dirty).runs() {
            let (start, end) = recorded.bytes_of(run);
            self.scrub.bad_dirty.push(BadDirty {
                number: occupant.volume.0,
                volume: recorded.name.to_owned(),
                start,
                length: end - start,
            });
        }
    }
}

/// Puts ranges into order, and neighbours together.
fn join(ranges: &mut Vec<BadDirty>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let is_joined = next.number == before.number && before.start + before.length == next.start;
        if is_joined {
            before.length += next.length;
        }
        is_joined
    });
}
