//! Emptying a cache directory of what only it has, without serving: written data and zeros that the origin does not have.
//!
//! Three ways out: [`Drain::write_back`] brings it to the origin, [`Drain::export`] reads it into something else, [`Drain::discard`]
//! forgets it. All of it at the level of the directory's files; the engine is not started.
//!
//! - The directory is locked and recovered as at any start, and closed at the end.
//! - An origin that differs from the one that was cached is refused: what was written for one disk destroys another (`identity.rs`).
//! - Before the origin is asked to change, the directory durably says that its version is not what it was, and lists nothing of the
//!   blocks concerned in a second slot (`saying.rs`).
//! - Every sector is compared with its checksum. What does not fit, or cannot be sent, stays where it is and is named; nothing else stops.
//! - The directory hears that something is on the origin when that is so durably: with the new tables at its end (`closing.rs`). A crash before
//!   leaves everything as it was; in the middle of that, each block's entry is the old one or the new one, and either is true. So it can
//!   always be run again.
//! - What is queued is another matter: it is in order, and stays so (`queued.rs`).
//! - A range that is zero counts more than a sector of a slot, dirty or not.

mod closing;
mod error;
mod export;
mod identity;
mod plan;
mod queued;
mod reading;
mod saying;
mod sending;
mod work;
mod write_back;

pub use error::{DrainError, DrainErrorKind};
pub use export::{Exported, Output};
pub use write_back::{WriteBack, WrittenBack};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::directory::VolumeNumber;
use crate::inspect::check_contents;
use crate::medium::{Medium, MediumFile};
use crate::persist::home::{Home, Opened, Wanted};
use crate::persist::op::{Op, VolumeId};
use crate::persist::queue_log::{BadQueue, BadQueues};
use crate::persist::volumes::VolumeTable;

use plan::Plan;
use queued::Queued;

/// How far it has come, in bytes of what the origin does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// That were looked at.
    pub done_bytes: u64,
    /// All.
    pub total_bytes: u64,
}

/// What the directory has of a volume and its origin has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its number in the cache.
    pub number: u32,
    /// The export's name.
    pub name: String,
    /// In bytes.
    pub size_bytes: u64,
    /// What was written.
    pub dirty_bytes: u64,
    /// What is zero, and nothing else is known of it.
    pub zero_bytes: u64,
    /// Why nobody knows what was queued beside that: [`Drain::open_to_discard`].
    pub lost_queue: Option<String>,
}

impl Holding {
    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.dirty_bytes == 0 && self.zero_bytes == 0 && self.lost_queue.is_none()
    }
}

/// A queue that cannot be used, of a volume that the directory does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The number that is in its name.
    pub number: u32,
    /// What is wrong with it.
    pub why: String,
}

/// A range that is still only in the directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// First byte, within the volume.
    pub start: u64,
    /// In bytes.
    pub length: u64,
    /// Why.
    pub why: Why,
}

/// Why something is still only in the directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its bytes are not what was written: they do not fit their checksum.
    Damaged,
    /// The directory's files cannot be read there.
    Unreadable(String),
    /// The origin, or what it is exported to, did not take it.
    Refused(String),
    /// Too much was refused before.
    NotTried,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => f.write_str("it does not fit its checksum"),
            Self::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Self::Refused(error) => write!(f, "it cannot be written: {error}"),
            Self::NotTried => f.write_str("it was not tried any more"),
        }
    }
}

/// A cache directory that is open to be drained.
pub struct Drain {
    home: Home,
    slots: Box<dyn MediumFile>,
    /// As the directory is to have them at the end.
    volumes: VolumeTable,
    slots_numbered: u32,
    /// What there is of each volume that the origin does not have.
    plans: BTreeMap<VolumeId, Plan>,
    /// And what is queued.
    queues: BTreeMap<VolumeId, Queued>,
    /// Queues of which nobody knows what they held.
    bad_queues: Vec<BadQueue>,
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("slots_numbered", &self.slots_numbered)
            .finish_non_exhaustive()
    }
}

impl Drain {
    /// Locks a directory, recovers what a crash has left in it, and finds what the origins do not have. `lock_text` tells others who has it: one
    /// line.
    ///
    /// # Errors
    /// It is no cache, somebody has it open, a start would refuse it, or the system failed. Nothing was made where nothing was.
    pub fn open(medium: Arc<dyn Medium>, lock_text: &str) -> Result<Self, DrainError> {
        let drain = Self::find(medium, lock_text, BadQueues::Refuse)?;
        // Whatever may refuse the directory comes before anything is written.
        drain.check_orders()?;
        drain.home.begin()?;
        Ok(drain)
    }

    /// The same for [`Drain::discard`] alone: a queue that is missing or damaged, for which a start would refuse the directory, can be given up with
    /// its volume.
    ///
    /// # Errors
    /// As [`Drain::open`], but for that.
    pub fn open_to_discard(medium: Arc<dyn Medium>, lock_text: &str) -> Result<Self, DrainError> {
        let drain = Self::find(medium, lock_text, BadQueues::Tell)?;
        drain.home.begin()?;
        Ok(drain)
    }

    fn find(
        medium: Arc<dyn Medium>,
        lock_text: &str,
        bad_queues: BadQueues,
    ) -> Result<Self, DrainError> {
        check_contents(&*medium)?;
        let wanted = Wanted {
            block_bytes: None,
            default_block_bytes: crate::Config::default().block_bytes,
            max_size_bytes: None,
            uuid_bits: 0,
            lock_text: lock_text.to_owned(),
        };
        let (opened, bad_queues) = Home::find_existing(medium, &wanted, bad_queues)?;
        let Opened {
            mut home,
            found: _,
            volumes,
            queues,
            slots_numbered,
        } = opened;
        let slots = home.take_slots_file()?;
        let plans = plan::all(&home, &volumes)?;
        let queues = queues
            .into_iter()
            .map(|found| (found.id, Queued::new(found)));
        Ok(Self {
            home,
            slots,
            volumes,
            slots_numbered,
            plans,
            queues: queues.collect(),
            bad_queues,
        })
    }

    /// Nobody could say which of two orders is the newer one.
    fn check_orders(&self) -> Result<(), DrainError> {
        let mut plans = self.plans.values();
        let both = plans.find(|plan| !plan.is_done() && self.queued(plan.id).is_some());
        let Some(known) = both.and_then(|plan| self.volumes.get(plan.id)) else {
            return Ok(());
        };
        let what = "it was written with an order and without one";
        Err(plan::damaged(&known.record, what))
    }

    /// Every volume of the directory, by number.
    pub fn holdings(&self) -> Vec<Holding> {
        let holding = |plan: &Plan| {
            let known = self.volumes.get(plan.id)?;
            let (queued_bytes, queued_zeros) = self.held_bytes(plan.id);
            let number = plan.id.volume;
            let bad = self.bad_queues.iter().find(|bad| bad.volume == number);
            Some(Holding {
                number: number.0,
                name: known.record.name.clone(),
                size_bytes: plan.size,
                dirty_bytes: plan.dirty_bytes() + queued_bytes,
                zero_bytes: plan.zero_bytes() + queued_zeros,
                lost_queue: bad.map(|bad| bad.error.to_string()),
            })
        };
        self.plans.values().filter_map(holding).collect()
    }

    /// Queues that cannot be used, and that no volume is said to have. By number.
    pub fn strays(&self) -> Vec<Stray> {
        let is_owned = |bad: &&BadQueue| self.plans.keys().any(|id| id.volume == bad.volume);
        let strays = self.bad_queues.iter().filter(|bad| !is_owned(bad));
        let stray = |bad: &BadQueue| Stray {
            number: bad.volume.0,
            why: bad.error.to_string(),
        };
        strays.map(stray).collect()
    }

    /// Forgets a volume, with all that is cached of it, and what is queued. That is durable on return.
    ///
    /// What is clean goes too: so one frame says it all, and a crash leaves all of it or nothing. But the queue is emptied before, so that there is never one
    /// of no volume: a crash in between leaves the volume without what was queued. One that is damaged goes before its volume, which until then a
    /// start misses it for.
    ///
    /// # Errors
    /// There is no such volume, or the directory takes nothing.
    pub fn discard(&mut self, volume: u32) -> Result<(), DrainError> {
        let id = self.id(volume)?;
        self.take_bad_queue(id.volume)?;
        if let Some(queued) = self.queues.get_mut(&id).filter(|queued| !queued.is_empty()) {
            queued.give_up(&self.home)?;
        }
        self.say(vec![Op::VolumeGone(id)])?;
        self.plans.remove(&id);
        if self.queues.remove(&id).is_some() {
            // It is empty. If it stays, the next start takes it away.
            let _ = self.home.remove_queue(id.volume);
        }
        Ok(())
    }

    /// Takes a queue away that is no volume's. That is durable on return.
    ///
    /// # Errors
    /// There is no such queue, or it cannot be removed.
    pub fn discard_stray(&mut self, number: u32) -> Result<(), DrainError> {
        if !self.strays().iter().any(|stray| stray.number == number) {
            let what = format!("queue {number} is no stray one");
            return Err(DrainError::asked(what));
        }
        self.take_bad_queue(VolumeNumber(number))
    }

    fn take_bad_queue(&mut self, volume: VolumeNumber) -> Result<(), DrainError> {
        if let Some(at) = self.bad_queues.iter().position(|bad| bad.volume == volume) {
            self.home.remove_queue(volume)?;
            self.bad_queues.remove(at);
        }
        Ok(())
    }

    fn id(&self, volume: u32) -> Result<VolumeId, DrainError> {
        let mut ids = self.plans.keys();
        let found = ids.find(|id| id.volume.0 == volume);
        found
            .copied()
            .ok_or_else(|| DrainError::asked(format!("it has no volume {volume}")))
    }
}

#[cfg(test)]
mod tests;
