//! What the origin acknowledged and was not flushed since, in writethrough mode.
//!
//! The cache holds it as clean. If the origin loses it with a connection, the cache must forget it, or it
//! would give what the origin no longer has. The list is bounded: when it is full it stands for everything.

use std::sync::Mutex;

use crate::attached::ConnectionNumber;
use crate::sync;

/// The most ranges that are kept apart.
const MOST_RANGES: usize = 4096;

/// A change that a flush would make durable.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    end: u64,
    connection: ConnectionNumber,
    moment: u64,
}

#[derive(Debug, Default)]
struct State {
    now: u64,
    entries: Vec<Entry>,
    /// When the list was last full: any byte may have been changed until then.
    everything: Option<u64>,
}

/// The changes of a volume that wait for a flush.
#[derive(Debug, Default)]
pub(crate) struct Unflushed {
    state: Mutex<State>,
}

impl Unflushed {
    /// The origin has acknowledged a change of these bytes.
    pub(crate) fn note(&self, connection: ConnectionNumber, start: u64, end: u64) {
        let state = &mut *sync::lock(&self.state);
        let moment = state.now;
        match state.entries.last_mut() {
            Some(last) if last.end == start && last.connection == connection => {
                last.end = end;
                last.moment = moment;
            }
            _ => state.entries.push(Entry {
                start,
                end,
                connection,
                moment,
            }),
        }
        if state.entries.len() > MOST_RANGES {
            state.entries.clear();
            state.everything = Some(moment);
        }
    }

    /// The moment before a flush, for [`Unflushed::flushed`].
    pub(crate) fn moment(&self) -> u64 {
        let mut state = sync::lock(&self.state);
        state.now += 1;
        state.now
    }

    /// A flush that began at `moment` succeeded: of one connection's changes, or of all.
    pub(crate) fn flushed(&self, moment: u64, connection: Option<ConnectionNumber>) {
        let state = &mut *sync::lock(&self.state);
        state.entries.retain(|entry| {
            entry.moment >= moment || connection.is_some_and(|one| one != entry.connection)
        });
        if connection.is_none() && state.everything.is_some_and(|full| full < moment) {
            state.everything = None;
        }
    }

    /// The ranges, as start and end; any byte if there is none.
    pub(crate) fn ranges(&self) -> Option<Vec<(u64, u64)>> {
        let state = sync::lock(&self.state);
        let range = |entry: &Entry| (entry.start, entry.end);
        match state.everything {
            Some(_) => None,
            None => Some(state.entries.iter().map(range).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionNumber = ConnectionNumber(1);
    const B: ConnectionNumber = ConnectionNumber(2);

    #[test]
    fn a_flush_covers_what_was_noted_before_it_began() {
        let unflushed = Unflushed::default();
        unflushed.note(A, 0, 10);
        unflushed.note(A, 10, 20);
        unflushed.note(B, 20, 30);
        let moment = unflushed.moment();
        unflushed.note(B, 40, 50);
        unflushed.flushed(moment, Some(A));
        assert_eq!(unflushed.ranges().unwrap(), [(20, 30), (40, 50)]);
        unflushed.flushed(moment, None);
        assert_eq!(unflushed.ranges().unwrap(), [(40, 50)]);
    }

    #[test]
    fn a_full_list_stands_for_everything_until_a_flush() {
        let unflushed = Unflushed::default();
        for number in 0..=MOST_RANGES as u64 {
            unflushed.note(A, 2 * number, 2 * number + 1);
        }
        assert_eq!(unflushed.ranges(), None);
        unflushed.flushed(unflushed.moment(), Some(A));
        assert_eq!(unflushed.ranges(), None, "others' may be among it");
        unflushed.flushed(unflushed.moment(), None);
        assert_eq!(unflushed.ranges().unwrap(), []);
    }
}
