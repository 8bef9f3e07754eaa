//! Requests that go to the origin before they are acknowledged: write-through, FUA, and writes for
//! which there is no room.
//!
//! The range lock is held from before the origin is asked until the cache has followed, so that the
//! cache changes in the order of the origin. A sector that is only partly covered and that the origin does
//! not hold (dirty, or zero by state) is widened: the origin gets the whole of it, or a later writeback
//! would undo what was just made durable. Its ticket tells at the end whether it may count as clean.

use std::borrow::Cow;

use crate::block::TicketNumber;
use crate::client::Client;
use crate::config::Mode;
use crate::latch::Latch;
use crate::pin::Pin;
use crate::planted::{Bug, is_planted};
use crate::room;
use crate::sector::{Mask, Piece};
use crate::volume::Volume;
use crate::{Error, ErrorKind, present, survival};

/// An edge sector that was widened to the whole of it.
struct Widened<'v> {
    pin: Pin<'v>,
    sector: Mask,
    ticket: TicketNumber,
    /// The cache held something newer than the origin.
    was_newer: bool,
}

impl Drop for Widened<'_> {
    fn drop(&mut self) {
        self.pin.latch().close_ticket(self.ticket);
    }
}

/// What the origin is to get.
struct Request<'d, 'v> {
    start: u64,
    data: Cow<'d, [u8]>,
    widened: Vec<Widened<'v>>,
}

/// Writes to the origin, then has the cache follow. With `durable` it is on stable storage on
/// return.
pub(crate) fn write(client: &Client, offset: u64, data: &[u8], durable: bool) -> Result<(), Error> {
    let volume = &*client.volume;
    let geometry = volume.geometry();
    let end = offset + data.len() as u64;
    let (lock_start, lock_end) = (
        geometry.align_down(offset),
        geometry.align_up(end, volume.size()),
    );
    let _range = volume.ranges.lock(lock_start, lock_end);
    let _guard = volume.poison_on_panic();
    client.check_poison()?;
    survival::revoke(volume, &[(lock_start, lock_end)])?;
    let request = widen(client, offset, data)?;
    client
        .store()
        .trace(|| format!("write {} bytes at {offset}: through", data.len()));
    let send = || client.attached.write(request.start, &request.data, durable);
    let failures_before = volume.durability.all_failures();
    let written = if durable {
        volume.durably(&client.attached, send)
    } else {
        send()
    };
    match written {
        Ok(()) => {
            volume.count_origin_write(request.data.len() as u64);
            following(client, (offset, end), durable, failures_before, || {
                follow(client, offset, data, &request.widened)
            })?;
            drop(request);
            followed_durably(client, (offset, end), durable)
        }
        Err(cause) => {
            let context = format!("write of {} bytes at {offset} to the origin", data.len());
            Err(refused(client, (offset, end), context, cause))
        }
    }
}

/// The origin has these bytes durably: what the directory says of them is older, and must not come back.
pub(crate) fn followed_durably(
    client: &Client,
    (start, end): (u64, u64),
    durable: bool,
) -> Result<(), Error> {
    let volume = &*client.volume;
    if !durable || !volume.kept.is_sealed() || is_planted(Bug::ThroughKeepsRecord) {
        return Ok(());
    }
    // Of what is only touched the rest may be what the origin can still lose.
    let geometry = volume.geometry();
    let is_whole =
        geometry.align_down(start) == start && geometry.align_up(end, volume.size()) == end;
    if !is_whole && !volume.unflushed.is_empty() {
        volume
            .flush_origin(&client.attached)
            .map_err(|cause| Error::with_source(ErrorKind::Origin, "flush of the origin", cause))?;
    }
    survival::unrecord(volume, start, end)
}

/// Widens the first and last sector where that is needed.
fn widen<'d, 'v>(
    client: &'v Client,
    offset: u64,
    data: &'d [u8],
) -> Result<Request<'d, 'v>, Error> {
    let volume = &*client.volume;
    let geometry = volume.geometry();
    let end = offset + data.len() as u64;
    let mut request = Request {
        start: offset,
        data: Cow::Borrowed(data),
        widened: Vec::new(),
    };
    let mut edges: Vec<(u64, u64)> = Vec::new();
    for at in [offset, end - 1] {
        let start = geometry.align_down(at);
        let edge = (start, geometry.align_up(start + 1, volume.size()));
        let is_whole = offset <= edge.0 && edge.1 <= end;
        if !is_whole && !edges.contains(&edge) {
            edges.push(edge);
        }
    }
    for (start, stop) in edges {
        if let Some((content, widened)) = edge_content(client, (start, stop), (offset, end))? {
            let whole = request.data.into_owned();
            let (from, to) = (
                request.start.min(start),
                (request.start + whole.len() as u64).max(stop),
            );
            let mut bytes = vec![0; (to - from) as usize];
            bytes[(start - from) as usize..(stop - from) as usize].copy_from_slice(&content);
            let place = (request.start - from) as usize;
            // The client's bytes lie over what surrounds them.
            bytes[place..place + whole.len()].copy_from_slice(&whole);
            request.start = from;
            request.data = Cow::Owned(bytes);
            request.widened.push(widened);
        }
    }
    Ok(request)
}

/// The content of an edge sector, if it must be widened.
fn edge_content<'v>(
    client: &'v Client,
    (start, stop): (u64, u64),
    (offset, end): (u64, u64),
) -> Result<Option<(Vec<u8>, Widened<'v>)>, Error> {
    let volume = &*client.volume;
    let geometry = volume.geometry();
    let number = geometry.block_of(start);
    let piece = Piece {
        number,
        start: start - geometry.base(number),
        end: stop - geometry.base(number),
    };
    let sector = geometry.touched(&piece);
    let pin = volume.pin(number);
    let is_aligned = client.attached.is_aligned(offset.max(start), end.min(stop));
    let mut content = vec![0; (stop - start) as usize];
    let (mut state, was_newer, missing) = loop {
        let state = pin.latch();
        let zero = volume.zero_mask(number) & sector;
        let was_newer = !((state.unsettled() & sector) | zero).is_empty();
        if !was_newer && is_aligned {
            return Ok(None);
        }
        let mut target = present::Target::new(start, &mut content);
        match present::copy_latched(&state, &piece, &mut target) {
            Ok(missing) => break (state, was_newer, missing),
            Err(unreadable) => {
                drop(state);
                present::drop_unreadable(client, &pin, unreadable)?;
            }
        }
    };
    let ticket = state.open_ticket();
    drop(state);
    let widened = Widened {
        pin,
        sector,
        ticket,
        was_newer,
    };
    if !missing.is_empty() {
        // The range lock keeps the origin as it is.
        let (first, data) = client.attached.read_span(start, stop).map_err(|error| {
            let context = format!("read of {} bytes at {start} around a write", stop - start);
            Error::with_source(ErrorKind::Origin, context, error)
        })?;
        content.copy_from_slice(&data[(start - first) as usize..(stop - first) as usize]);
    }
    Ok(Some((content, widened)))
}

/// The origin has it: the cache follows.
fn follow(client: &Client, offset: u64, data: &[u8], widened: &[Widened<'_>]) -> Result<(), Error> {
    let volume = &*client.volume;
    let geometry = volume.geometry();
    // Only write-through stores what is not here yet: the others go through for want of room, or now and then.
    let stores = client.store().config.mode == Mode::Writethrough;
    let mut result = Ok(());
    for piece in geometry.pieces(offset, data.len() as u64) {
        let mut reservation = if stores
            && !volume
                .index()
                .has_slot(piece.number, &volume.store().directory)
        {
            room::reserve_at_once(volume.store())
        } else {
            room::Reservation::empty(volume.store())
        };
        let from = (geometry.base(piece.number) + piece.start - offset) as usize;
        let part = &data[from..from + (piece.end - piece.start) as usize];
        let pin = volume.pin(piece.number);
        let mut state = pin.latch();
        let whole = geometry.whole(&piece, volume.size());
        if stores
            && state.slot.is_none()
            && !whole.is_empty()
            && let Some(slot) = reservation.take()
        {
            state.assign(slot);
        }
        let followed = follow_piece(volume, &mut state, &piece, part, widened);
        result = result.and(followed);
    }
    result
}

fn follow_piece(
    volume: &Volume,
    state: &mut Latch<'_>,
    piece: &Piece,
    part: &[u8],
    widened: &[Widened<'_>],
) -> Result<(), Error> {
    let geometry = volume.geometry();
    let touched = geometry.touched(piece);
    let mut on_origin = geometry.whole(piece, volume.size());
    for edge in widened
        .iter()
        .filter(|edge| edge.pin.number() == piece.number)
    {
        if edge.was_newer && (state.stale(edge.ticket) & edge.sector).is_empty() {
            on_origin |= edge.sector;
        }
    }
    state.changed(touched);
    let kept = touched & (state.valid | geometry.whole(piece, volume.size()));
    let mut refused = None;
    let kept = kept - drop_barred(state, kept, on_origin);
    if state.slot.is_some() {
        for run in kept.runs() {
            let start = geometry.sector_start(run.0).max(piece.start);
            let end = geometry.sector_start(run.1).min(piece.end);
            let bytes = &part[(start - piece.start) as usize..(end - piece.start) as usize];
            if let Err(error) = state.write_slot(start, bytes) {
                refused = Some(error);
            }
        }
        if refused.is_none() {
            state.valid |= kept;
        }
    }
    let settled = on_origin & state.unsettled();
    state.dirty -= settled;
    state.writing -= settled;
    volume.clear_zeros(piece.number, on_origin);
    let Some(error) = refused else {
        return Ok(());
    };
    // The slot may be half written. What the origin has can be forgotten.
    let lost = touched & state.unsettled();
    let clean = touched - lost;
    state.drop_sectors(clean);
    if lost.is_empty() {
        return Ok(());
    }
    let offset = geometry.base(piece.number) + piece.start;
    Err(Error::with_source(
        ErrorKind::CacheFile,
        format!("write at {offset} into the cache file"),
        error,
    ))
}

/// What must not be overwritten in the slot is given up instead, where the origin has it. Tells what was given up.
fn drop_barred(state: &mut Latch<'_>, kept: Mask, on_origin: Mask) -> Mask {
    let barred = kept & state.sealed.barred();
    let dropped = barred & (on_origin | (state.valid - state.unsettled()));
    state.drop_sectors(dropped);
    barred & (dropped | !state.valid)
}

/// Has the cache follow a change of these bytes, sent after `failures_before` was asked for. Unless it is `durable`,
/// the origin may lose it until the next flush, and may have lost it already.
pub(crate) fn following<R>(
    client: &Client,
    (start, end): (u64, u64),
    durable: bool,
    failures_before: u64,
    follow: impl FnOnce() -> R,
) -> R {
    let volume = &*client.volume;
    if !tracks_unflushed(client) {
        return follow();
    }
    if durable {
        volume.unflushed.replaced(start, end);
        return follow();
    }
    volume.unflushed.note(client.attached.number, start, end);
    let result = follow();
    // Whoever was told of a loss meanwhile may have looked at the cache before it followed.
    if volume.durability.all_failures() != failures_before {
        distrust(volume, start, end);
    }
    result
}

/// Whether it matters what the origin may lose: to writethrough, where the cache holds it as clean, and to a cache directory, which must not
/// list what was read again after a trim.
fn tracks_unflushed(client: &Client) -> bool {
    let store = client.store();
    let does_mode = match store.config.mode {
        Mode::Writethrough => true,
        Mode::Writeback => store.survival.is_some(),
        Mode::Unsafe => false,
    };
    does_mode && client.attached.capabilities.takes_flush()
}

/// The origin has lost what was written through since the last flush, or some of it.
pub(crate) fn forget_unflushed(volume: &Volume) {
    let ranges = volume.unflushed.ranges();
    let ranges = ranges.unwrap_or_else(|| vec![(0, volume.size())]);
    for (start, end) in ranges {
        distrust(volume, start, end);
    }
    volume.store().log.warning(&format!(
        "volume '{}': the origin has lost writes that were not flushed; they are not in the cache any more",
        volume.name()
    ));
}

/// What becomes of a change of these bytes that the origin refused: the range is distrusted, and this is the
/// client's error.
pub(crate) fn refused(
    client: &Client,
    (start, end): (u64, u64),
    context: String,
    cause: std::io::Error,
) -> Error {
    // Perhaps the origin has done some of it.
    if tracks_unflushed(client) {
        let number = client.attached.number;
        client.volume.unflushed.note_uncertain(number, start, end);
    }
    distrust(&client.volume, start, end);
    Error::with_source(ErrorKind::Origin, context, cause)
}

/// The origin may hold anything in these bytes now: what was clean is forgotten, and what was
/// on its way is dirty again.
fn distrust(volume: &Volume, start: u64, end: u64) {
    let geometry = volume.geometry();
    for number in volume.known_blocks(start, end) {
        let piece = geometry.piece_within(number, start, end);
        let touched = geometry.touched(&piece);
        let pin = volume.pin(number);
        let mut state = pin.latch();
        state.changed(touched);
        state.settle(touched, false);
        let clean = touched & (state.valid - state.unsettled());
        state.drop_sectors(clean);
    }
    let (start, end) = (
        geometry.align_down(start),
        geometry.align_up(end, volume.size()),
    );
    volume.with_zeros(|zeros| zeros.settle(start, end, false));
}

/// The whole sectors between these bounds are what the origin says: nothing of them is kept.
pub(crate) fn forget(client: &Client, start: u64, end: u64) {
    let volume = &*client.volume;
    for number in volume.known_blocks(start, end) {
        let piece = volume.geometry().piece_within(number, start, end);
        let whole = volume.geometry().whole(&piece, volume.size());
        let pin = volume.pin(number);
        let mut state = pin.latch();
        state.changed(whole);
        state.drop_sectors(whole);
        volume.clear_zeros(number, whole);
    }
    // Of blocks that nobody knows, only zeros by state are left.
    volume.with_zeros(|zeros| zeros.remove(start, end));
}

/// Whether the directory has something of these bytes, or is to have it with the next flush.
pub(crate) fn is_promised(volume: &Volume, start: u64, end: u64) -> bool {
    let directory = &volume.store().directory;
    volume.known_blocks(start, end).into_iter().any(|number| {
        let state = volume.index().peek(number, Mask::EMPTY, directory);
        !(state.unsettled() | state.sealed.sectors).is_empty()
    })
}
