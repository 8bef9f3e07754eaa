//! Victims of the policy: clean ones are evicted at once, dirty ones collected and written back by a pass.
//!
//! A dirty victim is kept out of the policy's sight while it is in somebody's hands.

use std::sync::Arc;

use super::NoRoom;
use crate::Error;
use crate::attached::Attached;
use crate::client::Client;
use crate::config::Mode;
use crate::directory::{Owner, SlotNumber, VolumeNumber};
use crate::index::Evicted;
use crate::pass_token::Running;
use crate::sector::BlockNumber;
use crate::slots::Usage;
use crate::store::Store;
use crate::sync;
use crate::volume::Volume;
use crate::writeback::{self, Scope};

/// The most dirty victims that one pass takes.
pub(crate) const MAX_VICTIMS: u64 = 4096;

/// How many dirty victims make a pass worth its flush.
pub(crate) fn pass_size(usage: Usage) -> u64 {
    (usage.used.saturating_sub(usage.low)).clamp(1, MAX_VICTIMS)
}

/// What there is beyond victims that cannot be written back.
pub(crate) enum Further {
    /// A clean one.
    Slot(SlotNumber),
    /// Dirty ones, made way for or not yet.
    Progress(Progress),
}

/// What a round of reclaim came to.
pub(crate) enum Progress {
    Made,
    /// No victim was dirty.
    NothingToDo,
    /// Somebody else is writing back.
    Busy,
    /// Nobody is there who could write.
    NoWriter,
    Failed(Error),
}

/// Victims that must be written back first; handed back to the policy when dropped.
pub(crate) struct DirtyVictims<'s> {
    store: &'s Store,
    victims: Vec<(SlotNumber, Owner)>,
}

impl<'s> DirtyVictims<'s> {
    pub(crate) fn new(store: &'s Store) -> Self {
        Self {
            store,
            victims: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.victims.len() as u64
    }

    pub(crate) fn are_of(&self, volume: &Volume) -> bool {
        self.victims
            .iter()
            .any(|(_, owner)| owner.volume == volume.number())
    }

    /// Looks through the whole cache, after writing back has failed for the victims so far: for a clean one, or else for
    /// dirty ones that can be written back. Somebody else's pass in the volume is waited for: two whose passes
    /// all fail would else find each other at it for ever.
    pub(crate) fn look_further(
        &mut self,
        client: &Client,
        failed: Progress,
    ) -> Result<Further, NoRoom> {
        let before = self.victims.len();
        if let Some(slot) = self.next_clean(u64::MAX) {
            return Ok(Further::Slot(slot));
        }
        let volume = &client.volume;
        let further = match self.victims.len() > before {
            true => {
                let running = self.are_of(volume).then(|| volume.token.take());
                self.write_back(Some(client), running)
            }
            false => failed,
        };
        match further {
            Progress::Failed(error) => Err(NoRoom(Some(error))),
            Progress::NoWriter => Err(NoRoom(None)),
            further => Ok(Further::Progress(further)),
        }
    }

    /// A clean victim beyond those that somebody else is writing back, where it is worth looking.
    pub(crate) fn clean_beside_busy(&mut self) -> Option<SlotNumber> {
        match self.store.is_mostly_dirty() {
            true => None,
            false => self.next_clean(self.len() + MAX_VICTIMS),
        }
    }

    pub(crate) fn first_volume(&self) -> Option<Arc<Volume>> {
        let (_, owner) = self.victims.first()?;
        self.store.volume(owner.volume)
    }

    /// Evicts the next clean victim, collecting dirty ones on the way, at most `most` of them.
    pub(crate) fn next_clean(&mut self, most: u64) -> Option<SlotNumber> {
        let tries = sync::lock(&self.store.eviction).len();
        for _ in 0..=tries {
            if self.victims.len() as u64 >= most {
                return None;
            }
            // In hand before it leaves the policy, so that it is never nowhere.
            self.store.slots.take_in_hand();
            let victim = sync::lock(&self.store.eviction).victim();
            let Some(slot) = victim.map(SlotNumber) else {
                self.store.slots.let_go();
                return None;
            };
            if self.evict(slot) {
                return Some(slot);
            }
        }
        None
    }

    /// Evicts a victim that is in hand. If that cannot be, it is kept, handed back or let go.
    fn evict(&mut self, slot: SlotNumber) -> bool {
        let store = self.store;
        let owner = store.directory.owner(slot);
        let volume = store.volume(owner.volume);
        let evicted = volume
            .as_ref()
            .map_or(Evicted::Gone, |volume| volume.evict(owner.number, slot));
        match evicted {
            Evicted::Yes => {
                if let Some(volume) = volume {
                    self.count_evicted(&volume, owner.number);
                }
                return true;
            }
            // Of what is sealed the directory will hear soon.
            Evicted::Pinned | Evicted::Sealed => {
                sync::lock(&store.eviction).reinserted(slot.0, owner.key(), true);
                store.slots.let_go();
            }
            Evicted::Dirty => self.victims.push((slot, owner)),
            Evicted::Gone => store.slots.let_go(),
        }
        false
    }

    fn count_evicted(&self, volume: &Volume, number: BlockNumber) {
        self.store.stats.reclaimed.add(1);
        self.store
            .trace(|| format!("reclaim block {} of '{}'", number.0, volume.name()));
    }

    /// Writes the victims of one volume back and evicts them. The requester's own volume comes
    /// first, whose token may be `running` already; others' only if a connection of theirs can be borrowed and nobody
    /// else is at it.
    pub(crate) fn write_back(
        &mut self,
        client: Option<&Client>,
        mut running: Option<Running<'_>>,
    ) -> Progress {
        let own = client.map(|client| client.volume.number());
        let owners = self.victims.iter().map(|(_, owner)| owner.volume);
        let mut of: Vec<VolumeNumber> = owners.collect();
        of.sort_unstable_by_key(|number| (Some(*number) != own, *number));
        of.dedup();
        let mut worst = Progress::NothingToDo;
        for volume_number in of {
            let own = client.filter(|_| Some(volume_number) == own);
            let running = own.and_then(|_| running.take());
            match (self.write_back_one(volume_number, own, running), &worst) {
                (Progress::Made, _) => return Progress::Made,
                (_, Progress::Failed(_)) => {}
                (failed @ Progress::Failed(_), _) => worst = failed,
                (Progress::Busy, _) => worst = Progress::Busy,
                (other, Progress::NothingToDo) => worst = other,
                _ => {}
            }
        }
        worst
    }

    pub(crate) fn write_back_one(
        &mut self,
        number: VolumeNumber,
        own: Option<&Client>,
        running: Option<Running<'_>>,
    ) -> Progress {
        let Some(volume) = self.store.volume(number) else {
            return Progress::Made;
        };
        let owners = self.victims.iter().map(|(_, owner)| owner);
        let of_volume = owners.filter(|owner| owner.volume == number);
        let numbers: Vec<BlockNumber> = of_volume.map(|owner| owner.number).collect();
        let progress = match own {
            Some(client) => write_back_own(client, running, &numbers),
            None => write_back_borrowed(&volume, running, &numbers),
        };
        self.evict_cleaned(&volume);
        progress
    }

    /// Keeps only so many, those of `own` before others.
    pub(crate) fn keep(&mut self, most: u64, own: Option<VolumeNumber>) {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if self.victims.len() <= most {
            return;
        }
        self.victims
            .sort_by_key(|(_, owner)| Some(owner.volume) != own);
        let others = self.victims.split_off(most);
        {
            let mut eviction = sync::lock(&self.store.eviction);
            for (slot, owner) in &others {
                eviction.reinserted(slot.0, owner.key(), false);
            }
        }
        self.store.slots.settle_all(others.len());
    }

    fn evict_cleaned(&mut self, volume: &Volume) {
        let store = self.store;
        let (mut freed, mut left) = (Vec::new(), Vec::new());
        for victim in self.victims.drain(..) {
            let (slot, owner) = victim;
            let evicted =
                owner.volume == volume.number() && volume.evict(owner.number, slot) == Evicted::Yes;
            if evicted {
                freed.push(slot);
            } else {
                left.push(victim);
            }
        }
        self.victims = left;
        store.release_victims(&freed);
    }
}

impl Drop for DirtyVictims<'_> {
    fn drop(&mut self) {
        self.keep(0, None);
    }
}

fn write_back_own(
    client: &Client,
    running: Option<Running<'_>>,
    numbers: &[BlockNumber],
) -> Progress {
    let volume = &client.volume;
    let Some(_running) = running.or_else(|| volume.token.try_take()) else {
        return Progress::Busy;
    };
    if client.attached.capabilities.write {
        return run_pass(volume, &client.attached, numbers);
    }
    // Borrowed only with the token in hand: whoever leaves takes the token before waiting.
    match volume.attached.borrow_writer() {
        Some(writer) => run_pass(volume, &writer, numbers),
        None => Progress::NoWriter,
    }
}

fn write_back_borrowed(
    volume: &Volume,
    running: Option<Running<'_>>,
    numbers: &[BlockNumber],
) -> Progress {
    let Some(_running) = running.or_else(|| volume.token.try_take()) else {
        return Progress::Busy;
    };
    match volume.attached.borrow_writer() {
        Some(writer) if !volume.is_poisoned() => run_pass(volume, &writer, numbers),
        _ => Progress::NoWriter,
    }
}

fn run_pass(volume: &Volume, writer: &Attached, numbers: &[BlockNumber]) -> Progress {
    let store = volume.store();
    store.stats.reclaim_writebacks.add(numbers.len() as u64);
    let scope = Scope::Blocks(writeback::with_dirty_neighbours(volume, numbers));
    let outcome = writeback::pass(volume, writer, scope, store.config.mode != Mode::Unsafe);
    match outcome.error {
        Some(error) if outcome.settled_sectors == 0 => Progress::Failed(error),
        _ => Progress::Made,
    }
}
