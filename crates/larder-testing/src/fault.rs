//! Faults on demand: which calls of the origin fail, and how.
//!
//! # Fault model
//!
//! - A failed read may have filled its buffer, in part, with garbage.
//! - A failed write or zero may have changed nothing, a part, or everything.
//! - A failed trim likewise.
//! - A failed flush has lost what it was to make durable (see [`crate::disk`]).
//! - A fault may also be a panic, as from a bug in an origin.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pace::Kind;
use crate::random::Random;

/// Which of the calls that a fault is about fail.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// Every one, until the fault is healed.
    Always,
    /// Only the n-th, counted from 1 and from when the fault was set.
    Nth(u64),
    /// That many percent of them.
    Chance(u64),
    /// Those that meet a range: offset and length.
    Meets(u64, u64),
    /// Those of one connection.
    Connection(u64),
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// With this errno.
    Errno(i32),
    /// No answer came in time.
    Silence,
    /// It panics.
    Panic,
}

/// How much of a failed change happens all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happens {
    /// Nothing of it.
    Nothing,
    /// The first half of it.
    Half,
    /// All of it.
    Everything,
    /// One of these, by seed.
    Either,
}

/// A rule about calls that fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which kind of call.
    pub kind: Kind,
    /// Which of them.
    pub when: When,
    /// How.
    pub failure: Failure,
    /// What happens all the same.
    pub happens: Happens,
}

impl Fault {
    /// Calls of that kind fail with EIO and change nothing.
    pub fn new(kind: Kind, when: When) -> Self {
        Self {
            kind,
            when,
            failure: Failure::Errno(libc::EIO),
            happens: Happens::Nothing,
        }
    }

    /// The same with another errno.
    pub fn errno(mut self, errno: i32) -> Self {
        self.failure = Failure::Errno(errno);
        self
    }

    /// The same without an answer.
    pub fn silence(mut self) -> Self {
        self.failure = Failure::Silence;
        self
    }

    /// The same as a panic.
    pub fn panic(mut self) -> Self {
        self.failure = Failure::Panic;
        self
    }

    /// The same with another effect.
    pub fn happens(mut self, happens: Happens) -> Self {
        self.happens = happens;
        self
    }
}

struct State {
    faults: Vec<(Fault, u64)>,
    random: Random,
}

/// The faults set on one origin.
pub struct Faults {
    state: Mutex<State>,
}

/// What a call that fails is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it ends.
    pub failure: Failure,
    /// What it does before that.
    pub happens: Happens,
}

impl Faults {
    /// None so far; seeded ones follow `random`.
    pub fn new(random: Random) -> Self {
        Self {
            state: Mutex::new(State {
                faults: Vec::new(),
                random,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a fault.
    pub fn set(&self, fault: Fault) {
        self.lock().faults.push((fault, 0));
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Whether this call fails.
    pub fn judge(&self, kind: Kind, connection: u64, offset: u64, length: u64) -> Option<Verdict> {
        let State { faults, random } = &mut *self.lock();
        let mut verdict = None;
        for (fault, seen) in faults.iter_mut().filter(|(fault, _)| fault.kind == kind) {
            *seen += 1;
            let fails = match fault.when {
                When::Always => true,
                When::Nth(n) => *seen == n,
                When::Chance(percent) => random.chance(percent),
                When::Meets(from, long) => offset < from + long && from < offset + length,
                When::Connection(one) => one == connection,
            };
            if fails && verdict.is_none() {
                let choices = [Happens::Nothing, Happens::Half, Happens::Everything];
                verdict = Some(Verdict {
                    failure: fault.failure,
                    happens: match fault.happens {
                        Happens::Either => random.pick(&choices),
                        other => other,
                    },
                });
            }
        }
        verdict
    }
}
