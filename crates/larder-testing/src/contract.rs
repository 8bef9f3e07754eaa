//! What the engine promises to an origin, checked on every call.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use larder::origin::MAX_RANGE_BYTES;
use larder::{Capabilities, Fua, RequestLimits};

use crate::calls::Call;
use crate::pace::Kind;
use crate::violation::Violations;

thread_local! {
    static SERVED: Cell<Option<u64>> = const { Cell::new(None) };
    static MAY_ASK: Cell<bool> = const { Cell::new(true) };
}

/// Runs `request`, during which this thread must not call an origin.
pub fn without_origin<T>(request: impl FnOnce() -> T) -> T {
    let before = MAY_ASK.replace(false);
    let result = request();
    MAY_ASK.set(before);
    result
}

/// Runs `request` as that of the client whose origin connection has that number, so that a
/// connection that is not parallel can tell when a stranger's request uses it.
pub fn serving<T>(connection: u64, request: impl FnOnce() -> T) -> T {
    let before = SERVED.replace(Some(connection));
    let result = request();
    SERVED.set(before);
    result
}

/// What one connection to an origin is like.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// In bytes.
    pub size: u64,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What requests keep to.
    pub limits: RequestLimits,
}

/// The changes in flight on one origin, over all connections.
#[derive(Debug)]
pub struct Contract {
    in_flight: Mutex<Vec<Call>>,
    violations: Violations,
}

/// A call in flight.
pub struct InFlight<'a> {
    contract: &'a Contract,
    call: Option<Call>,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let Some(call) = &self.call else {
            return;
        };
        let mut calls = self.contract.lock();
        if let Some(place) = calls.iter().position(|other| other == call) {
            calls.swap_remove(place);
        }
    }
}

impl Contract {
    /// A contract whose breaches go to `violations`.
    pub fn new(violations: Violations) -> Self {
        Self {
            in_flight: Mutex::default(),
            violations,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Call>> {
        self.in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a call that begins, and remembers it as long as it is in flight.
    pub fn begin(&self, terms: &Terms, call: &Call) -> InFlight<'_> {
        if let Some(breach) = allowed(&terms.capabilities, call).or_else(|| fits(terms, call)) {
            self.violations.record(format!("{breach}: {call:?}"));
        }
        if !MAY_ASK.get() {
            self.violations
                .record(format!("called by a request that was not to ask: {call:?}"));
        }
        if !terms.capabilities.parallel
            && SERVED.get().is_some_and(|served| served != call.connection)
        {
            self.violations
                .record(format!("used by a stranger's request: {call:?}"));
        }
        if !call.kind.changes() {
            return InFlight {
                contract: self,
                call: None,
            };
        }
        let mut calls = self.lock();
        let meets = |other: &&Call| other.offset < call.end() && call.offset < other.end();
        if let Some(other) = calls.iter().find(meets) {
            self.violations.record(format!(
                "two changes of one range in flight: {call:?} beside {other:?}"
            ));
        }
        calls.push(call.clone());
        InFlight {
            contract: self,
            call: Some(call.clone()),
        }
    }
}

/// Whether the capabilities have what the call asks for.
fn allowed(can: &Capabilities, call: &Call) -> Option<&'static str> {
    let denied = match call.kind {
        Kind::Read | Kind::Allocate | Kind::Sync => false,
        Kind::Write => !can.write,
        Kind::Flush => !can.takes_flush(),
        Kind::Zero => !can.write || !can.zero,
        Kind::Trim => !can.write || !can.trim,
        Kind::Extents => !can.extents,
    };
    if denied {
        return Some("denied by the capabilities");
    }
    if call.fua && can.fua == Fua::None {
        return Some("FUA is denied by the capabilities");
    }
    (call.fast && !can.fast_zero).then_some("fast zero is denied by the capabilities")
}

/// Whether the call's range is one that the origin takes.
fn fits(terms: &Terms, call: &Call) -> Option<&'static str> {
    if call.kind == Kind::Flush {
        return None;
    }
    if call.length == 0 {
        return Some("an empty range");
    }
    let past_end = call.offset.checked_add(call.length);
    if past_end.is_none_or(|end| end > terms.size) {
        return Some("past the end");
    }
    let transfer = matches!(call.kind, Kind::Read | Kind::Write);
    if transfer && call.length > u64::from(terms.limits.maximum) {
        return Some("longer than the origin's maximum");
    }
    if !transfer && call.length > MAX_RANGE_BYTES {
        return Some("longer than a range may be");
    }
    let minimum = u64::from(terms.limits.minimum);
    let ends_well = call.end().is_multiple_of(minimum) || call.end() == terms.size;
    (!call.offset.is_multiple_of(minimum) || !ends_well)
        .then_some("not aligned to the origin's minimum")
}
