//! Locks without poisoning, and a condition variable that costs nothing where nobody waits.
//!
//! A panic inside the engine poisons the whole volume (see `connection.rs`), so that a poisoned
//! lock tells nothing more: these take the lock either way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// The standard library's, but that it asks the system to wake somebody only if somebody waits: that call comes with every request
/// else, and takes a microsecond or two.
///
/// Who waits is counted with the mutex held. So whoever changes, with the mutex held, what is waited for, and notifies after that, sees everybody
/// who has not seen the change.
#[derive(Debug, Default)]
pub(crate) struct Condvar {
    inner: std::sync::Condvar,
    waiting: AtomicUsize,
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self {
            inner: std::sync::Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    pub(crate) fn notify_one(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.inner.notify_one();
        }
    }

    pub(crate) fn notify_all(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.inner.notify_all();
        }
    }

    fn begin_waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }
}

/// Somebody who waits.
struct Waiting<'c>(&'c Condvar);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    let waiting = condvar.begin_waiting();
    let waited = waiting.0.inner.wait(guard);
    waited.unwrap_or_else(PoisonError::into_inner)
}

/// Waits once, at most `timeout`.
pub(crate) fn wait_timeout<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
) -> MutexGuard<'a, T> {
    let waiting = condvar.begin_waiting();
    match waiting.0.inner.wait_timeout(guard, timeout) {
        Ok((guard, _)) => guard,
        Err(poisoned) => poisoned.into_inner().0,
    }
}

/// Waits as long as `condition` says, at most `timeout`.
pub(crate) fn wait_while<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Duration,
    condition: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'a, T> {
    let waiting = condvar.begin_waiting();
    let waited = waiting
        .0
        .inner
        .wait_timeout_while(guard, timeout, condition);
    match waited {
        Ok((guard, _)) => guard,
        Err(poisoned) => poisoned.into_inner().0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// Who is counted has the mutex until it waits.
    fn all_wait(condvar: &Condvar, count: usize) {
        while condvar.waiting.load(Ordering::SeqCst) < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn whoever_waits_for_a_change_is_woken_in_each_way_of_waiting() {
        let (changed, condvar) = (Mutex::new(false), Condvar::default());
        let wait_for_it: [fn(&Condvar, &Mutex<bool>); 3] = [
            |condvar, changed| {
                let mut changed = lock(changed);
                while !*changed {
                    changed = wait(condvar, changed);
                }
            },
            |condvar, changed| {
                let mut changed = lock(changed);
                while !*changed {
                    changed = wait_timeout(condvar, changed, FOR_EVER);
                }
            },
            |condvar, changed| {
                let is_same = |changed: &mut bool| !*changed;
                drop(wait_while(condvar, lock(changed), FOR_EVER, is_same));
            },
        ];
        std::thread::scope(|scope| {
            for wait in wait_for_it {
                let (condvar, changed) = (&condvar, &changed);
                scope.spawn(move || wait(condvar, changed));
            }
            all_wait(&condvar, 3);
            *lock(&changed) = true;
            condvar.notify_all();
        });
        assert_eq!(condvar.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn one_that_waits_is_woken_alone() {
        let (left, condvar) = (Mutex::new(0), Condvar::default());
        std::thread::scope(|scope| {
            let take = || {
                let mut left = lock(&left);
                while *left == 0 {
                    left = wait(&condvar, left);
                }
                *left -= 1;
            };
            let waiting = [scope.spawn(take), scope.spawn(take)];
            all_wait(&condvar, waiting.len());
            for _ in &waiting {
                *lock(&left) += 1;
                condvar.notify_one();
            }
        });
        assert_eq!(*lock(&left), 0);
    }
}
