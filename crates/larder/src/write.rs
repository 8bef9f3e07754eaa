//! Writes into the cache.
//!
//! Whole sectors need nothing of the origin. The first and last sector of an unaligned write do if
//! they are absent: those are read, under a ticket, and merged under the latch; if they changed
//! meanwhile and are absent again, they are read anew.

use std::borrow::Cow;
use std::collections::VecDeque;

use crate::block::TicketNumber;
use crate::client::Client;
use crate::config::Mode;
use crate::habit::Next;
use crate::latch::Latch;
use crate::overwrite::Part;
use crate::pin::Pin;
use crate::planted::{Bug, is_planted};
use crate::room::{self, Reservation};
use crate::sector::{BlockNumber, Mask, Piece};
use crate::survival::Survival;
use crate::volume::MAX_ZERO_RANGES;
use crate::writeback::{self, Scope};
use crate::{Error, ErrorKind, flush, overwrite, survival, through};

/// Does what a client's write means in the cache's mode.
pub(crate) fn write(client: &Client, offset: u64, data: &[u8], fua: bool) -> Result<(), Error> {
    match client.store().config.mode {
        Mode::Writethrough => through::write(client, offset, data, fua),
        Mode::Writeback if fua && client.volume.flushes_to_cache() => {
            write_cached(client, offset, data)?;
            survival::record(&client.volume, offset, offset + data.len() as u64)?;
            flush::flush_what_went_past(client)
        }
        Mode::Writeback if fua => through::write(client, offset, data, true),
        Mode::Writeback | Mode::Unsafe => {
            write_cached(client, offset, data)?;
            look_ahead(client);
            Ok(())
        }
    }
}

/// A write has been done that the next flush makes durable, which may be about to come.
fn look_ahead(client: &Client) {
    let volume = &client.volume;
    if volume.flushes_to_cache() && volume.habit.wrote() == Next::Flush {
        survival::foresee_flush(volume);
    }
}

/// Writes into the cache; the origin is newer never.
pub(crate) fn write_cached(client: &Client, offset: u64, data: &[u8]) -> Result<(), Error> {
    if !relieve_zeros(client)? {
        return through::write(client, offset, data, true);
    }
    let geometry = client.volume.geometry();
    let pieces = geometry.pieces(offset, data.len() as u64);
    let pieces = pieces.flat_map(|piece| parts(client, piece));
    let mut parts: VecDeque<Part<'_>> = pieces
        .map(|piece| {
            let from = (geometry.base(piece.number) + piece.start - offset) as usize;
            let length = (piece.end - piece.start) as usize;
            (piece, &data[from..from + length])
        })
        .collect();
    while let Some((piece, bytes)) = parts.front() {
        match write_piece(client, piece, bytes)? {
            Written::Yes => drop(parts.pop_front()),
            Written::NotYet => overwrite::overwrite(client, &mut parts)?,
        }
    }
    Ok(())
}

/// A piece, in parts that the directory can be told of at once if it must hear of what is overwritten.
fn parts(client: &Client, piece: Piece) -> impl Iterator<Item = Piece> + use<> {
    let survival = client.store().survival.as_ref();
    let survival = survival.filter(|_| client.volume.flushes_to_cache());
    let longest = survival.map_or(u64::MAX, Survival::released_bytes);
    let Piece { number, end, .. } = piece;
    let mut at = piece.start;
    std::iter::from_fn(move || {
        let start = at;
        at = end.min(start.saturating_add(longest) / longest * longest);
        (start < end).then_some(Piece {
            number,
            start,
            end: at,
        })
    })
}

/// Writes of more blocks than this are not tried at once.
const MANY_BLOCKS: u64 = 256;

/// Does the same if the cache can take all of it at once. False if not; then nothing was written.
///
/// All blocks are pinned first and looked at, and slots set aside for those that have none: from
/// then on a slot cannot go away. What can is an edge sector, trimmed or given up by somebody else, and the cache file may
/// refuse. Then the rest is written the long way rather than all of it once more: somebody else may have
/// overwritten what was stored already.
pub(crate) fn try_write(
    client: &Client,
    offset: u64,
    data: &[u8],
    fua: bool,
) -> Result<bool, Error> {
    let volume = &client.volume;
    let mode = client.store().config.mode;
    let goes_through = mode == Mode::Writethrough || (mode == Mode::Writeback && fua);
    if goes_through || volume.zero_ranges() > 2 * MAX_ZERO_RANGES {
        return Ok(false);
    }
    let geometry = volume.geometry();
    let end = offset + data.len() as u64;
    if geometry.block_of(end - 1).0 - geometry.block_of(offset).0 >= MANY_BLOCKS {
        return Ok(false);
    }
    let pieces = geometry.pieces(offset, data.len() as u64);
    let pinned: Vec<(Pin<'_>, Piece)> = pieces
        .map(|piece| (volume.pin(piece.number), piece))
        .collect();
    let mut wanted = 0;
    for (pin, piece) in &pinned {
        let state = pin.latch_shared();
        let touched = geometry.touched(piece);
        let edges = touched - geometry.whole(piece, volume.size());
        let absent = edges - state.valid - volume.zero_mask(piece.number);
        if !(absent | (state.sealed.barred() & touched)).is_empty() {
            return Ok(false);
        }
        wanted += usize::from(state.slot.is_none());
    }
    let Some(mut reservation) = room::try_reserve(client, wanted) else {
        return Ok(false);
    };
    client.check_poison()?;
    let mut done = 0;
    for (pin, piece) in &pinned {
        let part = &data[done..done + (piece.end - piece.start) as usize];
        match store_piece(client, pin, piece, part, &mut reservation, Edges::Present)? {
            Stored::Yes => count_write(client, piece),
            Stored::NeedsSlot | Stored::NeedsOrigin | Stored::NeedsRelease if done == 0 => {
                return Ok(false);
            }
            Stored::NeedsSlot | Stored::NeedsOrigin | Stored::NeedsRelease | Stored::Refused => {
                break;
            }
        }
        done += part.len();
    }
    drop(pinned);
    drop(reservation);
    if done < data.len() {
        write_cached(client, offset + done as u64, &data[done..])?;
    }
    look_ahead(client);
    Ok(true)
}

/// Writes cut ranges of zeros apart. Long before their number hurts, they are written back. False
/// if that does not help and their number does hurt.
fn relieve_zeros(client: &Client) -> Result<bool, Error> {
    let volume = &client.volume;
    let store = client.store();
    if volume.zero_ranges() <= 2 * MAX_ZERO_RANGES {
        return Ok(true);
    }
    if !store.inline.is_resting(store.clock.now()) {
        let _running = volume.token.take();
        client.check_poison()?;
        if volume.zero_ranges() > 2 * MAX_ZERO_RANGES {
            let flushing = store.config.mode != Mode::Unsafe;
            let outcome = writeback::pass(volume, &client.attached, Scope::All, flushing);
            if outcome.error.is_some() {
                store.inline.pause(store.clock.now());
            }
        }
    }
    Ok(volume.zero_ranges() <= 4 * MAX_ZERO_RANGES)
}

/// What came of an attempt.
enum Stored {
    Yes,
    /// The block has no slot, and there was none in reserve.
    NeedsSlot,
    /// An edge sector is absent, and the origin was not to be asked.
    NeedsOrigin,
    /// The directory must be told first of what is overwritten.
    NeedsRelease,
    /// The cache file refused.
    Refused,
}

/// What is done about absent edge sectors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edges {
    /// They are read from the origin.
    Fetched,
    /// There should be none.
    Present,
}

/// What became of a piece.
enum Written {
    Yes,
    /// The directory must be told first of what is overwritten.
    NotYet,
}

fn write_piece(client: &Client, piece: &Piece, data: &[u8]) -> Result<Written, Error> {
    let store = client.store();
    let volume = &client.volume;
    let mut reservation = Reservation::empty(store);
    loop {
        client.check_poison()?;
        if reservation.len() == 0 && !volume.index().has_slot(piece.number, &store.directory) {
            reservation = match room::reserve(client, 1) {
                Ok(reservation) => reservation,
                Err(no_room) => {
                    store.trace(|| format!("write block {}: no room{no_room}", piece.number.0));
                    write_past(client, piece, data)?;
                    return Ok(Written::Yes);
                }
            };
        }
        let pin = volume.pin(piece.number);
        match store_piece(client, &pin, piece, data, &mut reservation, Edges::Fetched)? {
            Stored::Yes => {
                count_write(client, piece);
                return Ok(Written::Yes);
            }
            Stored::NeedsSlot | Stored::NeedsOrigin => {}
            Stored::NeedsRelease => return Ok(Written::NotYet),
            Stored::Refused => {
                drop(pin);
                drop(reservation);
                write_past(client, piece, data)?;
                return Ok(Written::Yes);
            }
        }
    }
}

/// A piece was stored.
pub(crate) fn count_write(client: &Client, piece: &Piece) {
    let store = client.store();
    store.stats.writes.add(1);
    store.trace(|| {
        let bytes = piece.end - piece.start;
        format!("write block {}: stored {bytes} bytes", piece.number.0)
    });
}

/// No room could be made: the write goes to the origin, durably, since nobody will remember it.
pub(crate) fn write_past(client: &Client, piece: &Piece, data: &[u8]) -> Result<(), Error> {
    client.store().stats.no_room_writes.add(1);
    let offset = client.volume.geometry().base(piece.number) + piece.start;
    through::write(client, offset, data, true)
}

fn store_piece(
    client: &Client,
    pin: &Pin<'_>,
    piece: &Piece,
    data: &[u8],
    reservation: &mut Reservation<'_>,
    edges_are: Edges,
) -> Result<Stored, Error> {
    let volume = &client.volume;
    let geometry = volume.geometry();
    let touched = geometry.touched(piece);
    let edges = touched - geometry.whole(piece, volume.size());
    let mut fetched = FetchedEdges::none(pin);
    loop {
        let mut state = pin.latch();
        check_lost(client, &state, pin.number(), edges)?;
        if !(state.sealed.barred() & touched).is_empty() && !is_planted(Bug::InSlotIsOverwritten) {
            return Ok(Stored::NeedsRelease);
        }
        let present = state.valid | volume.zero_mask(piece.number);
        let absent = edges - present;
        if !(absent - fetched.usable(&state)).is_empty() {
            if edges_are == Edges::Present {
                return Ok(Stored::NeedsOrigin);
            }
            fetched.open(&mut state, absent);
            drop(state);
            fetched.read(client)?;
            continue;
        }
        if state.slot.is_none() {
            match reservation.take() {
                Some(slot) => state.assign(slot),
                None => return Ok(Stored::NeedsSlot),
            }
        }
        let fill = edges - state.valid;
        let (start, bytes) = fetched.compose(piece, data, fill, absent, client);
        return Ok(match state.store(start, &bytes) {
            Ok(()) => Stored::Yes,
            Err(_) => Stored::Refused,
        });
    }
}

/// What is lost can only be overwritten as a whole.
fn check_lost(
    client: &Client,
    state: &Latch<'_>,
    number: BlockNumber,
    edges: Mask,
) -> Result<(), Error> {
    let Some(run) = (state.sealed.bad & edges).first_run() else {
        return Ok(());
    };
    let volume = &client.volume;
    let (start, end) = volume.geometry().bytes_of(number, run, volume.size());
    let message = format!(
        "volume '{}': {} bytes at {start} are lost, and cannot be overwritten in part",
        volume.name(),
        end - start
    );
    Err(Error::new(ErrorKind::CacheFile, message))
}

/// The edge sectors of a write that were read from the origin; the ticket ends when dropped.
struct FetchedEdges<'p> {
    pin: &'p Pin<'p>,
    ticket: Option<TicketNumber>,
    sectors: Mask,
    /// Runs of sectors: the first byte within the block, and the content.
    runs: Vec<(u64, Vec<u8>)>,
}

impl<'p> FetchedEdges<'p> {
    fn none(pin: &'p Pin<'p>) -> Self {
        Self {
            pin,
            ticket: None,
            sectors: Mask::EMPTY,
            runs: Vec::new(),
        }
    }

    /// The sectors that have not changed since they were read.
    fn usable(&self, state: &Latch<'_>) -> Mask {
        match self.ticket {
            Some(ticket) => self.sectors - state.stale(ticket),
            None => Mask::EMPTY,
        }
    }

    fn open(&mut self, state: &mut Latch<'_>, sectors: Mask) {
        if let Some(ticket) = self.ticket.take() {
            state.close_ticket(ticket);
        }
        self.ticket = Some(state.open_ticket());
        self.sectors = sectors;
        self.runs.clear();
    }

    fn read(&mut self, client: &Client) -> Result<(), Error> {
        let volume = &client.volume;
        let geometry = volume.geometry();
        let base = geometry.base(self.pin.number());
        for run in self.sectors.runs() {
            let (start, end) = geometry.bytes_of(self.pin.number(), run, volume.size());
            client.store().stats.origin_read_bytes.add(end - start);
            let (first, data) = client.attached.read_span(start, end).map_err(|error| {
                let context = format!("read of {} bytes at {start} around a write", end - start);
                Error::with_source(ErrorKind::Origin, context, error)
            })?;
            let data = data[(start - first) as usize..(end - first) as usize].to_vec();
            self.runs.push((start - base, data));
        }
        Ok(())
    }

    /// What to write into the slot, and where within the block: the client's data, widened to
    /// whole sectors where `fill` says. Those of `absent` come from the origin, the others are zero.
    fn compose<'d>(
        &self,
        piece: &Piece,
        data: &'d [u8],
        fill: Mask,
        absent: Mask,
        client: &Client,
    ) -> (u64, Cow<'d, [u8]>) {
        let volume = &client.volume;
        let geometry = volume.geometry();
        let base = geometry.base(piece.number);
        let (mut from, mut to) = (piece.start, piece.end);
        for run in fill.runs() {
            let (start, end) = geometry.bytes_of(piece.number, run, volume.size());
            from = from.min(start - base);
            to = to.max(end - base);
        }
        if (from, to) == (piece.start, piece.end) {
            return (from, Cow::Borrowed(data));
        }
        let mut bytes = vec![0; (to - from) as usize];
        for (at, content) in &self.runs {
            copy_sectors(
                &mut bytes,
                from,
                *at,
                content,
                absent,
                geometry.sector_bytes(),
            );
        }
        bytes[(piece.start - from) as usize..(piece.end - from) as usize].copy_from_slice(data);
        (from, Cow::Owned(bytes))
    }
}

/// Copies those sectors of `content`, which begins at byte `at` of its block, that are in `which` into
/// `bytes`, which begin at `from`.
fn copy_sectors(
    bytes: &mut [u8],
    from: u64,
    at: u64,
    content: &[u8],
    which: Mask,
    sector_bytes: u64,
) {
    let first = (at / sector_bytes) as u32;
    for (index, sector) in content.chunks(sector_bytes as usize).enumerate() {
        let start = at + index as u64 * sector_bytes;
        if which.has(first + index as u32) && start >= from {
            let place = (start - from) as usize;
            bytes[place..place + sector.len()].copy_from_slice(sector);
        }
    }
}

impl Drop for FetchedEdges<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.pin.latch().close_ticket(ticket);
        }
    }
}
