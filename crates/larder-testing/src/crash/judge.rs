//! What a sector may hold after a crash at some position.

use std::collections::BTreeMap;
use std::ops::Range;

use super::check::Rule;
use super::history::{Asked, Change, History, Moment, Request};
use super::value::{Content, SECTOR_BYTES, Seen, Version};

/// How new a sector must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// As new as what was flushed: after a crash.
    Flushed,
    /// As new as what was acknowledged: without one.
    Acknowledged,
    /// Anything that was ever written there: files were damaged in a way that cannot be told from a crash.
    Begun,
}

/// Something that a sector may hold.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) version: Version,
    pub(super) content: Content,
    /// How many promises had been given when it was begun.
    pub(super) after: Promise,
}

/// The number of a promise: a flush or a durable request that was acknowledged. They are counted in each volume, from 1 on.
pub(super) type Promise = u64;

/// What is known of a sector.
#[derive(Clone, Debug)]
pub(super) struct Sector {
    /// In order.
    pub(super) candidates: Vec<Candidate>,
    /// The newest that was acknowledged. Trims, which promise nothing, do not count.
    acknowledged: Version,
    /// The newest that is promised to be durable.
    flushed: Version,
    /// From which promise on it was which. Both ascend.
    pub(super) promised: Vec<(Promise, Version)>,
}

impl Sector {
    fn new(content: Content) -> Self {
        let start = Candidate {
            version: 0,
            content,
            after: 0,
        };
        Self {
            candidates: vec![start],
            acknowledged: 0,
            flushed: 0,
            promised: Vec::new(),
        }
    }

    /// A request begins that changes a part of the sector, whatever it holds.
    fn change(
        &mut self,
        (version, after): (Version, Promise),
        content: &Content,
        part: Range<usize>,
    ) {
        let mut made = vec![content.clone()];
        if part != (0..SECTOR_BYTES) {
            let newest = self.candidates.iter();
            let newest = newest.filter(|one| one.version >= self.acknowledged);
            made = newest
                .map(|one| one.content.overlaid(content, part.clone()))
                .collect();
        }
        let made = made.into_iter();
        let made = made.map(|content| Candidate {
            version,
            content,
            after,
        });
        self.candidates.extend(made);
    }

    /// That promise is about what it holds since that request.
    fn promise(&mut self, promise: Promise, version: Version) {
        if version > self.flushed {
            self.flushed = version;
            self.promised.push((promise, version));
        }
    }
}

/// Moves along a history and says what is right.
pub struct Judge<'a> {
    history: &'a History,
    next: usize,
    sectors: Vec<Sector>,
    /// The last promise of each volume.
    promises: Vec<Promise>,
    /// For each flush under way what it covers of its volume.
    flushes: BTreeMap<Version, Vec<Version>>,
}

impl<'a> Judge<'a> {
    /// Before the first request.
    pub fn new(history: &'a History) -> Self {
        Self {
            history,
            next: 0,
            sectors: history.start.iter().cloned().map(Sector::new).collect(),
            promises: vec![0; history.volumes() as usize],
            flushes: BTreeMap::new(),
        }
    }

    /// After a crash that left this to be seen: it moves along the history from there on, and still knows all that was there before.
    pub fn continued<'b>(&self, history: &'b History, seen: &[Content]) -> Judge<'b> {
        let mut judge = Judge {
            history,
            next: 0,
            sectors: self.sectors.clone(),
            promises: self.promises.clone(),
            flushes: BTreeMap::new(),
        };
        judge.kill();
        judge.find(seen);
        judge
    }

    /// All sectors of a volume.
    pub(super) fn sectors(&self, volume: u32) -> &[Sector] {
        let from = self.index(volume, 0);
        &self.sectors[from..from + self.history.sectors as usize]
    }

    /// Moves on to a later position.
    pub fn advance_to(&mut self, position: usize) {
        let moments = self.history.moments();
        while let Some((at, version, moment)) = moments.get(self.next)
            && *at <= position
        {
            let version = *version;
            match moment {
                Moment::Begun(request) => self.begin(version, *request),
                Moment::Acknowledged(request) => self.acknowledge(version, *request),
                Moment::Failed => {}
                Moment::Killed => self.kill(),
                Moment::Found(seen) => self.find(seen),
            }
            self.next += 1;
        }
    }

    fn index(&self, volume: u32, sector: u64) -> usize {
        (u64::from(volume) * self.history.sectors + sector) as usize
    }

    fn begin(&mut self, version: Version, request: Request) {
        let Request { volume, first, .. } = request;
        match request.asked {
            Asked::Flush => {
                let covered = self.sectors(volume).iter();
                let covered = covered.map(|sector| sector.acknowledged).collect();
                self.flushes.insert(version, covered);
            }
            Asked::Change(change, _) => {
                let begun = (version, self.promises[volume as usize]);
                for sector in first..first + request.count {
                    let index = self.index(volume, sector);
                    let content = match change {
                        Change::Write => Content::written(volume, sector, version),
                        Change::Zero | Change::Trim => Content::zeros(),
                    };
                    self.sectors[index].change(begun, &content, request.part_of(sector));
                }
            }
        }
    }

    fn acknowledge(&mut self, version: Version, request: Request) {
        let from = self.index(request.volume, 0);
        let last = &mut self.promises[request.volume as usize];
        *last += u64::from(request.asked.is_promise());
        let promise = *last;
        match request.asked {
            Asked::Flush => {
                let covered = self.flushes.remove(&version).unwrap_or_default();
                for (sector, covered) in self.sectors[from..].iter_mut().zip(covered) {
                    sector.promise(promise, covered);
                }
            }
            Asked::Change(Change::Trim, _) => {}
            Asked::Change(_, is_durable) => {
                let first = from + request.first as usize;
                for sector in &mut self.sectors[first..first + request.count as usize] {
                    sector.acknowledged = version;
                    if is_durable {
                        sector.promise(promise, version);
                    }
                }
            }
        }
    }

    fn kill(&mut self) {
        self.flushes.clear();
        for sector in &mut self.sectors {
            sector.acknowledged = sector.flushed;
        }
    }

    /// What was seen counts as acknowledged: the next flush is about it too.
    fn find(&mut self, seen: &[Content]) {
        for (sector, seen) in self.sectors.iter_mut().zip(seen) {
            let mut candidates = sector.candidates.iter().rev();
            if let Some(found) = candidates.find(|one| one.content == *seen) {
                sector.acknowledged = sector.acknowledged.max(found.version);
            }
        }
    }

    /// Whether a sector may hold these bytes, and what they are.
    pub fn judge(
        &self,
        volume: u32,
        sector: u64,
        bytes: &[u8],
        demand: Demand,
    ) -> Result<Content, (Rule, String)> {
        let found = Content::of(bytes);
        let seen = found.seen;
        let known = &self.sectors[self.index(volume, sector)];
        let oldest = match demand {
            Demand::Flushed => known.flushed,
            Demand::Acknowledged => known.acknowledged,
            Demand::Begun => 0,
        };
        let mut candidates = known.candidates.iter().rev();
        if candidates.any(|one| one.content == found && one.version >= oldest) {
            return Ok(found);
        }
        let rule = match seen {
            Seen::Written {
                volume: v,
                sector: s,
                ..
            } if (v, s) != (volume, sector) => Rule::OwnPlace,
            _ if known.candidates.iter().any(|one| one.content == found) => Rule::Flushed,
            // Something else was seen after the last start.
            Seen::Written { version, .. } if version < self.history.first() => Rule::Stable,
            _ => Rule::Whole,
        };
        let begun = known.candidates.last().map_or(0, |one| one.version);
        let message = format!(
            "volume {volume} sector {sector} holds {seen:?}; {oldest} is promised, {begun} begun"
        );
        Err((rule, message))
    }
}

#[cfg(test)]
mod tests;
