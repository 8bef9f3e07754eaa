//! Reading from the origin what is missing, and storing nothing.

use crate::client::Client;
use crate::pin::Pin;
use crate::present::Target;
use crate::sector::{Mask, Piece};
use crate::{Error, ErrorKind};

/// Passed-through parts closer than this are read from the origin as one.
const JOIN_GAP_BYTES: u64 = 64 << 10;

/// A piece of which some sectors are not here.
pub(crate) struct Missing<'v> {
    pub pin: Pin<'v>,
    pub piece: Piece,
    pub sectors: Mask,
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
    let _reading = client.volume.foreground.begin();
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
