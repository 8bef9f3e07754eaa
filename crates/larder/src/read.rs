//! Reads, and fetching without reading.
//!
//! What is present is copied under each block's latch *before* the origin is asked for the rest.
//! So each sector's value was current at or after the request's start: a sector that is absent at the
//! look has its truth on the origin, which only moves forward. Nothing needs to be laid over
//! afterwards, and a trim between the two moments cannot bring older data back.

use crate::Error;
use crate::block::FetchNumber;
use crate::client::Client;
use crate::fetch::Rest;
use crate::pass_through::{self, Missing};
use crate::present::{Target, copy_latched, copy_present};
use crate::sector::{Mask, Piece};
use crate::{fetch, room};

/// The bytes of a read that are worked on at once, unless one block is larger.
pub(crate) const WINDOW_BYTES: u64 = 8 << 20;

/// Reads `length` bytes into `target`.
pub(crate) fn read(client: &Client, length: u64, mut target: Target<'_>) -> Result<(), Error> {
    let geometry = client.volume.geometry();
    let window = WINDOW_BYTES.max(geometry.block_bytes());
    let since = client.volume.last_fetch();
    let end = target.offset() + length;
    let mut at = target.offset();
    while at < end {
        let stop = end.min((at / window + 1).saturating_mul(window));
        client.check_poison()?;
        // What is hit at once is not even listed.
        let mut todo: Vec<Piece> = geometry
            .pieces(at, stop - at)
            .skip_while(|piece| read_unlocked(client, piece, &mut target))
            .collect();
        while !todo.is_empty() {
            client.check_poison()?;
            // Only the last of them is followed by what was not asked for.
            let ahead_of = (stop == end).then_some((target.offset(), length));
            todo = read_round(client, todo, (ahead_of, since), &mut target)?;
            // In order again, so that neighbours are joined.
            todo.sort_unstable_by_key(|piece| piece.number);
        }
        at = stop;
    }
    // What was read before the volume was given up may be older than it should.
    client.check_poison()?;
    target.hand_over();
    Ok(())
}

/// Reads the pieces, and gives those that must be looked at again. `ahead_of` is the range that the client
/// asked for, if these are the last pieces of it; `since` is the fetch that was the last to begin before the request did.
fn read_round(
    client: &Client,
    todo: Vec<Piece>,
    (ahead_of, since): (Option<(u64, u64)>, FetchNumber),
    target: &mut Target<'_>,
) -> Result<Vec<Piece>, Error> {
    let store = client.store();
    let mut missing = Vec::new();
    for piece in todo {
        if read_unlocked(client, &piece, target) {
            continue;
        }
        let pin = client.volume.pin(piece.number);
        let sectors = copy_present(client, &pin, &piece, target)?;
        if sectors.is_empty() {
            count_hit(client, &piece);
        } else {
            missing.push(Missing {
                pin,
                piece,
                sectors,
            });
        }
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if !target.is_nowhere() && !client.stores_misses() {
        store.stats.pass_through_reads.add(missing.len() as u64);
        store.trace(|| {
            format!(
                "read blocks from {}: pass through",
                missing[0].piece.number.0
            )
        });
        pass_through::pass_through(client, &missing, target)?;
        return Ok(Vec::new());
    }
    let waits = ahead_of
        .filter(|_| !target.is_nowhere())
        .map(|(offset, length)| {
            let geometry = client.volume.geometry();
            client.readahead.waits(geometry, offset, length)
        });
    let growth = waits.as_ref().and_then(|waits| waits.growth);
    let rest = Rest {
        growth,
        is_last: ahead_of.is_some(),
        since,
    };
    read_stored(client, missing, rest, target)
}

/// Reads `length` bytes into `target` if all of them are here. False if not, or if somebody is just
/// taking them away; then nothing is counted.
pub(crate) fn try_read(client: &Client, length: u64, mut target: Target<'_>) -> bool {
    let geometry = client.volume.geometry();
    let pieces = || geometry.pieces(target.offset(), length);
    // Nothing is read in vain, nor counts as used twice, where a later block is missing.
    let (first, mut hits) = (target.offset(), 0);
    if pieces().nth(1).is_some() && !pieces().all(|piece| is_present(client, &piece)) {
        client.readahead.missed_at_once(geometry, first, length);
        return false;
    }
    for piece in geometry.pieces(first, length) {
        if !copy_unlocked(client, &piece, &mut target)
            && !copy_if_present(client, &piece, &mut target)
        {
            client.readahead.missed_at_once(geometry, first, length);
            return false;
        }
        hits += 1;
    }
    if client.check_poison().is_err() {
        return false;
    }
    let store = client.store();
    store.stats.hits.add(hits);
    store.trace(|| format!("read {hits} blocks at {first} at once: hit"));
    true
}

/// Whether a piece is all here. Only a hint: nothing keeps it so.
fn is_present(client: &Client, piece: &Piece) -> bool {
    let volume = &client.volume;
    let geometry = volume.geometry();
    let directory = &volume.store().directory;
    let state = volume
        .index()
        .peek(piece.number, geometry.full(), directory);
    let absent = geometry.touched(piece) - state.valid;
    absent.is_empty() || (absent - volume.zero_mask(piece.number)).is_empty()
}

fn copy_if_present(client: &Client, piece: &Piece, target: &mut Target<'_>) -> bool {
    if !is_present(client, piece) {
        return false;
    }
    let pin = client.volume.pin(piece.number);
    let state = pin.latch_shared();
    // What the cache file does not give back is for a read that may ask the origin.
    copy_latched(&state, piece, target).is_ok_and(Mask::is_empty)
}

fn count_hit(client: &Client, piece: &Piece) {
    let store = client.store();
    store.stats.hits.add(1);
    store.trace(|| format!("read block {}: hit", piece.number.0));
}

fn read_unlocked(client: &Client, piece: &Piece, target: &mut Target<'_>) -> bool {
    let is_hit = copy_unlocked(client, piece, target);
    if is_hit {
        count_hit(client, piece);
    }
    is_hit
}

/// The short way to a hit: what the slot held under the shard's lock is read without any lock or
/// pin, and counts if nobody wrote to the slot meanwhile. False if the long way is needed.
fn copy_unlocked(client: &Client, piece: &Piece, target: &mut Target<'_>) -> bool {
    let volume = &client.volume;
    let geometry = volume.geometry();
    let store = volume.store();
    let begin = |slot| Some((slot, store.slots.begin_unlocked_read(slot)?));
    let sectors = geometry.touched(piece);
    let Some((slot, read)) =
        volume
            .index()
            .if_valid(piece.number, sectors, &store.directory, begin)
    else {
        return false;
    };
    let base = geometry.base(piece.number);
    if let Some(place) = target.place(base + piece.start, base + piece.end)
        && (store.slots.read(slot, piece.start, place).is_err() || !store.slots.is_unchanged(read))
    {
        return false;
    }
    store.touched(slot);
    client.readahead.reached(piece.number);
    true
}

/// Fetches what is missing into slots, as far as there is room.
fn read_stored(
    client: &Client,
    missing: Vec<Missing<'_>>,
    mut rest: Rest,
    target: &mut Target<'_>,
) -> Result<Vec<Piece>, Error> {
    let store = client.store();
    // Nobody waits for room while holding a pin.
    let pieces: Vec<(Piece, bool)> = missing
        .into_iter()
        .map(|missing| (missing.piece, missing.pin.latch_shared().slot.is_none()))
        .collect();
    let wanted = pieces.iter().filter(|(_, needs_slot)| *needs_slot).count();
    let reserved = if wanted == 0 {
        Ok(room::Reservation::empty(store))
    } else {
        room::reserve(client, wanted)
    };
    let reservation = match reserved {
        Ok(reservation) => reservation,
        Err(no_room) => {
            let pieces: Vec<Piece> = pieces.into_iter().map(|(piece, _)| piece).collect();
            store.trace(|| format!("read block {}: no room{no_room}", pieces[0].number.0));
            return read_without_room(client, &pieces, target);
        }
    };
    let mut again = Vec::new();
    let mut now = Vec::new();
    let mut slots_left = reservation.len();
    for (piece, needs_slot) in pieces {
        if needs_slot && slots_left == 0 {
            again.push(piece);
            continue;
        }
        slots_left -= usize::from(needs_slot);
        now.push(piece);
    }
    // Where room is short, it is for what was asked.
    rest.growth = rest.growth.filter(|_| again.is_empty());
    rest.is_last &= again.is_empty();
    again.extend(fetch::fetch(client, now, rest, reservation, target)?);
    Ok(again)
}

fn read_without_room(
    client: &Client,
    pieces: &[Piece],
    target: &mut Target<'_>,
) -> Result<Vec<Piece>, Error> {
    if target.is_nowhere() {
        return Ok(Vec::new());
    }
    let mut missing = Vec::new();
    for &piece in pieces {
        let pin = client.volume.pin(piece.number);
        let sectors = copy_present(client, &pin, &piece, target)?;
        if !sectors.is_empty() {
            missing.push(Missing {
                pin,
                piece,
                sectors,
            });
        }
    }
    client.store().stats.no_room_reads.add(missing.len() as u64);
    pass_through::pass_through(client, &missing, target)?;
    Ok(Vec::new())
}
