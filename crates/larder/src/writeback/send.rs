//! Sending one item of a pass.
//!
//! The range lock comes first, then a stable copy, then the request: so it holds the newest and lands
//! after every older one. A block's zeros and its dirty sectors are taken under one latch, since they may turn into
//! each other; the origin is asked with no latch held.

use std::io;
use std::ops::Range;

use super::attempts::Attempts;
use super::copies::Copies;
use super::plan::Item;
use crate::attached::Attached;
use crate::latch::{Latch, Latched};
use crate::origin::{MAX_RANGE_BYTES, ZeroOptions, is_silence};
use crate::planted::{Bug, is_planted};
use crate::sector::{BlockNumber, Mask, Piece};
use crate::volume::Volume;
use crate::zero_map::ZeroRange;
use crate::{Error, ErrorKind};

/// The longest request of zeros that are written as data, in bytes.
const WRITTEN_ZEROS_BYTES: u64 = 16 << 20;
/// Zeros over more blocks than this are not taken block by block.
const MANY_BLOCKS: u64 = 256;
/// How many parts in a row may fail before a refused joined request is given up.
const GIVE_UP_AFTER: u32 = 4;

/// What a batch has sent and not settled.
#[derive(Default)]
pub(super) struct Sent {
    pub blocks: Vec<(BlockNumber, Mask)>,
    pub zeros: Vec<(u64, u64)>,
    pub error: Option<Error>,
    /// The origin answers nothing, and the rest was not tried.
    pub is_silent: bool,
}

impl Sent {
    /// Adds what another worker sent.
    pub(super) fn append(&mut self, mut other: Self) {
        self.blocks.append(&mut other.blocks);
        self.zeros.append(&mut other.zeros);
        if let Some(error) = other.error {
            self.error.get_or_insert(error);
        }
    }
}

/// A stable copy of neighbouring dirty sectors, and what it was taken from.
struct Copied {
    start: u64,
    /// Where it is among the copies.
    place: Range<usize>,
    blocks: Vec<Taken>,
}

/// Neighbouring sectors of a block in a stable copy.
#[derive(Clone, Copy)]
struct Taken {
    number: BlockNumber,
    sectors: Mask,
    length: usize,
}

/// What is ready to be sent, and may still grow.
enum Pending {
    Nothing,
    Zeros(ZeroRange),
    Data(Copied),
}

/// What a block has to send, in order.
enum Part {
    Zeros(ZeroRange),
    Data {
        start: u64,
        place: Range<usize>,
        sectors: Mask,
    },
}

impl Part {
    fn start(&self) -> u64 {
        match self {
            Self::Zeros(range) => range.start,
            Self::Data { start, .. } => *start,
        }
    }
}

/// The longest request to make of a volume's origin now, in whole sectors.
pub(super) fn longest_request(volume: &Volume, writer: &Attached) -> u64 {
    let sector = volume.geometry().sector_bytes();
    let longest = volume
        .pace
        .request_bytes()
        .min(writer.maximum_bytes() as u64);
    (longest / sector * sector).max(sector)
}

/// Sends what is unsettled within an item.
pub(super) fn send(
    volume: &Volume,
    attempts: &Attempts<'_>,
    item: &Item,
    copies: &mut Copies,
    sent: &mut Sent,
) {
    let is_swapped = is_planted(Bug::WritebacksSwapped);
    let _range = (!is_swapped).then(|| volume.ranges.lock(item.start, item.end));
    let geometry = volume.geometry();
    let length = item.end - item.start;
    copies.begin(if item.is_zero { 0 } else { length });
    let mut sending = Sending {
        volume,
        attempts,
        pending: Pending::Nothing,
        copies,
        sent,
    };
    if item.is_zero && length / geometry.block_bytes() > MANY_BLOCKS {
        sending.take_many(item);
    } else {
        for piece in geometry.pieces(item.start, length) {
            sending.take_in_parts(&piece);
        }
    }
    sending.send_pending();
}

/// An item under way.
struct Sending<'a> {
    volume: &'a Volume,
    attempts: &'a Attempts<'a>,
    pending: Pending,
    copies: &'a mut Copies,
    sent: &'a mut Sent,
}

impl Sending<'_> {
    /// The same as taking block by block, for zeros over many blocks: those between the blocks that
    /// are known are taken at once.
    fn take_many(&mut self, item: &Item) {
        let volume = self.volume;
        let mut zeros = Vec::new();
        let mut known = Vec::new();
        volume.between_known(item.start, item.end, |gaps, found| {
            known = found.to_vec();
            volume.with_zeros(|map| {
                for (start, end) in gaps {
                    zeros.extend(map.take_dirty(*start, *end));
                }
            });
        });
        for range in zeros {
            self.add(BlockNumber(0), Part::Zeros(range));
        }
        for piece in known {
            self.take_in_parts(&piece);
        }
    }

    /// Takes a piece of a block, no more at once than one request sends.
    fn take_in_parts(&mut self, piece: &Piece) {
        let mut start = piece.start;
        while start < piece.end {
            let end = piece.end.min(start + self.copies.longest());
            self.make_room(end - start);
            self.take(&Piece {
                start,
                end,
                ..*piece
            });
            start = end;
        }
    }

    /// Sends what is pending where there would be more copies than one request holds.
    fn make_room(&mut self, length: u64) {
        if !self.copies.have_room(length) {
            self.send_pending();
            self.copies.begin(0);
        }
    }

    /// Takes what is unsettled in a part of a block: it is *writing* from now on.
    fn take(&mut self, piece: &Piece) {
        let volume = self.volume;
        let directory = &volume.store().directory;
        let mut zeros = Vec::new();
        let is_unknown = volume.index().if_unknown(piece.number, directory, || {
            zeros = take_zeros(volume, piece)
        });
        let mut parts: Vec<Part> = zeros.into_iter().map(Part::Zeros).collect();
        if !is_unknown {
            let pin = volume.pin(piece.number);
            let mut state = pin.latch();
            parts.extend(take_zeros(volume, piece).into_iter().map(Part::Zeros));
            self.copy_dirty(&mut state, piece, &mut parts);
        }
        parts.sort_unstable_by_key(Part::start);
        for part in parts {
            self.add(piece.number, part);
        }
    }

    fn copy_dirty(&mut self, state: &mut Latch<'_>, piece: &Piece, parts: &mut Vec<Part>) {
        let volume = self.volume;
        let (geometry, size) = (volume.geometry(), volume.size());
        let dirty = state.dirty & geometry.whole(piece, size);
        for run in (dirty & state.sealed.bad).runs() {
            let bytes = geometry.bytes_of(piece.number, run, size);
            let message = "it is not what was written into the cache directory";
            let cause = io::Error::new(io::ErrorKind::InvalidData, message);
            unreadable(volume, self.sent, bytes, cause);
        }
        for run in (dirty - state.sealed.bad).runs() {
            self.copy_run(state, piece.number, run, parts);
        }
    }

    /// Neighbouring dirty sectors; one by one if not all of them can be read.
    fn copy_run(
        &mut self,
        state: &mut Latch<'_>,
        number: BlockNumber,
        run: (u32, u32),
        parts: &mut Vec<Part>,
    ) {
        let volume = self.volume;
        let geometry = volume.geometry();
        let (start, end) = geometry.bytes_of(number, run, volume.size());
        let length = (end - start) as usize;
        let room = self.copies.room(length);
        let read = state.read_slot(start - geometry.base(number), room);
        if !volume.trusts_slots() {
            let cause = io::Error::other("the cache file has failed meanwhile");
            return unreadable(volume, self.sent, (start, end), cause);
        }
        if let Err(cause) = read {
            if run.1 - run.0 == 1 {
                return unreadable(volume, self.sent, (start, end), cause);
            }
            for one in run.0..run.1 {
                self.copy_run(state, number, (one, one + 1), parts);
            }
            return;
        }
        let sectors = Mask::span(run.0, run.1);
        state.dirty -= sectors;
        state.writing |= sectors;
        parts.push(Part::Data {
            start,
            place: self.copies.keep(length),
            sectors,
        });
    }

    /// Joins a part with what is pending, or sends that and begins anew.
    fn add(&mut self, number: BlockNumber, part: Part) {
        match (&mut self.pending, part) {
            (Pending::Zeros(pending), Part::Zeros(range))
                if pending.end == range.start && pending.may_trim == range.may_trim =>
            {
                pending.end = range.end;
            }
            (
                Pending::Data(pending),
                Part::Data {
                    start,
                    place,
                    sectors,
                },
            ) if pending.start + pending.place.len() as u64 == start
                && pending.place.end == place.start =>
            {
                pending.place.end = place.end;
                pending.blocks.push(Taken {
                    number,
                    sectors,
                    length: place.len(),
                });
            }
            (_, part) => {
                self.send_pending();
                self.pending = match part {
                    Part::Zeros(range) => Pending::Zeros(range),
                    Part::Data {
                        start,
                        place,
                        sectors,
                    } => Pending::Data(Copied {
                        start,
                        blocks: vec![Taken {
                            number,
                            sectors,
                            length: place.len(),
                        }],
                        place,
                    }),
                };
            }
        }
    }

    fn send_pending(&mut self) {
        match std::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => {}
            Pending::Zeros(range) => send_zeros(self.volume, self.attempts, range, self.sent),
            Pending::Data(copied) => {
                let data = self.copies.get(copied.place);
                send_data(
                    self.volume,
                    self.attempts,
                    (copied.start, data),
                    &copied.blocks,
                    self.sent,
                );
            }
        }
    }
}

fn take_zeros(volume: &Volume, piece: &Piece) -> Vec<ZeroRange> {
    if volume.zero_ranges() == 0 {
        return Vec::new();
    }
    let base = volume.geometry().base(piece.number);
    volume.with_zeros(|zeros| zeros.take_dirty(base + piece.start, base + piece.end))
}

fn send_zeros(volume: &Volume, attempts: &Attempts<'_>, range: ZeroRange, sent: &mut Sent) {
    let options = ZeroOptions {
        may_trim: range.may_trim,
        ..ZeroOptions::default()
    };
    let length = range.end - range.start;
    volume
        .store()
        .trace(|| format!("writeback zeros at {} for {length}", range.start));
    let zeroed = attempts.attempt(|writer| zero_origin(writer, range.start, range.end, options));
    match zeroed {
        Ok(()) => sent.zeros.push((range.start, range.end)),
        Err(cause) => {
            volume.with_zeros(|zeros| zeros.settle(range.start, range.end, false));
            refused(volume, sent, "zero", (range.start, range.end), cause);
        }
    }
}

fn send_data(
    volume: &Volume,
    attempts: &Attempts<'_>,
    (start, data): (u64, &[u8]),
    blocks: &[Taken],
    sent: &mut Sent,
) {
    let end = start + data.len() as u64;
    let Err(cause) = write_counted(volume, attempts, start, data) else {
        let taken = blocks.iter().map(|taken| (taken.number, taken.sectors));
        sent.blocks.extend(taken);
        return;
    };
    if blocks.len() == 1 {
        unsend(volume, blocks);
        refused(volume, sent, "write", (start, end), cause);
    } else {
        send_apart(volume, attempts, (start, data), blocks, sent);
    }
}

fn write_counted(
    volume: &Volume,
    attempts: &Attempts<'_>,
    start: u64,
    data: &[u8],
) -> io::Result<()> {
    volume
        .store()
        .trace(|| format!("writeback {} bytes at {start}", data.len()));
    let clock = &volume.store().clock;
    let length = data.len() as u64;
    let written = attempts.attempt(|writer| {
        let begun = clock.now();
        writer.write(start, data, false)?;
        volume.pace.note_write(clock.since(begun), length);
        volume.unflushed.renew(writer.number, start, start + length);
        Ok(())
    });
    if written.as_ref().is_err_and(is_silence) {
        volume.pace.note_silence(length);
    }
    written?;
    volume.count_origin_write(length);
    Ok(())
}

fn unsend(volume: &Volume, blocks: &[Taken]) {
    for taken in blocks {
        let pin = volume.pin(taken.number);
        pin.latch().settle(taken.sectors, false);
    }
}

/// A joined request was refused: its blocks one by one, so that one bad place keeps only itself.
fn send_apart(
    volume: &Volume,
    attempts: &Attempts<'_>,
    (mut start, data): (u64, &[u8]),
    blocks: &[Taken],
    sent: &mut Sent,
) {
    let mut left = data;
    let mut failures_in_a_row = 0;
    for taken in blocks {
        let (own, rest) = left.split_at(taken.length);
        left = rest;
        let end = start + taken.length as u64;
        let result = if failures_in_a_row < GIVE_UP_AFTER {
            write_counted(volume, attempts, start, own)
        } else {
            Err(io::Error::other("not tried after its neighbours failed"))
        };
        match result {
            Ok(()) => {
                failures_in_a_row = 0;
                sent.blocks.push((taken.number, taken.sectors));
            }
            Err(cause) => {
                failures_in_a_row += 1;
                unsend(volume, &[*taken]);
                refused(volume, sent, "write", (start, end), cause);
            }
        }
        start = end;
    }
}

fn refused(
    volume: &Volume,
    sent: &mut Sent,
    what: &str,
    (start, end): (u64, u64),
    cause: io::Error,
) {
    volume.store().stats.writeback_errors.add(1);
    let context = format!("writeback: {what} of {} bytes at {start}", end - start);
    volume
        .store()
        .trace(|| format!("{context} failed: {cause}"));
    sent.error
        .get_or_insert(Error::with_source(ErrorKind::Origin, context, cause));
}

fn unreadable(volume: &Volume, sent: &mut Sent, (start, end): (u64, u64), cause: io::Error) {
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
/// Zeros a range of the origin, by writing where it has no other way.
pub(crate) fn zero_origin(
    writer: &Attached,
    start: u64,
    end: u64,
    options: ZeroOptions,
) -> io::Result<()> {
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
            .min(WRITTEN_ZEROS_BYTES) as usize
    ];
    while at < end {
        let part = ((end - at) as usize).min(zeros.len());
        writer.origin.write(at, &zeros[..part], options.fua)?;
        at += part as u64;
    }
    Ok(())
}
