//! What is done for the directory in the background: checksums, listing, checkpoints.

use std::time::Duration;

use super::distrust::distrust_slots;
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
/// So much longer while clients have things made durable: each part writes what has been cached since the last one to the disk that they wait for.
const REST_BESIDE_CLIENTS: Duration = Duration::from_millis(400);
/// So many blocks are listed in one commit, which others may have to wait for.
const LISTED_AT_ONCE: usize = 4096;
/// So many commits are made for what has left its slot before other work has its turn.
const MOST_COMMITS: usize = 256;

impl Survival {
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
    loop {
        let is_more = sum::sum_some(store, survival);
        let is_more = is_more.map_err(|error| format!("checksums of what is cached: {error}"))?;
        list(store, survival)?;
        checkpoint(store, survival)?;
        if !is_more || !rest(survival) {
            return Ok(());
        }
    }
}

/// False once stopped.
fn rest(survival: &Survival) -> bool {
    let asked = survival.times_asked();
    survival.maintenance.rest(REST)
        && (survival.times_asked() == asked || survival.maintenance.wait(REST_BESIDE_CLIENTS))
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
        let synced = store.slots.sync();
        synced.map_err(|error| {
            let why = survival.fail(&format!("slots cannot be synced: {error}"));
            distrust_slots(store, survival, &why);
            why
        })?;
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
    let journal = survival.home.journal();
    if store.flushes_to_cache() {
        if !journal.should_freeze() {
            return Ok(());
        }
        survival.freeze(store).map_err(|error| error.to_string())?;
    } else if !journal.is_half_full() {
        return Ok(());
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
