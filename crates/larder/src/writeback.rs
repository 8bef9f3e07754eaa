//! A writeback pass: dirty → writing → clean.
//!
//! The caller holds the volume's pass token. Dirty runs go out in origin order, joined across blocks, in batches;
//! each request takes its range lock first and only then a stable copy, so that what it sends is the newest and
//! lands after every older request. A batch ends with one flush of the same connection. What the flush covers becomes
//! clean; what was refused, and everything if the flush or any other request's durability failed meanwhile, is dirty again.
//! So *writing* never outlives a pass.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::attached::Attached;
use crate::origin::{MAX_RANGE_BYTES, ZeroOptions};
use crate::sector::{BlockNumber, Mask};
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind, planted};

/// The longest joined request, in bytes, where the origin allows it.
const REQUEST_BYTES: u64 = 16 << 20;
/// The most that requests in flight copy, in bytes, as long as it is more than one of them.
const IN_FLIGHT_BYTES: u64 = 64 << 20;
/// The most requests in flight.
const IN_FLIGHT: usize = 16;
/// The most data between two flushes, in bytes.
const BATCH_BYTES: u64 = 256 << 20;
/// The most requests between two flushes.
const BATCH_ITEMS: usize = 16384;
/// How many parts in a row may fail before a refused joined request is given up.
const GIVE_UP_AFTER: u32 = 4;

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
    /// Sectors that are clean now.
    pub settled_sectors: u64,
}

/// One request to the origin, in bytes.
#[derive(Clone, Copy, Debug)]
struct Item {
    start: u64,
    end: u64,
    is_zero: bool,
}

/// What a batch has sent and not settled.
#[derive(Default)]
struct Sent {
    blocks: Vec<(BlockNumber, Mask)>,
    zeros: Vec<(u64, u64)>,
    error: Option<Error>,
}

/// Runs a pass through one connection to the origin. With `flushing` each batch ends with a flush of the origin.
pub(crate) fn pass(volume: &Volume, writer: &Attached, scope: Scope, flushing: bool) -> Outcome {
    let _guard = PoisonOnPanic(volume);
    let (numbers, with_zeros) = match scope {
        Scope::All => (volume.with_dirty(|dirty| dirty.all()), true),
        Scope::Blocks(numbers) => (numbers, false),
        Scope::NoLaterThan(moment) => {
            (volume.with_dirty(|dirty| dirty.no_later_than(moment)), true)
        }
    };
    let mut plan = Plan {
        volume,
        longest: longest_request(volume, writer),
        items: VecDeque::new(),
        numbers: numbers.into(),
    };
    if with_zeros && volume.zero_ranges() > 0 {
        plan.add_zeros();
    }
    let mut outcome = Outcome::default();
    loop {
        let batch = plan.next_batch();
        if batch.is_empty() {
            return outcome;
        }
        let settled = run_batch(volume, writer, &batch, flushing, &mut outcome.error);
        outcome.settled_sectors += settled;
        if settled == 0 && outcome.error.is_some() {
            return outcome;
        }
    }
}

/// A panic in the middle leaves sectors *writing* that nobody settles: the volume must not go on,
/// whoever's thread it was.
struct PoisonOnPanic<'v>(&'v Volume);

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison();
        }
    }
}

fn longest_request(volume: &Volume, writer: &Attached) -> u64 {
    let sector = volume.geometry().sector_bytes();
    let longest = REQUEST_BYTES.min(writer.maximum_bytes() as u64);
    (longest / sector * sector).max(sector)
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

/// The requests still to be made.
struct Plan<'v> {
    volume: &'v Volume,
    longest: u64,
    items: VecDeque<Item>,
    numbers: VecDeque<BlockNumber>,
}

impl Plan<'_> {
    fn add_zeros(&mut self) {
        let ranges: Vec<(u64, u64)> = self.volume.with_zeros(|zeros| {
            zeros
                .overlapping(0, u64::MAX)
                .map(|range| (range.start, range.end))
                .collect()
        });
        for (start, end) in ranges {
            let mut at = start;
            while at < end {
                let stop = end.min(at + MAX_RANGE_BYTES / 2);
                self.items.push_back(Item {
                    start: at,
                    end: stop,
                    is_zero: true,
                });
                at = stop;
            }
        }
    }

    fn next_batch(&mut self) -> Vec<Item> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            if self.items.is_empty() {
                self.plan_blocks();
            }
            let Some(item) = self.items.pop_front() else {
                break;
            };
            if !item.is_zero {
                bytes += item.end - item.start;
            }
            batch.push(item);
        }
        batch
    }

    /// Plans the dirty runs of the next blocks, joining neighbours across blocks.
    fn plan_blocks(&mut self) {
        const BLOCKS_AT_ONCE: usize = 8192;
        let geometry = self.volume.geometry();
        let directory = &self.volume.store().directory;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let count = self.numbers.len().min(BLOCKS_AT_ONCE);
        for number in self.numbers.drain(..count) {
            let existing = self.volume.existing(number);
            let state = self.volume.index().peek(number, existing, directory);
            for run in state.dirty.runs() {
                let (start, end) = geometry.bytes_of(number, run, self.volume.size());
                match runs.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    _ => runs.push((start, end)),
                }
            }
        }
        for (start, end) in runs {
            let mut at = start;
            while at < end {
                let stop = end.min(at + self.longest);
                self.items.push_back(Item {
                    start: at,
                    end: stop,
                    is_zero: false,
                });
                at = stop;
            }
        }
        if self.items.is_empty() && !self.numbers.is_empty() {
            self.plan_blocks();
        }
    }
}

/// Sends a batch and settles it. Gives the number of sectors that are clean now.
fn run_batch(
    volume: &Volume,
    writer: &Attached,
    batch: &[Item],
    flushing: bool,
    error: &mut Option<Error>,
) -> u64 {
    let failures_before = volume.durability_failures.load(Ordering::SeqCst);
    let mut sent = send_batch(volume, writer, batch);
    let mut durable = true;
    if flushing {
        if let Err(cause) = writer.flush() {
            volume.durability_failed();
            let failure = Error::with_source(ErrorKind::Origin, "flush of the origin", cause);
            sent.error.get_or_insert(failure);
            durable = false;
        } else if volume.durability_failures.load(Ordering::SeqCst) != failures_before {
            let message = "another request's durability failed while data was written back";
            sent.error
                .get_or_insert(Error::new(ErrorKind::Origin, message));
            durable = false;
        }
    }
    let settled = settle(volume, &sent, durable);
    if let Some(failure) = sent.error {
        error.get_or_insert(failure);
    }
    settled
}

fn settle(volume: &Volume, sent: &Sent, durable: bool) -> u64 {
    let store = volume.store();
    let mut settled = 0;
    for (number, sectors) in &sent.blocks {
        let pin = volume.pin(*number);
        let mut state = pin.latch();
        settled += u64::from((*sectors & state.writing).count());
        state.settle(*sectors, durable);
        if durable && !state.dirty.is_empty() {
            volume.with_dirty(|dirty| dirty.renew(*number, store.clock.now()));
        }
    }
    for (start, end) in &sent.zeros {
        volume.with_zeros(|zeros| zeros.settle(*start, *end, durable));
        settled += 1;
    }
    if durable { settled } else { 0 }
}

/// Sends a batch's requests, several at a time where the origin allows it.
fn send_batch(volume: &Volume, writer: &Attached, batch: &[Item]) -> Sent {
    let longest = batch
        .iter()
        .filter(|item| !item.is_zero)
        .map(|item| item.end - item.start)
        .max();
    let by_memory = (IN_FLIGHT_BYTES / longest.unwrap_or(1).max(1)).max(1) as usize;
    let workers = IN_FLIGHT.min(by_memory).min(batch.len());
    if workers <= 1 || !writer.capabilities.parallel {
        let mut sent = Sent::default();
        for item in batch {
            send(volume, writer, item, &mut sent);
        }
        return sent;
    }
    let left = Mutex::new(batch.iter());
    let all = Mutex::new(Sent::default());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut sent = Sent::default();
                loop {
                    let item = sync::lock(&left).next();
                    let Some(item) = item else { break };
                    send(volume, writer, item, &mut sent);
                }
                let mut all = sync::lock(&all);
                all.blocks.append(&mut sent.blocks);
                all.zeros.append(&mut sent.zeros);
                if let Some(error) = sent.error {
                    all.error.get_or_insert(error);
                }
            });
        }
    });
    all.into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn send(volume: &Volume, writer: &Attached, item: &Item, sent: &mut Sent) {
    let is_swapped = planted::is_planted(planted::Bug::WritebacksSwapped);
    let _range = (!is_swapped).then(|| volume.ranges.lock(item.start, item.end));
    if item.is_zero {
        send_zeros(volume, writer, item, sent);
    } else {
        send_data(volume, writer, item, sent);
    }
}

fn send_zeros(volume: &Volume, writer: &Attached, item: &Item, sent: &mut Sent) {
    // Taken with the range lock held: a write that went through meanwhile has removed its part.
    let ranges = volume.with_zeros(|zeros| zeros.take_dirty(item.start, item.end));
    for range in ranges {
        let options = ZeroOptions {
            may_trim: range.may_trim,
            ..ZeroOptions::default()
        };
        match zero_origin(writer, range.start, range.end, options) {
            Ok(()) => {
                volume.store().trace(|| {
                    format!(
                        "writeback zeros at {} for {}",
                        range.start,
                        range.end - range.start
                    )
                });
                sent.zeros.push((range.start, range.end));
            }
            Err(cause) => {
                volume.with_zeros(|zeros| zeros.settle(range.start, range.end, false));
                refused(volume, sent, "zero", (range.start, range.end), cause);
            }
        }
    }
}

/// Zeros a range of the origin, by writing where it has no other way.
pub(crate) fn zero_origin(
    writer: &Attached,
    start: u64,
    end: u64,
    options: ZeroOptions,
) -> std::io::Result<()> {
    let mut at = start;
    if writer.capabilities.zero {
        while at < end {
            let stop = end.min(at + MAX_RANGE_BYTES / 2);
            writer.origin.zero(at, stop - at, options)?;
            at = stop;
        }
        return Ok(());
    }
    let zeros = vec![
        0;
        (end - start)
            .min(writer.maximum_bytes() as u64)
            .min(REQUEST_BYTES) as usize
    ];
    while at < end {
        let part = ((end - at) as usize).min(zeros.len());
        writer.origin.write(at, &zeros[..part], options.fua)?;
        at += part as u64;
    }
    Ok(())
}

fn refused(
    volume: &Volume,
    sent: &mut Sent,
    what: &str,
    (start, end): (u64, u64),
    cause: std::io::Error,
) {
    volume.store().stats.writeback_errors.add(1);
    let context = format!("writeback: {what} of {} bytes at {start}", end - start);
    volume
        .store()
        .trace(|| format!("{context} failed: {cause}"));
    sent.error
        .get_or_insert(Error::with_source(ErrorKind::Origin, context, cause));
}

/// A stable copy of neighbouring dirty sectors, and what it was taken from.
struct Copied {
    start: u64,
    data: Vec<u8>,
    blocks: Vec<(BlockNumber, Mask)>,
}

fn send_data(volume: &Volume, writer: &Attached, item: &Item, sent: &mut Sent) {
    for copied in copy_dirty(volume, item, sent) {
        let end = copied.start + copied.data.len() as u64;
        let Err(cause) = write_counted(volume, writer, copied.start, &copied.data) else {
            sent.blocks.extend(copied.blocks);
            continue;
        };
        if copied.blocks.len() == 1 {
            unsend(volume, &copied.blocks);
            refused(volume, sent, "write", (copied.start, end), cause);
        } else {
            send_apart(volume, writer, &copied, sent);
        }
    }
}

fn write_counted(
    volume: &Volume,
    writer: &Attached,
    start: u64,
    data: &[u8],
) -> std::io::Result<()> {
    volume
        .store()
        .trace(|| format!("writeback {} bytes at {start}", data.len()));
    writer.write(start, data, false)?;
    volume
        .store()
        .stats
        .origin_write_bytes
        .add(data.len() as u64);
    Ok(())
}

fn unsend(volume: &Volume, blocks: &[(BlockNumber, Mask)]) {
    for (number, sectors) in blocks {
        volume.pin(*number).latch().settle(*sectors, false);
    }
}

/// A joined request was refused: its blocks one by one, so that one bad place keeps only itself.
fn send_apart(volume: &Volume, writer: &Attached, copied: &Copied, sent: &mut Sent) {
    let mut at = 0;
    let mut failures_in_a_row = 0;
    let size = volume.size();
    let geometry = volume.geometry();
    for (number, sectors) in &copied.blocks {
        let (start, end) = sectors
            .hull()
            .map_or((0, 0), |hull| geometry.bytes_of(*number, hull, size));
        let data = &copied.data[at..at + (end - start) as usize];
        at += data.len();
        let result = if failures_in_a_row < GIVE_UP_AFTER {
            write_counted(volume, writer, start, data)
        } else {
            Err(std::io::Error::other(
                "not tried after its neighbours failed",
            ))
        };
        match result {
            Ok(()) => {
                failures_in_a_row = 0;
                sent.blocks.push((*number, *sectors));
            }
            Err(cause) => {
                failures_in_a_row += 1;
                unsend(volume, &[(*number, *sectors)]);
                refused(volume, sent, "write", (start, end), cause);
            }
        }
    }
}

/// Takes the dirty sectors of a range, with the range lock held: they are *writing* from now on.
fn copy_dirty(volume: &Volume, item: &Item, sent: &mut Sent) -> Vec<Copied> {
    let geometry = volume.geometry();
    let size = volume.size();
    let mut copies: Vec<Copied> = Vec::new();
    for piece in geometry.pieces(item.start, item.end - item.start) {
        let pin = volume.pin(piece.number);
        let mut state = pin.latch();
        let Some(slot) = state.slot else {
            continue;
        };
        let base = geometry.base(piece.number);
        for run in (state.dirty & geometry.whole(&piece, size)).runs() {
            let (start, end) = geometry.bytes_of(piece.number, run, size);
            let joins = copies
                .last()
                .is_some_and(|last| last.start + last.data.len() as u64 == start);
            if !joins {
                copies.push(Copied {
                    start,
                    data: Vec::with_capacity((item.end - start) as usize),
                    blocks: Vec::new(),
                });
            }
            let Some(copied) = copies.last_mut() else {
                continue;
            };
            let from = copied.data.len();
            copied.data.resize(from + (end - start) as usize, 0);
            let read = volume
                .store()
                .slots
                .read(slot, start - base, &mut copied.data[from..]);
            if let Err(cause) = read {
                copied.data.truncate(from);
                unreadable(volume, sent, (start, end), cause);
                continue;
            }
            let sectors = Mask::span(run.0, run.1);
            state.dirty -= sectors;
            state.writing |= sectors;
            copied.blocks.push((piece.number, sectors));
        }
    }
    copies.retain(|copied| !copied.data.is_empty());
    copies
}

fn unreadable(volume: &Volume, sent: &mut Sent, (start, end): (u64, u64), cause: std::io::Error) {
    let store = volume.store();
    store.stats.writeback_errors.add(1);
    let context = format!(
        "volume '{}': the cache file cannot be read back at {start} for {} bytes that the origin does not have",
        volume.name(),
        end - start
    );
    store.log.error(&format!("{context}: {cause}"));
    sent.error
        .get_or_insert(Error::with_source(ErrorKind::CacheFile, context, cause));
}
