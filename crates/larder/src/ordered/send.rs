//! Sending an epoch: its requests, the origin's flush, and then the log begins behind it.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::epoch::{Request, Work, requests};
use super::queue::{Queue, told};
use crate::durability::{MOST_RETRIES, is_loss};
use crate::foreground::Foreground;
use crate::origin::{Origin, ZeroOptions};
use crate::planted::{Bug, is_planted};
use crate::sync;

/// The most requests in flight.
const IN_FLIGHT: usize = 16;
/// The longest request, in bytes.
const LONGEST_BYTES: u64 = 4 << 20;
/// Where a request takes longer than this, several at a time are worth their threads.
const SLOW: Duration = Duration::from_micros(200);
/// What nobody waits for waits so long before each request for clients that read from the origin.
const PATIENCE: Duration = Duration::from_millis(20);

/// How an epoch is sent.
#[derive(Clone, Copy, Default)]
pub(super) struct How<'f> {
    /// Where no epoch has ended, what there is of the open one is sent.
    pub cuts: bool,
    /// Whose reads come first.
    pub gives_way: Option<&'f Foreground>,
}

/// Sends the oldest epoch. False if there is none. For who holds `sending`.
///
/// # Errors
/// All of it is still there to be sent.
pub(super) fn send_oldest(queue: &Queue, below: &dyn Origin, how: How<'_>) -> io::Result<bool> {
    if let Some(why) = queue.log.failure() {
        return Err(io::Error::other(format!("the queue has failed: {why}")));
    }
    let Some(oldest) = queue.oldest(how.cuts) else {
        return Ok(false);
    };
    let after = oldest.after;
    queue.user.announce()?;
    // What could be lost from the log is not read from it either.
    queue.sync_to(after.seq - 1)?;
    let requests = requests(queue, after, longest(below));
    if is_planted(Bug::QueueFreedEarly) {
        queue.log.advance(after).map_err(told)?;
    }
    if let Err(error) = send_durably(queue, below, &requests, how) {
        queue.refusals.note(&error);
        queue.figures.refused.fetch_add(1, Ordering::Relaxed);
        return Err(error);
    }
    // The origin shows it now, and its space may be used again once the log says so.
    queue.change_state(|state| state.forget(after));
    if is_planted(Bug::QueueHeadLate) && has_ended(queue) {
        return Ok(true);
    }
    queue.log.advance(after).map_err(told)?;
    if !oldest.is_cut {
        queue.figures.sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(true)
}

/// Whether some epoch has ended that could be sent.
pub(super) fn has_ended(queue: &Queue) -> bool {
    queue.with_state(|state| !state.boundaries.is_empty()) && queue.log.failure().is_none()
}

/// In whole units of what the origin takes.
pub(super) fn longest(below: &dyn Origin) -> u64 {
    let limits = below.limits();
    let minimum = u64::from(limits.minimum.max(1));
    let longest = LONGEST_BYTES.min(u64::from(limits.maximum));
    (longest / minimum * minimum).max(minimum)
}

/// All requests, and the flush; once more if the origin has lost them with its connection.
pub(super) fn send_durably(
    queue: &Queue,
    below: &dyn Origin,
    requests: &[Request],
    how: How<'_>,
) -> io::Result<()> {
    let mut retries = 0;
    loop {
        send_all(queue, below, requests, how)?;
        if is_planted(Bug::UndirtyBeforeFlush) {
            return Ok(());
        }
        match below.flush() {
            Err(error) if is_loss(&error) && retries < MOST_RETRIES => retries += 1,
            flushed => return flushed,
        }
    }
}

/// In any order: no two of them touch the same byte.
fn send_all(
    queue: &Queue,
    below: &dyn Origin,
    requests: &[Request],
    how: How<'_>,
) -> io::Result<()> {
    let Some((first, rest)) = requests.split_first() else {
        return Ok(());
    };
    let begun = Instant::now();
    let mut buffer = Vec::new();
    send(queue, below, first, how, &mut buffer)?;
    let is_worth_threads =
        queue.user.uses_threads && below.capabilities().parallel && begun.elapsed() > SLOW;
    let threads = match is_worth_threads {
        true => IN_FLIGHT.min(rest.len()),
        false => 1,
    };
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let work = |mut buffer: Vec<u8>| {
        while let Some(request) = rest.get(next.fetch_add(1, Ordering::SeqCst)) {
            if sync::lock(&failure).is_some() {
                return;
            }
            if let Err(error) = send(queue, below, request, how, &mut buffer) {
                sync::lock(&failure).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where there are no more threads to be had, fewer must do.
            let _ = std::thread::Builder::new().spawn_scoped(scope, || work(Vec::new()));
        }
        work(buffer);
    });
    match failure
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn send(
    queue: &Queue,
    below: &dyn Origin,
    request: &Request,
    how: How<'_>,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    if let Some(foreground) = how.gives_way.filter(|_| !queue.is_wanted()) {
        foreground.give_way(PATIENCE);
    }
    match &request.work {
        Work::Data(places) => {
            buffer.resize((request.end - request.start) as usize, 0);
            let mut at = 0;
            for &(offset, length) in places {
                let part = &mut buffer[at..at + length as usize];
                queue.log.read(offset, part)?;
                at += part.len();
            }
            queue
                .figures
                .written_bytes
                .fetch_add(buffer.len() as u64, Ordering::Relaxed);
            below.write(request.start, buffer, false)
        }
        Work::Zero { may_trim } => zero(below, request, *may_trim, buffer),
    }
}

fn zero(
    below: &dyn Origin,
    request: &Request,
    may_trim: bool,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let options = ZeroOptions {
        may_trim,
        ..ZeroOptions::default()
    };
    if below.capabilities().zero {
        match below.zero(request.start, request.end - request.start, options) {
            Err(error) if is_unwilling(&error) => {}
            zeroed => return zeroed,
        }
    }
    // It could, or said so, when that was queued.
    buffer.clear();
    buffer.resize(longest(below).min(request.end - request.start) as usize, 0);
    let mut at = request.start;
    while at < request.end {
        let part = buffer.len().min((request.end - at) as usize);
        below.write(at, &buffer[..part], false)?;
        at += part as u64;
    }
    Ok(())
}

/// Whether it is about zeroing, and not about the disk.
fn is_unwilling(error: &io::Error) -> bool {
    let unwilling = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL].map(Errno::raw_os_error);
    let code = error.raw_os_error();
    code.is_some_and(|code| unwilling.contains(&code)) || error.kind() == io::ErrorKind::Unsupported
}
