//! Every moment of a run as a crash.
//!
//! Most crashes are only looked at. Some are started on: all is read, more is asked, everything is written back and
//! forgotten, or the machine crashes once more, be it while the store is still starting.

use super::check::{Alone, Crash, Rule, Violation, opened, read_all};
use super::history::History;
use super::image::Image;
use super::judge::{Demand, Judge};
use super::log::Recording;
use super::machine::Machine;
use super::requests::{Requests, Shape};
use super::store::{Store, Subject};
use super::value::{Content, SECTOR_BYTES};
use super::walk::Walk;
use crate::random::{Random, mix};

/// What is to be looked at.
pub struct Sweep<'a> {
    /// What was run.
    pub subject: &'a dyn Subject,
    /// What it did.
    pub recording: &'a Recording,
    /// What it was asked.
    pub history: &'a History,
    /// What its origins hold.
    pub origins: Origins,
    /// What is asked after a crash, but for how many requests. One of its faults may be there while the store starts: only origins' then.
    pub later: Shape,
    /// How many things are left by a crash at each position.
    pub survivals: u64,
    /// How many crashes are started on, in percent.
    pub started_percent: u64,
    /// Decides what is left.
    pub seed: u64,
}

/// What a store's origins hold without its directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Anything.
    #[default]
    Anything,
    /// All that was flushed.
    Flushed,
    /// An older disk.
    Older,
}

impl Origins {
    fn judged_by<'a>(self, judge: &'a Judge<'a>) -> Alone<'a> {
        match self {
            Self::Anything => Alone::Anything,
            Self::Flushed => Alone::Flushed,
            Self::Older => Alone::Older(judge),
        }
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Crashes.
    pub crashes: u64,
    /// Those started on.
    pub started: u64,
    /// Second crashes.
    pub second: u64,
}

impl Tally {
    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self {
            crashes: self.crashes + other.crashes,
            started: self.started + other.started,
            second: self.second + other.second,
        }
    }
}

/// Second crashes for each store that is started.
const SECOND_CRASHES: u64 = 3;
/// So many of them are followed by a third one while the store starts, in percent.
const THIRD_CRASH_PERCENT: u64 = 30;

impl Sweep<'_> {
    /// Looks at all of it, until a rule is broken. The tally is of what was looked at before.
    pub fn run(&self) -> Result<Tally, (Tally, Violation)> {
        let mut tally = Tally::default();
        match self.run_all(&mut tally) {
            Ok(()) => Ok(tally),
            Err(violation) => Err((tally, violation)),
        }
    }

    fn run_all(&self, tally: &mut Tally) -> Result<(), Violation> {
        let mut walk = Walk::new(self.recording);
        let mut judge = Judge::new(self.history);
        let end = self.recording.position();
        for position in 0..=end {
            // What was acknowledged last counts, also if nothing was done for it.
            if !self.recording.is_point(position) && position < end {
                continue;
            }
            walk.advance_to(position);
            judge.advance_to(position);
            for survival in 0..self.survivals {
                tally.crashes += 1;
                let mut random = Random::new(mix(self.seed, mix(position as u64, survival)));
                let image = walk.crash(&mut random);
                self.crash(&judge, position, &image, random, tally)
                    .map_err(|violation| {
                        violation.at(format!("position {position} survival {survival}"))
                    })?;
            }
        }
        Ok(())
    }

    /// One crash.
    fn crash(
        &self,
        judge: &Judge<'_>,
        position: usize,
        image: &Image,
        mut random: Random,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        let crash = Crash {
            subject: self.subject,
            history: self.history,
            judge,
            recording: self.recording,
            position,
            demand: Demand::Flushed,
            alone: self.origins.judged_by(judge),
        };
        let seen = crash.look(image, random.next_u64())?;
        if random.chance(self.started_percent) {
            tally.started += 1;
            self.start(&crash, image, &seen, random, tally)?;
        }
        Ok(())
    }

    /// Starts on what was left, and goes on from there.
    fn start(
        &self,
        crash: &Crash<'_>,
        image: &Image,
        looked: &[Content],
        mut random: Random,
        tally: &mut Tally,
    ) -> Result<(), Violation> {
        let machine = Machine::new(image.clone(), random.next_u64());
        let count = self.later.faults.len() as u64;
        if count > 0 && random.chance(50) {
            machine.fail(self.later.faults[random.below(count) as usize].clone());
        }
        let mut store = opened("starting", || self.subject.start(&machine))?;
        let serving = machine.position();
        let seen = crash.observe(&mut *store)?;
        if let Some(index) = (0..seen.len()).find(|&index| seen[index] != looked[index]) {
            let (was, is) = (looked[index].seen, seen[index].seen);
            let message = format!("sector {index} of all was {was:?} before the start, now {is:?}");
            return Err(Violation::new(Rule::Stable, message));
        }
        let mut history = self.history.continued(seen.clone());
        self.go_on(&machine, &mut *store, &mut history, random.fork(1))?;
        drop(store);
        let recording = machine.recording();
        let serving = Serving {
            position: serving,
            seen,
        };
        for number in 0..SECOND_CRASHES {
            tally.second += 1;
            let mut random = random.fork(2 + number);
            let position = random.below(recording.position() as u64 + 1) as usize;
            let second = Second {
                recording: &recording,
                history: &history,
                serving: &serving,
            };
            self.crash_again(crash, &second, position, random)
                .map_err(|violation| violation.at(format!("second crash at {position}")))?;
        }
        Ok(())
    }

    /// More requests, or everything written back and forgotten, or both.
    fn go_on(
        &self,
        machine: &Machine,
        store: &mut dyn Store,
        history: &mut History,
        mut random: Random,
    ) -> Result<(), Violation> {
        if random.chance(50) {
            let shape = Shape {
                requests: random.between(1, 12),
                ..self.later.clone()
            };
            let random = random.fork(0);
            let mut requests = Requests {
                machine,
                history,
                shape: &shape,
                random,
                lately: Vec::new(),
            };
            requests.run(store)?;
        }
        machine.heal();
        if random.chance(60) {
            self.drain(machine, store, history)
                .map_err(|violation| violation.at("written back"))?;
        }
        Ok(())
    }

    fn drain(
        &self,
        machine: &Machine,
        store: &mut dyn Store,
        history: &History,
    ) -> Result<(), Violation> {
        let drained = store.drain();
        drained.map_err(|error| Violation::new(Rule::Serves, error.to_string()))?;
        let mut judge = Judge::new(history);
        judge.advance_to(machine.position());
        let stable = |(rule, message)| Violation::new(Rule::Stable, format!("{rule:?}: {message}"));
        for (volume, bytes) in read_all(history, store)? {
            let mut origin = vec![0; bytes.len()];
            let durable = machine.durable_origin_bytes(volume as usize);
            durable.get(0, &mut origin);
            let sectors = bytes.chunks_exact(SECTOR_BYTES);
            for (sector, (store, origin)) in
                (0..).zip(sectors.zip(origin.chunks_exact(SECTOR_BYTES)))
            {
                let judged = judge.judge(volume, sector, store, Demand::Acknowledged);
                judged.map_err(stable)?;
                let judged = judge.judge(volume, sector, origin, Demand::Acknowledged);
                judged.map_err(|(rule, message)| {
                    Violation::new(Rule::WrittenBack, format!("{rule:?}: {message}"))
                })?;
            }
        }
        Ok(())
    }

    /// While it was still starting, nothing new had been seen; after that, what was seen must stay.
    fn crash_again(
        &self,
        first: &Crash<'_>,
        second: &Second<'_>,
        position: usize,
        mut random: Random,
    ) -> Result<(), Violation> {
        let mut walk = Walk::new(second.recording);
        walk.advance_to(position);
        let image = walk.crash(&mut random);
        let mut judge = Judge::new(second.history);
        judge.advance_to(position);
        let mut all = first.judge.continued(second.history, &second.serving.seen);
        all.advance_to(position);
        let is_serving = position >= second.serving.position;
        let crash = Crash {
            subject: self.subject,
            history: second.history,
            judge: if is_serving { &judge } else { first.judge },
            recording: second.recording,
            position,
            demand: Demand::Flushed,
            alone: match self.origins {
                Origins::Older if is_serving => Alone::Older(&all),
                Origins::Older => Alone::Older(first.judge),
                _ => Alone::Anything,
            },
        };
        let seen = crash.look(&image, random.next_u64())?;
        match random.chance(THIRD_CRASH_PERCENT) {
            true => self.crash_starting(&crash, &image, &seen, random),
            false => Ok(()),
        }
    }

    /// Once more while it starts.
    fn crash_starting(
        &self,
        second: &Crash<'_>,
        image: &Image,
        looked: &[Content],
        mut random: Random,
    ) -> Result<(), Violation> {
        let machine = Machine::new(image.clone(), random.next_u64());
        let store = opened("starting", || self.subject.start(&machine))?;
        drop(store);
        let recording = machine.recording();
        let position = random.below(recording.position() as u64 + 1) as usize;
        let mut walk = Walk::new(&recording);
        walk.advance_to(position);
        let image = walk.crash(&mut random);
        let place = || format!("third crash at {position}");
        let seen = second
            .look(&image, random.next_u64())
            .map_err(|violation| violation.at(place()))?;
        match seen == looked {
            true => Ok(()),
            false => {
                let message = "what was there after the second crash is not any more";
                Err(Violation::new(Rule::Stable, message).at(place()))
            }
        }
    }
}

/// What happened after a first crash.
struct Second<'a> {
    recording: &'a Recording,
    history: &'a History,
    serving: &'a Serving,
}

/// When a store had started.
struct Serving {
    position: usize,
    /// What all sectors were then.
    seen: Vec<Content>,
}
