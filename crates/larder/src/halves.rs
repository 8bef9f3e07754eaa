//! Work that two processors share.

use std::ops::Range;
use std::panic;
use std::thread;

/// Below so many a second thread would cost more than it saves. Not in tests, which are to see what it does.
const MANY: u32 = if cfg!(test) { 8 } else { 1 << 16 };

/// Does both, the second on a thread of its own if there are `many` of whatever it is about.
pub(crate) fn both<A, B: Send>(
    many: u32,
    first: impl FnOnce() -> A,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    if many < MANY {
        return (first(), second());
    }
    thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        match second.join() {
            Ok(second) => (first, second),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}

/// Splits a range in the middle.
pub(crate) fn halves(range: Range<u32>) -> (Range<u32>, Range<u32>) {
    let middle = range.start + range.len() as u32 / 2;
    (range.start..middle, middle..range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_all_of_it_and_both_are_done() {
        assert_eq!(halves(3..3), (3..3, 3..3));
        assert_eq!(halves(3..8), (3..5, 5..8));
        for many in [0, MANY - 1, MANY, u32::MAX] {
            assert_eq!(both(many, || 1, || "second"), (1, "second"));
        }
    }
}
