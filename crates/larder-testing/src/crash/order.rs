//! What an origin may hold where it gets flush after flush: an older disk.
//!
//! The rule, of each volume's origin alone: there is a promise k such that every sector holds what k had covered or something newer, and that was begun
//! before promise k + 1 was acknowledged. Promises are the flushes and durable requests that were acknowledged, in the order in which that was
//! noted; 0 is the beginning. A durable request covers its own sectors and whatever was covered before it.
//!
//! One thing that a sector may hold fits a span of promises: those since which none has demanded anything newer, and not those before the last one that had
//! been acknowledged when it was begun. What was written twice (zeros) fits the spans of both. The rule holds if one promise fits all sectors, and
//! that is exact: what a request noted late only makes more of them fit.

use super::judge::{Judge, Promise, Sector};
use super::value::{Content, SECTOR_BYTES, Seen};

/// Promises, from the first to the last of each span. They ascend, and have gaps between them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Spans(Vec<(Promise, Promise)>);

impl Spans {
    /// All of them.
    fn all() -> Self {
        Self(vec![(0, Promise::MAX)])
    }

    /// Those that fit what a sector holds.
    fn of(sector: &Sector, found: &Content) -> Self {
        let same = sector.candidates.iter();
        let same = same.filter(|one| one.content == *found);
        let spans = same.filter_map(|one| {
            let newer = sector.promised.partition_point(|at| at.1 <= one.version);
            let last = match sector.promised.get(newer) {
                // The first is not 0.
                Some((promise, _)) => promise - 1,
                None => Promise::MAX,
            };
            (one.after <= last).then_some((one.after, last))
        });
        Self::joined(spans.collect())
    }

    fn joined(mut spans: Vec<(Promise, Promise)>) -> Self {
        spans.sort_unstable();
        let mut joined: Vec<(Promise, Promise)> = Vec::new();
        for (first, last) in spans {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// What fits both.
    fn and(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        for one in &self.0 {
            let others = other.0.iter();
            let cut = others.map(|other| (one.0.max(other.0), one.1.min(other.1)));
            both.extend(cut.filter(|(first, last)| first <= last));
        }
        Self(both)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Judge<'_> {
    /// Whether a volume's origin may hold these bytes while its cache has the rest, or says why not.
    pub fn judge_older(&self, volume: u32, bytes: &[u8]) -> Result<(), String> {
        let sectors = self.sectors(volume).iter();
        let mut fitting = Spans::all();
        let mut all: Vec<(Seen, Spans)> = Vec::with_capacity(sectors.len());
        for (sector, bytes) in sectors.zip(bytes.chunks_exact(SECTOR_BYTES)) {
            let found = Content::of(bytes);
            let spans = Spans::of(sector, &found);
            fitting = fitting.and(&spans);
            all.push((found.seen, spans));
            if fitting.is_empty() {
                return Err(why(volume, &all));
            }
        }
        Ok(())
    }
}

/// Why the last one does not fit the others.
fn why(volume: u32, all: &[(Seen, Spans)]) -> String {
    let tell = |number: usize| {
        let (seen, spans) = &all[number];
        let spans = spans.0.iter().map(|(first, last)| match *last {
            Promise::MAX => format!("{first} and later"),
            last => format!("{first} to {last}"),
        });
        let spans: Vec<String> = spans.collect();
        let spans = match spans.is_empty() {
            true => "no flush".to_owned(),
            false => format!("flushes {}", spans.join(", ")),
        };
        format!("sector {number} holds {seen:?}, which fits {spans}")
    };
    let last = all.len() - 1;
    let other = (0..last).find(|&number| all[number].1.and(&all[last].1).is_empty());
    let message = format!(
        "the origin of volume {volume} is no older disk: {}",
        tell(last)
    );
    match other {
        _ if all[last].1.is_empty() => message,
        Some(other) => format!("{message}, and {}", tell(other)),
        None => format!("{message}, and all before it only others"),
    }
}

#[cfg(test)]
mod tests;
