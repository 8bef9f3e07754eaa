//! What a volume's clients are used to: so many writes, then a flush.

use std::sync::atomic::{AtomicU32, Ordering};

/// More writes than this are not foreseen to be all that comes before a flush.
const MOST_WRITES: u32 = 16;
/// After so many flushes in a row, each with as many writes before it as the one before had, the next is foreseen.
const TIMES: u32 = 3;

/// What comes next, if all goes on as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Flush,
    Unknown,
}

/// How often clients have flushed after how many writes. Only a guess is made of it, so that nothing depends on its order.
#[derive(Debug, Default)]
pub(crate) struct Habit {
    /// Since the last flush.
    writes: AtomicU32,
    /// Before the last flush.
    writes_before: AtomicU32,
    /// So many flushes in a row had as many before them as the one before.
    times: AtomicU32,
}

impl Habit {
    /// A write has been done.
    pub(crate) fn wrote(&self) -> Next {
        let writes = self.writes.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let is_foreseen = writes <= MOST_WRITES
            && writes == self.writes_before.load(Ordering::Relaxed)
            && self.times.load(Ordering::Relaxed) >= TIMES;
        match is_foreseen {
            true => Next::Flush,
            false => Next::Unknown,
        }
    }

    /// A flush has come.
    pub(crate) fn flushed(&self) {
        let writes = self.writes.swap(0, Ordering::Relaxed);
        let before = self.writes_before.swap(writes, Ordering::Relaxed);
        match writes == before {
            true => self.times.fetch_add(1, Ordering::Relaxed),
            false => self.times.swap(0, Ordering::Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was foreseen after each of so many writes, with a flush after the last.
    fn flush_after(habit: &Habit, writes: u32) -> Vec<Next> {
        let foreseen = (0..writes).map(|_| habit.wrote()).collect();
        habit.flushed();
        foreseen
    }

    #[test]
    fn a_flush_is_foreseen_where_the_last_ones_came_after_as_many_writes() {
        let habit = Habit::default();
        for _ in 0..=TIMES {
            assert_eq!(flush_after(&habit, 2), [Next::Unknown; 2]);
        }
        let foreseen = [Next::Unknown, Next::Flush];
        assert_eq!(flush_after(&habit, 2), foreseen);
        assert_eq!(flush_after(&habit, 3)[..2], foreseen);
        for _ in 0..=TIMES {
            assert_eq!(flush_after(&habit, 2), [Next::Unknown; 2], "one was not so");
        }
        assert_eq!(flush_after(&habit, 2), foreseen);
    }

    #[test]
    fn no_flush_is_foreseen_after_very_many_writes() {
        for (writes, last) in [(MOST_WRITES, Next::Flush), (MOST_WRITES + 1, Next::Unknown)] {
            let habit = Habit::default();
            (0..10).for_each(|_| drop(flush_after(&habit, writes)));
            assert_eq!(flush_after(&habit, writes).last(), Some(&last));
        }
    }
}
