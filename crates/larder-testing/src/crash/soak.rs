//! Seeds without end: sweeps of one after another for as long as one likes, on every processor.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::check::Violation;
use super::sweep::Tally;
use crate::random::mix;

/// Sweeps seeds for `LARDER_SOAK_SECONDS` (60), from one on that follows from `LARDER_SEED` (the time), and prints how many
/// crashes were looked at.
///
/// # Panics
/// With the first seed that breaks a rule, which is what `replay` wants, and with what was looked at before.
pub fn soak_for_seconds(sweep: impl Fn(u64) -> Result<Tally, (Tally, Violation)> + Sync) {
    let end = Instant::now() + Duration::from_secs(number("LARDER_SOAK_SECONDS").unwrap_or(60));
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let given = number("LARDER_SEED");
    let given = given.unwrap_or_else(|| since_epoch.map_or(1, |since| since.as_nanos() as u64));
    // Short enough to be typed.
    let first = mix(given, 0) >> 24;
    let next = AtomicU64::new(first);
    let run = || one_after_another(&sweep, &next, end);
    let (tally, violation) = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let mut all = (Tally::default(), None);
        for thread in threads {
            match thread.join() {
                Ok((tally, violation)) => all = (all.0.and(tally), all.1.or(violation)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    let seeds = next.into_inner() - first;
    let Tally {
        crashes,
        started,
        second,
    } = tally;
    println!(
        "{crashes} crashes looked at, {started} of them started on, and {second} second crashes: {seeds} seeds from {first} on"
    );
    if let Some(violation) = violation {
        panic!("{violation}");
    }
}

/// Until the end, or until a rule is broken somewhere.
fn one_after_another(
    sweep: &impl Fn(u64) -> Result<Tally, (Tally, Violation)>,
    next: &AtomicU64,
    end: Instant,
) -> (Tally, Option<String>) {
    let mut tally = Tally::default();
    while Instant::now() < end {
        let seed = Seed(next.fetch_add(1, Ordering::SeqCst));
        match sweep(seed.0) {
            Ok(more) => tally = tally.and(more),
            Err((more, violation)) => {
                let message = format!("seed {}: {violation}", seed.0);
                // At once: the other threads go on until the end.
                eprintln!("{message}");
                return (tally.and(more), Some(message));
            }
        }
    }
    (tally, None)
}

/// A seed, which is told also if its sweep panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
