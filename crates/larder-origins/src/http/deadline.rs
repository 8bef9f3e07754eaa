//! How long a read may take, and when it tries again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

/// The slowest transfer that a long read is given the time for: a line of 2 Mbit/s.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// The first pause between two attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_SILENCE: Duration = Duration::from_secs(20);
/// Keeps sums of times in their range.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// When a read gives up. No attempt begins after it; the answer to one must have begun before it, and its
/// body must keep coming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    timeout: Duration,
    at: Instant,
    transfer: Duration,
    patience: Patience,
}

/// What a server may take all the time for that is left, on a connection of its own: it is known to be there, and not to be
/// sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Patience {
    /// Nothing: the connection may be dead.
    #[default]
    None,
    /// To begin its answer.
    Answer,
    /// And to begin the body after the header.
    Body,
}

/// The times of one attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Until the answer begins.
    pub(super) answer: Duration,
    /// Connecting, and each wait while the request is sent.
    pub(super) silence: Duration,
    /// Each wait for bytes, the first included.
    pub(super) read: Duration,
    /// All that follows the answer's header, where those waits may be long.
    pub(super) body: Option<Duration>,
    /// All of it.
    pub(super) whole: Duration,
    /// A connection that is known to live: its own.
    pub(super) needs_fresh: bool,
}

impl Budget {
    /// For the first request to a server, which is on a new connection.
    pub(super) fn longest(timeout: Duration) -> Self {
        let timeout = timeout.min(LONGEST_TIMEOUT);
        Self {
            answer: timeout,
            silence: silence(timeout),
            read: timeout,
            body: None,
            whole: timeout,
            needs_fresh: true,
        }
    }
}

/// How long a server may send nothing: it is noticed early enough for further attempts.
fn silence(timeout: Duration) -> Duration {
    (timeout / 3).min(LONGEST_SILENCE)
}

impl Deadline {
    /// `timeout` from now, for a body of `length_bytes`.
    pub(super) fn new(timeout: Duration, length_bytes: usize) -> Self {
        let timeout = timeout.min(LONGEST_TIMEOUT);
        let seconds = length_bytes as f64 / SLOWEST_BYTES_PER_SECOND as f64;
        Self {
            timeout,
            at: Instant::now() + timeout,
            transfer: Duration::from_secs_f64(seconds),
            patience: Patience::None,
        }
    }

    /// What an attempt that begins now may take, at a server that needs `patience`; `None` if there is no time left.
    pub(super) fn budget(&self, patience: Patience) -> Option<Budget> {
        let left = self.left();
        let silence = silence(self.timeout).min(left);
        let patience = self.patience.max(patience);
        let is_patient = patience != Patience::None;
        (!silence.is_zero()).then(|| Budget {
            answer: left,
            silence,
            read: if is_patient { left } else { silence },
            body: (patience == Patience::Answer).then_some(silence + self.transfer),
            whole: left + self.transfer,
            needs_fresh: is_patient,
        })
    }

    /// From now on any server gets so much.
    pub(super) fn be_patient(&mut self, patience: Patience) {
        self.patience = self.patience.max(patience);
    }

    /// Whether about all of the time is left.
    pub(super) fn is_fresh(&self) -> bool {
        self.left() >= self.timeout * 9 / 10
    }

    /// How long to wait before the next attempt; `None` if there is to be none. However long a pause would be,
    /// an attempt begins when a tenth of the time is left: it has that tenth for an answer. If it fails at
    /// once, others follow it, closer and closer, until the time is over.
    pub(super) fn pause(&self, failures: u32, retry_after: Option<Duration>) -> Option<Duration> {
        let left = self.left();
        if left.is_zero() {
            return None;
        }
        let last = self.timeout / 10;
        if left <= last {
            return Some((left / 4).max(FIRST_PAUSE).min(left));
        }
        let pause = match retry_after {
            Some(wait) => wait.max(FIRST_PAUSE),
            None => jittered(
                FIRST_PAUSE
                    .saturating_mul(1 << failures.min(8))
                    .min(LONGEST_PAUSE),
            ),
        };
        Some(pause.min(left - last))
    }

    /// Whether no further attempt can begin.
    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    pub(super) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Between half of a pause and all of it, so that many readers do not come back as one.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 512;
    pause / 2 + pause.mul_f64(random as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_the_deadline() {
        let deadline = Deadline::new(Duration::from_secs(100), 0);
        for (failures, shortest, longest) in [
            (0, 50, 100),
            (1, 100, 200),
            (4, 800, 1600),
            (5, 1000, 2000),
            (60, 1000, 2000),
        ] {
            let pause = deadline.pause(failures, None).unwrap().as_millis();
            assert!(
                (shortest..=longest).contains(&pause),
                "{failures}: {pause} ms"
            );
        }
        let short = Deadline::new(Duration::from_millis(40), 0);
        assert!(short.pause(0, None).unwrap() <= Duration::from_millis(36));
        assert_eq!(Deadline::new(Duration::ZERO, 0).pause(0, None), None);
    }

    #[test]
    fn the_last_pauses_end_with_the_time_and_not_before() {
        let second = Duration::from_secs(1);
        let left = |left: Duration| Deadline {
            timeout: 30 * second,
            at: Instant::now() + left,
            transfer: Duration::ZERO,
            patience: Patience::None,
        };
        for retry_after in [None, Some(3600 * second)] {
            let pause = |deadline: Deadline| deadline.pause(60, retry_after);
            let before = pause(left(Duration::from_millis(3500))).unwrap();
            assert!(before <= second / 2, "{before:?}");
            let within = pause(left(2 * second)).unwrap();
            assert!(
                within > second * 4 / 10 && within <= second / 2,
                "{within:?}"
            );
            let last = pause(left(FIRST_PAUSE / 2)).unwrap();
            assert!(last <= FIRST_PAUSE / 2, "{last:?}");
            assert_eq!(pause(left(Duration::ZERO)), None);
        }
        assert!(left(Duration::ZERO).is_over() && !left(second).is_over());
    }

    #[test]
    fn a_server_may_ask_for_time() {
        let deadline = Deadline::new(Duration::from_secs(100), 0);
        let pause = |seconds| {
            deadline
                .pause(0, Some(Duration::from_secs(seconds)))
                .unwrap()
        };
        assert_eq!(pause(7), Duration::from_secs(7));
        assert_eq!(pause(0), FIRST_PAUSE);
        let most = pause(3600);
        assert!(
            most > Duration::from_secs(80) && most <= Duration::from_secs(90),
            "{most:?}"
        );
    }

    #[test]
    fn budgets() {
        let budget = Deadline::new(Duration::from_secs(30), 32 << 20)
            .budget(Patience::None)
            .unwrap();
        assert_eq!(budget.silence, Duration::from_secs(10));
        assert!(budget.answer <= Duration::from_secs(30));
        assert!(
            budget.whole > Duration::from_secs(150) && budget.whole <= Duration::from_secs(158)
        );
        assert_eq!((budget.read, budget.body), (budget.silence, None));
        let mut patient = Deadline::new(Duration::from_secs(30), 1 << 20);
        patient.be_patient(Patience::Answer);
        let budget = patient.budget(Patience::None).unwrap();
        assert!(budget.needs_fresh && budget.read > Duration::from_secs(25));
        assert_eq!(budget.body, Some(Duration::from_secs(14)));
        let budget = patient.budget(Patience::Body).unwrap();
        assert!(budget.needs_fresh && budget.read > Duration::from_secs(25));
        assert_eq!(budget.body, None);
        let budget = |timeout, length| Deadline::new(timeout, length).budget(Patience::None);
        assert!(budget(Duration::ZERO, 1).is_none());
        assert!(budget(Duration::MAX, usize::MAX).is_some());
    }
}
