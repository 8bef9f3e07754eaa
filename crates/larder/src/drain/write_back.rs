//! Bringing a volume to its origin.

use std::io;

use super::error::DrainErrorKind;
use super::identity::{self, Verdict};
use super::plan::{self, Plan};
use super::sending::{Sender, Sent, left, zero_bytes};
use super::work::{Item, Work};
use super::{Drain, DrainError, Left, Progress, Why, reading};
use crate::directory::SlotNumber;
use crate::durability::{MOST_RETRIES, is_loss};
use crate::origin::Origin;
use crate::persist::op::{Op, VolumeId, VolumeRecord, ZeroOp};
use crate::planted::{Bug, is_planted};

/// What is asked of [`Drain::write_back`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBack {
    /// What the operator calls the origin.
    pub cache_id: Option<String>,
    /// Also if the origin is another one.
    pub force: bool,
}

/// What has become of a volume's written data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenBack {
    /// Data that is durable on the origin now.
    pub written_bytes: u64,
    /// Zeros that are.
    pub zeroed_bytes: u64,
    /// What is not, in order.
    pub left: Vec<Left>,
    /// It was another origin: all that is cached of the volume is forgotten, or nothing if something is left.
    pub is_forced: bool,
    /// How the origin differs from what it was when the cache last looked, which was taken for what the cache itself has written
    /// to it since. Nobody knows whether somebody else has.
    pub assumed: Option<String>,
}

impl Drain {
    /// Writes to the origin what it does not have of the volume, and makes that durable there. The directory hears of it at its end:
    /// [`Drain::close`]. But a queue is sent flush by flush, and each is gone from it once the origin has it durably: so the origin alone is consistent
    /// whenever this ends.
    ///
    /// # Errors
    /// Nothing was written: the origin is another one, or cannot take this, or the directory fails. What fails later is in the result.
    pub fn write_back(
        &mut self,
        volume: u32,
        origin: &dyn Origin,
        asked: &WriteBack,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<WrittenBack, DrainError> {
        let id = self.id(volume)?;
        if self.queued(id).is_some() {
            return self.write_back_queue(id, origin, asked, progress);
        }
        let Some(plan) = self.plans.get(&id).filter(|plan| !plan.is_done()) else {
            return Ok(WrittenBack::default());
        };
        let known = self.record(id)?;
        check(&known, plan, origin)?;
        let verdict = judge(&known, origin, asked)?;
        let mut ops = vec![Op::Volume(identity::before(&known, &verdict))];
        ops.extend(self.second_slots(plan)?.into_iter().map(Op::Empty));
        self.say(ops)?;
        let Some(plan) = self.plans.remove(&id) else {
            return Ok(WrittenBack::default());
        };
        let mut round = Round {
            drain: self,
            plan,
            origin,
            progress,
            told: Progress {
                done_bytes: 0,
                total_bytes: 0,
            },
            done: WrittenBack::default(),
        };
        round.run();
        let Round { plan, mut done, .. } = round;
        reading::join(&mut done.left);
        done.is_forced = verdict.is_forced();
        done.assumed = verdict.assumed().map(str::to_owned);
        self.settle(plan, &verdict, origin, &done)?;
        Ok(done)
    }

    pub(super) fn record(&self, id: VolumeId) -> Result<VolumeRecord, DrainError> {
        let known = self.volumes.get(id);
        let unknown = || DrainError::asked(format!("it has no volume {}", id.volume.0));
        Ok(known.ok_or_else(unknown)?.record.clone())
    }

    /// Slots in which a block is listed whose newer bytes are dirty in another slot: it was there before, and the directory has not heard yet
    /// that it has gone. What they hold is what the origin has, and will not be any more.
    fn second_slots(&self, plan: &Plan) -> Result<Vec<SlotNumber>, DrainError> {
        let mut slots = Vec::new();
        self.home.read_entries(0..u32::MAX, &mut |slot, entry| {
            if let Some(content) = entry.content
                && content.occupant.volume_id() == plan.id
                && let Some(dirty) = plan.of_block(content.occupant.block)
                && dirty.slot != slot
            {
                slots.push(slot);
            }
        })?;
        Ok(slots)
    }

    /// What the directory is to say in the end, now that the origin has what it has.
    fn settle(
        &mut self,
        mut plan: Plan,
        verdict: &Verdict,
        origin: &dyn Origin,
        done: &WrittenBack,
    ) -> Result<(), DrainError> {
        let id = plan.id;
        if done.is_forced {
            // What is on another origin than the volume's is no less dirty, until there is no such volume any more.
            return match done.left.is_empty() {
                true => self.say(vec![Op::VolumeGone(id)]),
                false => {
                    let as_it_was = plan::all(&self.home, &self.volumes)?.remove(&id);
                    self.plans.extend(as_it_was.map(|plan| (id, plan)));
                    Ok(())
                }
            };
        }
        let known = self.record(id)?;
        let zeros = plan.recorded_zeros();
        let zero = Op::Zero(ZeroOp {
            id,
            start: 0,
            end: plan.size,
            zeros,
        });
        let is_known = verdict.is_same() && plan.is_done() && known.version.is_some();
        // One that cannot be asked is judged by what stays of its version.
        let version = match is_known {
            true => identity::version(origin).ok().flatten(),
            false => None,
        };
        let record = version.map(|version| Op::Volume(identity::after(&known, version)));
        for op in record.into_iter().chain([zero]) {
            self.volumes
                .apply(&op)
                .map_err(|malformed| DrainError::asked(malformed.to_string()))?;
        }
        plan.is_settled = true;
        self.plans.insert(id, plan);
        Ok(())
    }
}

/// Whether the origin can take it at all.
pub(super) fn check(
    known: &VolumeRecord,
    plan: &Plan,
    origin: &dyn Origin,
) -> Result<(), DrainError> {
    let refused = |what: String| {
        let message = format!("volume {:?}: {what}", known.name);
        Err(DrainError::new(DrainErrorKind::Origin, message))
    };
    if !origin.capabilities().write {
        return refused("its origin cannot be written to".to_owned());
    }
    let (minimum, sector) = (origin.limits().minimum, plan.geometry.sector_bytes());
    match u64::from(minimum) <= sector {
        true => Ok(()),
        false => refused(format!(
            "its origin takes only multiples of {minimum} bytes, and it was written in sectors of {sector}"
        )),
    }
}

pub(super) fn judge(
    known: &VolumeRecord,
    origin: &dyn Origin,
    asked: &WriteBack,
) -> Result<Verdict, DrainError> {
    let version = identity::version(origin).map_err(|error| {
        let context = format!("volume {:?}: asking the origin for its version", known.name);
        DrainError::with_source(DrainErrorKind::Origin, &context, error)
    })?;
    let cache_id = asked.cache_id.as_deref();
    let verdict = identity::compare(known, origin.size(), version.as_ref(), cache_id);
    match verdict {
        Verdict::Other(why) if !asked.force => {
            let name = &known.name;
            let message = format!("volume {name:?} was written for another origin: {why}");
            Err(DrainError::new(DrainErrorKind::OtherOrigin, message))
        }
        Verdict::Unnamed(cache_id) if !asked.force => {
            let name = &known.name;
            let message = format!(
                "volume {name:?} was written for the origin with the cache-id {cache_id}, and nothing else tells which one it is"
            );
            Err(DrainError::new(DrainErrorKind::UnnamedOrigin, message))
        }
        verdict => Ok(verdict),
    }
}

/// All of a volume, batch by batch.
struct Round<'r> {
    drain: &'r Drain,
    plan: Plan,
    origin: &'r dyn Origin,
    progress: &'r mut dyn FnMut(Progress),
    told: Progress,
    done: WrittenBack,
}

impl Round<'_> {
    fn run(&mut self) {
        self.told.total_bytes = self.plan.dirty_bytes() + self.plan.zero_bytes();
        (self.progress)(self.told);
        let mut work = Work::all(zero_bytes(self.origin));
        let mut has_given_up = false;
        while !has_given_up {
            let batch = work.next_batch(&self.plan);
            if batch.is_empty() {
                return;
            }
            has_given_up = self.run_batch(&batch);
        }
        while let Some(item) = work.next(&self.plan) {
            let untried = left(item.ranges(&self.plan), &Why::NotTried);
            self.done.left.extend(untried);
        }
    }

    /// True if the rest need not be tried.
    fn run_batch(&mut self, batch: &[Item]) -> bool {
        let before = self.told.done_bytes;
        let mut resends = 0;
        loop {
            self.told.done_bytes = before;
            let (sent, has_given_up) = self.send(batch);
            match self.flush() {
                Ok(()) => {
                    self.settle(batch, sent);
                    return has_given_up;
                }
                // What it had taken may be gone.
                Err(error) if is_loss(&error) && resends < MOST_RETRIES => resends += 1,
                Err(error) => {
                    let why = Why::Refused(format!("the origin cannot be flushed: {error}"));
                    for item in batch {
                        let ranges = item.ranges(&self.plan);
                        self.done.left.extend(left(ranges, &why));
                    }
                    return true;
                }
            }
        }
    }

    fn send(&mut self, batch: &[Item]) -> (Vec<Sent>, bool) {
        let mut sent: Vec<Sent> = batch.iter().map(|_| Sent::default()).collect();
        let sender = Sender::new(self.drain, &self.plan, self.origin);
        sender.send_all(batch, &mut |at, result| {
            sent[at] = result;
            self.told.done_bytes += batch[at].bytes(&self.plan);
            (self.progress)(self.told);
        });
        (sent, sender.has_given_up())
    }

    /// What has no flush has nothing to lose, or nobody can help it.
    fn flush(&self) -> io::Result<()> {
        if is_planted(Bug::UndirtyBeforeFlush) {
            return Ok(());
        }
        match self.origin.capabilities().takes_flush() {
            true => self.origin.flush(),
            false => Ok(()),
        }
    }

    /// All that the origin took is durable there.
    fn settle(&mut self, batch: &[Item], sent: Vec<Sent>) {
        for (item, mut sent) in batch.iter().zip(sent) {
            self.done.left.append(&mut sent.left);
            match item {
                Item::Block(at) => {
                    let block = self.plan.blocks[*at].block;
                    self.done.written_bytes += self.plan.bytes_of(block, sent.sectors);
                    self.plan.blocks[*at].dirty -= sent.sectors;
                }
                Item::Zeros(zeros) if sent.is_zeroed => {
                    self.done.zeroed_bytes += zeros.end - zeros.start;
                    self.plan.zeros.remove(zeros.start, zeros.end);
                }
                Item::Zeros(_) => {}
            }
        }
    }
}
