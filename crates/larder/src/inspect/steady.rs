//! Reading a directory that somebody may be writing to, until it was not changed meanwhile.
//!
//! What looks like damage beside a user may be a frame or an entry that was just being written. It counts as damage if it is the same when
//! it is read again: a write takes less long than the pause between.

use std::thread;
use std::time::Duration;

use super::{InspectError, Reading};
use crate::medium::Medium;
use crate::persist::look::{self, Keeping, Look};
use crate::persist::open_error::OpenError;

/// How often it is read, and how long apart.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// What was read.
pub(super) struct Steady<T> {
    pub look: Look,
    pub value: T,
    /// No checkpoint ended meanwhile.
    pub is_steady: bool,
    /// Somebody has the directory open, or had while it was read.
    pub is_in_use: bool,
}

/// Reads something. An earlier look is as good as a new one if nothing can have changed since.
pub(super) fn read<T>(
    medium: &dyn Medium,
    keeping: Keeping,
    mut earlier: Option<Look>,
    read: &mut Reading<'_, T>,
) -> Result<Steady<T>, InspectError> {
    let mut failed: Option<OpenError> = None;
    let mut attempt = 1;
    loop {
        let was_in_use = look::is_in_use(medium)?;
        let earlier = earlier.take().filter(|_| !was_in_use);
        let tried = try_once(medium, keeping, earlier, read);
        let is_in_use = was_in_use || look::is_in_use(medium)?;
        let is_last = attempt == TRIES || !is_in_use;
        match tried {
            Ok((look, value, is_steady)) if is_steady || is_last => {
                return Ok(Steady {
                    look,
                    value,
                    is_steady,
                    is_in_use,
                });
            }
            Ok(_) => failed = None,
            Err(error) => {
                let is_same = |before: OpenError| before.to_string() == error.to_string();
                if is_last || failed.take().is_some_and(is_same) {
                    return Err(error.into());
                }
                failed = Some(error);
            }
        }
        thread::sleep(PAUSE);
        attempt += 1;
    }
}

fn try_once<T>(
    medium: &dyn Medium,
    keeping: Keeping,
    earlier: Option<Look>,
    read: &mut Reading<'_, T>,
) -> Result<(Look, T, bool), OpenError> {
    let look = match earlier {
        Some(look) if look.is_current(medium)? => look,
        _ => Look::take(medium, keeping)?,
    };
    let value = read(&look)?;
    let is_steady = look.is_current(medium)?;
    Ok((look, value, is_steady))
}
