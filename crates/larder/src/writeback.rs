//! A writeback pass: dirty → writing → clean.
//!
//! The caller holds the volume's pass token. Dirty runs go out in origin order, joined across blocks, in batches;
//! each request takes its range lock first and only then a stable copy, so that what it sends is the newest and
//! lands after every older request. A batch ends with one flush of the same connection. What the flush covers becomes
//! clean; what was refused, and everything if the flush or any other request's durability failed meanwhile, is dirty again.
//! So *writing* never outlives a pass. A batch that was lost with the origin's connection, or perhaps with another's
//! failure, is sent anew within the pass. An origin that is silent ends the pass (see `attempts.rs`).
//!
//! An item of the plan is a range of bytes, whatever state its sectors are in when it is sent: what was
//! dirty when the flush began may be zero by state by then, and the other way round.

mod attempts;
mod copies;
mod pace;
mod plan;
mod send;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use crate::attached::Attached;
use crate::durability::MOST_RETRIES;
use crate::origin::is_silence;
use crate::planted::{Bug, is_planted};
use crate::sector::{BlockNumber, Mask};
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind, survival};
use attempts::Attempts;
use copies::Copies;
use plan::{Item, Plan};
use send::{Sent, longest_request, send};

pub(crate) use pace::Pace;
pub(crate) use send::zero_origin;

/// The most that requests in flight copy, in bytes, as long as it is more than one of them.
const IN_FLIGHT_BYTES: u64 = 64 << 20;
/// So much may be in flight however slow the origin is; what is more is so many of the longest requests, which says how
/// slow it is.
const LITTLE_IN_FLIGHT_BYTES: u64 = 8 << 20;
const LONGEST_IN_FLIGHT: u64 = 4;
/// The most requests in flight.
const IN_FLIGHT: usize = 16;
/// What is written back only because of its age waits so long before each request for clients that read from the origin.
const PATIENCE: Duration = Duration::from_millis(20);

/// What a pass takes.
pub(crate) enum Scope {
    /// Everything dirty when the pass starts.
    All,
    /// The dirty sectors of these blocks, which are in order.
    Blocks(Vec<BlockNumber>),
    /// What became dirty no later than this.
    NoLaterThan(Duration),
}

/// What came of a pass.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The first failure.
    pub error: Option<Error>,
    /// The origin answered nothing.
    pub is_silent: bool,
    /// Sectors that are clean now.
    pub settled_sectors: u64,
    /// How often a batch was sent anew.
    retries: u32,
}

/// How a pass is run.
#[derive(Clone, Copy)]
struct How {
    /// Each batch ends with a flush of the origin.
    flushing: bool,
    /// Nobody waits for it.
    gives_way: bool,
}

/// Runs a pass through one connection to the origin. With `flushing` each batch ends with a flush of the origin.
pub(crate) fn pass(volume: &Volume, writer: &Attached, scope: Scope, flushing: bool) -> Outcome {
    // A panic in the middle leaves sectors *writing* that nobody settles.
    let _guard = volume.poison_on_panic();
    let gives_way = matches!(scope, Scope::NoLaterThan(_));
    let (numbers, zeros) = match scope {
        Scope::All => volume.unsettled_now(),
        Scope::Blocks(numbers) => (numbers, Vec::new()),
        Scope::NoLaterThan(moment) => {
            let (_, zeros) = volume.unsettled_now();
            (
                volume.with_dirty(|dirty| dirty.no_later_than(moment)),
                zeros,
            )
        }
    };
    let how = How {
        flushing,
        gives_way,
    };
    let mut plan = Plan::new(volume, numbers);
    plan.add_zeros(&zeros);
    let mut outcome = Outcome::default();
    loop {
        let batch = plan.next_batch(longest_request(volume, writer));
        if batch.is_empty() {
            return outcome;
        }
        let settled = run_batch(volume, writer, &batch, how, &mut outcome);
        outcome.settled_sectors += settled;
        if settled == 0 && outcome.error.is_some() {
            return outcome;
        }
    }
}

/// These blocks and the dirty ones around them, which cost little more to write.
pub(crate) fn with_dirty_neighbours(volume: &Volume, numbers: &[BlockNumber]) -> Vec<BlockNumber> {
    const NEIGHBOURS: u64 = 16;
    let mut all: BTreeSet<BlockNumber> = numbers.iter().copied().collect();
    volume.with_dirty(|dirty| {
        for number in numbers {
            let above = (1..=NEIGHBOURS).map_while(|by| number.0.checked_add(by));
            let below = (1..=NEIGHBOURS).map_while(|by| number.0.checked_sub(by));
            all.extend(
                above
                    .map(BlockNumber)
                    .take_while(|number| dirty.contains(*number)),
            );
            all.extend(
                below
                    .map(BlockNumber)
                    .take_while(|number| dirty.contains(*number)),
            );
        }
    });
    all.into_iter().collect()
}

/// Sends a batch and settles it, anew if the origin has lost it meanwhile. Gives the number of sectors that are
/// clean now.
fn run_batch(
    volume: &Volume,
    writer: &Attached,
    batch: &[Item],
    how: How,
    outcome: &mut Outcome,
) -> u64 {
    let clock = &volume.store().clock;
    let ranges: Vec<_> = batch.iter().map(|item| (item.start, item.end)).collect();
    if let Err(error) = survival::revoke(volume, &ranges) {
        outcome.error.get_or_insert(error);
        return 0;
    }
    loop {
        let failures_before = volume.durability.failures(writer);
        let begun = clock.now();
        let mut sent = send_batch(volume, writer, batch, how);
        volume
            .pace
            .note_batch(clock.since(begun), sent.blocks.len());
        if is_planted(Bug::UndirtyBeforeFlush) {
            let _ = unrecord(volume, &sent.blocks);
        }
        // One that answers nothing is not asked once more.
        let flushed = if how.flushing && !sent.is_silent {
            let flush = || writer.flush();
            let (begun, moment) = (clock.now(), volume.unflushed.moment());
            let flushed = volume.durability.attempt(writer, failures_before, flush);
            if flushed.is_ok() {
                volume.note_flushed(writer, moment);
            }
            volume.pace.note_flush(clock.since(begun));
            flushed
        } else {
            Ok(())
        };
        let is_forgotten = is_planted(Bug::LossIsForgotten);
        let is_durable = flushed.is_ok() && !(how.flushing && sent.is_silent);
        // What is clean and still called dirty in the directory is about to turn into room.
        volume.store().slots.take_in_hand();
        let (settled, blocks) = settle(volume, &sent, is_durable || is_forgotten);
        if is_durable && let Err(error) = unrecord(volume, &blocks) {
            outcome.error.get_or_insert(error);
        }
        volume.store().slots.settle();
        volume.store().slots.news().room();
        if let Err(failure) = flushed {
            volume.note_not_durable(&failure);
            if failure.is_passing() && outcome.retries < MOST_RETRIES {
                outcome.retries += 1;
                let why = failure.into_error();
                volume
                    .store()
                    .trace(|| format!("writeback: once more, since {why}"));
                continue;
            }
            let cause = failure.into_error();
            outcome.is_silent |= is_silence(&cause);
            sent.error.get_or_insert(Error::with_source(
                ErrorKind::Origin,
                "flush of the origin",
                cause,
            ));
        }
        outcome.is_silent |= sent.is_silent;
        if let Some(failure) = sent.error {
            outcome.error.get_or_insert(failure);
        }
        return settled;
    }
}

/// The origin has these sectors for good, unless they are dirty again: the directory need not call them dirty any more.
fn unrecord(volume: &Volume, blocks: &[(BlockNumber, Mask)]) -> Result<(), Error> {
    if !volume.flushes_to_cache() || !volume.kept.is_sealed() {
        return Ok(());
    }
    survival::unrecord_blocks(volume, blocks)
}

/// Gives how much was settled, and of each block which sectors: those that nobody has changed since they were sent.
fn settle(volume: &Volume, sent: &Sent, durable: bool) -> (u64, Vec<(BlockNumber, Mask)>) {
    let store = volume.store();
    let mut count = 0;
    let mut blocks = Vec::with_capacity(sent.blocks.len());
    for (number, sectors) in &sent.blocks {
        let pin = volume.pin(*number);
        let mut state = pin.latch();
        let settled = *sectors & state.writing;
        count += u64::from(settled.count());
        blocks.push((*number, settled));
        state.settle(*sectors, durable);
        if durable && !state.dirty.is_empty() {
            volume.with_dirty(|dirty| dirty.renew(*number, store.clock.now()));
        }
    }
    for (start, end) in &sent.zeros {
        volume.with_zeros(|zeros| zeros.settle(*start, *end, durable));
        count += 1;
    }
    (if durable { count } else { 0 }, blocks)
}

/// Sends a batch's requests, several at a time where the origin allows it and is not so quick that one is best.
fn send_batch(volume: &Volume, writer: &Attached, batch: &[Item], how: How) -> Sent {
    // What was planned as zeros may carry data by now.
    let limit = longest_request(volume, writer);
    let longest = batch
        .iter()
        .map(|item| (item.end - item.start).min(limit))
        .max();
    let bytes = (LONGEST_IN_FLIGHT * limit).clamp(LITTLE_IN_FLIGHT_BYTES, IN_FLIGHT_BYTES);
    let by_bytes = (bytes / longest.unwrap_or(1).max(1)).max(1) as usize;
    let most = match writer.capabilities.parallel {
        true => IN_FLIGHT.min(by_bytes).min(batch.len()),
        false => 1,
    };
    let left = Mutex::new(batch.iter());
    let all = Mutex::new(Sent::default());
    let attempts = Attempts::new(writer);
    let clock = &volume.store().clock;
    let send_next = |copies: &mut Copies, sent: &mut Sent| {
        if attempts.is_silent() {
            return None;
        }
        let item = sync::lock(&left).next()?;
        if how.gives_way {
            volume.foreground.give_way(PATIENCE);
        }
        let begun = clock.now();
        send(volume, &attempts, item, copies, sent);
        volume.pace.note_request(clock.since(begun));
        Some(())
    };
    let help = || {
        let (mut copies, mut sent) = (Copies::new(limit), Sent::default());
        while send_next(&mut copies, &mut sent).is_some() {}
        sync::lock(&all).append(sent);
    };
    std::thread::scope(|scope| {
        let (mut copies, mut sent) = (Copies::new(limit), Sent::default());
        let mut threads = 1;
        loop {
            let wanted = most.min(volume.pace.threads(sync::lock(&left).len()));
            while threads < wanted {
                // Where there are no more threads to be had, fewer must do.
                let helper = std::thread::Builder::new().spawn_scoped(scope, help);
                threads = if helper.is_ok() { threads + 1 } else { most };
            }
            if send_next(&mut copies, &mut sent).is_none() {
                break;
            }
        }
        sync::lock(&all).append(sent);
    });
    let all = all.into_inner();
    let mut sent = all.unwrap_or_else(std::sync::PoisonError::into_inner);
    sent.is_silent = attempts.is_silent();
    sent
}
