//! Every call that reached a machine, in order.

use std::sync::Arc;

use super::image::Image;
use super::names::{FileNumber, NameChange};
use crate::random::mix;

/// A call's place among all calls of a machine.
pub type CallNumber = u64;

/// What a call does to a machine. One that fails and does nothing is [`Effect::Nothing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Bytes of a file; of one that fails, those that it wrote all the same.
    Write(FileNumber, u64, Arc<[u8]>),
    /// A file is at least so long.
    Extend(FileNumber, u64),
    /// A file is so long.
    SetLength(FileNumber, u64),
    /// Makes a file durable.
    Sync(FileNumber),
    /// Changes a name.
    Name(NameChange),
    /// Makes the names durable.
    SyncNames,
    /// Nothing.
    Nothing,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call began. Its effect is there, but a sync that begins before the call has ended is not about it.
    Began(CallNumber, Effect),
    /// It ended, well or not.
    Ended(CallNumber, bool),
}

/// What happened to a machine since it was started.
#[derive(Clone, Debug)]
pub struct Recording {
    /// How it was.
    pub start: Image,
    /// What chance decides while it runs.
    pub seed: u64,
    /// What happened since.
    pub events: Vec<Event>,
    /// A hash of all calls, reads too.
    pub hash: u64,
}

impl Recording {
    /// Nothing has happened yet.
    pub fn new(start: Image, seed: u64) -> Self {
        Self {
            start,
            seed,
            events: Vec::new(),
            hash: mix(seed, 0),
        }
    }

    /// Adds something to the hash alone.
    pub fn note(&mut self, number: u64) {
        self.hash = mix(self.hash, number);
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) {
        let number = match &event {
            Event::Began(call, effect) => mix(*call, effect.hash()),
            Event::Ended(call, is_well) => mix(*call, u64::from(*is_well) + 1),
        };
        self.note(number);
        self.events.push(event);
    }

    /// How many events there are: the position of now.
    pub fn position(&self) -> usize {
        self.events.len()
    }

    /// Whether a crash at the position can leave anything that a crash just before it cannot.
    pub fn is_point(&self, position: usize) -> bool {
        match position.checked_sub(1).map(|last| &self.events[last]) {
            None => true,
            Some(Event::Began(_, effect)) => effect.changes(),
            Some(Event::Ended(call, _)) => self.is_sync(*call, position),
        }
    }

    fn is_sync(&self, call: CallNumber, before: usize) -> bool {
        let began = |event: &Event| matches!(event, Event::Began(one, effect) if *one == call && effect.is_sync());
        // Most calls end where they began.
        self.events[..before].iter().rev().take(256).any(began)
    }

    /// Whether a sync has failed since that position.
    pub fn sync_failed(&self, since: usize) -> bool {
        let events = self.events.iter().enumerate().skip(since);
        let mut failed = events.filter_map(|(position, event)| match event {
            Event::Ended(call, false) => Some((*call, position)),
            _ => None,
        });
        failed.any(|(call, position)| self.is_sync(call, position))
    }

    /// Whether a call that began within those positions wrote into that range of a file.
    pub fn wrote(&self, since: usize, until: usize, file: FileNumber, range: (u64, u64)) -> bool {
        let (offset, length) = range;
        let events = &self.events[since.min(until)..until];
        events.iter().any(|event| match event {
            Event::Began(_, Effect::Write(one, from, data)) => {
                *one == file && *from < offset + length && offset < from + data.len() as u64
            }
            _ => false,
        })
    }
}

impl Effect {
    fn changes(&self) -> bool {
        !self.is_sync() && *self != Self::Nothing
    }

    fn is_sync(&self) -> bool {
        matches!(self, Self::Sync(_) | Self::SyncNames)
    }

    fn hash(&self) -> u64 {
        let words: [u64; 4] = match self {
            Self::Write(file, offset, data) => [1, *file as u64, *offset, hash_of(data)],
            Self::Extend(file, length) => [2, *file as u64, *length, 0],
            Self::SetLength(file, length) => [3, *file as u64, *length, 0],
            Self::Sync(file) => [4, *file as u64, 0, 0],
            Self::Name(change) => [5, hash_of(format!("{change:?}").as_bytes()), 0, 0],
            Self::SyncNames => [6, 0, 0, 0],
            Self::Nothing => [7, 0, 0, 0],
        };
        words.into_iter().fold(0, mix)
    }
}

/// A hash of bytes that is the same everywhere: good enough for what nobody attacks, and fast.
pub fn hash_of(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let mut hash = bytes.len() as u64;
    for word in &mut words {
        let mut next = [0; 8];
        next.copy_from_slice(word);
        hash = stir(hash, u64::from_le_bytes(next));
    }
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(hash, u64::from_le_bytes(last))
}

fn stir(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
