//! What is known of a queue's log, in memory.

use std::collections::VecDeque;
use std::time::Duration;

use super::overlay::{Content, Overlay, Piece};
use crate::persist::frame::Position;
use crate::persist::queue_log::{FoundChange, FoundContent, Wiping};
use crate::planted::{Bug, is_planted};

/// What is known of the log.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What reads see before the origin.
    pub overlay: Overlay,
    /// All changes, in the order of the log.
    pub changes: VecDeque<Piece>,
    /// Where epochs end: what lies before such a place, and behind the one before it, is one.
    pub boundaries: VecDeque<Boundary>,
    /// Changes behind the last boundary.
    pub open: usize,
    /// Bytes of data among the changes.
    pub bytes: u64,
}

/// Where an epoch ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Boundary {
    /// The place behind its frame.
    pub after: Position,
    /// When it was made, or found.
    pub since: Duration,
}

/// What is to be sent next: all before a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oldest {
    pub after: Position,
    /// No epoch ends there.
    pub is_cut: bool,
}

/// What waits to be sent now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub bytes: u64,
    pub epochs: u64,
}

impl State {
    /// What was found in a log, at that time.
    pub(super) fn found(found: &[FoundChange], now: Duration) -> Self {
        let mut state = Self::default();
        for change in found {
            match change {
                FoundChange::Boundary(after) => {
                    state.boundaries.push_back(Boundary {
                        after: *after,
                        since: now,
                    });
                    state.open = 0;
                }
                FoundChange::Change {
                    seq,
                    start,
                    end,
                    content,
                } => state.add(Piece {
                    start: *start,
                    end: *end,
                    seq: *seq,
                    content: match content {
                        FoundContent::Data { offset } => Content::Data(*offset),
                        FoundContent::Wipe(how) => content_of(*how),
                    },
                }),
            }
        }
        state
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting {
            bytes: self.bytes,
            epochs: self.boundaries.len() as u64,
        }
    }

    /// Behind all others.
    pub(super) fn add(&mut self, piece: Piece) {
        self.open += 1;
        if let Content::Data(_) = piece.content {
            self.bytes += piece.end - piece.start;
        }
        self.changes.push_back(piece);
        self.overlay.insert(piece);
    }

    /// The origin has all that frames before that place say.
    pub(super) fn forget(&mut self, before: Position) {
        while self
            .boundaries
            .front()
            .is_some_and(|boundary| boundary.after.seq <= before.seq)
        {
            self.boundaries.pop_front();
        }
        while let Some(piece) = self.changes.front().filter(|piece| piece.seq < before.seq) {
            if let Content::Data(_) = piece.content {
                self.bytes -= piece.end - piece.start;
            }
            let up_to = match is_planted(Bug::QueueForgetsNewer) {
                true => u64::MAX,
                false => before.seq - 1,
            };
            self.overlay.forget(piece.start, piece.end, up_to);
            self.changes.pop_front();
        }
        self.open = self.open.min(self.changes.len());
    }
}

pub(super) fn content_of(how: Wiping) -> Content {
    match how {
        Wiping::Zero => Content::Zero { may_trim: false },
        Wiping::Hole => Content::Zero { may_trim: true },
    }
}
