//! What was written when: the record that tells which bytes a reader may see.
//!
//! A change is *certain* for an observer when it had succeeded before the observer began: what
//! came before it is gone. It is *possible* when it may or may not be seen: it ran beside the
//! observation, failed, or was not yet durable. The changes of one worker are made one after the
//! other, and each byte has one worker, so per byte the order is known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::layout::Span;
use crate::pages::Pages;
use crate::random::content;

/// What a change leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The content that this seed names.
    Seeded(u64),
    /// Zeros.
    Zeros,
    /// Anything at all, until the next change: it was trimmed.
    Anything,
}

/// One request that changes bytes.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Which bytes.
    pub span: Span,
    /// What it leaves.
    pub content: Content,
    /// The origin connection beneath the client that made it.
    pub connection: u64,
    /// Moment of its start.
    pub began: u64,
    /// Moment of its end; `None` while it runs.
    pub ended: Option<u64>,
    /// It was acknowledged.
    pub succeeded: bool,
    /// Its acknowledgement promised that it is durable.
    pub durable: bool,
}

/// What an observer knows about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It must be seen, and nothing before it.
    Certain,
    /// It may be seen.
    Possible,
    /// It cannot be seen.
    Never,
}

/// What flushes and FUA had promised at one moment.
#[derive(Debug)]
pub struct Promised {
    moment: u64,
    flushed: u64,
    flushed_by: HashMap<u64, u64>,
}

impl Promised {
    /// What a crash leaves of the change.
    pub fn survives(&self, change: &Change) -> Seen {
        let own = self.flushed_by.get(&change.connection).copied();
        let flushed = self.flushed.max(own.unwrap_or(0));
        let saved = change
            .ended
            .is_some_and(|ended| ended < flushed || (change.durable && ended < self.moment));
        if change.succeeded && saved {
            Seen::Certain
        } else {
            Seen::Possible
        }
    }
}

/// All changes of one case.
#[derive(Debug)]
pub struct History {
    base: Pages,
    moment: AtomicU64,
    workers: Vec<Mutex<Vec<Change>>>,
    /// Changes that ended before this moment are durable, whichever connection made them.
    flushed: AtomicU64,
    /// The same, per connection.
    flushed_by: Mutex<HashMap<u64, u64>>,
}

impl History {
    /// Nothing changed yet; the image holds `base`.
    pub fn new(base: Pages, workers: u64) -> Self {
        Self {
            base,
            moment: AtomicU64::new(1),
            workers: (0..workers).map(|_| Mutex::default()).collect(),
            flushed: AtomicU64::new(0),
            flushed_by: Mutex::default(),
        }
    }

    /// The moment now, later than all before.
    pub fn now(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    fn changes(&self, worker: usize) -> MutexGuard<'_, Vec<Change>> {
        self.workers[worker]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A change begins.
    pub fn begin(&self, worker: usize, connection: u64, span: Span, content: Content) {
        let mut changes = self.changes(worker);
        changes.push(Change {
            span,
            content,
            connection,
            began: self.now(),
            ended: None,
            succeeded: false,
            durable: false,
        });
    }

    /// The worker's latest change ends.
    pub fn end(&self, worker: usize, succeeded: bool, durable: bool) {
        let mut changes = self.changes(worker);
        if let Some(change) = changes.last_mut() {
            change.ended = Some(self.now());
            change.succeeded = succeeded;
            change.durable = durable && succeeded;
        }
    }

    /// A flush that began at `moment` succeeded: for one connection, or for all of them.
    pub fn flushed(&self, moment: u64, connection: Option<u64>) {
        match connection {
            None => {
                self.flushed.fetch_max(moment, Ordering::SeqCst);
            }
            Some(connection) => {
                let mut flushed = self
                    .flushed_by
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let latest = flushed.entry(connection).or_default();
                *latest = moment.max(*latest);
            }
        }
    }

    /// What a read sees that ran from `start` to `end`.
    pub fn seen_by_read(change: &Change, start: u64, end: u64) -> Seen {
        match change.ended {
            Some(ended) if change.succeeded && ended < start => Seen::Certain,
            _ if change.began < end => Seen::Possible,
            _ => Seen::Never,
        }
    }

    /// What is promised to be durable by now. To be asked before the disk is looked at, since
    /// more is promised all the time.
    pub fn promised(&self) -> Promised {
        Promised {
            moment: self.now(),
            flushed: self.flushed.load(Ordering::SeqCst),
            flushed_by: self
                .flushed_by
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Checks that the bytes found at `offset` are ones that an observer may see, who knows of
    /// each change what `seen` says. The error names the first byte that is wrong.
    pub fn explain(
        &self,
        offset: u64,
        found: &[u8],
        seen: impl Fn(&Change) -> Seen,
    ) -> Result<(), String> {
        let span = Span {
            offset,
            length: found.len() as u64,
        };
        let base = self.base.get(offset, found.len());
        let mut fits: Vec<bool> = base.iter().zip(found).map(|(a, b)| a == b).collect();
        for worker in 0..self.workers.len() {
            for change in self.changes(worker).iter() {
                let Some(common) = change.span.meet(span) else {
                    continue;
                };
                let certain = match seen(change) {
                    Seen::Certain => true,
                    Seen::Possible => false,
                    Seen::Never => continue,
                };
                let from = (common.offset - offset) as usize;
                let range = from..from + common.length as usize;
                let marks = matches(change.content, common, &found[range.clone()]);
                for (fit, mark) in fits[range].iter_mut().zip(marks) {
                    *fit = mark || (*fit && !certain);
                }
            }
        }
        match fits.iter().position(|&fit| !fit) {
            None => Ok(()),
            Some(place) => {
                let wrong = fits.iter().filter(|&&fit| !fit).count();
                let byte = offset + place as u64;
                Err(format!(
                    "{wrong} bytes wrong from byte {byte} on (sector {}, {} in it): found {:#04x}; {}",
                    byte / 512,
                    byte % 512,
                    found[place],
                    self.tell(byte)
                ))
            }
        }
    }

    /// The life of one byte, for a message.
    fn tell(&self, byte: u64) -> String {
        let one = Span {
            offset: byte,
            length: 1,
        };
        let mut life = format!("at first {:#04x}", self.base.get(byte, 1)[0]);
        for worker in 0..self.workers.len() {
            let changes = self.changes(worker);
            for change in changes.iter().filter(|one_| one_.span.meet(one).is_some()) {
                let value = match change.content {
                    Content::Seeded(seed) => format!("{:#04x}", content(seed, byte, 1)[0]),
                    Content::Zeros => "0".to_owned(),
                    Content::Anything => "trimmed".to_owned(),
                };
                let ok = if change.succeeded { "" } else { " failed" };
                let ended = change.ended.unwrap_or(0);
                life += &format!(
                    "; worker {worker} {value} {}+{} from {} to {ended}{ok}",
                    change.span.offset, change.span.length, change.began
                );
            }
        }
        life
    }
}

/// Which of the bytes found are what the change leaves.
fn matches(change: Content, span: Span, found: &[u8]) -> Vec<bool> {
    match change {
        Content::Anything => vec![true; found.len()],
        Content::Zeros => found.iter().map(|&byte| byte == 0).collect(),
        Content::Seeded(seed) => {
            let bytes = content(seed, span.offset, found.len());
            bytes.iter().zip(found).map(|(a, b)| a == b).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(history: &History, offset: u64, found: &[u8]) -> Result<(), String> {
        let now = history.now();
        history.explain(offset, found, |change| {
            History::seen_by_read(change, now, now + 1)
        })
    }

    const SPAN: Span = Span {
        offset: 10,
        length: 4,
    };

    #[test]
    fn only_the_latest_successful_change_is_seen() {
        let history = History::new(Pages::default(), 1);
        assert!(read(&history, 10, &[0; 4]).is_ok());
        history.begin(0, 1, SPAN, Content::Seeded(5));
        assert!(read(&history, 10, &[0; 4]).is_ok());
        assert!(read(&history, 10, &content(5, 10, 4)).is_ok());
        history.end(0, true, false);
        assert!(read(&history, 10, &[0; 4]).is_err());
        assert!(read(&history, 10, &content(5, 10, 4)).is_ok());
        history.begin(0, 1, SPAN, Content::Seeded(6));
        history.end(0, false, false);
        assert!(read(&history, 10, &content(5, 10, 4)).is_ok());
        assert!(read(&history, 10, &content(6, 10, 4)).is_ok());
        assert!(read(&history, 10, &[0; 4]).is_err());
    }

    #[test]
    fn a_flush_makes_certain_what_ended_before_it_began() {
        let history = History::new(Pages::default(), 1);
        history.begin(0, 7, SPAN, Content::Seeded(5));
        let early = history.now();
        history.end(0, true, false);
        let crash = || {
            let promised = history.promised();
            history.explain(10, &[0; 4], |change| promised.survives(change))
        };
        history.flushed(early, None);
        assert!(crash().is_ok());
        history.flushed(history.now(), Some(8));
        assert!(crash().is_ok());
        history.flushed(history.now(), Some(7));
        assert!(crash().is_err());
    }
}
