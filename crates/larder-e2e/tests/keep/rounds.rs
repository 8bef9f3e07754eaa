//! A client that writes in rounds, with a flush after each, while its server is killed; and what may be found then: through the
//! server all of the last round that was flushed, and in the origin by itself, which gets flushes in order, all of some round and
//! beside that only what was written in the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use larder_e2e::{Client, Flags, MIB, Random, Request};

use super::unit::{UNIT, Value, payload};
use super::writer::Moments;

/// Written in every round, and at both ends of it.
const HOT_UNIT: u64 = 5;

/// What was written between two flushes: what each unit was made to hold, one after the other.
#[derive(Debug, Default)]
struct Round {
    changes: BTreeMap<u64, Vec<Value>>,
}

impl Round {
    fn last(&self, unit: u64) -> Option<Value> {
        self.changes
            .get(&unit)
            .and_then(|values| values.last())
            .copied()
    }

    fn has(&self, unit: u64, value: Value) -> bool {
        let values = self.changes.get(&unit);
        values.is_some_and(|values| values.contains(&value))
    }
}

/// One client on a whole disk, and what it knows of it.
pub struct RoundWriter {
    random: Random,
    writes: u64,
    /// What the disk held before the first round.
    base: Vec<Value>,
    rounds: Vec<Round>,
    /// Of them, those that a flush was answered for.
    flushed_rounds: usize,
}

impl RoundWriter {
    /// On a disk of zeros.
    pub fn new(size: u64, seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            writes: 0,
            base: vec![Value::Zero; (size / UNIT) as usize],
            rounds: Vec::new(),
            flushed_rounds: 0,
        }
    }

    /// Writes rounds until the server is gone, or until it is time to leave.
    pub fn work(&mut self, mut client: Client, moments: &Moments) {
        moments.is_begun.store(true, Ordering::SeqCst);
        while !moments.is_over.load(Ordering::SeqCst) {
            self.rounds.push(Round::default());
            if self.write_round(&mut client).is_err() {
                return;
            }
            self.flushed_rounds = self.rounds.len();
        }
        client.disconnect_and_wait();
    }

    pub fn flushed_rounds(&self) -> usize {
        self.flushed_rounds
    }

    fn write_round(&mut self, client: &mut Client) -> std::io::Result<()> {
        let hot = self.change(HOT_UNIT, 1, false);
        client.call(&hot)?;
        // At once, so that they come into an order of their own; none over another, so that it does not matter.
        let mut taken = BTreeSet::from([HOT_UNIT]);
        let mut cookies = Vec::new();
        for _ in 0..self.random.between(1, 12) {
            let count = self.random.between(1, 48);
            let units = self.base.len() as u64;
            let window = [units / 32, units][usize::from(self.random.one_in(3))];
            let first = self.random.below(window - count);
            if taken.range(first..first + count).next().is_some() {
                continue;
            }
            taken.extend(first..first + count);
            let is_zero = self.random.one_in(8);
            let request = self.change(first, count, is_zero);
            cookies.push(client.submit(&request)?);
        }
        for cookie in cookies {
            client.wait(cookie)?;
        }
        let hot = self.change(HOT_UNIT, 1, false);
        client.call(&hot)?;
        client.flush()
    }

    /// A request that belongs to the last round.
    fn change(&mut self, first: u64, count: u64, is_zero: bool) -> Request {
        self.writes += 1;
        let number = self.writes;
        let value = match is_zero {
            true => Value::Zero,
            false => Value::Written(number),
        };
        let changes = &mut self.rounds.last_mut().unwrap().changes;
        for unit in first..first + count {
            changes.entry(unit).or_default().push(value);
        }
        if is_zero {
            return Request::zero(first * UNIT, count * UNIT, Flags::NONE);
        }
        let units = first..first + count;
        let bytes: Vec<u8> = units.flat_map(|unit| payload(unit, number)).collect();
        let flags = match self.random.one_in(16) {
            true => Flags::FUA,
            false => Flags::NONE,
        };
        Request::write(first * UNIT, &bytes, flags)
    }

    /// What the disk holds after so many rounds.
    fn state(&self, rounds: usize) -> Vec<Value> {
        let mut state = self.base.clone();
        for round in &self.rounds[..rounds] {
            for unit in round.changes.keys() {
                state[*unit as usize] = round.last(*unit).unwrap();
            }
        }
        state
    }

    /// The disk is what it may be, seen by a client after a kill: it stays so.
    pub fn check_served(&mut self, client: &mut Client) {
        let size = self.base.len() as u64 * UNIT;
        let pieces = (0..size / MIB).map(|piece| client.read(piece * MIB, MIB).expect("a read"));
        let found = values(&pieces.flatten().collect::<Vec<u8>>());
        let flushed = self.state(self.flushed_rounds);
        assert!(self.rounds.len() <= self.flushed_rounds + 1);
        let mut unfinished = self.rounds.get_mut(self.flushed_rounds);
        for (unit, (value, flushed)) in (0..).zip(found.into_iter().zip(flushed)) {
            let round = unfinished.as_deref();
            let may_be = value == flushed || round.is_some_and(|round| round.has(unit, value));
            assert!(
                may_be,
                "served: unit {unit}: {value:?}, and not {flushed:?}, as flushed"
            );
            if let Some(values) = unfinished
                .as_mut()
                .and_then(|round| round.changes.get_mut(&unit))
            {
                values.push(value);
            }
        }
        self.flushed_rounds = self.rounds.len();
    }

    /// The origin has all of some round, and beside that only what was written in the next. Returns the number of rounds that it has all
    /// of, at most.
    pub fn check_origin(&self, bytes: &[u8]) -> usize {
        let found = values(bytes);
        let mut state = self.base.clone();
        let wrong = (0..).zip(found.iter().zip(&state));
        let wrong = wrong.filter(|(_, (found, value))| found != value);
        let mut wrong: BTreeSet<u64> = wrong.map(|(unit, _)| unit).collect();
        let mut fits = None;
        // Rounds that leave the fewest units unexplained, and the first of those.
        let mut nearest = (usize::MAX, 0, 0);
        for rounds in 0..=self.rounds.len() {
            let next = self.rounds.get(rounds);
            let is_new =
                |unit: &u64| next.is_some_and(|round| round.has(*unit, found[*unit as usize]));
            let unexplained: Vec<u64> =
                wrong.iter().filter(|unit| !is_new(unit)).copied().collect();
            match unexplained.first() {
                None => fits = Some(rounds),
                Some(unit) if unexplained.len() < nearest.0 => {
                    nearest = (unexplained.len(), rounds, *unit);
                }
                Some(_) => {}
            }
            for unit in next.into_iter().flat_map(|round| round.changes.keys()) {
                let at = *unit as usize;
                state[at] = next.and_then(|round| round.last(*unit)).unwrap();
                match state[at] == found[at] {
                    true => wrong.remove(unit),
                    false => wrong.insert(*unit),
                };
            }
        }
        fits.unwrap_or_else(|| self.tell(&found, nearest))
    }

    fn tell(&self, found: &[Value], (units, rounds, unit): (usize, usize, u64)) -> ! {
        let at = unit as usize;
        panic!(
            "no flush explains the origin: of {} rounds, {} flushed, {rounds} leave {units} units; unit {unit} is {:?}, was {:?}, and then {:?}",
            self.rounds.len(),
            self.flushed_rounds,
            found[at],
            self.state(rounds)[at],
            self.rounds[rounds..]
                .iter()
                .enumerate()
                .filter_map(|(place, round)| round
                    .changes
                    .get(&unit)
                    .map(|values| (rounds + place, values)))
                .take(5)
                .collect::<Vec<_>>(),
        )
    }

    /// The origin has everything.
    pub fn check_that_the_origin_has_all(&self, bytes: &[u8]) {
        assert_eq!(self.check_origin(bytes), self.rounds.len());
        assert!(
            values(bytes) == self.state(self.rounds.len()),
            "the origin does not have all of the last round"
        );
    }

    /// What the origin has is all that there is.
    pub fn begin_again(&mut self, bytes: &[u8]) {
        self.base = values(bytes);
        self.rounds.clear();
        self.flushed_rounds = 0;
    }
}

fn values(bytes: &[u8]) -> Vec<Value> {
    let units = (0..).zip(bytes.chunks(UNIT as usize));
    units.map(|(unit, bytes)| Value::of(bytes, unit)).collect()
}
