//! Clients that ask again at once: waking a thread takes as long as such a client takes to send its next request, so it is looked for, for a moment,
//! before anybody goes to sleep.
//!
//! Only right after an answer, only as long as the client has been that quick before, and while nobody else wants the processor: whoever does has it
//! at once, and nobody is looked for for a while. And only while such clients are few: more of them than half of the processors would take from
//! each other what they gain, and from the clients, if those are on the same machine.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// So long the next request is looked for: about what it takes to be put to sleep and woken.
const LOOKED_FOR: Duration = Duration::from_micros(60);
/// A request that has come so soon after an answer was worth looking for, had anybody looked.
const SOON: Duration = Duration::from_micros(100);

/// Somebody else has had the processor if giving it up took longer than this.
const TAKEN: Duration = Duration::from_micros(20);
/// So many requests in a row nobody is looked for then.
const RESTS: u32 = 32;

/// All clients that share some processors.
#[derive(Debug)]
struct Clients {
    /// So many of them ask again at once.
    prompt: AtomicUsize,
    /// So many may be looked for.
    most: OnceLock<usize>,
}

impl Clients {
    const fn new() -> Self {
        Self {
            prompt: AtomicUsize::new(0),
            most: OnceLock::new(),
        }
    }

    fn are_few(&self) -> bool {
        let half = || thread::available_parallelism().map_or(0, |count| count.get() / 2);
        self.prompt.load(Ordering::Relaxed) <= *self.most.get_or_init(half)
    }
}

/// The process has the processors that it has.
static ALL: Clients = Clients::new();

/// How soon a client asks again.
#[derive(Debug)]
pub(super) struct Prompt {
    among: &'static Clients,
    is_prompt: bool,
    /// For so many requests more nobody looks.
    rests: u32,
}

impl Default for Prompt {
    fn default() -> Self {
        Self::among(&ALL)
    }
}

impl Prompt {
    fn among(among: &'static Clients) -> Self {
        Self {
            among,
            is_prompt: false,
            rests: 0,
        }
    }

    /// Calls `look` until it finds something, if that is worth it.
    pub(super) fn look<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        if self.rests > 0 {
            self.rests -= 1;
            return None;
        }
        if !self.is_prompt || !self.among.are_few() {
            return None;
        }
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return Some(found);
            }
            let looked = begun.elapsed();
            if looked >= LOOKED_FOR {
                return None;
            }
            thread::yield_now();
            if begun.elapsed() - looked > TAKEN {
                self.rests = RESTS;
            }
        }
    }

    /// So long after an answer the next request came.
    pub(super) fn note(&mut self, waited: Duration) {
        self.set(waited <= SOON);
    }

    fn set(&mut self, is_prompt: bool) {
        match (self.is_prompt, is_prompt) {
            (false, true) => self.among.prompt.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.among.prompt.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
        self.is_prompt = is_prompt;
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_was_quick_is_looked_for_and_only_where_such_are_few() {
        static FEW: Clients = Clients::new();
        FEW.most.set(1).unwrap();
        let mut prompt = Prompt::among(&FEW);
        let found = |prompt: &mut Prompt| {
            // Whatever else the machine does.
            prompt.rests = 0;
            let mut left = 3;
            let look = || {
                left -= 1;
                (left == 0).then_some(())
            };
            prompt.look(look).is_some()
        };
        assert!(!found(&mut prompt));
        prompt.note(Duration::from_micros(90));
        assert!(found(&mut prompt));
        assert_eq!(prompt.look(|| None::<()>), None);
        let mut other = Prompt::among(&FEW);
        other.note(Duration::ZERO);
        other.note(Duration::ZERO);
        assert!(!found(&mut prompt) && !found(&mut other));
        drop(other);
        assert!(found(&mut prompt));
        prompt.note(Duration::from_millis(1));
        assert!(!found(&mut prompt));
        assert_eq!(FEW.prompt.load(Ordering::Relaxed), 0);
    }
}
