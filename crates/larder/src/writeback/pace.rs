//! How long the origin takes for a request, a block and a flush, which tells how many requests are worth sending at a
//! time, how long ones, and how many blocks between two flushes.
//!
//! A thread costs about as much as ten requests to an origin that answers from memory, and nothing beside
//! one to an origin that is far away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The work that a further thread is worth, in nanoseconds.
const WORTH_A_THREAD: u64 = 500_000;

/// The longest request to begin with, and at least where the origin is quick: several are under way, so that one is
/// copied while others are waited for, and their memory is small enough to be used again while it is in the
/// processor's cache.
const FIRST_REQUEST_BYTES: u64 = 512 << 10;
/// The longest request where the origin is slow, at least.
const SHORTEST_REQUEST_BYTES: u64 = 64 << 10;
/// The longest request whatever it takes.
const LONGEST_REQUEST_BYTES: u64 = 16 << 20;
/// The longest requests become longer where they take more than this: the way to the origin is long.
const FAR: Duration = Duration::from_millis(20);
/// They become shorter that take less than this.
const NEAR: Duration = Duration::from_millis(5);
/// They become no longer that take more than this: several are under way, and all have to be answered in the time that
/// an answer is waited for.
const LONG_ENOUGH: Duration = Duration::from_millis(500);
/// They become shorter that take more than this.
const SLOW: Duration = Duration::from_secs(2);

/// How many times as long as its flush a pass should take, at least.
const WORTH_A_FLUSH: u64 = 8;
/// The fewest blocks that make a pass.
const SMALL_PASS: u64 = 12;

/// What requests, blocks and flushes took of late.
#[derive(Debug)]
pub(crate) struct Pace {
    request: Median,
    block: Median,
    flush: Median,
    /// The longest request to send.
    request_bytes: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            request: Median::default(),
            block: Median::default(),
            flush: Median::default(),
            request_bytes: AtomicU64::new(FIRST_REQUEST_BYTES),
        }
    }
}

impl Pace {
    /// A request took so long, of whatever kind and however it ended.
    pub(super) fn note_request(&self, took: Duration) {
        self.request.note(took);
    }

    /// A write of so many bytes took so long, and was done.
    pub(super) fn note_write(&self, took: Duration, bytes: u64) {
        let longest = self.request_bytes();
        if took > SLOW {
            return self.shorten(bytes);
        }
        let is_far = took > FAR || longest < FIRST_REQUEST_BYTES;
        let now = if is_far && took < LONG_ENOUGH && bytes >= longest {
            (longest * 2).min(LONGEST_REQUEST_BYTES)
        } else if took < NEAR && bytes >= longest / 2 && longest > FIRST_REQUEST_BYTES {
            (longest / 2).max(FIRST_REQUEST_BYTES)
        } else {
            return;
        };
        self.request_bytes.store(now, Ordering::Relaxed);
    }

    /// A request of so many bytes had no answer in time.
    pub(super) fn note_silence(&self, bytes: u64) {
        self.shorten(bytes);
    }

    /// Of many under way that take too long, only the first counts: the others are longer than the longest is then.
    fn shorten(&self, bytes: u64) {
        let longest = self.request_bytes();
        if (longest / 2 + 1..=longest).contains(&bytes) {
            let now = (longest / 2).max(SHORTEST_REQUEST_BYTES);
            self.request_bytes.store(now, Ordering::Relaxed);
        }
    }

    /// How long a request is worth sending, in bytes.
    pub(super) fn request_bytes(&self) -> u64 {
        self.request_bytes.load(Ordering::Relaxed)
    }

    /// So many blocks took so long together, however many requests they were and how many of those at a time.
    pub(super) fn note_batch(&self, took: Duration, blocks: usize) {
        if let Ok(blocks) = u32::try_from(blocks)
            && blocks > 0
        {
            self.block.note(took / blocks);
        }
    }

    /// A flush took so long.
    pub(super) fn note_flush(&self, took: Duration) {
        self.flush.note(took);
    }

    /// How many threads so many requests are worth; at least 1.
    pub(super) fn threads(&self, requests: usize) -> usize {
        match self.request.get() {
            0 => usize::MAX,
            each => {
                let work = each.saturating_mul(requests as u64);
                (work / WORTH_A_THREAD).max(1) as usize
            }
        }
    }

    /// How many blocks are worth a flush: more only keep those waiting who want the room.
    pub(crate) fn blocks_worth_a_flush(&self) -> u64 {
        match (self.block.get(), self.flush.get()) {
            (0, _) | (_, 0) => u64::MAX,
            (each, flush) => (flush / each).saturating_mul(WORTH_A_FLUSH).max(SMALL_PASS),
        }
    }
}

/// A running median in nanoseconds; 0 while nothing is known.
///
/// Not an average: on a busy machine one request in many takes a thousand times as long as the others, because its
/// thread was not running.
#[derive(Debug, Default)]
struct Median(AtomicU64);

impl Median {
    /// Goes a quarter of the way up or down. Of two at once one may go unheard. A clock that stands still tells nothing.
    fn note(&self, took: Duration) {
        if took.is_zero() {
            return;
        }
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = self.get();
        let now = match before {
            0 => took,
            _ if took > before => took.min(before.saturating_add(before / 4 + 1)),
            _ => took.max(before - before / 4),
        };
        self.0.store(now, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_is_worth_all_threads() {
        assert_eq!(Pace::default().threads(2), usize::MAX);
        assert_eq!(Pace::default().blocks_worth_a_flush(), u64::MAX);
    }

    #[test]
    fn a_clock_that_stands_still_tells_nothing() {
        let pace = Pace::default();
        pace.note_request(Duration::ZERO);
        pace.note_write(Duration::ZERO, 4096);
        pace.note_batch(Duration::ZERO, 10);
        pace.note_flush(Duration::ZERO);
        assert_eq!(pace.threads(2), usize::MAX);
        assert_eq!(pace.blocks_worth_a_flush(), u64::MAX);
    }

    #[test]
    fn a_slow_flush_is_worth_many_blocks() {
        let pace = Pace::default();
        pace.note_batch(Duration::from_micros(100), 10);
        pace.note_flush(Duration::from_micros(1));
        assert_eq!(pace.blocks_worth_a_flush(), SMALL_PASS);
        for _ in 0..60 {
            pace.note_flush(Duration::from_millis(10));
        }
        assert!(pace.blocks_worth_a_flush() >= 1000);
    }

    #[test]
    fn a_quick_origin_is_worth_one_thread_and_a_slow_one_many() {
        let pace = Pace::default();
        pace.note_request(Duration::from_micros(4));
        assert_eq!(pace.threads(100), 1);
        // Now and then the thread does not run.
        for _ in 0..100 {
            pace.note_request(Duration::from_millis(4));
            pace.note_request(Duration::from_micros(4));
        }
        assert_eq!(pace.threads(32), 1);
        for _ in 0..60 {
            pace.note_request(Duration::from_millis(5));
        }
        assert!(pace.threads(16) >= 16);
        for _ in 0..60 {
            pace.note_request(Duration::from_micros(4));
        }
        assert_eq!(pace.threads(100), 1);
    }

    #[test]
    fn requests_are_long_where_the_origin_is_far_away() {
        let pace = Pace::default();
        let far = |bytes| pace.note_write(Duration::from_millis(100), bytes);
        // Short ones tell nothing of long ones.
        far(4096);
        assert_eq!(pace.request_bytes(), FIRST_REQUEST_BYTES);
        (0..20).for_each(|_| far(pace.request_bytes()));
        assert_eq!(pace.request_bytes(), LONGEST_REQUEST_BYTES);
        for _ in 0..20 {
            pace.note_write(Duration::from_millis(1), pace.request_bytes());
        }
        assert_eq!(pace.request_bytes(), FIRST_REQUEST_BYTES);
    }

    #[test]
    fn requests_are_short_where_the_origin_is_slow() {
        const RATE: u64 = 1 << 20;
        let pace = Pace::default();
        // As they take at this rate, so many at a time.
        let several = |count| {
            let bytes = pace.request_bytes();
            let took = Duration::from_millis(count * bytes * 1000 / RATE);
            (0..count).for_each(|_| pace.note_write(took, bytes));
        };
        (0..20).for_each(|_| several(1));
        assert_eq!(pace.request_bytes(), FIRST_REQUEST_BYTES);
        (0..20).for_each(|_| several(16));
        assert!(pace.request_bytes() * 16 <= 2 * RATE);
        // It was only slow for a while.
        for _ in 0..20 {
            pace.note_write(Duration::from_micros(10), pace.request_bytes());
        }
        assert_eq!(pace.request_bytes(), FIRST_REQUEST_BYTES);
    }

    #[test]
    fn requests_without_an_answer_become_shorter_once_for_all_under_way() {
        let pace = Pace::default();
        (0..4).for_each(|_| pace.note_silence(FIRST_REQUEST_BYTES));
        assert_eq!(pace.request_bytes(), FIRST_REQUEST_BYTES / 2);
        (0..20).for_each(|_| pace.note_silence(pace.request_bytes()));
        assert_eq!(pace.request_bytes(), SHORTEST_REQUEST_BYTES);
    }

    #[test]
    fn one_quick_request_does_not_make_all_as_long_as_before() {
        let pace = Pace::default();
        (0..20).for_each(|_| pace.note_silence(pace.request_bytes()));
        let short = pace.request_bytes();
        pace.note_write(Duration::from_micros(10), short / 2);
        assert_eq!(pace.request_bytes(), short);
        pace.note_write(Duration::from_micros(10), short);
        assert_eq!(pace.request_bytes(), 2 * short);
    }
}
