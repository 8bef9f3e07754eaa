//! Making room: free slots, evictions, and writing back what stands in the way.
//!
//! Waiting for room is done holding nothing. A dirty victim is kept out of the policy's sight
//! while it is written back, and counts as in hand meanwhile, so that nobody concludes that there is
//! nothing to wait for. Pinned blocks are never a reason to give up: they will be let go.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
const MAX_VICTIMS: u64 = 4096;

/// The most dirty victims that are passed over where nobody wants to wait.
const FEW_VICTIMS: u64 = 16;

/// How long the background thread waits for somebody else's writeback.
const LONGEST_TURN: Duration = Duration::from_millis(50);

/// No room could be made.
#[derive(Debug)]
pub(crate) struct NoRoom(Option<Error>);

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

/// Slots set aside for a request; those not taken come free when dropped.
pub(crate) struct Reservation<'s> {
    store: &'s Store,
    slots: Vec<SlotNumber>,
}

impl<'s> Reservation<'s> {
    pub(crate) fn empty(store: &'s Store) -> Self {
        Self {
            store,
            slots: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn push(&mut self, slot: SlotNumber) {
        self.store.slots.reserved().fetch_add(1, Ordering::Relaxed);
        self.slots.push(slot);
    }

    /// Puts the lowest slot last, so that neighbours get neighbouring slots in order, and sees to it
    /// that there is room for others.
    fn get_ready(&mut self) {
        self.slots.sort_unstable_by(|a, b| b.cmp(a));
        let store = self.store;
        if !self.slots.is_empty() && store.config.background && store.slots.usage().is_high() {
            store.maintenance.wake();
        }
    }

    /// Adds up to `wanted` slots that cost no origin I/O and no waiting, and do not make reclaim begin.
    pub(crate) fn add_at_once(&mut self, wanted: usize) {
        let store = self.store;
        for _ in 0..wanted {
            let usage = store.slots.usage();
            let free = (usage.used < usage.high).then(|| store.take_free());
            let slot = free
                .flatten()
                .or_else(|| DirtyVictims::new(store).next_clean(FEW_VICTIMS));
            match slot {
                Some(slot) => self.push(slot),
                None => break,
            }
        }
        self.slots.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// The lowest slot that is left.
    pub(crate) fn take(&mut self) -> Option<SlotNumber> {
        let slot = self.slots.pop()?;
        self.store.slots.reserved().fetch_sub(1, Ordering::Relaxed);
        Some(slot)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        while let Some(slot) = self.take() {
            self.store.slots.free(slot);
            self.store.slots.settle();
        }
    }
}

/// Sets aside up to `wanted` slots, at least one: only the first is waited for.
pub(crate) fn reserve(client: &Client, wanted: usize) -> Result<Reservation<'_>, NoRoom> {
    let store = client.store();
    let mut reservation = Reservation::empty(store);
    reservation.push(wait_for_slot(client)?);
    while reservation.slots.len() < wanted {
        match slot_at_once(store) {
            Some(slot) => reservation.push(slot),
            None => break,
        }
    }
    reservation.get_ready();
    Ok(reservation)
}

/// Sets aside so many slots, if that costs no origin I/O and no waiting.
pub(crate) fn try_reserve(client: &Client, wanted: usize) -> Option<Reservation<'_>> {
    let store = client.store();
    let mut reservation = Reservation::empty(store);
    while reservation.slots.len() < wanted {
        let slot = match store.take_free() {
            Some(slot) => slot,
            None if store.is_mostly_dirty() => return None,
            None => DirtyVictims::new(store).next_clean(FEW_VICTIMS)?,
        };
        reservation.push(slot);
    }
    reservation.get_ready();
    Some(reservation)
}

/// A slot that costs no origin I/O and no waiting.
pub(crate) fn reserve_at_once(store: &Store) -> Reservation<'_> {
    let mut reservation = Reservation::empty(store);
    if let Some(slot) = slot_at_once(store) {
        reservation.push(slot);
    }
    reservation
}

fn slot_at_once(store: &Store) -> Option<SlotNumber> {
    store
        .take_free()
        .or_else(|| DirtyVictims::new(store).next_clean(pass_size(store.slots.usage())))
}

/// How many dirty victims make a pass worth its flush.
fn pass_size(usage: Usage) -> u64 {
    (usage.used.saturating_sub(usage.low)).clamp(1, MAX_VICTIMS)
}

/// How many dirty victims a request writes back at a time.
fn pass_worth(client: &Client) -> u64 {
    let worth = client.volume.pace.blocks_worth_a_flush();
    pass_size(client.store().slots.usage()).min(worth)
}

fn wait_for_slot(client: &Client) -> Result<SlotNumber, NoRoom> {
    let store = client.store();
    if let Some(slot) = store.take_free() {
        return Ok(slot);
    }
    let token = &client.volume.token;
    // Whoever has waited in vain looks for itself, as long as it takes.
    let mut is_patient = true;
    loop {
        client.check_poison().map_err(|error| NoRoom(Some(error)))?;
        let mut waiting = store.slots.news().begin_waiting();
        if let Some(slot) = store.take_free() {
            return Ok(slot);
        }
        let search =
            (is_patient && store.is_mostly_dirty()).then(|| sync::lock(&client.volume.search));
        if search.is_some() && token.is_taken() {
            drop(search);
            waiting.want_room_only();
            store.stats.room_waits.add(1);
            is_patient = waiting.wait();
            continue;
        }
        let mut victims = DirtyVictims::new(store);
        // Somebody else's pass may take long: rather a clean victim further up.
        let most = match token.is_taken() {
            true => MAX_VICTIMS,
            false => pass_worth(client),
        };
        if let Some(slot) = victims.next_clean(most) {
            return Ok(slot);
        }
        // What was only looked through is for others: a pass of all that would keep them waiting.
        victims.keep(pass_worth(client), Some(client.volume.number()));
        // Taken before the next one looks, so that it waits; and only for a pass that is run.
        let is_own = victims.are_of(&client.volume);
        let running = match is_own {
            true if is_patient => token.try_take(),
            true => Some(token.take()),
            false => None,
        };
        drop(search);
        let mut progress = victims.write_back(Some(client), running);
        if let Progress::Failed(_) | Progress::NoWriter = progress {
            // Dirty blocks that cannot be written back must not hide others.
            match victims.look_further(client, progress)? {
                Further::Slot(slot) => return Ok(slot),
                Further::Progress(further) => progress = further,
            }
        }
        match progress {
            Progress::Made => continue,
            Progress::NothingToDo => {
                if store.slots.in_hands() == 0 && !waiting.has_changed() {
                    return Err(NoRoom(None));
                }
            }
            _ => {
                let clean = match is_patient {
                    true => victims.clean_beside_busy(),
                    false => victims.next_clean(victims.len() + MAX_VICTIMS),
                };
                if let Some(slot) = clean {
                    return Ok(slot);
                }
                waiting.want_room_only();
                drop(victims);
            }
        }
        store.stats.room_waits.add(1);
        is_patient = waiting.wait();
    }
}

/// What there is beyond victims that cannot be written back.
enum Further {
    /// A clean one.
    Slot(SlotNumber),
    /// Dirty ones, made way for or not yet.
    Progress(Progress),
}

/// What a round of reclaim came to.
enum Progress {
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
struct DirtyVictims<'s> {
    store: &'s Store,
    victims: Vec<(SlotNumber, Owner)>,
}

impl<'s> DirtyVictims<'s> {
    fn new(store: &'s Store) -> Self {
        Self {
            store,
            victims: Vec::new(),
        }
    }

    fn len(&self) -> u64 {
        self.victims.len() as u64
    }

    fn are_of(&self, volume: &Volume) -> bool {
        self.victims
            .iter()
            .any(|(_, owner)| owner.volume == volume.number())
    }

    /// Looks through the whole cache, after writing back has failed for the victims so far: for a clean one, or else for
    /// dirty ones that can be written back.
    fn look_further(&mut self, client: &Client, failed: Progress) -> Result<Further, NoRoom> {
        let before = self.victims.len();
        if let Some(slot) = self.next_clean(u64::MAX) {
            return Ok(Further::Slot(slot));
        }
        let further = match self.victims.len() > before {
            true => self.write_back(Some(client), None),
            false => failed,
        };
        match further {
            Progress::Failed(error) => Err(NoRoom(Some(error))),
            Progress::NoWriter => Err(NoRoom(None)),
            further => Ok(Further::Progress(further)),
        }
    }

    /// A clean victim beyond those that somebody else is writing back, where it is worth looking.
    fn clean_beside_busy(&mut self) -> Option<SlotNumber> {
        match self.store.is_mostly_dirty() {
            true => None,
            false => self.next_clean(self.len() + MAX_VICTIMS),
        }
    }

    fn first_volume(&self) -> Option<Arc<Volume>> {
        let (_, owner) = self.victims.first()?;
        self.store.volume(owner.volume)
    }

    /// Evicts the next clean victim, collecting dirty ones on the way, at most `most` of them.
    fn next_clean(&mut self, most: u64) -> Option<SlotNumber> {
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
        let evicted = volume.as_ref().map_or(Evicted::Gone, |volume| {
            volume.index().evict(owner.number, slot, &store.directory)
        });
        match evicted {
            Evicted::Yes => {
                if let Some(volume) = volume {
                    self.count_evicted(&volume, owner.number);
                }
                return true;
            }
            Evicted::Pinned => {
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
    fn write_back(
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

    fn write_back_one(
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
    fn keep(&mut self, most: u64, own: Option<VolumeNumber>) {
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
            let evicted = owner.volume == volume.number()
                && volume.index().evict(owner.number, slot, &store.directory) == Evicted::Yes;
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

impl Usage {
    pub(crate) fn is_high(&self) -> bool {
        self.used > self.high
    }
}

/// Above the high threshold: makes room until below the low one. False if that did not work out.
pub(crate) fn reclaim(store: &Store, client: Option<&Client>) -> bool {
    if !store.slots.usage().is_high() {
        return true;
    }
    let volumes = store.volumes().into_iter();
    let worth = volumes.map(|volume| volume.pace.blocks_worth_a_flush());
    let worth = worth.max().unwrap_or(u64::MAX);
    loop {
        let usage = store.slots.usage();
        if usage.used <= usage.low {
            return true;
        }
        let mut victims = DirtyVictims::new(store);
        if let Some(slot) = victims.next_clean(pass_size(usage).min(worth)) {
            store.release(slot);
            store.slots.settle();
            continue;
        }
        let mut progress = victims.write_back(client, None);
        if let Progress::Busy = progress {
            if let Some(slot) = victims.clean_beside_busy() {
                store.release(slot);
                store.slots.settle();
                continue;
            }
            let busy = victims.first_volume();
            drop(victims);
            // Whoever it is makes room too; a request is not held up for that.
            if let Some(busy) = busy.filter(|_| client.is_none()) {
                progress = reclaim_in_turn(store, &busy, worth);
            }
        }
        match progress {
            Progress::Made => {}
            // Those who have all the victims in hand are making room.
            Progress::NothingToDo => return store.slots.in_hands() > 0,
            Progress::Busy | Progress::NoWriter | Progress::Failed(_) => return false,
        }
    }
}

/// Waits until nobody else writes back in a volume, and does it then: requests would else take turns without end,
/// each waking all the others for the few slots of its pass.
fn reclaim_in_turn(store: &Store, volume: &Volume, worth: u64) -> Progress {
    let Some(running) = volume.token.take_turn(LONGEST_TURN) else {
        return Progress::Busy;
    };
    let mut victims = DirtyVictims::new(store);
    if let Some(slot) = victims.next_clean(pass_size(store.slots.usage()).min(worth)) {
        store.release(slot);
        store.slots.settle();
        return Progress::Made;
    }
    if victims.are_of(volume) {
        return victims.write_back_one(volume.number(), None, Some(running));
    }
    // Not held while another volume's origin is waited for.
    drop(running);
    victims.write_back(None, None)
}

/// What requests do themselves where there is no background thread. After a failure they rest
/// for a while: each would try in vain.
pub(crate) fn maintain_inline(client: &Client) {
    let store = client.store();
    let moment = overdue(&client.volume).filter(|_| client.attached.capabilities.write);
    if moment.is_none() && !store.slots.usage().is_high() {
        return;
    }
    let Some(_maintaining) = store.inline.begin(store.clock.now()) else {
        return;
    };
    let mut well = reclaim(store, Some(client));
    if let Some(moment) = moment {
        let volume = &client.volume;
        let _running = volume.token.take();
        let outcome = writeback::pass(volume, &client.attached, Scope::NoLaterThan(moment), true);
        well &= outcome.error.is_none();
    }
    if !well {
        store.inline.pause(store.clock.now());
    }
}

/// What the background thread does each round. False if something did not work out and wants a
/// pause.
pub(crate) fn maintain(store: &Store) -> bool {
    let mut well = reclaim(store, None);
    for volume in store.volumes() {
        let Some(moment) = overdue(&volume) else {
            continue;
        };
        let Some(_running) = volume.token.try_take() else {
            continue;
        };
        if let Some(writer) = volume.attached.borrow_writer() {
            let outcome = writeback::pass(&volume, &writer, Scope::NoLaterThan(moment), true);
            well &= outcome.error.is_none();
        }
    }
    well
}

/// The moment before which everything dirty is too old, if anything is.
fn overdue(volume: &Volume) -> Option<Duration> {
    let store = volume.store();
    let age = store.config.dirty_age?;
    if store.config.mode != Mode::Writeback || volume.is_poisoned() {
        return None;
    }
    let moment = store.clock.now().checked_sub(age)?;
    let oldest = volume.oldest_dirty()?;
    (oldest <= moment).then_some(moment)
}
