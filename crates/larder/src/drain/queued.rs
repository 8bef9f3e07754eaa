//! What a volume has in its queue: changes in the order in which its origin is to get them.
//!
//! The origin gets them in that order here too, a completed flush at a time, each durable there and forgotten here before the next is begun. So whenever this
//! ends, finished, refused or killed, the origin alone is a disk as a power loss would have left one, and the queue has what follows.
//!
//! To an origin that is another one everything is sent in the same order, and nothing is forgotten before it has all of it. If it does not get so far, the queue is as it
//! was, and whoever sends it there again begins at the beginning: only at the end of that is the other origin consistent again.

use std::io;

use super::error::DrainErrorKind;
use super::identity::{self, Verdict};
use super::write_back::{WriteBack, WrittenBack, check, judge};
use super::{Drain, DrainError, Progress, Why};
use crate::ordered::{Content, Held, Piece, Queue, User};
use crate::origin::Origin;
use crate::persist::home::Home;
use crate::persist::op::{Op, VolumeId, VolumeRecord};
use crate::persist::queue_log::FoundQueue;

/// The queue of a volume.
pub(super) struct Queued {
    /// What it has that the origin has not.
    pub held: Held,
    log: Log,
}

enum Log {
    /// Nothing of it was written yet.
    Found(FoundQueue),
    /// It goes on in this session.
    Begun(Box<Queue>),
    /// It cannot be used before the next start.
    Failed,
}

impl Queued {
    pub(super) fn new(found: FoundQueue) -> Self {
        Self {
            held: Held::of(&found.found),
            log: Log::Found(found),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.pieces.is_empty()
    }

    /// The queue, to be written to.
    fn begin(&mut self, home: &Home) -> Result<&Queue, DrainError> {
        self.log = match std::mem::replace(&mut self.log, Log::Failed) {
            Log::Found(found) => {
                Log::Begun(Box::new(Queue::found(User::without_engine(), found, home)?))
            }
            log => log,
        };
        match &self.log {
            Log::Begun(queue) => Ok(queue),
            _ => Err(DrainError::new(
                DrainErrorKind::System,
                "the queue has failed before: run it again".to_owned(),
            )),
        }
    }

    /// Reads data of it.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.log {
            Log::Found(found) => found.read_data(offset, buffer),
            Log::Begun(queue) => queue.read_data(offset, buffer),
            Log::Failed => Err(io::Error::other("the queue has failed before")),
        }
    }

    /// Forgets all of it, durably.
    pub(super) fn give_up(&mut self, home: &Home) -> Result<(), DrainError> {
        let given_up = self.begin(home)?.give_up();
        self.look_again();
        given_up.map_err(|error| {
            DrainError::with_source(DrainErrorKind::System, "its queue cannot be emptied", error)
        })
    }

    fn look_again(&mut self) {
        if let Log::Begun(queue) = &self.log {
            self.held = queue.held();
        }
    }
}

impl Drain {
    /// What is queued of a volume, if that is anything.
    pub(super) fn queued(&self, id: VolumeId) -> Option<&Queued> {
        self.queues.get(&id).filter(|queued| !queued.is_empty())
    }

    /// Sends what is queued of a volume.
    pub(super) fn write_back_queue(
        &mut self,
        id: VolumeId,
        origin: &dyn Origin,
        asked: &WriteBack,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<WrittenBack, DrainError> {
        let known = self.record(id)?;
        if let Some(plan) = self.plans.get(&id) {
            check(&known, plan, origin)?;
        }
        check_flush(&known, origin)?;
        let verdict = judge(&known, origin, asked)?;
        let is_forced = verdict.is_forced();
        check_fits(&known, self.begin_queue(id)?, origin)?;
        self.say(vec![Op::Volume(identity::before(&known, &verdict))])?;
        let (dirty, zeros) = self.held_bytes(id);
        let queue = self.begin_queue(id)?;
        let mut told = Progress {
            done_bytes: 0,
            total_bytes: queue.change_bytes(),
        };
        progress(told);
        let mut tell = |bytes| {
            told.done_bytes += bytes;
            progress(told);
        };
        let sent = match is_forced {
            false => queue.send_everything(origin, &mut tell),
            true => queue.send_copy(origin, &mut tell),
        };
        if sent.is_ok() && is_forced {
            self.discard(id.volume.0)?;
        } else if let Some(queued) = self.queues.get_mut(&id) {
            queued.look_again();
        }
        let (dirty_left, zeros_left) = self.held_bytes(id);
        let left = sent.err().map_or_else(Vec::new, |stopped| {
            let why = Why::Refused(stopped.error.to_string());
            super::sending::left(stopped.ranges.into_iter(), &why)
        });
        if left.is_empty() && !is_forced {
            self.settle_queue(id, &verdict, origin)?;
        }
        Ok(WrittenBack {
            written_bytes: dirty - dirty_left,
            zeroed_bytes: zeros - zeros_left,
            left,
            is_forced,
            assumed: verdict.assumed().map(str::to_owned),
        })
    }

    fn begin_queue(&mut self, id: VolumeId) -> Result<&Queue, DrainError> {
        let Some(queued) = self.queues.get_mut(&id) else {
            return Err(DrainError::asked("it has nothing queued".to_owned()));
        };
        queued.begin(&self.home)
    }

    /// Data and zeros.
    pub(super) fn held_bytes(&self, id: VolumeId) -> (u64, u64) {
        let queued = self.queues.get(&id);
        queued.map_or((0, 0), |queued| queued.held.bytes())
    }

    /// The origin has everything: what it says of itself now is the version that is cached.
    fn settle_queue(
        &mut self,
        id: VolumeId,
        verdict: &Verdict,
        origin: &dyn Origin,
    ) -> Result<(), DrainError> {
        let known = self.record(id)?;
        if !verdict.is_same() || known.version.is_none() {
            return Ok(());
        }
        // One that cannot be asked is judged by what stays of its version.
        let Some(version) = identity::version(origin).ok().flatten() else {
            return Ok(());
        };
        self.volumes
            .apply(&Op::Volume(identity::after(&known, version)))
            .map_err(|malformed| DrainError::asked(malformed.to_string()))
    }
}

/// Without a flush nobody knows when the next epoch may be begun.
fn check_flush(known: &VolumeRecord, origin: &dyn Origin) -> Result<(), DrainError> {
    if origin.capabilities().flush {
        return Ok(());
    }
    let message = format!(
        "volume {:?}: its origin cannot flush, and what was flushed is to reach it in order: give one that can",
        known.name
    );
    Err(DrainError::new(DrainErrorKind::Origin, message))
}

/// The origin may have another end than the one that was cached, or take other units: half of an order is none.
fn check_fits(known: &VolumeRecord, queue: &Queue, origin: &dyn Origin) -> Result<(), DrainError> {
    let (size, minimum) = (origin.size(), u64::from(origin.limits().minimum.max(1)));
    let is_whole = |at: u64| at.is_multiple_of(minimum) || at == size;
    let misfit = queue.misfit(|start, end| end <= size && is_whole(start) && is_whole(end));
    let Some((start, end)) = misfit else {
        return Ok(());
    };
    let why = match end <= size {
        false => format!("ends at {size}"),
        true => format!("takes only multiples of {minimum} bytes"),
    };
    let message = format!(
        "volume {:?}: it was written from {start} to {end}, and its origin {why}",
        known.name
    );
    Err(DrainError::new(DrainErrorKind::Origin, message))
}

/// A piece in parts of so many bytes at most.
pub(super) fn parts(piece: Piece, longest: u64) -> impl Iterator<Item = (u64, u64, Content)> {
    let mut at = piece.start;
    std::iter::from_fn(move || {
        let end = piece.end.min(at.saturating_add(longest));
        let start = std::mem::replace(&mut at, end);
        (start < end).then(|| (start, end, piece.content.skip(start - piece.start)))
    })
}
