//! The rules, and looking at one crash.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::history::History;
use super::image::Image;
use super::judge::{Demand, Judge};
use super::log::{Effect, Event, Recording};
use super::machine::Machine;
use super::names::NameChange;
use super::store::{BadSector, Look, Subject};
use super::value::{Content, SECTOR_BYTES};
use super::walk::Walk;
use crate::random::{Random, mix};

/// What must hold after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A sector is at least as new as the newest version that a completed flush or FUA covers (K1).
    Flushed,
    /// A sector is one version that was begun, whole (K2).
    Whole,
    /// A sector is its own, of its own volume (K3).
    OwnPlace,
    /// What was seen once stays: after everything is written back and forgotten, and after another crash (K4).
    Stable,
    /// No dirty sector is bad, and a clean one only where its slot was written since the medium was told of it (K5).
    Sums,
    /// With `cache-flush=origin`, the origins alone satisfy K1 and K2 (K7).
    OriginAlone,
    /// With `cache-writeback=ordered`, the origins alone hold all of some flush and beside that only what was begun before the next.
    OriginOlder,
    /// What a crash leaves is opened, without a panic; what is refused is not touched (K8).
    Opens,
    /// A request fails only if something was made to fail.
    Serves,
    /// What was written back is durable on the origins, and then the directory has nothing that they have not.
    WrittenBack,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How.
    pub message: String,
}

impl Violation {
    /// A violation.
    pub fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self {
            rule,
            message: message.into(),
        }
    }

    /// The same, with where it was seen.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.message)
    }
}

/// One crash to be looked at.
pub struct Crash<'a> {
    /// What is started on it.
    pub subject: &'a dyn Subject,
    /// What was asked before it.
    pub history: &'a History,
    /// What may be there.
    pub judge: &'a Judge<'a>,
    /// What happened before it.
    pub recording: &'a Recording,
    /// When it was.
    pub position: usize,
    /// How new sectors must be.
    pub demand: Demand,
    /// What the origins hold without the directory.
    pub alone: Alone<'a>,
}

/// What origins hold without the directory.
#[derive(Clone, Copy)]
pub enum Alone<'a> {
    /// Anything.
    Anything,
    /// What was flushed.
    Flushed,
    /// An older disk, as that judge says.
    Older(&'a Judge<'a>),
}

impl Crash<'_> {
    /// Looks at the image without changing it. Tells what every sector is.
    pub fn look(&self, image: &Image, seed: u64) -> Result<Vec<Content>, Violation> {
        self.judge_alone(image)?;
        let machine = Machine::new(image.clone(), seed);
        let mut look = opened("looking", || self.subject.look(&machine))?;
        let seen = self.observe(&mut *look)?;
        self.judge_bad(&look.bad(), image)?;
        self.judge_meanwhile(&machine, seed)?;
        Ok(seen)
    }

    /// The origins at some moment of that look: it may have sent something to them.
    fn judge_meanwhile(&self, machine: &Machine, seed: u64) -> Result<(), Violation> {
        let Alone::Older(_) = self.alone else {
            return Ok(());
        };
        let recording = machine.recording();
        let mut random = Random::new(mix(seed, 1));
        let position = random.below(recording.position() as u64 + 1) as usize;
        let mut walk = Walk::new(&recording);
        walk.advance_to(position);
        self.judge_alone(&walk.crash(&mut random))
            .map_err(|violation| violation.at(format!("{position} calls after a start")))
    }

    /// Reads and judges every sector.
    pub fn observe(&self, look: &mut dyn Look) -> Result<Vec<Content>, Violation> {
        let mut seen = Vec::with_capacity(self.history.start.len());
        for (volume, bytes) in read_all(self.history, look)? {
            self.judge_volume(volume, &bytes, &mut seen)
                .map_err(|(rule, message)| Violation::new(rule, message))?;
        }
        Ok(seen)
    }

    /// The origins alone.
    pub fn judge_alone(&self, image: &Image) -> Result<(), Violation> {
        for volume in 0..self.history.volumes() {
            let mut bytes = vec![0; self.history.sectors as usize * SECTOR_BYTES];
            image.files[volume as usize].get(0, &mut bytes);
            match self.alone {
                Alone::Anything => Ok(()),
                Alone::Flushed => self
                    .judge_volume(volume, &bytes, &mut Vec::new())
                    .map_err(|(rule, message)| (Rule::OriginAlone, format!("{rule:?}: {message}"))),
                Alone::Older(judge) => judge
                    .judge_older(volume, &bytes)
                    .map_err(|message| (Rule::OriginOlder, message)),
            }
            .map_err(|(rule, message)| Violation::new(rule, message))?;
        }
        Ok(())
    }

    fn judge_volume(
        &self,
        volume: u32,
        bytes: &[u8],
        seen: &mut Vec<Content>,
    ) -> Result<(), (Rule, String)> {
        for (sector, bytes) in (0..).zip(bytes.chunks_exact(SECTOR_BYTES)) {
            seen.push(self.judge.judge(volume, sector, bytes, self.demand)?);
        }
        Ok(())
    }

    fn judge_bad(&self, bad: &[BadSector], image: &Image) -> Result<(), Violation> {
        let is_wrong = |one: &&BadSector| one.is_dirty || !self.was_written_since(one, image);
        match bad.iter().find(is_wrong) {
            Some(one) => Err(Violation::new(Rule::Sums, format!("{one:?}"))),
            None => Ok(()),
        }
    }

    fn was_written_since(&self, bad: &BadSector, image: &Image) -> bool {
        let Some(listed) = &bad.listed else {
            return false;
        };
        let file = image.names.get(&listed.name);
        file.is_some_and(|&file| {
            self.recording
                .wrote(listed.position, self.position, file, listed.range)
        })
    }
}

/// What every volume holds. A sector that cannot be read is a dirty one that is bad.
pub fn read_all(history: &History, look: &mut dyn Look) -> Result<Vec<(u32, Vec<u8>)>, Violation> {
    let mut all = Vec::new();
    for volume in 0..history.volumes() {
        let mut bytes = vec![0; history.sectors as usize * SECTOR_BYTES];
        look.read(volume, 0, &mut bytes).map_err(|error| {
            Violation::new(Rule::Sums, format!("volume {volume} is not read: {error}"))
        })?;
        all.push((volume, bytes));
    }
    Ok(all)
}

/// Opens what a crash has left: it can neither refuse nor panic.
pub fn opened<T>(what: &str, open: impl FnOnce() -> Result<T, String>) -> Result<T, Violation> {
    match unless_panic(what, open)? {
        Ok(opened) => Ok(opened),
        Err(reason) => Err(Violation::new(
            Rule::Opens,
            format!("{what}: refused: {reason}"),
        )),
    }
}

/// A panic is a violation.
pub fn unless_panic<T>(what: &str, run: impl FnOnce() -> T) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("a panic");
        Violation::new(Rule::Opens, format!("{what}: {text}"))
    })
}

/// Whether anything of the medium was touched, apart from the file that is locked.
pub fn is_touched(recording: &Recording, lock: &str) -> bool {
    let mut lock_file = recording.start.names.get(lock).copied();
    let mut touches = |event: &Event| match event {
        Event::Began(_, Effect::Name(NameChange::Create(name, file))) if name == lock => {
            lock_file = Some(*file);
            false
        }
        Event::Began(_, Effect::Write(file, ..) | Effect::SetLength(file, _)) => {
            Some(*file) != lock_file
        }
        Event::Began(_, Effect::Nothing | Effect::Sync(_) | Effect::SyncNames) => false,
        Event::Began(..) => true,
        Event::Ended(..) => false,
    };
    recording.events.iter().any(&mut touches)
}

#[cfg(test)]
mod tests;
