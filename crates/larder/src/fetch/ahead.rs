//! Claims of blocks that nobody has asked for: what follows a read's own, and the windows of streams.
//!
//! They are taken as far as that costs no waiting: what somebody has pinned is left to them, and where there is no
//! room at once they end.

use std::io;
use std::ops::Range;

use super::{CHUNK_BYTES, Claim, begin, fetch_group, groups, span, wanted};
use crate::client::Client;
use crate::index::Use;
use crate::present::Target;
use crate::room::Reservation;
use crate::sector::{BlockNumber, Mask, Piece};
use crate::streams::Growth;
use crate::volume::Volume;

/// Claims a block that nobody has asked for, unless somebody is at it or it is all here.
fn claim_ahead(volume: &Volume, number: BlockNumber) -> Option<Claim<'_>> {
    let pin = volume.pin(number);
    let mut state = pin.latch();
    let wanted = wanted(volume, number, &state);
    if state.is_being_fetched || wanted.is_empty() {
        return None;
    }
    let ticket = begin(&mut state);
    drop(state);
    Some(Claim {
        pin,
        piece: Piece {
            number,
            start: 0,
            end: 0,
        },
        ticket,
        number: volume.begin_fetch(),
        is_silent: false,
        wanted,
        asked: Mask::EMPTY,
        is_ahead: true,
    })
}

/// A block that may be fetched ahead, at a look that nothing keeps true.
struct Absent {
    number: BlockNumber,
    needs_slot: bool,
    /// The bytes that the origin alone has, from the first to the last.
    span: (u64, u64),
}

/// A look at a block that may be fetched ahead. None if somebody is using it or it is all here.
fn absent(volume: &Volume, number: BlockNumber) -> Option<Absent> {
    let geometry = volume.geometry();
    let directory = &volume.store().directory;
    let found = volume.index().find_use(number, geometry.full(), directory);
    let Use::Unpinned(state) = found else {
        return None;
    };
    let hull = wanted(volume, number, &state).hull()?;
    Some(Absent {
        number,
        needs_slot: state.slot.is_none(),
        span: geometry.bytes_of(number, hull, volume.size()),
    })
}

/// Claims what follows the last claim, as far as one request to the origin can fetch both.
pub(super) fn grow<'c>(
    client: &'c Client,
    claims: &mut Vec<Claim<'c>>,
    growth: Growth,
    reservation: &mut Reservation<'_>,
) {
    let volume = &*client.volume;
    let Some(last) = claims.last() else { return };
    let first = last.piece.number.0 + 1;
    let (mut start, end) = span(volume, last);
    for claim in claims.iter().rev().skip(1) {
        let before = span(volume, claim);
        if before.1 != start {
            break;
        }
        start = before.0;
    }
    let follow = following(client, first, growth.blocks, (start, end));
    let needed = follow.iter().filter(|one| one.needs_slot).count();
    reservation.add_at_once(needed);
    let mut slots = reservation.len().saturating_sub(claims.len());
    let mut reached = first;
    for one in follow {
        if one.needs_slot && slots == 0 {
            break;
        }
        let claimed = claim_ahead(volume, one.number);
        // Changed since the look: it would be another request.
        let Some(claim) = claimed.filter(|claim| span(volume, claim).0 == one.span.0) else {
            break;
        };
        slots -= usize::from(one.needs_slot);
        reached = one.number.0 + 1;
        claims.push(claim);
    }
    let is_known = |number: &u64| absent(volume, BlockNumber(*number)).is_none();
    let reached = (reached..first + growth.blocks).find(|number| !is_known(number));
    let end = reached.unwrap_or(first + growth.blocks);
    client.readahead.grew(growth.stream, end);
}

/// The blocks from `first` on, at most `most`, that one request can fetch together with the bytes before them.
fn following(client: &Client, first: u64, most: u64, (start, mut end): (u64, u64)) -> Vec<Absent> {
    let longest = CHUNK_BYTES.min(client.attached.maximum_bytes() as u64);
    let mut follow = Vec::new();
    for number in (first..first + most).map(BlockNumber) {
        match absent(&client.volume, number) {
            Some(one) if one.span.0 == end && one.span.1 - start <= longest => {
                end = one.span.1;
                follow.push(one);
            }
            _ => break,
        }
    }
    follow
}

/// Fetches what is absent of those blocks, as far as there is room at once. The first error ends it.
pub(crate) fn fetch(client: &Client, blocks: Range<u64>) -> io::Result<()> {
    let volume = &*client.volume;
    let found: Vec<Absent> = blocks
        .filter_map(|number| absent(volume, BlockNumber(number)))
        .collect();
    let mut reservation = Reservation::empty(client.store());
    reservation.add_at_once(found.iter().filter(|one| one.needs_slot).count());
    let mut slots = reservation.len();
    let mut claims = Vec::new();
    for one in found {
        if one.needs_slot && slots == 0 {
            continue;
        }
        if let Some(claim) = claim_ahead(volume, one.number) {
            slots -= usize::from(one.needs_slot);
            claims.push(claim);
        }
    }
    let mut target = Target::nowhere(0);
    for (mut group, bytes) in groups(volume, claims) {
        let bytes = (bytes, false);
        fetch_group(client, &mut group, bytes, &mut reservation, &mut target)?;
    }
    Ok(())
}
