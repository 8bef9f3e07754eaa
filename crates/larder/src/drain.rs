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
//! - A range that is zero counts more than a sector of a slot, dirty or not.

mod closing;
mod error;
mod export;
mod identity;
mod plan;
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

use crate::inspect::check_contents;
use crate::medium::{Medium, MediumFile};
use crate::persist::home::{Home, Opened, Wanted};
use crate::persist::op::{Op, VolumeId};
use crate::persist::volumes::VolumeTable;

use plan::Plan;

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
}

impl Holding {
    /// Whether there is anything.
    pub fn is_empty(&self) -> bool {
        self.dirty_bytes == 0 && self.zero_bytes == 0
    }
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
        check_contents(&*medium)?;
        let wanted = Wanted {
            block_bytes: None,
            default_block_bytes: crate::Config::default().block_bytes,
            max_size_bytes: None,
            uuid_bits: 0,
            lock_text: lock_text.to_owned(),
        };
        let Opened {
            mut home,
            found: _,
            volumes,
            queues: _,
            slots_numbered,
        } = Home::find_existing(medium, &wanted)?;
        let slots = home.take_slots_file()?;
        // Whatever may refuse the directory comes before anything is written.
        let plans = plan::all(&home, &volumes)?;
        home.begin()?;
        Ok(Self {
            home,
            slots,
            volumes,
            slots_numbered,
            plans,
        })
    }

    /// Every volume of the directory, by number.
    pub fn holdings(&self) -> Vec<Holding> {
        let holding = |plan: &Plan| {
            let known = self.volumes.get(plan.id)?;
            Some(Holding {
                number: plan.id.volume.0,
                name: known.record.name.clone(),
                size_bytes: plan.size,
                dirty_bytes: plan.dirty_bytes(),
                zero_bytes: plan.zero_bytes(),
            })
        };
        self.plans.values().filter_map(holding).collect()
    }

    /// Forgets a volume, with all that is cached of it. That is durable on return.
    ///
    /// What is clean goes too: so one frame says it all, and a crash leaves all of it or nothing.
    ///
    /// # Errors
    /// There is no such volume, or the directory takes nothing.
    pub fn discard(&mut self, volume: u32) -> Result<(), DrainError> {
        let id = self.id(volume)?;
        self.say(vec![Op::VolumeGone(id)])?;
        self.plans.remove(&id);
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
