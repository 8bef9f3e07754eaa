//! A seeded run of requests against a store, all of which are noted in a history.

use std::io;

use super::check::{Rule, Violation, read_all};
use super::faults::{CallKind, MediumFault, Target};
use super::history::{Asked, Change, History, Request, origin_bytes};
use super::image::Image;
use super::judge::{Demand, Judge};
use super::log::{Recording, hash_of};
use super::machine::Machine;
use super::store::{Store, Subject};
use super::value::{SECTOR_BYTES, fill};
use crate::random::{Random, mix};

/// What is asked for how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mix {
    /// Writes above all, anywhere.
    #[default]
    Anywhere,
    /// Many flushes, and ranges that were changed lately are changed again. Now and then the process is killed.
    Flushes,
    /// The same, and more often something begins to fail, or is well again.
    Outages,
}

/// What a run is like.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// What is asked for how often.
    pub mix: Mix,
    /// How many requests.
    pub requests: u64,
    /// The longest, in sectors.
    pub longest: u64,
    /// What may fail, one at a time.
    pub faults: Vec<MediumFault>,
    /// Some are trims. What an origin loses of one when it fails a flush nobody has any more, so then older bytes may come back than a trim may
    /// leave.
    pub trims: bool,
    /// Zeros are durable at once, for the same reason, where the cache does not keep them.
    pub durable_zeros: bool,
    /// All changes are queued before an origin gets them, and what it loses is sent again.
    pub queued: bool,
}

/// Runs a store from an empty medium on, over origins as [`origin_bytes`] makes them. The seed decides everything.
pub fn run(
    subject: &dyn Subject,
    (volumes, sectors): (u32, u64),
    shape: &Shape,
    seed: u64,
) -> Result<(Recording, History), Violation> {
    let origins = (0..volumes).map(|volume| origin_bytes(volume, sectors));
    let image = Image::with_origins(origins.collect()).garbage_in("slots");
    let machine = Machine::new(image, seed);
    let mut history = History::new(volumes, sectors);
    let mut store = subject
        .start(&machine)
        .expect("a store starts on an empty medium");
    let mut requests = Requests {
        machine: &machine,
        history: &mut history,
        shape,
        random: Random::new(mix(seed, 2)),
        lately: Vec::new(),
    };
    requests.run(&mut *store)?;
    Ok((machine.recording(), history))
}

/// A run.
pub struct Requests<'a> {
    /// On what.
    pub machine: &'a Machine,
    /// Where it is noted.
    pub history: &'a mut History,
    /// What it is like.
    pub shape: &'a Shape,
    /// What decides the rest.
    pub random: Random,
    /// What was changed last.
    pub lately: Vec<(u32, u64, u64)>,
}

/// What comes next.
#[derive(Clone, Copy)]
enum Next {
    Change(Change, bool),
    Flush,
    Read,
    Step,
    Fault,
    Kill,
    Habit,
}

/// How often each comes.
const ANYWHERE: [(Next, u64); 9] = [
    (Next::Change(Change::Write, false), 42),
    (Next::Change(Change::Write, true), 8),
    (Next::Change(Change::Zero, false), 4),
    (Next::Change(Change::Zero, true), 2),
    (Next::Change(Change::Trim, false), 4),
    (Next::Flush, 12),
    (Next::Read, 14),
    (Next::Step, 12),
    (Next::Fault, 4),
];

/// The same where flushes are what it is about.
const FLUSHES: [(Next, u64); 11] = [
    (Next::Habit, 4),
    (Next::Change(Change::Write, false), 32),
    (Next::Change(Change::Write, true), 8),
    (Next::Change(Change::Zero, false), 3),
    (Next::Change(Change::Zero, true), 2),
    (Next::Change(Change::Trim, false), 3),
    (Next::Flush, 20),
    (Next::Read, 10),
    (Next::Step, 12),
    (Next::Fault, 4),
    (Next::Kill, 2),
];

/// The same where what fails matters as much.
const OUTAGES: [(Next, u64); 11] = [
    (Next::Habit, 3),
    (Next::Change(Change::Write, false), 28),
    (Next::Change(Change::Write, true), 8),
    (Next::Change(Change::Zero, false), 4),
    (Next::Change(Change::Zero, true), 2),
    (Next::Change(Change::Trim, false), 4),
    (Next::Flush, 22),
    (Next::Read, 8),
    (Next::Step, 6),
    (Next::Fault, 10),
    (Next::Kill, 5),
];

/// So many ranges are remembered.
const LATELY: usize = 8;

impl Requests<'_> {
    /// Runs them. What is read is judged at once.
    pub fn run(&mut self, store: &mut dyn Store) -> Result<(), Violation> {
        for _ in 0..self.shape.requests {
            match self.draw() {
                Next::Change(change, fua) => self.change(store, change, fua)?,
                Next::Flush => self.flush(store)?,
                Next::Read => self.read(store)?,
                Next::Step => store.step(&mut self.random),
                Next::Fault => self.fault(),
                Next::Kill => self.kill(store)?,
                Next::Habit => self.habit(store)?,
            }
        }
        self.machine.heal();
        Ok(())
    }

    fn draw(&mut self) -> Next {
        let mix: &[(Next, u64)] = match self.shape.mix {
            Mix::Anywhere => &ANYWHERE,
            Mix::Flushes => &FLUSHES,
            Mix::Outages => &OUTAGES,
        };
        let all = mix.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random.below(all);
        for &(next, weight) in mix {
            if left < weight {
                return match next {
                    Next::Change(Change::Trim, _) if !self.shape.trims => Next::Flush,
                    Next::Change(Change::Zero, _) if self.shape.durable_zeros => {
                        Next::Change(Change::Zero, true)
                    }
                    next => next,
                };
            }
            left -= weight;
        }
        Next::Flush
    }

    /// Sectors, of which the first ones are asked for more often.
    fn range(&mut self) -> (u32, u64, u64) {
        let volume = self.any_volume();
        let sectors = self.history.sectors;
        let within = self.random.pick(&[sectors, sectors.div_ceil(4)]);
        let first = self.random.below(within);
        let count = self.random.between(1, self.shape.longest);
        (volume, first, count.min(sectors - first))
    }

    fn change(
        &mut self,
        store: &mut dyn Store,
        change: Change,
        fua: bool,
    ) -> Result<(), Violation> {
        let range = self.range_to_change();
        self.change_range(store, range, change, fua)
    }

    fn change_range(
        &mut self,
        store: &mut dyn Store,
        (volume, first, count): (u32, u64, u64),
        change: Change,
        fua: bool,
    ) -> Result<(), Violation> {
        let request = Request {
            volume,
            first,
            count,
            edges: self.edges(change),
            asked: Asked::Change(change, fua),
        };
        let (front, back) = request.edges;
        self.noted(request, |version| match change {
            Change::Write => {
                let data = content(volume, first, count, version);
                let data = &data[front..data.len() - back];
                let offset = first * SECTOR_BYTES as u64 + front as u64;
                store.write(volume, offset, data, fua)
            }
            Change::Zero => store.zero(volume, first, count, fua),
            Change::Trim => store.trim(volume, first, count),
        })
    }

    /// Often one that was changed lately, or its beginning.
    fn range_to_change(&mut self) -> (u32, u64, u64) {
        if self.shape.mix == Mix::Anywhere {
            return self.range();
        }
        if !self.lately.is_empty() && self.random.chance(45) {
            let (volume, first, count) = self.random.pick(&self.lately);
            let is_whole = self.random.chance(60);
            return match is_whole {
                true => (volume, first, count),
                false => (volume, first, self.random.between(1, count)),
            };
        }
        let range = self.range();
        if self.lately.len() == LATELY {
            self.lately.remove(0);
        }
        self.lately.push(range);
        range
    }

    /// A third of the writes is not about whole sectors.
    fn edges(&mut self, change: Change) -> (usize, usize) {
        if change != Change::Write || self.random.chance(67) {
            return (0, 0);
        }
        let half = SECTOR_BYTES as u64 / 2;
        (
            self.random.below(half) as usize,
            self.random.below(half) as usize,
        )
    }

    /// Some flushes, each after as many writes, and then as many again: a store may foresee the next.
    fn habit(&mut self, store: &mut dyn Store) -> Result<(), Violation> {
        let volume = self.any_volume();
        let writes = self.random.between(1, 3);
        for is_last in [false, false, false, false, true] {
            for _ in 0..writes {
                let (_, first, count) = self.range_to_change();
                self.change_range(store, (volume, first, count), Change::Write, false)?;
            }
            if !is_last {
                self.flush_volume(store, volume)?;
            }
        }
        Ok(())
    }

    fn any_volume(&mut self) -> u32 {
        self.random.below(u64::from(self.history.volumes())) as u32
    }

    fn flush(&mut self, store: &mut dyn Store) -> Result<(), Violation> {
        let volume = self.any_volume();
        self.flush_volume(store, volume)
    }

    fn flush_volume(&mut self, store: &mut dyn Store, volume: u32) -> Result<(), Violation> {
        let request = Request {
            volume,
            first: 0,
            count: 0,
            edges: (0, 0),
            asked: Asked::Flush,
        };
        self.noted(request, |_| store.flush(volume))
    }

    fn noted(
        &mut self,
        request: Request,
        run: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<(), Violation> {
        let version = self.history.begin(self.machine.position(), request);
        let result = run(version);
        self.machine.note(u64::from(result.is_ok()));
        let position = self.machine.position();
        self.history.end(position, version, request, result.is_ok());
        result.or_else(|error| self.judge_failure(&format!("{request:?}"), &error))
    }

    fn read(&mut self, store: &mut dyn Store) -> Result<(), Violation> {
        let (volume, first, count) = self.range();
        let mut bytes = vec![0; count as usize * SECTOR_BYTES];
        if let Err(error) = store.read(volume, first, &mut bytes) {
            return self.judge_failure("a read", &error);
        }
        self.machine.note(hash_of(&bytes));
        let mut judge = Judge::new(self.history);
        judge.advance_to(self.machine.position());
        for (sector, bytes) in (first..).zip(bytes.chunks_exact(SECTOR_BYTES)) {
            judge
                .judge(volume, sector, bytes, Demand::Acknowledged)
                .map_err(|(rule, message)| Violation::new(rule, format!("a read: {message}")))?;
        }
        Ok(())
    }

    /// The process is killed, and started again where nothing fails. It serves what was flushed, and sometimes all of it is read: what is
    /// seen then is there after the next flush. Not where an origin may have failed a flush, though: what it lost then nobody can know in the next life,
    /// unless it is queued.
    fn kill(&mut self, store: &mut dyn Store) -> Result<(), Violation> {
        self.machine.heal();
        match store.kill() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(reason) => {
                let message = format!("killed: refused: {reason}");
                return Err(Violation::new(Rule::Opens, message));
            }
        }
        self.history.kill(self.machine.position());
        let loses = |fault: &MediumFault| {
            fault.kind == CallKind::Sync && matches!(fault.target, Target::Origin(_))
        };
        let may_be_lost = !self.shape.queued && self.shape.faults.iter().any(loses);
        if self.random.chance(50) || may_be_lost {
            return Ok(());
        }
        let mut seen = Vec::with_capacity(self.history.start.len());
        let read = read_all(self.history, store).map_err(|violation| violation.at("killed"))?;
        let mut judge = Judge::new(self.history);
        judge.advance_to(self.machine.position());
        for (volume, bytes) in read {
            for (sector, bytes) in (0..).zip(bytes.chunks_exact(SECTOR_BYTES)) {
                let content = judge.judge(volume, sector, bytes, Demand::Flushed);
                seen.push(content.map_err(|(rule, message)| {
                    Violation::new(rule, format!("killed: {message}"))
                })?);
            }
        }
        self.history.find(self.machine.position(), seen);
        Ok(())
    }

    /// Where nothing is made to fail, nothing may.
    fn judge_failure(&self, what: &str, error: &io::Error) -> Result<(), Violation> {
        if self.shape.faults.is_empty() {
            let message = format!("{what} fails for no reason: {error}");
            return Err(Violation::new(Rule::Serves, message));
        }
        Ok(())
    }

    /// Something fails from here on, or nothing any more.
    fn fault(&mut self) {
        self.machine.heal();
        let count = self.shape.faults.len() as u64;
        if count > 0 && self.random.chance(60) {
            let fault = &self.shape.faults[self.random.below(count) as usize];
            self.machine.fail(fault.clone());
        }
    }
}

fn content(volume: u32, first: u64, count: u64, version: u64) -> Vec<u8> {
    let mut data = vec![0; count as usize * SECTOR_BYTES];
    for (sector, bytes) in (first..).zip(data.chunks_exact_mut(SECTOR_BYTES)) {
        fill(volume, sector, version, bytes);
    }
    data
}
