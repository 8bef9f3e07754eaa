//! A flush that is foreseen: what it would say is appended to the journal before it comes, and the disk begins to write that. The flush then has to
//! wait only for what is left of it.
//!
//! It promises nothing. What is said ahead is durable with the next commit, whatever that is about, and until then only the flag of what the directory
//! may list is kept ([`Foreseen`]): so only that is said of a block which makes no difference to its state when it becomes durable. More sectors are
//! dirty than were, their bytes are in the frame, and no sector leaves what is called dirty. Everything else waits for the flush.

use std::io;
use std::sync::{Arc, Mutex};

use super::Survival;
use super::recording::Recording;
use crate::directory::SlotNumber;
use crate::persist::batch::Batch;
use crate::persist::commit::{self, CommitWork, Durability, More};
use crate::persist::journal::{CommitError, Journal};
use crate::pin::Pin;
use crate::sync;
use crate::volume::Volume;

/// Of more blocks than this nothing is said ahead: somebody waits for it.
const MOST_BLOCKS: usize = 16;

/// The slots that were spoken of in frames which may not be durable yet. A leaf lock; used with the commit token only.
#[derive(Debug, Default)]
pub(super) struct Foreseen(Mutex<Vec<SlotNumber>>);

impl Foreseen {
    fn extend(&self, slots: Vec<SlotNumber>) {
        sync::lock(&self.0).extend(slots);
    }

    /// All frames are durable: the slots that they speak of.
    pub(super) fn take(&self) -> Vec<SlotNumber> {
        std::mem::take(&mut *sync::lock(&self.0))
    }
}

/// Says ahead of a flush what it would say, as far as that can be done at once. Nothing, if somebody else tells the directory something just now.
pub(crate) fn foresee_flush(volume: &Arc<Volume>) {
    let store = volume.store();
    let Some(survival) = store.survival.as_ref().filter(|kept| !kept.is_closed()) else {
        return;
    };
    let journal = survival.home.journal();
    let said = survival.commits.try_alone(|| {
        let mut ahead = Ahead {
            survival,
            volume,
            recording: Recording::new(survival),
            slots: Vec::new(),
        };
        let run = commit::run(journal, &mut ahead, Durability::WithTheNext);
        // What fails once something has been made is final, and the flush tells.
        run.map(|()| survival.foreseen.extend(ahead.slots))
    });
    if let Some(Ok(())) = said {
        journal.write_out();
    }
}

/// What is said ahead.
struct Ahead<'s> {
    survival: &'s Survival,
    volume: &'s Arc<Volume>,
    recording: Recording<'s>,
    slots: Vec<SlotNumber>,
}

impl Ahead<'_> {
    /// Whether the directory needs to be told nothing else for that block: of slots that it has left, which with the pin stay the same, or that it is
    /// recorded after all, which somebody waits to hear of until it is durable.
    fn is_plain(&self, pin: &Pin<'_>) -> bool {
        let (volume, number) = (self.volume.number(), pin.number());
        let left = self.survival.gone.of_blocks(volume, number, number);
        let why = self.survival.unrecordable.of_blocks(volume, &[number]);
        left.is_empty() && why.is_none()
    }
}

impl CommitWork for Ahead<'_> {
    /// A commit that finds more than this makes room first.
    fn prepare(&mut self) -> Result<(), CommitError> {
        let journal = self.survival.home.journal();
        match journal.used_bytes() > journal.ring_bytes() / 2 {
            true => Err(CommitError::NoRoom),
            false => Ok(()),
        }
    }

    fn batch(&self, journal: &Journal) -> Batch {
        Batch::small(journal.ring_bytes(), journal.longest_frame_bytes())
    }

    fn make(&mut self, batch: &mut Batch) -> io::Result<More> {
        // What is to be said of volumes comes before what is said of their blocks.
        if !sync::lock(&self.survival.pending).is_empty() {
            return Ok(More::No);
        }
        for number in self.volume.unrecorded.few(MOST_BLOCKS) {
            let pin = self.volume.pin(number);
            if batch.is_full() || !self.is_plain(&pin) {
                continue;
            }
            // What cannot be made is left to the flush: the block's latch notes it again.
            let made = self.recording.make_ahead(self.volume, number, batch);
            self.slots.extend(made.ok().flatten());
        }
        Ok(More::No)
    }

    /// All bytes are in the frames.
    fn sync_slots(&mut self) -> io::Result<()> {
        Err(io::Error::other(
            "what is said ahead has no sums without bytes",
        ))
    }

    fn appended(&mut self, frame: usize, _seq: u64) {
        self.recording.appended(frame);
    }

    fn durable(&mut self, _seq: u64) -> bool {
        self.survival.journaled.is_empty()
    }

    fn make_room(&mut self, _frame_bytes: u64) -> Result<(), CommitError> {
        // There is room for a batch, see `prepare`. What was made may be there in part.
        Err(self.survival.home.journal().fail("the journal is full"))
    }
}
