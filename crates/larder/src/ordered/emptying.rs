//! Emptying a queue where the engine is not running: all of it is sent in order, or given up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::epoch::requests_between;
use super::overlay::{Content, Piece};
use super::queue::{Queue, told};
use super::send::{How, longest, send_durably, send_oldest};
use super::state::{State, Waiting};
use super::user::User;
use crate::clock::SystemClock;
use crate::origin::Origin;
use crate::persist::frame::Position;
use crate::persist::queue_log::FoundChange;

/// What a queue that was found holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// The last change of each byte, in order.
    pub pieces: Vec<Piece>,
    pub waiting: Waiting,
}

impl Held {
    pub(crate) fn of(found: &[FoundChange]) -> Self {
        let state = State::found(found, Duration::ZERO);
        Self {
            pieces: state.overlay.within(0, u64::MAX).collect(),
            waiting: state.waiting(),
        }
    }

    /// How many bytes are data, and how many are zeros.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let mut bytes = (0, 0);
        for piece in &self.pieces {
            let length = piece.end - piece.start;
            match piece.content {
                Content::Data(_) => bytes.0 += length,
                Content::Zero { .. } => bytes.1 += length,
            }
        }
        bytes
    }
}

/// Sending has ended early.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub error: io::Error,
    /// What may not be on the origin, or is there and the queue does not know it: starts and ends, in order and apart.
    pub ranges: Vec<(u64, u64)>,
}

impl User {
    /// Somebody who has told the directory that the origin changes.
    pub(crate) fn without_engine() -> Self {
        Self::telling_nobody(Arc::new(SystemClock::default()))
    }
}

impl Queue {
    /// What it holds now.
    pub(crate) fn held(&self) -> Held {
        self.with_state(|state| Held {
            pieces: state.overlay.within(0, u64::MAX).collect(),
            waiting: state.waiting(),
        })
    }

    /// Whether some change does not fit `fits`, which is given its start and its end.
    pub(crate) fn misfit(&self, fits: impl Fn(u64, u64) -> bool) -> Option<(u64, u64)> {
        self.with_state(|state| {
            let mut changes = state.changes.iter();
            let misfit = changes.find(|piece| !fits(piece.start, piece.end));
            misfit.map(|piece| (piece.start, piece.end))
        })
    }

    /// How many bytes all its changes have.
    pub(crate) fn change_bytes(&self) -> u64 {
        self.with_state(|state| bytes_of(state, 0, u64::MAX))
    }

    /// Sends everything, epoch by epoch: each is durable on the origin, and the queue durably begins behind it, before the next is begun. Tells after each
    /// how many bytes its changes had.
    ///
    /// # Errors
    /// The origin has what was told and perhaps some of the next epoch; or the queue has failed.
    pub(crate) fn send_everything(
        &self,
        below: &dyn Origin,
        each: &mut dyn FnMut(u64),
    ) -> Result<(), Stopped> {
        let _sending = self.stop_sending();
        let how = How {
            cuts: true,
            ..How::default()
        };
        while let Some(oldest) = self.oldest(true) {
            let (bytes, ranges) = self.with_state(|state| {
                let end = oldest.after.seq;
                (bytes_of(state, 0, end), ranges_of(state, 0, end))
            });
            if let Err(error) = send_oldest(self, below, how) {
                return Err(self.stopped(error, ranges));
            }
            each(bytes);
        }
        Ok(())
    }

    /// Sends everything in the same order to an origin that is not the queue's own, and keeps it.
    ///
    /// # Errors
    /// That origin has what was told and perhaps some of the next epoch.
    pub(crate) fn send_copy(
        &self,
        below: &dyn Origin,
        each: &mut dyn FnMut(u64),
    ) -> Result<(), Stopped> {
        let _sending = self.stop_sending();
        let mut from = 0;
        for after in self.ends() {
            let requests = requests_between(self, from, after, longest(below));
            if let Err(error) = send_durably(self, below, &requests, How::default()) {
                return Err(self.stopped(error, Vec::new()));
            }
            each(self.with_state(|state| bytes_of(state, from, after.seq)));
            from = after.seq;
        }
        Ok(())
    }

    /// Reads data that it holds. For who is alone with it.
    pub(crate) fn read_data(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.log.read(offset, buffer)
    }

    /// Forgets all of it, durably.
    pub(crate) fn give_up(&self) -> io::Result<()> {
        let end = self.end();
        self.change_state(|state| state.forget(end));
        self.log.advance(end).map_err(told)
    }

    /// Where epochs end, the open one too.
    fn ends(&self) -> Vec<Position> {
        let end = self.end();
        self.with_state(|state| {
            let boundaries = state.boundaries.iter().map(|boundary| boundary.after);
            let open = (state.open > 0).then_some(end);
            boundaries.chain(open).collect()
        })
    }

    fn stopped(&self, error: io::Error, mut ranges: Vec<(u64, u64)>) -> Stopped {
        ranges.extend(self.ranges(0, u64::MAX));
        ranges.sort_unstable();
        ranges.dedup_by(|next, before| {
            let is_joined = next.0 <= before.1;
            if is_joined {
                before.1 = before.1.max(next.1);
            }
            is_joined
        });
        Stopped { error, ranges }
    }
}

fn between(state: &State, from: u64, end: u64) -> impl Iterator<Item = &Piece> {
    let first = state.changes.partition_point(|piece| piece.seq < from);
    let changes = state.changes.range(first..);
    changes.take_while(move |piece| piece.seq < end)
}

fn bytes_of(state: &State, from: u64, end: u64) -> u64 {
    let changes = between(state, from, end);
    changes.map(|piece| piece.end - piece.start).sum()
}

fn ranges_of(state: &State, from: u64, end: u64) -> Vec<(u64, u64)> {
    let changes = between(state, from, end);
    changes.map(|piece| (piece.start, piece.end)).collect()
}
