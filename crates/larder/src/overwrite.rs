//! Writes over what only the slots have of a flush's promise: the directory hears of them first.

use std::collections::VecDeque;

use crate::client::Client;
use crate::sector::Piece;
use crate::survival::Redone;
use crate::volume::Volume;
use crate::write::{count_write, write_past};
use crate::{Error, survival};

/// A part of a request that the directory can be told of at once, and its bytes.
pub(crate) type Part<'d> = (Piece, &'d [u8]);

/// `parts` are what is left of a request, and the first of them could not be written. On return those that are whole sectors over promises are done, as
/// many as can be at a time, and left no more; the others are worth another attempt.
pub(crate) fn overwrite(client: &Client, parts: &mut VecDeque<Part<'_>>) -> Result<(), Error> {
    let volume = &client.volume;
    let meant = over_promises(volume, parts);
    let piece = |part: &Part<'_>| part.0;
    if meant.first().map(piece) != parts.front().map(piece) {
        // It can be written by now.
        return Ok(());
    }
    let outcomes = survival::overwrite(volume, &meant)?;
    let mut done = Vec::new();
    for ((piece, bytes), outcome) in meant.into_iter().zip(outcomes) {
        match outcome {
            Some(Redone::Stored) => count_write(client, &piece),
            Some(Redone::Refused) => write_past(client, &piece, bytes)?,
            None => continue,
        }
        done.push(piece);
    }
    let mut done = done.into_iter().peekable();
    parts.retain(|(piece, _)| done.next_if_eq(piece).is_none());
    Ok(())
}

/// Those that lie over promises, as many as the directory takes at once.
fn over_promises<'d>(volume: &Volume, parts: &VecDeque<Part<'d>>) -> Vec<Part<'d>> {
    let is_meant = |(piece, _): &Part<'_>| !survival::barred(volume, piece).is_empty();
    let mut left = survival::overwritten_bytes(volume);
    let fits = |(_, bytes): &Part<'_>| {
        let rest = left.checked_sub(bytes.len() as u64);
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    let meant = parts.iter().copied().filter(is_meant);
    meant.take_while(fits).collect()
}
