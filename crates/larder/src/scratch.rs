//! Memory for a moment, of each thread's own: new memory for each request costs more than the copy that it is for,
//! since the system gives it page by page.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// The most that a thread keeps.
const KEPT_BYTES: usize = 1 << 20;

thread_local! {
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// So many bytes of any content, which must be overwritten before they are read.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn new(length: usize) -> Self {
        let mut bytes = KEPT.take();
        // What is there already is not cleared.
        bytes.resize(length, 0);
        Self(bytes)
    }
}

impl Deref for Scratch {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.capacity() <= KEPT_BYTES {
            // A thread that is ending keeps nothing.
            let _ = KEPT.try_with(|kept| kept.set(std::mem::take(&mut self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_memory_is_used_again_and_large_memory_is_not_kept() {
        let place = |length| Scratch::new(length).as_ptr();
        let first = place(64 << 10);
        assert_eq!(place(64 << 10), first);
        assert_eq!(Scratch::new(10).len(), 10);
        drop(Scratch::new(KEPT_BYTES + 1));
        assert_eq!(KEPT.take().capacity(), 0);
        // Two at a time are two.
        let (one, other) = (Scratch::new(100), Scratch::new(100));
        assert_ne!(one.as_ptr(), other.as_ptr());
    }
}
