//! Clients that ask again at once: waking a thread takes as long as such a client takes to send its next request, so it is looked for, for a moment,
//! before anybody goes to sleep.
//!
//! Only right after an answer, only as long as the client has been that quick before, and while nobody else wants the processor: whoever does has it
//! at once, and nobody is looked for for a while. Nor while others ask as often and are as many as half of the processors: they would take
//! from each other what they gain, and from the clients, if those are on the same machine.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// So long the next request is looked for: about what it takes to be put to sleep and woken.
const LOOKED_FOR: Duration = Duration::from_micros(60);
/// A request that has come so soon after an answer was worth looking for, had anybody looked.
const SOON: Duration = Duration::from_micros(100);
/// Somebody else has had the processor if giving it up took longer than this.
const TAKEN: Duration = Duration::from_micros(20);
/// So many requests in a row nobody is looked for after that, or after others have asked.
const RESTS: u32 = 32;

/// All clients that share some processors.
#[derive(Debug)]
struct Clients {
    /// So often they have been waited for after an answer.
    waits: AtomicU64,
    /// So many may be looked for.
    most: OnceLock<u64>,
}

impl Clients {
    const fn new() -> Self {
        Self {
            waits: AtomicU64::new(0),
            most: OnceLock::new(),
        }
    }

    fn most(&self) -> u64 {
        let half = || thread::available_parallelism().map_or(0, |count| count.get() as u64 / 2);
        *self.most.get_or_init(half)
    }
}

/// The process has the processors that it has.
static ALL: Clients = Clients::new();

/// How soon a client asks again.
#[derive(Debug)]
pub(super) struct Prompt {
    among: &'static Clients,
    /// How often anybody had been waited for when this one was last.
    seen: u64,
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
            seen: 0,
            is_prompt: false,
            rests: 0,
        }
    }

    /// Calls `look` until it finds something, if that is worth it.
    pub(super) fn look<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let before = self.among.waits.fetch_add(1, Ordering::Relaxed);
        let others = before.saturating_sub(self.seen);
        self.seen = before + 1;
        if others >= self.among.most() {
            self.rests = RESTS;
        }
        if self.rests > 0 {
            self.rests -= 1;
            return None;
        }
        if !self.is_prompt {
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
        self.is_prompt = waited <= SOON;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is looked for, however busy the machine is: it is there at the first look.
    fn is_looked_for(prompt: &mut Prompt) -> bool {
        let found = prompt.look(|| Some(()));
        prompt.rests = 0;
        found.is_some()
    }

    #[test]
    fn only_a_client_that_was_quick_is_looked_for() {
        static ONE: Clients = Clients::new();
        ONE.most.set(1).unwrap();
        let mut prompt = Prompt::among(&ONE);
        assert!(!is_looked_for(&mut prompt));
        prompt.note(Duration::from_micros(90));
        assert!(is_looked_for(&mut prompt));
        assert_eq!(prompt.look(|| None::<()>), None);
        prompt.rests = 0;
        assert!(is_looked_for(&mut prompt));
        prompt.note(Duration::from_millis(1));
        assert!(!is_looked_for(&mut prompt));
    }

    #[test]
    fn nobody_is_looked_for_while_others_ask_as_often() {
        static FEW: Clients = Clients::new();
        FEW.most.set(2).unwrap();
        let [mut one, mut second, mut third] = std::array::from_fn(|_| Prompt::among(&FEW));
        for prompt in [&mut one, &mut second, &mut third] {
            is_looked_for(prompt);
            prompt.note(Duration::ZERO);
        }
        assert!(!is_looked_for(&mut one), "two have asked since");
        assert!(is_looked_for(&mut one), "nobody has");
        is_looked_for(&mut second);
        assert!(is_looked_for(&mut one), "one has");
        let rests = {
            second.look(|| None::<()>);
            third.look(|| None::<()>);
            one.look(|| Some(()));
            one.rests
        };
        assert_eq!(rests, RESTS - 1);
    }
}
