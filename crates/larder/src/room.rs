//! Making room: free slots, evictions, and writing back what stands in the way.
//!
//! Waiting for room is done holding nothing. A dirty victim is kept out of the policy's sight
//! while it is written back, and counts as in hand meanwhile, so that nobody concludes that there is
//! nothing to wait for. Pinned blocks are never a reason to give up: they will be let go.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::Error;
use crate::client::Client;
use crate::directory::SlotNumber;
use crate::store::Store;
use crate::sync;

pub(crate) mod victims;

use victims::{DirtyVictims, Further, MAX_VICTIMS, Progress, pass_size};

/// The most dirty victims that are passed over where nobody wants to wait.
const FEW_VICTIMS: u64 = 16;

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
        let is_wanted = store.slots.usage().is_high() || store.has_much_dirty();
        if !self.slots.is_empty() && store.config.background && is_wanted {
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
