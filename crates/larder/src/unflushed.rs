//! What the origin acknowledged and was not flushed since, in writethrough mode, and with a cache directory.
//!
//! The cache holds it as clean. If the origin loses it with a connection, the cache must forget it, or it
//! would give what the origin no longer has. A flush that succeeds clears only what was noted since its connection
//! joined: of an earlier loss it would not have been told. The list is bounded: when it is full it stands
//! for everything.

use std::sync::Mutex;

use crate::attached::ConnectionNumber;
use crate::sync;

/// The most ranges that are kept apart.
const MOST_RANGES: usize = 4096;

/// Later than any flush.
const NEVER: u64 = u64::MAX;

/// When changes were noted: the first and the last.
#[derive(Clone, Copy, Debug)]
struct Noted {
    first: u64,
    last: u64,
}

impl Noted {
    fn join(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    fn is_covered(self, flush: Flush) -> bool {
        flush.joined <= self.first && self.last < flush.began
    }
}

/// A flush, in moments of [`Unflushed::moment`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flush {
    /// When its connection joined.
    pub joined: u64,
    /// The moment before it.
    pub began: u64,
}

/// A change that a flush would make durable.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    end: u64,
    connection: ConnectionNumber,
    noted: Noted,
}

#[derive(Debug, Default)]
struct State {
    now: u64,
    entries: Vec<Entry>,
    /// What did not fit into the list: any byte may have been changed then.
    everything: Option<Noted>,
}

/// The changes of a volume that wait for a flush.
#[derive(Debug, Default)]
pub(crate) struct Unflushed {
    state: Mutex<State>,
}

impl Unflushed {
    /// The origin has acknowledged a change of these bytes. Whatever it made of an older one that it refused, it has this one there.
    pub(crate) fn note(&self, connection: ConnectionNumber, start: u64, end: u64) {
        self.replaced(start, end);
        self.note_anything(connection, start, end);
    }

    /// A change of these bytes is there for good, or noted: nothing is uncertain in them any more.
    pub(crate) fn replaced(&self, start: u64, end: u64) {
        let state = &mut *sync::lock(&self.state);
        let is_meant =
            |entry: &Entry| entry.noted.last == NEVER && entry.start < end && start < entry.end;
        if !state.entries.iter().any(is_meant) {
            return;
        }
        let left = state.entries.drain(..).flat_map(|entry| {
            let (before, after) = match is_meant(&entry) {
                true => (entry.end.min(start), entry.start.max(end)),
                false => (entry.end, entry.end),
            };
            [(entry.start, before), (after, entry.end)].map(|(start, end)| Entry {
                start,
                end,
                ..entry
            })
        });
        state.entries = left.filter(|entry| entry.start < entry.end).collect();
    }

    /// These bytes were written back: where it was uncertain what the origin has, the next flush tells.
    pub(crate) fn renew(&self, connection: ConnectionNumber, start: u64, end: u64) {
        let is_uncertain = {
            let state = sync::lock(&self.state);
            let uncertain =
                |entry: &Entry| entry.noted.last == NEVER && entry.start < end && start < entry.end;
            state.entries.iter().any(uncertain)
        };
        if is_uncertain {
            self.note(connection, start, end);
        }
    }

    fn note_anything(&self, connection: ConnectionNumber, start: u64, end: u64) {
        let state = &mut *sync::lock(&self.state);
        let noted = Noted {
            first: state.now,
            last: state.now,
        };
        match state.entries.last_mut() {
            Some(last)
                if last.end == start
                    && last.connection == connection
                    && last.noted.last != NEVER =>
            {
                last.end = end;
                last.noted = last.noted.join(noted);
            }
            _ => state.entries.push(Entry {
                start,
                end,
                connection,
                noted,
            }),
        }
        if state.entries.len() > MOST_RANGES {
            let all = state.entries.drain(..).map(|entry| entry.noted);
            state.everything = state.everything.into_iter().chain(all).reduce(Noted::join);
        }
    }

    /// The origin has refused a change of these bytes, or to make it durable: it may hold it for now, and no later flush says that it stays.
    pub(crate) fn note_uncertain(&self, connection: ConnectionNumber, start: u64, end: u64) {
        self.note_anything(connection, start, end);
        let state = &mut *sync::lock(&self.state);
        let of_range = |entry: &&mut Entry| entry.start < end && start < entry.end;
        for entry in state.entries.iter_mut().filter(of_range) {
            entry.noted.last = NEVER;
        }
        if let Some(noted) = &mut state.everything {
            noted.last = NEVER;
        }
    }

    /// The moment now, for a [`Flush`].
    pub(crate) fn moment(&self) -> u64 {
        let mut state = sync::lock(&self.state);
        state.now += 1;
        state.now
    }

    /// A flush succeeded, which covers one connection's changes, or all.
    pub(crate) fn flushed(&self, flush: Flush, connection: Option<ConnectionNumber>) {
        let state = &mut *sync::lock(&self.state);
        state.entries.retain(|entry| {
            !entry.noted.is_covered(flush) || connection.is_some_and(|one| one != entry.connection)
        });
        if connection.is_none()
            && state
                .everything
                .is_some_and(|noted| noted.is_covered(flush))
        {
            state.everything = None;
        }
    }

    /// A flush was refused: no later one brings back what it was to make durable, though reads may see it for now.
    pub(crate) fn refused(&self) {
        let state = &mut *sync::lock(&self.state);
        for entry in &mut state.entries {
            entry.noted.last = NEVER;
        }
        if let Some(noted) = &mut state.everything {
            noted.last = NEVER;
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        let state = sync::lock(&self.state);
        state.everything.is_none() && state.entries.is_empty()
    }

    /// Whether the list is so long that more of it should not wait for a flush.
    pub(crate) fn is_long(&self) -> bool {
        sync::lock(&self.state).entries.len() > MOST_RANGES / 2
    }

    /// Whether a flush would make anything durable.
    pub(crate) fn is_waiting(&self) -> bool {
        let state = sync::lock(&self.state);
        let noted = state.entries.iter().map(|entry| entry.noted);
        let mut noted = noted.chain(state.everything);
        noted.any(|noted| noted.last != NEVER)
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

    /// A flush of a connection that was there from the beginning.
    fn now(unflushed: &Unflushed) -> Flush {
        Flush {
            joined: 0,
            began: unflushed.moment(),
        }
    }

    fn fill(unflushed: &Unflushed) {
        for number in 0..=MOST_RANGES as u64 {
            unflushed.note(A, 2 * number, 2 * number + 1);
        }
    }

    #[test]
    fn a_flush_covers_what_was_noted_before_it_began() {
        let unflushed = Unflushed::default();
        unflushed.note(A, 0, 10);
        unflushed.note(A, 10, 20);
        unflushed.note(B, 20, 30);
        let flush = now(&unflushed);
        unflushed.note(B, 40, 50);
        unflushed.flushed(flush, Some(A));
        assert_eq!(unflushed.ranges().unwrap(), [(20, 30), (40, 50)]);
        unflushed.flushed(flush, None);
        assert_eq!(unflushed.ranges().unwrap(), [(40, 50)]);
    }

    #[test]
    fn a_flush_covers_nothing_from_before_its_connection_joined() {
        let unflushed = Unflushed::default();
        unflushed.note(A, 0, 10);
        let joined = unflushed.moment();
        unflushed.note(A, 10, 20);
        unflushed.note(B, 30, 40);
        let late = |unflushed: &Unflushed| Flush {
            joined,
            began: unflushed.moment(),
        };
        unflushed.flushed(late(&unflushed), None);
        assert_eq!(unflushed.ranges().unwrap(), [(0, 20)]);
        fill(&unflushed);
        unflushed.flushed(late(&unflushed), None);
        assert_eq!(unflushed.ranges(), None);
    }

    #[test]
    fn what_a_flush_has_failed_to_save_no_other_saves() {
        let unflushed = Unflushed::default();
        unflushed.note(A, 0, 10);
        unflushed.refused();
        unflushed.note(A, 20, 30);
        unflushed.flushed(now(&unflushed), None);
        assert_eq!(unflushed.ranges().unwrap(), [(0, 10)]);
        fill(&unflushed);
        unflushed.flushed(now(&unflushed), None);
        assert_eq!(unflushed.ranges(), None);
    }

    #[test]
    fn a_full_list_stands_for_everything_until_a_flush() {
        let unflushed = Unflushed::default();
        fill(&unflushed);
        assert_eq!(unflushed.ranges(), None);
        unflushed.flushed(now(&unflushed), Some(A));
        assert_eq!(unflushed.ranges(), None, "others' may be among it");
        unflushed.flushed(now(&unflushed), None);
        assert_eq!(unflushed.ranges().unwrap(), []);
    }

    #[test]
    fn what_is_changed_once_more_is_certain_again() {
        let unflushed = Unflushed::default();
        unflushed.note_uncertain(A, 10, 50);
        unflushed.flushed(now(&unflushed), None);
        assert_eq!(unflushed.ranges(), Some(vec![(10, 50)]));
        unflushed.note(B, 20, 30);
        assert_eq!(unflushed.ranges(), Some(vec![(10, 20), (30, 50), (20, 30)]));
        unflushed.flushed(now(&unflushed), None);
        assert_eq!(unflushed.ranges(), Some(vec![(10, 20), (30, 50)]));
        unflushed.replaced(0, 40);
        unflushed.note(A, 50, 60);
        unflushed.flushed(now(&unflushed), None);
        assert_eq!(unflushed.ranges(), Some(vec![(40, 50)]));
    }
}
