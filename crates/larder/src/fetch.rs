//! Stored misses: one fetch per block at a time, committed only where nothing changed meanwhile.
//!
//! Whoever claims a block fetches the invalid part of the whole of it. The claim's ticket collects
//! the sectors that were written, zeroed or trimmed since; those are not stored. Those who find a
//! claim wait for its end and look again, also when it failed: they try on their own connection. Only where the origin
//! answered nothing, and that for as long as they have waited, they fail with it, since their own try would take as
//! long again; unless what they want was written meanwhile.
//! A request finishes its own fetches before it waits for others', so no two wait for each other.
//!
//! What is fetched ahead of a reader is claimed in the same way. It may be part of a read's own request to the
//! origin; then an error counts only if the read alone meets it as well.

use std::io;

use crate::block::{BlockState, FetchNumber, TicketNumber};
use crate::client::Client;
use crate::origin::is_silence;
use crate::pass_through::{self, Missing};
use crate::pin::Pin;
use crate::planted::{Bug, is_planted};
use crate::present::{self, Target};
use crate::room::Reservation;
use crate::sector::{BlockNumber, Mask, Piece};
use crate::streams::{Growth, StreamNumber};
use crate::volume::Volume;
use crate::{Error, ErrorKind};

pub(crate) mod ahead;

/// The most bytes fetched into memory at once, unless one sector is larger.
pub const CHUNK_BYTES: u64 = 32 << 20;

/// The right and duty to fetch a block; ended when dropped.
struct Claim<'v> {
    pin: Pin<'v>,
    piece: Piece,
    ticket: TicketNumber,
    number: FetchNumber,
    /// The origin has answered nothing.
    is_silent: bool,
    /// Sectors to store.
    wanted: Mask,
    /// Sectors of the piece that are still to be given to the reader.
    asked: Mask,
    /// Nobody has asked for the block yet.
    is_ahead: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let silent = self.is_silent.then_some(self.number);
        self.pin.end_fetch(self.ticket, silent);
    }
}

/// Somebody else is fetching the block.
struct Waiting<'v> {
    pin: Pin<'v>,
    piece: Piece,
    seen: u64,
}

/// What follows the pieces that are fetched.
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    /// This is fetched as well, if that costs neither waiting nor another request.
    pub(crate) growth: Option<Growth>,
    /// The target lacks nothing else.
    pub(crate) is_last: bool,
    /// The fetch that was the last to begin before the request did.
    pub(crate) since: FetchNumber,
}

/// Fetches what is missing of the pieces, and gives those that must be looked at again.
///
/// If the target is whole then, whoever waits for it has it before the last of it is stored. The claims of those
/// blocks last until it is.
pub(crate) fn fetch(
    client: &Client,
    pieces: Vec<Piece>,
    rest: Rest,
    mut reservation: Reservation<'_>,
    target: &mut Target<'_>,
) -> Result<Vec<Piece>, Error> {
    let mut claims = Vec::new();
    let mut waiting = Vec::new();
    let mut again = Vec::new();
    let last = pieces.last().map(|piece| piece.number);
    for piece in pieces {
        match claim(client, piece, target) {
            Found::Present => client.store().stats.hits.add(1),
            Found::Claimed(claim) => claims.push(claim),
            Found::BeingFetched(other) => waiting.push(other),
            Found::LookAgain => again.push(piece),
        }
    }
    client.store().stats.misses.add(claims.len() as u64);
    let growth = rest
        .growth
        .filter(|_| claims.last().map(|claim| claim.piece.number) == last);
    if let Some(growth) = growth {
        ahead::grow(client, &mut claims, growth, &mut reservation);
    }
    let stream = growth.map(|growth| growth.stream);
    let is_last = rest.is_last && waiting.is_empty() && again.is_empty();
    let whole = (stream, is_last);
    let is_waited_for = target.is_waited_for();
    let failed = fetch_claims(client, claims, whole, &mut reservation, target)?;
    // What is not used is somebody else's room.
    drop(reservation);
    if is_waited_for && !target.is_waited_for() {
        client.store().slots.prepare();
    }
    // More was fetched than was asked: the error may be of a part that nobody wants.
    pass_through::pass_through(client, &failed, target)?;
    drop(failed);
    client.store().stats.fetch_waits.add(waiting.len() as u64);
    for waiting in waiting {
        let silent = waiting.pin.wait_for_fetch(waiting.seen);
        if !silent.is_some_and(|silent| silent > rest.since) {
            again.push(waiting.piece);
            continue;
        }
        // It may have been written meanwhile.
        let missing = present::copy_present(client, &waiting.pin, &waiting.piece, target)?;
        if !missing.is_empty() {
            return Err(silent_for_another(client, &waiting.piece));
        }
        client.store().stats.hits.add(1);
    }
    Ok(again)
}

enum Found<'v> {
    Present,
    Claimed(Claim<'v>),
    BeingFetched(Waiting<'v>),
    LookAgain,
}

fn claim<'c>(client: &'c Client, piece: Piece, target: &mut Target<'_>) -> Found<'c> {
    let volume = &*client.volume;
    let pin = volume.pin(piece.number);
    let mut state = pin.latch();
    let Ok(asked) = present::copy_latched(&state, &piece, target) else {
        // The next look drops what cannot be read, or fails.
        return Found::LookAgain;
    };
    if asked.is_empty() {
        return Found::Present;
    }
    if state.is_being_fetched {
        let seen = pin.fetches_ended();
        drop(state);
        return Found::BeingFetched(Waiting { pin, piece, seen });
    }
    let ticket = begin(&mut state);
    let wanted = wanted(volume, piece.number, &state);
    drop(state);
    Found::Claimed(Claim {
        pin,
        piece,
        ticket,
        number: volume.begin_fetch(),
        is_silent: false,
        wanted,
        asked,
        is_ahead: false,
    })
}

fn silent_for_another(client: &Client, piece: &Piece) -> Error {
    let at = client.volume.geometry().base(piece.number) + piece.start;
    let context = format!("read at {at} from the origin, which another request waited for");
    Error::with_source(ErrorKind::Origin, context, io::ErrorKind::TimedOut.into())
}

fn begin(state: &mut BlockState) -> TicketNumber {
    state.is_being_fetched = true;
    state.open_ticket()
}

/// What the origin alone has of a block.
fn wanted(volume: &Volume, number: BlockNumber, state: &BlockState) -> Mask {
    volume.existing(number) - state.valid - volume.zero_mask(number)
}

fn span(volume: &Volume, claim: &Claim<'_>) -> (u64, u64) {
    let hull = claim.wanted.hull().unwrap_or((0, 0));
    let number = claim.piece.number;
    volume.geometry().bytes_of(number, hull, volume.size())
}

/// The claims, neighbours together, each group with its bytes.
fn groups<'c>(
    volume: &Volume,
    claims: Vec<Claim<'c>>,
) -> impl Iterator<Item = (Vec<Claim<'c>>, (u64, u64))> {
    let longest = CHUNK_BYTES.max(volume.geometry().sector_bytes());
    let mut left = claims.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = left.next()?;
        let (start, mut end) = span(volume, &first);
        let mut group = vec![first];
        while let Some(next) = left.next_if(|next| {
            let (from, to) = span(volume, next);
            from == end && to - start <= longest
        }) {
            end = span(volume, &next).1;
            group.push(next);
        }
        Some((group, (start, end)))
    })
}

/// Fetches all claims, joining neighbours. Gives those whose fetch failed although less would have
/// been enough. `stream` is whose the claims are that nobody asked for; the target lacks nothing else if
/// `is_last`.
fn fetch_claims<'c>(
    client: &'c Client,
    claims: Vec<Claim<'c>>,
    (stream, is_last): (Option<StreamNumber>, bool),
    reservation: &mut Reservation<'_>,
    target: &mut Target<'_>,
) -> Result<Vec<Missing<'c>>, Error> {
    let mut failed = Vec::new();
    let mut groups = groups(&client.volume, claims).peekable();
    while let Some((mut group, bytes)) = groups.next() {
        let is_last = is_last && failed.is_empty() && groups.peek().is_none();
        let Err(error) = fetch_group(client, &mut group, (bytes, is_last), reservation, target)
        else {
            continue;
        };
        if group.iter().any(|claim| claim.is_ahead) {
            client
                .store()
                .trace(|| format!("readahead with {bytes:?}: {error}"));
            if let Some(stream) = stream {
                client.readahead.failed(stream);
            }
            let is_enough = group.iter().all(|claim| claim.asked.is_empty());
            if is_silence(&error) && !is_enough {
                return Err(not_read(bytes, error));
            }
            // Their claims end here.
            group.retain(|claim| !claim.is_ahead);
            let less = (None, false);
            failed.extend(fetch_claims(client, group, less, reservation, target)?);
        } else {
            failed.extend(retry_less(client, group, bytes, error)?);
        }
    }
    Ok(failed)
}

/// Fetches the bytes from `start` to `end` in chunks, and commits each. If the target `is_last` lacking them, it is
/// handed over before the last is stored.
fn fetch_group(
    client: &Client,
    group: &mut [Claim<'_>],
    ((start, end), is_last): ((u64, u64), bool),
    reservation: &mut Reservation<'_>,
    target: &mut Target<'_>,
) -> io::Result<()> {
    // Before the claims end, so that those who wait for them know.
    let _guard = client.volume.poison_on_panic();
    let longest = CHUNK_BYTES.max(client.volume.geometry().sector_bytes());
    let store = client.store();
    let mut at = start;
    while at < end {
        let stop = end.min(at + longest);
        store.stats.origin_read_bytes.add(stop - at);
        let reading = client.volume.foreground.begin();
        let read = client.attached.read_span(at, stop);
        if read.as_ref().is_err_and(is_silence) {
            group.iter_mut().for_each(|claim| claim.is_silent = true);
        }
        let (first, data) = read?;
        drop(reading);
        let data = &data[(at - first) as usize..(stop - first) as usize];
        for claim in &mut *group {
            give(&client.volume, claim, at, data, target);
        }
        if is_last && stop == end {
            target.hand_over();
        }
        for claim in &mut *group {
            commit(client, claim, at, data, reservation);
        }
        at = stop;
    }
    Ok(())
}

/// What a fetch brought of a claimed block.
fn brought(volume: &Volume, claim: &Claim<'_>, start: u64, data: &[u8]) -> Option<Piece> {
    let geometry = volume.geometry();
    let number = claim.piece.number;
    let base = geometry.base(number);
    let from = start.max(base);
    let to = (start + data.len() as u64).min(base.saturating_add(geometry.block_bytes()));
    (from < to).then(|| Piece {
        number,
        start: from - base,
        end: to - base,
    })
}

/// Gives the reader what a fetch brought of what it asked for.
fn give(volume: &Volume, claim: &mut Claim<'_>, start: u64, data: &[u8], target: &mut Target<'_>) {
    let Some(brought) = brought(volume, claim, start, data) else {
        return;
    };
    let geometry = volume.geometry();
    let base = geometry.base(claim.piece.number);
    let here = geometry.whole(&brought, volume.size());
    for run in (claim.asked & here).runs() {
        let from = base + geometry.sector_start(run.0).max(claim.piece.start);
        let to = base + geometry.sector_start(run.1).min(claim.piece.end);
        if let Some(place) = target.place(from, to) {
            place.copy_from_slice(&data[(from - start) as usize..(to - start) as usize]);
        }
    }
    claim.asked -= here;
}

/// Stores what a fetch brought of a claimed block.
fn commit(
    client: &Client,
    claim: &mut Claim<'_>,
    start: u64,
    data: &[u8],
    reservation: &mut Reservation<'_>,
) {
    let volume = &client.volume;
    let Some(brought) = brought(volume, claim, start, data) else {
        return;
    };
    let geometry = volume.geometry();
    let number = claim.piece.number;
    let base = geometry.base(number);
    let here = geometry.whole(&brought, volume.size());
    let bytes =
        |from: u64, to: u64| &data[(base + from - start) as usize..(base + to - start) as usize];
    let mut state = claim.pin.latch();
    // What the directory calls dirty stays as it is until the directory has been told.
    let mut good = (claim.wanted & here) - state.sealed.sectors;
    if !is_planted(Bug::FetchCommitsBlindly) {
        good = good - state.valid - state.stale(claim.ticket) - volume.zero_mask(number);
    }
    if !good.is_empty() && state.slot.is_none() {
        match reservation.take() {
            Some(slot) if claim.is_ahead => state.assign_ahead(slot),
            Some(slot) => state.assign(slot),
            None => good = Mask::EMPTY,
        }
    }
    for run in good.runs() {
        let (from, to) = geometry.bytes_of(number, run, volume.size());
        let written = state.write_slot(from - base, bytes(from - base, to - base));
        if written.is_ok() {
            state.valid |= Mask::span(run.0, run.1);
        }
    }
    drop(state);
    tell_fetched(volume, claim, here, good);
}

fn tell_fetched(volume: &Volume, claim: &Claim<'_>, here: Mask, stored: Mask) {
    let store = volume.store();
    let why = if claim.is_ahead {
        let bytes = u64::from(stored.count()) * volume.geometry().sector_bytes();
        store.stats.readahead_bytes.add(bytes);
        "readahead of"
    } else {
        "read"
    };
    store.trace(|| {
        format!(
            "{why} block {}: fetched {} sectors, stored {}",
            claim.piece.number.0,
            here.count(),
            stored.count()
        )
    });
}

fn not_read((start, end): (u64, u64), cause: io::Error) -> Error {
    let context = format!("read of {} bytes at {start} from the origin", end - start);
    Error::with_source(ErrorKind::Origin, context, cause)
}

/// After a failed fetch: what was asked and is still missing, if that is less than was fetched.
fn retry_less<'c>(
    client: &'c Client,
    group: Vec<Claim<'c>>,
    (start, end): (u64, u64),
    error: io::Error,
) -> Result<Vec<Missing<'c>>, Error> {
    let geometry = client.volume.geometry();
    let first = &group[0].piece;
    let last = &group[group.len() - 1].piece;
    let asked = (
        geometry.base(first.number) + first.start,
        geometry.base(last.number) + last.end,
    );
    let is_all = asked.0 <= start && end <= asked.1;
    // Less would have to wait as long again.
    if is_all || is_silence(&error) {
        return Err(not_read((start, end), error));
    }
    let asked: Vec<(Piece, Mask)> = group
        .iter()
        .filter(|claim| !claim.asked.is_empty())
        .map(|claim| (claim.piece, claim.asked))
        .collect();
    // The claims end here: others need not wait for the second attempt.
    drop(group);
    let missing = asked.into_iter().map(|(piece, sectors)| Missing {
        pin: client.volume.pin(piece.number),
        piece,
        sectors,
    });
    Ok(missing.collect())
}
