//! Flushes, and the pass that the last writable connection owes its clients.

use std::io;

use crate::attached::Attached;
use crate::client::Client;
use crate::config::Mode;
use crate::origin::is_silence;
use crate::pass_token::{Running, Turn};
use crate::volume::Volume;
use crate::writeback::{self, Scope};
use crate::{Error, ErrorKind, survival, unwritten};

/// Does what a client's flush means in the cache's mode.
pub(crate) fn flush(client: &Client) -> Result<(), Error> {
    match client.store().config.mode {
        Mode::Unsafe => Ok(()),
        Mode::Writethrough => flush_origin(&client.volume, &client.attached),
        Mode::Writeback if client.volume.flushes_to_cache() => flush_into_cache(client),
        Mode::Writeback => write_back_all(client),
    }
}

/// Everything acknowledged so far becomes durable in the cache's directory; what went past the cache, on the origin.
fn flush_into_cache(client: &Client) -> Result<(), Error> {
    let volume = &*client.volume;
    volume.habit.flushed();
    for _ in 0..MOST_ROUNDS {
        client.check_poison()?;
        flush_what_went_past(client)?;
        survival::flush(volume)?;
        if !survival::keeps_what_is_older(volume) {
            flush_what_went_past(client)?;
            return client.check_poison();
        }
    }
    Err(Error::new(
        ErrorKind::Origin,
        format!(
            "flush: the origin refused to make durable what volume '{}' has changed past the cache, which must be written again",
            volume.name()
        ),
    ))
}

/// So often in a row somebody else's trims come in between, if the origin takes them.
const MOST_ROUNDS: u32 = 16;

/// The origin may still lose what has gone past the cache. Asked after the directory was told as well: what a trim has taken from under the commit, the commit
/// does not keep, but it has been noted by then.
pub(crate) fn flush_what_went_past(client: &Client) -> Result<(), Error> {
    match client.volume.unflushed.is_waiting() {
        true => flush_origin(&client.volume, &client.attached),
        false => Ok(()),
    }
}

fn flush_origin(volume: &Volume, attached: &Attached) -> Result<(), Error> {
    volume.flush_origin(attached).map_err(not_flushed)
}

fn not_flushed(cause: io::Error) -> Error {
    Error::with_source(ErrorKind::Origin, "flush of the origin", cause)
}

fn silent_beside_another() -> Error {
    let context = "flush: another one that began since has waited in vain for the origin";
    Error::with_source(ErrorKind::Origin, context, io::ErrorKind::TimedOut.into())
}

/// Everything acknowledged so far becomes durable.
fn write_back_all(client: &Client) -> Result<(), Error> {
    let volume = &client.volume;
    if client.attached.queued.is_some() {
        survival::note_asked(volume);
    }
    let mut running = match volume.token.take_for_flush() {
        Turn::Lead(running) => running,
        Turn::Done => return client.check_poison(),
        Turn::Silent => return Err(silent_beside_another()),
    };
    client.check_poison()?;
    if client.attached.capabilities.write {
        full_pass(volume, &client.attached, &mut running)?;
        running.succeed();
        return Ok(());
    }
    if volume.is_dirty() {
        // Borrowed only with the token in hand: whoever leaves takes the token before waiting.
        // Where there is nobody to borrow from, multi-conn is not offered either: what others wrote
        // is theirs to flush.
        if let Some(writer) = volume.attached.borrow_writer() {
            full_pass(volume, &writer, &mut running)?;
            running.succeed();
        } else if client.multi_conn() {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "flush: nobody is connected who could write back what others wrote",
            ));
        }
    }
    flush_origin(volume, &client.attached)
}

/// What is queued for the origin reaches it.
fn send_queued(client: &Client) -> Result<(), Error> {
    let Some(queued) = &client.attached.queued else {
        return Ok(());
    };
    queued.send_all().map_err(|cause| {
        let context = "sending what is queued for the origin".to_owned();
        Error::with_source(ErrorKind::Origin, context, cause)
    })
}

/// A pass over everything, ending with a flush of the origin, also when nothing was dirty.
fn full_pass(volume: &Volume, writer: &Attached, running: &mut Running<'_>) -> Result<(), Error> {
    let outcome = writeback::pass(volume, writer, Scope::All, true);
    if outcome.is_silent {
        running.meet_silence();
    }
    if let Some(error) = outcome.error {
        return Err(error);
    }
    if outcome.settled_sectors > 0 {
        return Ok(());
    }
    let flushed = volume.flush_origin(writer);
    if flushed.as_ref().is_err_and(is_silence) {
        running.meet_silence();
    }
    flushed.map_err(not_flushed)
}

/// The last writable connection leaves: everything is written back, or named.
pub(crate) fn flush_as_last(client: &Client) -> Result<(), Error> {
    let result = match client.volume.flushes_to_cache() {
        // First it is kept, should it not reach the origin; then the directory hears that it did.
        true => {
            let kept = flush_into_cache(client);
            write_back_all(client)
                .and(kept)
                .and_then(|()| survival::flush(&client.volume))
        }
        false => write_back_all(client).and_then(|()| send_queued(client)),
    };
    if result.is_err() {
        unwritten::report(&client.volume);
    }
    result
}
