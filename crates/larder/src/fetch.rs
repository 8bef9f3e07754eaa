//! Stored misses: one fetch per block at a time, committed only where nothing changed meanwhile.
//!
//! Whoever claims a block fetches the invalid part of the whole of it. The claim's ticket collects
//! the sectors that were written, zeroed or trimmed since; those are not stored. Those who find a
//! claim wait for its end and look again, also when it failed: they try on their own connection.
//! A request finishes its own fetches before it waits for others', so no two wait for each other.

use crate::block::TicketNumber;
use crate::client::Client;
use crate::pass_through::{self, Missing};
use crate::pin::Pin;
use crate::planted::{Bug, is_planted};
use crate::present::{self, Target};
use crate::room::Reservation;
use crate::sector::{Mask, Piece};
use crate::{Error, ErrorKind};

/// The most bytes fetched into memory at once, unless one sector is larger.
const CHUNK_BYTES: u64 = 32 << 20;

/// The right and duty to fetch a block; ended when dropped.
struct Claim<'v> {
    pin: Pin<'v>,
    piece: Piece,
    ticket: TicketNumber,
    /// Sectors to store.
    wanted: Mask,
    /// Sectors of the piece that are still to be given to the reader.
    asked: Mask,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.pin.end_fetch(self.ticket);
    }
}

/// Somebody else is fetching the block.
struct Waiting<'v> {
    pin: Pin<'v>,
    piece: Piece,
    seen: u64,
}

/// Fetches what is missing of the pieces, and gives those that must be looked at again.
pub(crate) fn fetch(
    client: &Client,
    pieces: Vec<Piece>,
    mut reservation: Reservation<'_>,
    target: &mut Target<'_>,
) -> Result<Vec<Piece>, Error> {
    let mut claims = Vec::new();
    let mut waiting = Vec::new();
    let mut again = Vec::new();
    for piece in pieces {
        match claim(client, piece, target) {
            Found::Present => client.store().stats.hits.add(1),
            Found::Claimed(claim) => claims.push(claim),
            Found::BeingFetched(other) => waiting.push(other),
            Found::LookAgain => again.push(piece),
        }
    }
    client.store().stats.misses.add(claims.len() as u64);
    let failed = fetch_claims(client, claims, &mut reservation, target)?;
    // What is not used is somebody else's room.
    drop(reservation);
    // More was fetched than was asked: the error may be of a part that nobody wants.
    pass_through::pass_through(client, &failed, target)?;
    drop(failed);
    client.store().stats.fetch_waits.add(waiting.len() as u64);
    for waiting in waiting {
        waiting.pin.wait_for_fetch(waiting.seen);
        again.push(waiting.piece);
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
    let Ok(asked) = present::copy_latched(volume, &state, &piece, target) else {
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
    state.is_being_fetched = true;
    let ticket = state.open_ticket();
    let wanted = volume.existing(piece.number) - state.valid - volume.zero_mask(piece.number);
    drop(state);
    Found::Claimed(Claim {
        pin,
        piece,
        ticket,
        wanted,
        asked,
    })
}

/// Fetches all claims, joining neighbours. Gives those whose fetch failed although less would have
/// been enough.
fn fetch_claims<'c>(
    client: &'c Client,
    claims: Vec<Claim<'c>>,
    reservation: &mut Reservation<'_>,
    target: &mut Target<'_>,
) -> Result<Vec<Missing<'c>>, Error> {
    let volume = &client.volume;
    let geometry = volume.geometry();
    let span = |claim: &Claim<'_>| {
        let hull = claim.wanted.hull().unwrap_or((0, 0));
        geometry.bytes_of(claim.piece.number, hull, volume.size())
    };
    let longest = CHUNK_BYTES.max(geometry.sector_bytes());
    let mut failed = Vec::new();
    let mut left = claims.into_iter().peekable();
    while let Some(first) = left.next() {
        let (start, mut end) = span(&first);
        let mut group = vec![first];
        while let Some(next) =
            left.next_if(|next| span(next).0 == end && span(next).1 - start <= longest)
        {
            end = span(&next).1;
            group.push(next);
        }
        if let Err(error) = fetch_group(client, &mut group, (start, end), reservation, target) {
            failed.extend(retry_less(client, group, (start, end), error)?);
        }
    }
    Ok(failed)
}

/// Fetches the bytes from `start` to `end` in chunks, and commits each.
fn fetch_group(
    client: &Client,
    group: &mut [Claim<'_>],
    (start, end): (u64, u64),
    reservation: &mut Reservation<'_>,
    target: &mut Target<'_>,
) -> std::io::Result<()> {
    // Before the claims end, so that those who wait for them know.
    let _guard = client.volume.poison_on_panic();
    let longest = CHUNK_BYTES.max(client.volume.geometry().sector_bytes());
    let store = client.store();
    let mut at = start;
    while at < end {
        let stop = end.min(at + longest);
        store.stats.origin_read_bytes.add(stop - at);
        let (first, data) = client.attached.read_span(at, stop)?;
        let data = &data[(at - first) as usize..(stop - first) as usize];
        for claim in &mut *group {
            commit(client, claim, at, data, reservation, target);
        }
        at = stop;
    }
    Ok(())
}

/// Stores and hands out what a fetch brought of a claimed block.
fn commit(
    client: &Client,
    claim: &mut Claim<'_>,
    start: u64,
    data: &[u8],
    reservation: &mut Reservation<'_>,
    target: &mut Target<'_>,
) {
    let volume = &client.volume;
    let geometry = volume.geometry();
    let number = claim.piece.number;
    let base = geometry.base(number);
    let end = start + data.len() as u64;
    let (from, to) = (
        start.max(base),
        end.min(base.saturating_add(geometry.block_bytes())),
    );
    if from >= to {
        return;
    }
    let brought = Piece {
        number,
        start: from - base,
        end: to - base,
    };
    let here = geometry.whole(&brought, volume.size());
    let bytes =
        |from: u64, to: u64| &data[(base + from - start) as usize..(base + to - start) as usize];
    let mut state = claim.pin.latch();
    let mut good = claim.wanted & here;
    if !is_planted(Bug::FetchCommitsBlindly) {
        good = good - state.valid - state.stale(claim.ticket) - volume.zero_mask(number);
    }
    if !good.is_empty() && state.slot.is_none() {
        match reservation.take() {
            Some(slot) => state.assign(slot),
            None => good = Mask::EMPTY,
        }
    }
    if let Some(slot) = state.slot {
        for run in good.runs() {
            let (from, to) = geometry.bytes_of(number, run, volume.size());
            let written =
                volume
                    .store()
                    .slots
                    .write(slot, from - base, bytes(from - base, to - base));
            if written.is_ok() {
                state.valid |= Mask::span(run.0, run.1);
            }
        }
    }
    drop(state);
    volume.store().trace(|| {
        format!(
            "read block {}: fetched {} sectors, stored {}",
            number.0,
            here.count(),
            good.count()
        )
    });
    for run in (claim.asked & here).runs() {
        let from = geometry.sector_start(run.0).max(claim.piece.start);
        let to = geometry.sector_start(run.1).min(claim.piece.end);
        if let Some(place) = target.place(base + from, base + to) {
            place.copy_from_slice(bytes(from, to));
        }
    }
    claim.asked -= here;
}

/// After a failed fetch: what was asked and is still missing, if that is less than was fetched.
fn retry_less<'c>(
    client: &'c Client,
    group: Vec<Claim<'c>>,
    (start, end): (u64, u64),
    error: std::io::Error,
) -> Result<Vec<Missing<'c>>, Error> {
    let geometry = client.volume.geometry();
    let first = &group[0].piece;
    let last = &group[group.len() - 1].piece;
    let asked = (
        geometry.base(first.number) + first.start,
        geometry.base(last.number) + last.end,
    );
    if asked.0 <= start && end <= asked.1 {
        let context = format!("read of {} bytes at {start} from the origin", end - start);
        return Err(Error::with_source(ErrorKind::Origin, context, error));
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
