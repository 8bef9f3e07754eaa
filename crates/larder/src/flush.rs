//! Flushes, and the pass that the last writable connection owes its clients.

use std::time::Duration;

use crate::attached::Attached;
use crate::config::Mode;
use crate::connection::Connection;
use crate::volume::Volume;
use crate::writeback::{self, Scope};
use crate::{Error, ErrorKind};

/// The most ranges that a log message names one by one.
const RANGES_TO_NAME: usize = 64;

/// Does what a client's flush means in the cache's mode.
pub(crate) fn flush(connection: &Connection) -> Result<(), Error> {
    match connection.store().config.mode {
        Mode::Unsafe => Ok(()),
        Mode::Writethrough => flush_origin(&connection.volume, &connection.attached),
        Mode::Writeback => write_back_all(connection),
    }
}

fn flush_origin(volume: &Volume, attached: &Attached) -> Result<(), Error> {
    attached.flush().map_err(|cause| {
        volume.durability_failed();
        Error::with_source(ErrorKind::Origin, "flush of the origin", cause)
    })
}

/// Everything acknowledged so far becomes durable.
fn write_back_all(connection: &Connection) -> Result<(), Error> {
    let volume = &connection.volume;
    let Some(mut running) = volume.token.take_for_flush() else {
        return connection.check_poison();
    };
    connection.check_poison()?;
    if connection.attached.capabilities.write {
        full_pass(volume, &connection.attached)?;
        running.succeed();
        return Ok(());
    }
    if volume.is_dirty() {
        // Borrowed only with the token in hand: whoever leaves takes the token before waiting.
        // Where there is nobody to borrow from, multi-conn is not offered either: what others wrote
        // is theirs to flush.
        if let Some(writer) = volume.attached.borrow_writer() {
            full_pass(volume, &writer)?;
            running.succeed();
        } else if connection.multi_conn() {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "flush: nobody is connected who could write back what others wrote",
            ));
        }
    }
    flush_origin(volume, &connection.attached)
}

/// A pass over everything, ending with a flush of the origin, also when nothing was dirty.
fn full_pass(volume: &Volume, writer: &Attached) -> Result<(), Error> {
    let outcome = writeback::pass(volume, writer, Scope::All, true);
    if let Some(error) = outcome.error {
        return Err(error);
    }
    if outcome.settled_sectors == 0 {
        return flush_origin(volume, writer);
    }
    Ok(())
}

/// The last writable connection leaves: everything is written back, or named.
pub(crate) fn flush_as_last(connection: &Connection) -> Result<(), Error> {
    let result = write_back_all(connection);
    if result.is_err() {
        report_unwritten(&connection.volume);
    }
    result
}

/// Logs what the origin does not have, by range.
pub(crate) fn report_unwritten(volume: &Volume) {
    let ranges = volume.dirty_ranges();
    report_ranges(volume, "not written to the origin", &ranges);
}

/// Logs ranges, given as offset and length.
pub(crate) fn report_ranges(volume: &Volume, what: &str, ranges: &[(u64, u64)]) {
    let log = &volume.store().log;
    let bytes: u64 = ranges.iter().map(|(_, length)| length).sum();
    log.error(&format!(
        "volume '{}': {bytes} bytes {what}, in {} ranges",
        volume.name(),
        ranges.len()
    ));
    for (offset, length) in ranges.iter().take(RANGES_TO_NAME) {
        log.error(&format!(
            "volume '{}': {length} bytes at offset {offset} {what}",
            volume.name()
        ));
    }
    if ranges.len() > RANGES_TO_NAME {
        let last = ranges[ranges.len() - 1];
        let more = ranges.len() - RANGES_TO_NAME;
        log.error(&format!(
            "volume '{}': {more} more ranges {what}, up to offset {}",
            volume.name(),
            last.0 + last.1
        ));
    }
}

/// Since when the volume's oldest dirty data has been waiting.
pub(crate) fn oldest_dirty(volume: &Volume) -> Option<Duration> {
    let data = volume.with_dirty(|dirty| dirty.oldest());
    let zeros = volume.zeros_since();
    match (data, zeros) {
        (Some(data), Some(zeros)) => Some(data.min(zeros)),
        (data, zeros) => data.or(zeros),
    }
}
