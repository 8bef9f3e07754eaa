//! Figures that are drawn: the same measured over and over with one thing changed.

use std::fs;

use super::contender::Contender::{self, Filter, Serve, Stock};
use super::directory::Place;
use super::fio::{Load, Span};
use super::lab::{Lab, Scale};
use super::loads::{WARM_READS, ZIPF_READS};
use super::measurement::Measurement;
use super::row::Disk;
use super::rows::ALL;
use super::server::{Server, Setup, statistics};
use crate::failure::Failure;

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// Warm reads with more and more requests under way.
    Depth,
    /// Misses with a larger and larger cache.
    CacheSize,
}

/// One contender's line.
pub(super) struct Curve {
    pub(super) contender: Contender,
    /// What was changed, and one measurement for each round.
    pub(super) points: Vec<(u64, Vec<Measurement>)>,
}

impl Sweep {
    pub(super) const ALL: [Self; 2] = [Self::Depth, Self::CacheSize];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Depth => "warm randread 4k over depth",
            Self::CacheSize => "miss ratio over cache size",
        }
    }

    pub(super) const fn contenders(self) -> &'static [Contender] {
        match self {
            Self::Depth => ALL,
            Self::CacheSize => &[Stock, Filter, Serve],
        }
    }

    /// What the changed thing is set to.
    pub(super) fn steps(self, scale: &Scale) -> Vec<u64> {
        match self {
            Self::Depth => scale.depths.iter().map(|depth| u64::from(*depth)).collect(),
            Self::CacheSize => {
                let parts = scale.cache_parts.iter();
                parts.map(|part| scale.image_bytes / part).collect()
            }
        }
    }

    /// Misses of the same requests are the same but for the order in which some arrive.
    pub(super) const fn rounds(self, wanted: usize) -> usize {
        match self {
            Self::Depth => wanted,
            Self::CacheSize => 1,
        }
    }

    /// One measurement for each step.
    pub(super) fn measure(
        self,
        contender: Contender,
        lab: &Lab,
    ) -> Result<Vec<Measurement>, Failure> {
        match self {
            Self::Depth => over_depth(contender, lab),
            Self::CacheSize => {
                let steps = self.steps(&lab.scale).into_iter();
                steps
                    .map(|limit_bytes| misses(contender, limit_bytes, lab))
                    .collect()
            }
        }
    }
}

fn over_depth(contender: Contender, lab: &Lab) -> Result<Vec<Measurement>, Failure> {
    let server = Server::start(contender, &Setup::new(Disk::Image, Place::Memory), lab)?;
    server.read_once(0, server.disk_bytes())?;
    let span = Span::of(server.disk_bytes(), 1);
    let at = |depth: &u32| {
        let load = Load {
            depth: *depth,
            ..WARM_READS
        };
        server.measured(|| server.load(&load, span).map(Into::into))
    };
    lab.scale.depths.iter().map(at).collect()
}

/// Requests to the origin for each request to the cache, the first ones included.
fn misses(contender: Contender, limit_bytes: u64, lab: &Lab) -> Result<Measurement, Failure> {
    let directory = lab.directory(Place::Memory);
    let counts = statistics(directory);
    let _ = fs::remove_file(&counts);
    let mut setup = Setup::new(Disk::Counted, Place::Memory);
    setup.limit_bytes = Some(limit_bytes);
    let server = Server::start(contender, &setup, lab)?;
    let load = Load {
        requests_max: Some(lab.scale.counted_requests),
        ..ZIPF_READS
    };
    let span = Span {
        start_bytes: 0,
        length_bytes: server.disk_bytes(),
        seconds: None,
    };
    let seen = server.load(&load, span)?;
    server.end()?;
    let text = fs::read_to_string(&counts).map_err(|e| Failure::at(&counts, &e))?;
    let reads = reads_in(&text)
        .ok_or_else(|| Failure::new(format!("nbdkit's stats filter counted no reads: {text}")))?;
    Ok(Measurement {
        figure: reads as f64 / seen.requests as f64,
        requests: seen.requests,
        ..Measurement::default()
    })
}

/// What nbdkit's stats filter says of reads: `read: 64 ops, 0.0005 s, ...`.
fn reads_in(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("read: "))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Curve {
    pub(super) fn new(contender: Contender, steps: &[u64]) -> Self {
        Self {
            contender,
            points: steps.iter().map(|step| (*step, Vec::new())).collect(),
        }
    }

    pub(super) fn add(&mut self, measurements: Vec<Measurement>) {
        for ((_, rounds), measurement) in self.points.iter_mut().zip(measurements) {
            rounds.push(measurement);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_found_in_the_statistics() {
        let text = "total: 70 ops, 0.5 s\nread: 64 ops, 0.000513 s, 16.00 MiB\n  Request size\n";
        assert_eq!(reads_in(text), Some(64));
        assert_eq!(reads_in("total: 70 ops\nwrite: 3 ops\n"), None);
    }
}
