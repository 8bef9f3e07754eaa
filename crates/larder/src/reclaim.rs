//! Making room and writing back ahead of need, by the background thread or, where there is none, inside requests.

use std::time::Duration;

use crate::client::Client;
use crate::config::Mode;
use crate::room::victims::{DirtyVictims, Progress, pass_size};
use crate::store::Store;
use crate::volume::Volume;
use crate::writeback::{self, Scope};

/// How long the background thread waits for somebody else's writeback.
const LONGEST_TURN: Duration = Duration::from_millis(50);

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
    send_queued_inline(client);
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

/// What is queued for the origin and is old, or much.
fn send_queued_inline(client: &Client) {
    let store = client.store();
    let queued = client.attached.queued.as_ref();
    let Some(queued) = queued.filter(|_| client.attached.capabilities.write) else {
        return;
    };
    if !queued.is_due(store.config.dirty_age) {
        return;
    }
    let now = store.clock.now();
    if let Some(_maintaining) = store.inline.begin(now)
        && let Err(error) = queued.send_one()
    {
        store.trace(|| format!("what is queued for the origin waits: {error}"));
        store.inline.pause(now);
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

/// The moment before which everything dirty is too old, or too much, if anything is.
fn overdue(volume: &Volume) -> Option<Duration> {
    let store = volume.store();
    if store.config.mode != Mode::Writeback || volume.is_poisoned() {
        return None;
    }
    let now = store.clock.now();
    let moment = match store.has_much_dirty() {
        true => now,
        false => now.checked_sub(store.config.dirty_age?)?,
    };
    let oldest = volume.oldest_dirty()?;
    (oldest <= moment).then_some(moment)
}
