//! Doubly linked lists threaded through one array of slots.
//!
//! A slot is on at most one list, so its two links live in one dense array indexed by slot number,
//! and moving a slot between lists allocates nothing. The array is in pieces: it grows by one at a time and moves
//! nothing, since that would take long under the engine's lock.
//!
//! Invariants: following `next` from a list's `newest` visits `len` slots and ends at `oldest`;
//! `prev` is the reverse; a slot on no list has both links [`UNLINKED`].

use super::pieces::Pieces;

/// Ends a list.
const END: u32 = u32::MAX;
/// Both links of a slot that is on no list. A linked slot never has it: its links are slots or `END`.
const UNLINKED: u32 = u32::MAX - 1;

/// The greatest slot number that can be linked.
pub(super) const MAX_SLOT: u32 = UNLINKED - 1;

#[derive(Clone, Copy)]
struct Link {
    prev: u32,
    next: u32,
}

/// The ends of one list. All its links are in the [`Links`] it is used with.
pub(super) struct List {
    newest: u32,
    oldest: u32,
    len: usize,
}

impl List {
    pub(super) const fn new() -> Self {
        Self {
            newest: END,
            oldest: END,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slot that was pushed longest ago.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != END).then_some(self.oldest)
    }

    pub(super) fn is_newest(&self, slot: u32) -> bool {
        self.newest == slot
    }
}

/// The links of every slot.
#[derive(Default)]
pub(super) struct Links {
    links: Pieces<Link>,
}

impl Links {
    /// Makes the array cover `slot`.
    pub(super) fn cover(&mut self, slot: u32) {
        let unlinked = Link {
            prev: UNLINKED,
            next: UNLINKED,
        };
        self.links.cover(slot, unlinked);
    }

    pub(super) fn is_linked(&self, slot: u32) -> bool {
        self.links
            .get(slot)
            .is_some_and(|link| link.next != UNLINKED)
    }

    /// Puts `slot`, covered and on no list, at the newest end.
    pub(super) fn push_newest(&mut self, list: &mut List, slot: u32) {
        debug_assert!(!self.is_linked(slot), "slot {slot} is on a list already");
        self.links[slot] = Link {
            prev: END,
            next: list.newest,
        };
        match list.newest {
            END => list.oldest = slot,
            newest => self.links[newest].prev = slot,
        }
        list.newest = slot;
        list.len += 1;
    }

    /// Takes `slot`, which is on `list`, off it.
    pub(super) fn unlink(&mut self, list: &mut List, slot: u32) {
        debug_assert!(self.is_linked(slot), "slot {slot} is on no list");
        let Link { prev, next } = self.links[slot];
        match prev {
            END => list.newest = next,
            prev => self.links[prev].next = next,
        }
        match next {
            END => list.oldest = prev,
            next => self.links[next].prev = prev,
        }
        self.links[slot] = Link {
            prev: UNLINKED,
            next: UNLINKED,
        };
        list.len -= 1;
    }

    /// The slots of `list` from newest to oldest, checked link by link.
    #[cfg(test)]
    pub(super) fn walk(&self, list: &List) -> Vec<u32> {
        let mut slots = Vec::new();
        let (mut prev, mut at) = (END, list.newest);
        while at != END {
            let link = self.links[at];
            assert_eq!(link.prev, prev, "slot {at}: the way back differs");
            slots.push(at);
            assert!(slots.len() <= list.len, "a cycle, or a wrong length");
            (prev, at) = (at, link.next);
        }
        assert_eq!(prev, list.oldest);
        assert_eq!(slots.len(), list.len);
        slots
    }
}
