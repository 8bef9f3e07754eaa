//! News of room, for those who wait for it.
//!
//! There are two kinds. *Room* has come free, or somebody's writing back has got further; and *anything* has left
//! somebody's hands, so that it may be evicted now. The second comes with every request and is only told to who
//! found nothing at all that could be evicted: who waits for somebody else's writeback wants the first.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::sync::{self, Condvar};

/// The bound on one wait: a safety net.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// How often there was news since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    room: u64,
    anything: u64,
}

/// Who waits, and what has happened meanwhile.
#[derive(Debug, Default)]
pub(crate) struct News {
    told: Mutex<Told>,
    changed: Condvar,
    waiting: AtomicUsize,
    waiting_for_anything: AtomicUsize,
}

impl News {
    /// Room has come free, or a writeback has got further.
    pub(crate) fn room(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let mut told = sync::lock(&self.told);
            told.room += 1;
            told.anything += 1;
            self.changed.notify_all();
        }
    }

    /// Something has left somebody's hands.
    pub(crate) fn anything(&self) {
        if self.waiting_for_anything.load(Ordering::SeqCst) > 0 {
            sync::lock(&self.told).anything += 1;
            self.changed.notify_all();
        }
    }

    /// Registers as waiting; look for room after this and before [`Waiting::wait`].
    pub(crate) fn begin_waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.waiting_for_anything.fetch_add(1, Ordering::SeqCst);
        Waiting {
            seen: *sync::lock(&self.told),
            news: self,
            wants_anything: true,
        }
    }
}

/// Somebody who waits.
pub(crate) struct Waiting<'a> {
    news: &'a News,
    seen: Told,
    wants_anything: bool,
}

impl Waiting<'_> {
    /// Whether there was news since this was made.
    pub(crate) fn has_changed(&self) -> bool {
        self.is_news(*sync::lock(&self.news.told))
    }

    fn is_news(&self, told: Told) -> bool {
        match self.wants_anything {
            true => told.anything != self.seen.anything,
            false => told.room != self.seen.room,
        }
    }

    /// What only leaves somebody's hands is no news any more.
    pub(crate) fn want_room_only(&mut self) {
        if std::mem::take(&mut self.wants_anything) {
            self.news
                .waiting_for_anything
                .fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Waits for news since this was made. False if there was none for as long as one may wait.
    pub(crate) fn wait(self) -> bool {
        let mut told = sync::lock(&self.news.told);
        if !self.is_news(*told) {
            told = sync::wait_timeout(&self.news.changed, told, LONGEST_WAIT);
        }
        self.is_news(*told)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.want_room_only();
        self.news.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_hands_is_news_only_to_who_wants_anything() {
        let news = News::default();
        let anything = news.begin_waiting();
        let mut room = news.begin_waiting();
        room.want_room_only();
        news.anything();
        assert!(anything.has_changed());
        assert!(!room.has_changed());
        news.room();
        assert!(room.has_changed());
    }

    #[test]
    fn news_from_before_the_wait_ends_it() {
        let news = News::default();
        let mut waiting = news.begin_waiting();
        waiting.want_room_only();
        news.room();
        assert!(waiting.wait());
        assert!(!news.begin_waiting().wait());
        assert_eq!(news.waiting.load(Ordering::SeqCst), 0);
        assert_eq!(news.waiting_for_anything.load(Ordering::SeqCst), 0);
    }
}
