//! What is done for the directory in the background: checksums, listing, checkpoints.

use std::time::{Duration, Instant};

use super::distrust::distrust_slots;
use super::freeze::sync_slots;
use super::tell::Scope;
use super::{Survival, sum};
use crate::config::Mode;
use crate::directory::SlotNumber;
use crate::persist::journal::CommitError;
use crate::persist::open_error::OpenError;
use crate::store::Store;
use crate::sync;

/// How long the disk is left to others after each part of the work.
const REST: Duration = Duration::from_millis(100);
/// The same while clients have things made durable: each part has everything that was written to slots since the last one written to the disk
/// that they wait for.
const REST_BESIDE_CLIENTS: Duration = Duration::from_millis(500);
/// So much is summed in one part, in bytes; beside clients it is more, since parts are fewer.
const SUMMED_AT_ONCE: u64 = 16 << 20;
const SUMMED_BESIDE_CLIENTS: u64 = 48 << 20;
/// So many blocks are listed in one commit, which others may have to wait for.
const LISTED_AT_ONCE: usize = 4096;
/// So many commits are made for what has left its slot before other work has its turn.
const MOST_COMMITS: usize = 256;

impl Survival {
    /// Whether so much of the journal is used that the background should make room.
    pub(super) fn wants_checkpoint(&self, store: &Store) -> bool {
        let journal = self.home.journal();
        match store.flushes_to_cache() {
            true => journal.should_freeze(),
            false => journal.is_half_full(),
        }
    }

    /// One checkpoint at a time: who comes second finds that it has been done. False if it freed nothing.
    pub(super) fn checkpoint(&self, store: &Store) -> Result<bool, OpenError> {
        let _one = sync::lock(&self.checkpointing);
        self.home.checkpoint().inspect_err(|error| {
            if error.is_of_slots() {
                distrust_slots(store, self, &error.to_string());
            }
        })
    }
}

/// What the thread that looks after the directory does each round. False if something did not work out.
pub(crate) fn maintain(store: &Store, survival: &Survival) -> bool {
    let done = sum_quiet(store, survival).and_then(|()| vouch(survival));
    match done {
        Ok(()) => true,
        Err(why) => {
            let path = &survival.path;
            let message = format!("cache directory '{path}': {why}");
            if survival.complaints.is_new(&message) {
                store.log.warning(&message);
            }
            false
        }
    }
}

/// Sums what is quiet, and lists it part by part.
fn sum_quiet(store: &Store, survival: &Survival) -> Result<(), String> {
    let mut part_bytes = SUMMED_AT_ONCE;
    loop {
        let is_more = sum::sum_some(store, survival, part_bytes);
        let is_more = is_more.map_err(|error| format!("checksums of what is cached: {error}"))?;
        list(store, survival)?;
        checkpoint(store, survival)?;
        if !is_more {
            return Ok(());
        }
        part_bytes = match rest(store, survival)? {
            Rested::Alone => SUMMED_AT_ONCE,
            Rested::BesideClients => SUMMED_BESIDE_CLIENTS,
            Rested::Stopped => return Ok(()),
        };
    }
}

/// What a rest was like.
enum Rested {
    Alone,
    BesideClients,
    Stopped,
}

/// Leaves the disk to others. Room in the journal is made meanwhile, where that is asked for.
fn rest(store: &Store, survival: &Survival) -> Result<Rested, String> {
    let asked = survival.times_asked();
    let begun = Instant::now();
    loop {
        let (longest, rested) = match survival.times_asked() == asked {
            true => (REST, Rested::Alone),
            false => (REST_BESIDE_CLIENTS, Rested::BesideClients),
        };
        let left = longest.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(rested);
        }
        if !survival.maintenance.wait(left) {
            return Ok(Rested::Stopped);
        }
        checkpoint(store, survival)?;
        if survival.wants_checkpoint(store) {
            // It could not make room: who asks for more now asks in vain for a while.
            return Ok(match survival.maintenance.rest(REST) {
                true => rested,
                false => Rested::Stopped,
            });
        }
    }
}

/// Lists what was summed, and tells of what has left its slot.
fn list(store: &Store, survival: &Survival) -> Result<(), String> {
    let list = match store.config.mode {
        Mode::Unsafe => Vec::new(),
        _ => std::mem::take(&mut *sync::lock(&survival.to_list)),
    };
    if list.is_empty() && survival.gone.is_empty() && sync::lock(&survival.pending).is_empty() {
        return Ok(());
    }
    let listed = list_all(store, survival, &list);
    let is_left =
        |slot: &SlotNumber| survival.marks.is_summed(*slot) && !survival.marks.is_listed(*slot);
    // Somebody was writing back, or the origin had not flushed, or it failed.
    let left = list.into_iter().filter(is_left);
    sync::lock(&survival.to_list).extend(left);
    listed
}

fn list_all(store: &Store, survival: &Survival, list: &[SlotNumber]) -> Result<(), String> {
    if !list.is_empty() {
        // Data and checksums before what points to them. What is written from here on is not summed any more.
        sync_listed(store, survival)?;
        let synced = survival.home.sync_sums();
        synced.map_err(|error| survival.fail(&error.to_string()))?;
    }
    let mut parts = list.chunks(LISTED_AT_ONCE).map(<[SlotNumber]>::to_vec);
    let first = Some(parts.next().unwrap_or_default());
    for list in first.into_iter().chain(parts) {
        let scope = Scope {
            list,
            ..Scope::default()
        };
        survival
            .tell(store, scope)
            .map_err(|error| error.to_string())?;
    }
    tell_gone(store, survival).map_err(|error| error.to_string())
}

/// Nothing is listed any more once the journal is dead, but what the slots lose is to be noticed.
fn sync_listed(store: &Store, survival: &Survival) -> Result<(), String> {
    if survival.home.journal().failure().is_none() {
        return sync_slots(store, survival).map_err(|error| error.to_string());
    }
    store.slots.sync_again().map_err(|error| {
        let why = error.to_string();
        distrust_slots(store, survival, &why);
        why
    })
}

/// Has the directory hear of everything that has left its slot, some at a time.
fn tell_gone(store: &Store, survival: &Survival) -> Result<(), CommitError> {
    for _ in 0..MOST_COMMITS {
        if survival.gone.is_empty() {
            break;
        }
        survival.tell(store, Scope::default())?;
    }
    Ok(())
}

/// So that damage to the last frame can be told from a frame that a crash tore off. Whoever commits just now does it as well.
fn vouch(survival: &Survival) -> Result<(), String> {
    let journal = survival.home.journal();
    match survival.commits.try_alone(|| journal.vouch()) {
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn checkpoint(store: &Store, survival: &Survival) -> Result<(), String> {
    if !survival.wants_checkpoint(store) {
        return Ok(());
    }
    if store.flushes_to_cache() {
        if !survival.journaled.is_empty() {
            // The freeze does it again while nobody can commit: then there is little left of it.
            sync_slots(store, survival).map_err(|error| error.to_string())?;
        }
        survival.freeze(store).map_err(|error| error.to_string())?;
    }
    let done = survival.checkpoint(store);
    done.map(drop).map_err(|error| error.to_string())
}

impl Survival {
    /// A sync that failed once proves nothing later: from here on nothing is listed any more.
    fn fail(&self, why: &str) -> String {
        self.home.journal().fail(why).to_string()
    }
}
