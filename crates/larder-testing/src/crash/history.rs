//! The requests of a run: when each was begun, and when it was acknowledged, in positions of the log.
//!
//! No two requests that change one sector are under way at once, so that it is known which came first.

use std::ops::Range;
use std::sync::Arc;

use super::bytes::Bytes;
use super::value::{Content, SECTOR_BYTES, Version, fill};

/// How sectors are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Each carries the request's number.
    Write,
    /// They read as zeros.
    Zero,
    /// They read as zeros or as before.
    Trim,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A change, durable when it is acknowledged if the second is true.
    Change(Change, bool),
    /// All of the volume that was acknowledged before is durable when this is acknowledged.
    Flush,
}

impl Asked {
    /// Whether something is durable when it is acknowledged.
    pub fn is_promise(self) -> bool {
        matches!(self, Self::Flush | Self::Change(_, true))
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Its volume.
    pub volume: u32,
    /// Its first sector.
    pub first: u64,
    /// How many sectors; a flush has none.
    pub count: u64,
    /// Bytes of the first sector before those that a write is about, and of the last one after them.
    pub edges: (usize, usize),
    /// What is asked.
    pub asked: Asked,
}

impl Request {
    /// Which bytes of a sector a write is about.
    pub fn part_of(&self, sector: u64) -> Range<usize> {
        let (front, back) = self.edges;
        let from = if sector == self.first { front } else { 0 };
        let is_last = sector + 1 == self.first + self.count;
        from..SECTOR_BYTES - if is_last { back } else { 0 }
    }
}

/// A moment in the life of a request.
#[derive(Clone, Debug)]
pub enum Moment {
    /// It was begun.
    Begun(Request),
    /// It succeeded.
    Acknowledged(Request),
    /// It failed: it may have happened or not.
    Failed,
    /// The store was killed and has started again: what was not flushed may be lost.
    Killed,
    /// Sectors were read after that, volume by volume, and stay as they were seen.
    Found(Arc<Vec<Content>>),
}

/// The moments of all requests in order, each with its position and its request's number.
#[derive(Clone, Debug)]
pub struct History {
    /// How many sectors each volume has.
    pub sectors: u64,
    /// What each sector held before the first request: volume by volume.
    pub start: Vec<Content>,
    moments: Vec<(usize, Version, Moment)>,
    first: Version,
    last: Version,
}

impl History {
    /// Before the first request, over origins as [`origin_bytes`] makes them.
    pub fn new(volumes: u32, sectors: u64) -> Self {
        let all = (0..volumes).flat_map(|volume| (0..sectors).map(move |sector| (volume, sector)));
        let written = |(volume, sector)| Content::written(volume, sector, 0);
        Self {
            sectors,
            start: all.map(written).collect(),
            moments: Vec::new(),
            first: 1,
            last: 0,
        }
    }

    /// After a crash that left these sectors: a new run, whose requests have other numbers.
    pub fn continued(&self, seen: Vec<Content>) -> Self {
        Self {
            sectors: self.sectors,
            start: seen,
            moments: Vec::new(),
            first: self.last + 1,
            last: self.last,
        }
    }

    /// How many volumes there are.
    pub fn volumes(&self) -> u32 {
        (self.start.len() as u64 / self.sectors) as u32
    }

    /// The number of the first request.
    pub fn first(&self) -> Version {
        self.first
    }

    /// The moments so far.
    pub fn moments(&self) -> &[(usize, Version, Moment)] {
        &self.moments
    }

    /// A request begins, and is numbered.
    pub fn begin(&mut self, position: usize, request: Request) -> Version {
        self.last += 1;
        let begun = (position, self.last, Moment::Begun(request));
        self.moments.push(begun);
        self.last
    }

    /// A request has succeeded, or failed.
    pub fn end(&mut self, position: usize, version: Version, request: Request, is_well: bool) {
        let moment = match is_well {
            true => Moment::Acknowledged(request),
            false => Moment::Failed,
        };
        self.moments.push((position, version, moment));
    }

    /// The store was killed and has started again.
    pub fn kill(&mut self, position: usize) {
        self.moments.push((position, self.last, Moment::Killed));
    }

    /// All sectors have been read since.
    pub fn find(&mut self, position: usize, seen: Vec<Content>) {
        let found = Moment::Found(Arc::new(seen));
        self.moments.push((position, self.last, found));
    }
}

/// What the origin of a volume holds before the first request.
pub fn origin_bytes(volume: u32, sectors: u64) -> Bytes {
    let mut all = vec![0; sectors as usize * SECTOR_BYTES];
    for (sector, bytes) in all.chunks_exact_mut(SECTOR_BYTES).enumerate() {
        fill(volume, sector as u64, 0, bytes);
    }
    let mut bytes = Bytes::zeros(all.len() as u64);
    bytes.put(0, &all);
    bytes
}
