//! Reads, and fetching without reading.
//!
//! What is present is copied under each block's latch *before* the origin is asked for the rest.
//! So each sector's value was current at or after the request's start: a sector that is absent at the
//! look has its truth on the origin, which only moves forward. Nothing needs to be laid over
//! afterwards, and a trim between the two moments cannot bring older data back.

use crate::block::BlockState;
use crate::client::Client;
use crate::fetch;
use crate::pin::Pin;
use crate::room;
use crate::sector::{BlockNumber, Mask, Piece};
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// The bytes of a read that are worked on at once, unless one block is larger.
const WINDOW_BYTES: u64 = 8 << 20;

/// Passed-through parts closer than this are read from the origin as one.
const JOIN_GAP_BYTES: u64 = 64 << 10;

/// Where what is read goes.
pub(crate) struct Target<'b> {
    offset: u64,
    /// Nowhere, if the range is only to be fetched.
    buffer: Option<&'b mut [u8]>,
}

impl<'b> Target<'b> {
    pub(crate) fn new(offset: u64, buffer: &'b mut [u8]) -> Self {
        Self {
            offset,
            buffer: Some(buffer),
        }
    }

    pub(crate) fn nowhere(offset: u64) -> Self {
        Self {
            offset,
            buffer: None,
        }
    }

    /// The place for the bytes from `start` to `end` of the volume.
    pub(crate) fn place(&mut self, start: u64, end: u64) -> Option<&mut [u8]> {
        let buffer = self.buffer.as_deref_mut()?;
        Some(&mut buffer[(start - self.offset) as usize..(end - self.offset) as usize])
    }

    pub(crate) fn is_nowhere(&self) -> bool {
        self.buffer.is_none()
    }
}

/// A piece of which some sectors are not here.
pub(crate) struct Missing<'v> {
    pub pin: Pin<'v>,
    pub piece: Piece,
    pub sectors: Mask,
}

/// Reads `length` bytes into `target`.
pub(crate) fn read(client: &Client, length: u64, mut target: Target<'_>) -> Result<(), Error> {
    let geometry = client.volume.geometry();
    let window = WINDOW_BYTES.max(geometry.block_bytes());
    let end = target.offset + length;
    let mut at = target.offset;
    while at < end {
        let stop = end.min((at / window + 1).saturating_mul(window));
        let mut todo: Vec<Piece> = geometry.pieces(at, stop - at).collect();
        while !todo.is_empty() {
            client.check_poison()?;
            todo = read_round(client, todo, &mut target)?;
            // In order again, so that neighbours are joined.
            todo.sort_unstable_by_key(|piece| piece.number);
        }
        at = stop;
    }
    Ok(())
}

/// Reads the pieces, and gives those that must be looked at again.
fn read_round(
    client: &Client,
    todo: Vec<Piece>,
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
            store.stats.hits.add(1);
            store.trace(|| format!("read block {}: hit", piece.number.0));
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
        pass_through(client, &missing, target)?;
        return Ok(Vec::new());
    }
    read_stored(client, missing, target)
}

/// The short way to a hit: what the slot held under the shard's lock is read without any lock or
/// pin, and counts if nobody wrote to the slot meanwhile. False if the long way is needed.
fn read_unlocked(client: &Client, piece: &Piece, target: &mut Target<'_>) -> bool {
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
    store.stats.hits.add(1);
    store.trace(|| format!("read block {}: hit", piece.number.0));
    true
}

/// Fetches what is missing into slots, as far as there is room.
fn read_stored(
    client: &Client,
    missing: Vec<Missing<'_>>,
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
    again.extend(fetch::fetch(client, now, reservation, target)?);
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
    pass_through(client, &missing, target)?;
    Ok(Vec::new())
}

/// Copies what is in the slot or zero by state, and gives the sectors that are not.
fn copy_present(
    client: &Client,
    pin: &Pin<'_>,
    piece: &Piece,
    target: &mut Target<'_>,
) -> Result<Mask, Error> {
    loop {
        let outcome = {
            let state = pin.latch_shared();
            copy_latched(&client.volume, &state, piece, target)
        };
        match outcome {
            Ok(missing) => return Ok(missing),
            // Each round at least one sector is given up.
            Err(unreadable) => drop_unreadable(client, pin, unreadable)?,
        }
    }
}

/// The same with the latch held by the caller. Fails with the sectors that the cache file does not
/// give back.
pub(crate) fn copy_latched(
    volume: &Volume,
    state: &BlockState,
    piece: &Piece,
    target: &mut Target<'_>,
) -> Result<Mask, Mask> {
    let geometry = volume.geometry();
    let touched = geometry.touched(piece);
    let valid = state.valid & touched;
    let mut missing = touched - valid;
    let base = geometry.base(piece.number);
    let clip = |run: (u32, u32)| {
        let start = geometry.sector_start(run.0).max(piece.start);
        (start, geometry.sector_start(run.1).min(piece.end))
    };
    if let Some(slot) = state.slot {
        for run in valid.runs() {
            let (start, end) = clip(run);
            if let Some(place) = target.place(base + start, base + end) {
                let read = volume.store().slots.read(slot, start, place);
                read.map_err(|_| Mask::span(run.0, run.1))?;
            }
        }
        if !valid.is_empty() {
            volume.store().touched(slot);
        }
    }
    if !missing.is_empty() {
        let zero = volume.zero_mask(piece.number) & missing;
        for run in zero.runs() {
            let (start, end) = clip(run);
            if let Some(place) = target.place(base + start, base + end) {
                place.fill(0);
            }
        }
        missing -= zero;
    }
    Ok(missing)
}

/// The cache file does not give these sectors back: clean ones come from the origin again, dirty
/// ones are lost.
pub(crate) fn drop_unreadable(client: &Client, pin: &Pin<'_>, sectors: Mask) -> Result<(), Error> {
    let volume = &client.volume;
    let mut state = pin.latch();
    // Written anew since, perhaps.
    let sectors = sectors & state.valid & unreadable(client, &state, pin.number(), sectors);
    let lost = sectors & state.unsettled();
    if let Some(run) = lost.first_run() {
        let (start, end) = volume.geometry().bytes_of(pin.number(), run, volume.size());
        let message = format!(
            "volume '{}': the cache file cannot be read back at {start} for {} bytes that the origin does not have",
            volume.name(),
            end - start
        );
        volume.store().log.error(&message);
        return Err(Error::new(ErrorKind::CacheFile, message));
    }
    state.drop_sectors(sectors);
    Ok(())
}

/// Those of the sectors that the cache file does not give back now.
fn unreadable(client: &Client, state: &BlockState, number: BlockNumber, sectors: Mask) -> Mask {
    let volume = &client.volume;
    let geometry = volume.geometry();
    let Some(slot) = state.slot else {
        return Mask::EMPTY;
    };
    let mut failed = Mask::EMPTY;
    for run in sectors.runs() {
        let (start, end) = geometry.bytes_of(number, run, volume.size());
        let mut buffer = vec![0; (end - start) as usize];
        let within = start - geometry.base(number);
        if volume
            .store()
            .slots
            .read(slot, within, &mut buffer)
            .is_err()
        {
            failed |= Mask::span(run.0, run.1);
        }
    }
    failed
}

/// Reads what is missing from the origin, no more than was asked, and stores nothing.
pub(crate) fn pass_through(
    client: &Client,
    missing: &[Missing<'_>],
    target: &mut Target<'_>,
) -> Result<(), Error> {
    if target.is_nowhere() {
        return Ok(());
    }
    let geometry = client.volume.geometry();
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for missing in missing {
        let base = geometry.base(missing.piece.number);
        for (first, end) in missing.sectors.runs() {
            let start = base + geometry.sector_start(first).max(missing.piece.start);
            let stop = base + geometry.sector_start(end).min(missing.piece.end);
            match parts.last_mut() {
                Some(last) if last.1 == start => last.1 = stop,
                _ => parts.push((start, stop)),
            }
        }
    }
    let close = |a: &(u64, u64), b: &(u64, u64)| b.0 - a.1 <= JOIN_GAP_BYTES;
    for group in parts.chunk_by(close) {
        let (start, end) = (group[0].0, group[group.len() - 1].1);
        read_parts(client, start, end, group, target).map_err(|error| {
            let context = format!("read of {} bytes at {start} from the origin", end - start);
            Error::with_source(ErrorKind::Origin, context, error)
        })?;
    }
    Ok(())
}

fn read_parts(
    client: &Client,
    start: u64,
    end: u64,
    parts: &[(u64, u64)],
    target: &mut Target<'_>,
) -> std::io::Result<()> {
    let attached = &client.attached;
    client.store().stats.origin_read_bytes.add(end - start);
    if parts.len() == 1 && attached.is_aligned(start, end) {
        return match target.place(start, end) {
            Some(place) => attached.read_into(start, place),
            None => Ok(()),
        };
    }
    let (first, data) = attached.read_span(start, end)?;
    for &(start, end) in parts {
        if let Some(place) = target.place(start, end) {
            place.copy_from_slice(&data[(start - first) as usize..(end - first) as usize]);
        }
    }
    Ok(())
}
