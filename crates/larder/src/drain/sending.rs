//! Sending a batch to the origin: with some requests in flight where it takes them from several threads, else one after the other.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use super::plan::Plan;
use super::reading::Good;
use super::work::Item;
use super::{Drain, Left, Why};
use crate::origin::{MAX_RANGE_BYTES, Origin, RequestLimits, ZeroOptions};
use crate::sector::Mask;
use crate::zero_map::ZeroRange;

/// Requests in flight.
const WORKERS: usize = 16;
/// So many requests in a row may be refused before the rest is not tried any more.
const GIVE_UP_AFTER: u32 = 8;
/// The longest request of zeros, in bytes: where the origin zeroes, and where zeros are written.
const ZEROED_BYTES: u64 = MAX_RANGE_BYTES / 2;
const WRITTEN_ZEROS_BYTES: u64 = 1 << 20;

/// What the origin took of a piece. Nothing of it is durable yet.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Of a block.
    pub sectors: Mask,
    /// All zeros of a piece of zeros.
    pub is_zeroed: bool,
    pub left: Vec<Left>,
}

/// Sends pieces of a volume to its origin.
pub(super) struct Sender<'s> {
    pub drain: &'s Drain,
    pub plan: &'s Plan,
    pub origin: &'s dyn Origin,
    refused_in_a_row: AtomicU32,
    has_given_up: AtomicBool,
}

impl<'s> Sender<'s> {
    pub(super) fn new(drain: &'s Drain, plan: &'s Plan, origin: &'s dyn Origin) -> Self {
        Self {
            drain,
            plan,
            origin,
            refused_in_a_row: AtomicU32::new(0),
            has_given_up: AtomicBool::new(false),
        }
    }

    /// Too much was refused: what is left need not be tried.
    pub(super) fn has_given_up(&self) -> bool {
        self.has_given_up.load(Ordering::Relaxed)
    }

    /// Sends all pieces. What came of each is told in any order as soon as it is known.
    pub(super) fn send_all(&self, batch: &[Item], told: &mut dyn FnMut(usize, Sent)) {
        let workers = WORKERS.min(batch.len());
        if !self.origin.capabilities().parallel || workers < 2 {
            for (at, item) in batch.iter().enumerate() {
                told(at, self.send(*item));
            }
            return;
        }
        let next = AtomicUsize::new(0);
        let (results, inbox) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..workers {
                let (results, next) = (results.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(item) = batch.get(at) else { return };
                        // Whoever asked has gone only if it has panicked.
                        let _ = results.send((at, self.send(*item)));
                    }
                });
            }
            drop(results);
            for (at, sent) in inbox {
                told(at, sent);
            }
        });
    }

    fn send(&self, item: Item) -> Sent {
        let mut sent = Sent::default();
        if self.has_given_up() {
            sent.left = left(item.ranges(self.plan), &Why::NotTried);
            return sent;
        }
        match item {
            Item::Block(at) => {
                let block = &self.plan.blocks[at];
                let mut left = Vec::new();
                self.drain
                    .read_dirty(self.plan, block, &mut left, &mut |good, left| {
                        sent.sectors |= self.send_good(&good, left);
                    });
                sent.left = left;
            }
            Item::Zeros(zeros) => match self.noted(self.zero(zeros)) {
                Ok(()) => sent.is_zeroed = true,
                Err(why) => sent.left = left([(zeros.start, zeros.end)].into_iter(), &why),
            },
        }
        sent
    }

    fn send_good(&self, good: &Good<'_>, left: &mut Vec<Left>) -> Mask {
        match self.noted(self.write(good.start, good.bytes)) {
            Ok(()) => good.sectors,
            Err(why) => {
                left.push(Left {
                    start: good.start,
                    length: good.bytes.len() as u64,
                    why,
                });
                Mask::EMPTY
            }
        }
    }

    /// Whether a request was refused, and too many were.
    fn noted(&self, result: io::Result<()>) -> Result<(), Why> {
        let Err(error) = result else {
            self.refused_in_a_row.store(0, Ordering::Relaxed);
            return Ok(());
        };
        let refused = self.refused_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        // An origin that answers nothing would be waited for each time.
        if refused >= GIVE_UP_AFTER || error.kind() == io::ErrorKind::TimedOut {
            self.has_given_up.store(true, Ordering::Relaxed);
        }
        Err(Why::Refused(error.to_string()))
    }

    fn write(&self, start: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(start, start + bytes.len() as u64)?;
        let most = longest(self.origin.limits());
        for (at, part) in (0..).step_by(most).zip(bytes.chunks(most)) {
            self.origin.write(start + at, part, false)?;
        }
        Ok(())
    }

    fn zero(&self, zeros: ZeroRange) -> io::Result<()> {
        let ZeroRange { start, end, .. } = zeros;
        self.check(start, end)?;
        if !self.origin.capabilities().zero {
            let bytes = vec![0; (end - start).min(WRITTEN_ZEROS_BYTES) as usize];
            let mut at = start;
            while at < end {
                let length = (end - at).min(bytes.len() as u64);
                self.write(at, &bytes[..length as usize])?;
                at += length;
            }
            return Ok(());
        }
        let options = ZeroOptions {
            may_trim: zeros.may_trim,
            ..ZeroOptions::default()
        };
        self.origin.zero(start, end - start, options)
    }

    /// An origin that is another one than was cached may have another end.
    fn check(&self, start: u64, end: u64) -> io::Result<()> {
        let size = self.origin.size();
        let minimum = u64::from(self.origin.limits().minimum);
        let whole = |at: u64| at.is_multiple_of(minimum) || at == size;
        if end > size {
            return Err(io::Error::other(format!("the origin ends at {size}")));
        }
        match whole(start) && whole(end) {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "the origin takes only multiples of {minimum} bytes"
            ))),
        }
    }
}

/// The longest piece of zeros.
pub(super) fn zero_bytes(origin: &dyn Origin) -> u64 {
    match origin.capabilities().zero {
        true => ZEROED_BYTES,
        // As often as the progress is told.
        false => WRITTEN_ZEROS_BYTES,
    }
}

/// The longest write.
fn longest(limits: RequestLimits) -> usize {
    (limits.maximum / limits.minimum * limits.minimum).max(limits.minimum) as usize
}

/// Ranges that stay where they are.
pub(super) fn left(ranges: impl Iterator<Item = (u64, u64)>, why: &Why) -> Vec<Left> {
    let left = ranges.map(|(start, end)| Left {
        start,
        length: end - start,
        why: why.clone(),
    });
    left.collect()
}
