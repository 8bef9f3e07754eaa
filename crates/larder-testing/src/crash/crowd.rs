//! Many clients of the engine at once, and its threads in the background beside them, and then moments of that as crashes.
//!
//! Clients share blocks, but each has sectors of its own, so that it is known of each sector in what order it was changed. What comes of a seed
//! depends on how the threads run, so none replays; what a violation says must do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder::{Cache, Connection, Writeback, ZeroOptions};

use super::check::{Alone, Crash, Rule, Violation};
use super::engine::{CACHE_ID, Engine, connect};
use super::faults::MediumFault;
use super::history::{Asked, Change, History, Request, origin_bytes};
use super::image::Image;
use super::judge::{Demand, Judge};
use super::machine::Machine;
use super::trace::trace;
use super::value::{SECTOR_BYTES, fill};
use super::walk::Walk;
use crate::pace::{Pace, Stop};
use crate::random::{Random, mix};

/// What a crowd is like.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// What serves it.
    pub engine: Engine,
    /// How many sectors each volume has.
    pub sectors: u64,
    /// How many clients there are. In volumes with even numbers every two sectors are another's, in the others every block.
    pub clients: u64,
    /// How many requests each makes.
    pub requests: u64,
    /// Some requests are trims: not where an origin fails flushes, since nobody has what it loses of them.
    pub trims: bool,
    /// What may fail, one at a time.
    pub faults: Vec<MediumFault>,
    /// How many crashes are looked at.
    pub crashes: u64,
}

/// All that the clients of a run share.
struct Shared<'c> {
    crowd: &'c Crowd,
    machine: Machine,
    history: Mutex<History>,
}

/// So many events may have come before a thread does anything with what it was told.
const SOON: usize = 8;

/// One client.
struct One<'s> {
    shared: &'s Shared<'s>,
    number: u64,
    connections: Vec<Connection>,
    random: Random,
    lately: Option<(u32, u64, u64)>,
}

impl Crowd {
    /// Runs it, and looks at crashes. Tells how many calls the machine got.
    pub fn run(&self, seed: u64) -> Result<usize, Violation> {
        let volumes = self.engine.volumes;
        let origins = (0..volumes).map(|volume| origin_bytes(volume, self.sectors));
        let image = Image::with_origins(origins.collect()).garbage_in("slots");
        let shared = Shared {
            crowd: self,
            machine: Machine::new(image, seed),
            history: Mutex::new(History::new(volumes, self.sectors)),
        };
        let jitter = Jitter(AtomicU64::new(mix(seed, 1)));
        shared.machine.pace().set(std::sync::Arc::new(jitter));
        shared.serve(seed)?;
        let recording = shared.machine.recording();
        let history = shared.history.into_inner();
        let history = history.unwrap_or_else(PoisonError::into_inner);
        let mut random = Random::new(mix(seed, 2));
        let end = recording.position() as u64;
        let mut positions: Vec<u64> = (0..self.crashes).map(|_| random.below(end + 1)).collect();
        positions.sort_unstable();
        let (mut walk, mut judge) = (Walk::new(&recording), Judge::new(&history));
        for position in positions {
            let position = position as usize;
            walk.advance_to(position);
            judge.advance_to(position);
            let image = walk.crash(&mut random);
            let crash = Crash {
                subject: &self.engine,
                history: &history,
                judge: &judge,
                recording: &recording,
                position,
                demand: Demand::Flushed,
                alone: match self.engine.writeback {
                    Writeback::Unordered => Alone::Anything,
                    Writeback::Ordered => Alone::Older(&judge),
                },
            };
            let looked = crash.look(&image, random.next_u64());
            looked.map_err(|violation| {
                if std::env::var_os("LARDER_TRACE").is_some() {
                    eprintln!("{}", trace(&recording, &history, (0, position)));
                }
                violation.at(format!("position {position} of {end}"))
            })?;
        }
        Ok(recording.position())
    }
}

impl Shared<'_> {
    fn serve(&self, seed: u64) -> Result<(), Violation> {
        let Engine { slots, volumes, .. } = self.crowd.engine;
        let opened = self.crowd.engine.open(&self.machine, CACHE_ID, slots, true);
        let cache = opened.expect("a cache starts on an empty medium");
        let clients = (0..self.crowd.clients).map(|number| One {
            shared: self,
            number,
            connections: (0..volumes)
                .map(|volume| connect(&cache, &self.crowd.engine, &self.machine, volume))
                .collect::<Result<_, _>>()
                .expect("a connection"),
            random: Random::new(mix(seed, 100 + number)),
            lately: None,
        });
        let mut clients: Vec<One<'_>> = clients.collect();
        let has_ended = AtomicBool::new(false);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| in_background(&cache, &has_ended, |cache| cache.maintain(A_WHILE)));
            scope.spawn(|| {
                in_background(&cache, &has_ended, |cache| cache.maintain_medium(A_WHILE))
            });
            let threads: Vec<_> = clients
                .iter_mut()
                .map(|client| scope.spawn(|| client.run()))
                .collect();
            let results = threads.into_iter().map(|thread| {
                let panicked = |_| Err(Violation::new(Rule::Serves, "a panic"));
                thread.join().unwrap_or_else(panicked)
            });
            let result = results.fold(Ok(()), Result::and);
            has_ended.store(true, Ordering::SeqCst);
            result
        });
        self.machine.heal();
        // The crowd is gone, and nobody writes back for it.
        self.machine.kill();
        drop(clients);
        result
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the background waits when it has nothing to do.
const A_WHILE: Duration = Duration::from_millis(1);

fn in_background(cache: &Cache, has_ended: &AtomicBool, work: impl Fn(&Cache) -> bool) {
    while !has_ended.load(Ordering::SeqCst) && work(cache) {}
}

impl One<'_> {
    fn run(&mut self) -> Result<(), Violation> {
        for _ in 0..self.shared.crowd.requests {
            match self.random.below(100) {
                0..45 => self.change(Change::Write, false)?,
                45..53 => self.change(Change::Write, true)?,
                53..56 => self.change(Change::Zero, false)?,
                56..58 => self.change(Change::Zero, true)?,
                58..61 if self.shared.crowd.trims => self.change(Change::Trim, false)?,
                58..80 => self.flush()?,
                80..98 => self.read()?,
                _ => self.fault(),
            }
        }
        Ok(())
    }

    /// Its own sectors, and half of the time the same as the last time.
    fn range(&mut self) -> (u32, u64, u64) {
        if let Some(lately) = self.lately.filter(|_| self.random.chance(50)) {
            return lately;
        }
        let Crowd {
            sectors, clients, ..
        } = *self.shared.crowd;
        let volume = self.random.below(self.connections.len() as u64) as u32;
        let share = if volume.is_multiple_of(2) { 2 } else { 8 };
        let shares = sectors / share / clients;
        let start = (self.random.below(shares) * clients + self.number) * share;
        let first = start + self.random.below(share);
        let range = (volume, first, self.random.between(1, start + share - first));
        self.lately = Some(range);
        range
    }

    fn change(&mut self, change: Change, fua: bool) -> Result<(), Violation> {
        let (volume, first, count) = self.range();
        let is_partial = change == Change::Write && self.random.chance(30);
        let edge = |random: &mut Random| match is_partial {
            true => random.below(SECTOR_BYTES as u64 / 2) as usize,
            false => 0,
        };
        let edges = (edge(&mut self.random), edge(&mut self.random));
        let request = Request {
            volume,
            first,
            count,
            edges,
            asked: Asked::Change(change, fua),
        };
        let offset = first * SECTOR_BYTES as u64;
        let length = count * SECTOR_BYTES as u64;
        self.noted(request, |connection, version| match change {
            Change::Write => {
                let mut data = vec![0; length as usize];
                for (sector, bytes) in (first..).zip(data.chunks_exact_mut(SECTOR_BYTES)) {
                    fill(volume, sector, version, bytes);
                }
                let data = &data[edges.0..data.len() - edges.1];
                connection.write(offset + edges.0 as u64, data, fua)
            }
            Change::Zero => {
                let options = ZeroOptions {
                    fua,
                    ..ZeroOptions::default()
                };
                connection.zero(offset, length, options)
            }
            Change::Trim => connection.trim(offset, length, fua),
        })
    }

    fn flush(&mut self) -> Result<(), Violation> {
        let request = Request {
            volume: self.random.below(self.connections.len() as u64) as u32,
            first: 0,
            count: 0,
            edges: (0, 0),
            asked: Asked::Flush,
        };
        self.noted(request, |connection, _| connection.flush())
    }

    fn noted(
        &self,
        request: Request,
        run: impl FnOnce(&Connection, u64) -> Result<(), larder::Error>,
    ) -> Result<(), Violation> {
        let Shared { machine, .. } = self.shared;
        let version = {
            let mut history = self.shared.history();
            history.begin(machine.position(), request)
        };
        let result = run(&self.connections[request.volume as usize], version);
        let mut history = self.shared.history();
        history.end(machine.position(), version, request, result.is_ok());
        drop(history);
        result.or_else(|error| self.judge_failure(&format!("{request:?}"), &error))
    }

    fn read(&mut self) -> Result<(), Violation> {
        let (volume, first, count) = self.range();
        let mut bytes = vec![0; count as usize * SECTOR_BYTES];
        let offset = first * SECTOR_BYTES as u64;
        let machine = &self.shared.machine;
        let begun = machine.position();
        if let Err(error) = self.connections[volume as usize].read(offset, &mut bytes) {
            return self.judge_failure("a read", &error);
        }
        // The system may show what it has lost before it tells anybody.
        if machine.sync_failed_since(begun.saturating_sub(SOON)) {
            return Ok(());
        }
        let history = self.shared.history();
        let mut judge = Judge::new(&history);
        judge.advance_to(usize::MAX);
        for (sector, bytes) in (first..).zip(bytes.chunks_exact(SECTOR_BYTES)) {
            judge
                .judge(volume, sector, bytes, Demand::Acknowledged)
                .map_err(|(rule, message)| Violation::new(rule, format!("a read: {message}")))?;
        }
        Ok(())
    }

    fn judge_failure(&self, what: &str, error: &larder::Error) -> Result<(), Violation> {
        if self.shared.crowd.faults.is_empty() {
            let message = format!("{what} fails for no reason: {error}");
            return Err(Violation::new(Rule::Serves, message));
        }
        Ok(())
    }

    fn fault(&mut self) {
        let Shared { machine, crowd, .. } = self.shared;
        machine.heal();
        let count = crowd.faults.len() as u64;
        if count > 0 && self.random.chance(60) {
            machine.fail(crowd.faults[self.random.below(count) as usize].clone());
        }
    }
}

/// Calls take longer now and then, so that others come in between.
struct Jitter(AtomicU64);

impl Pace for Jitter {
    fn stop(&self, _: &Stop) {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        match mix(number, 7) % 100 {
            0..60 => {}
            60..95 => std::thread::yield_now(),
            other => std::thread::sleep(Duration::from_micros(20 * (other - 90))),
        }
    }
}
