//! Doing a row's work with one contender.

use std::process::Command;

use super::client;
use super::contender::Contender;
use super::conversion::Conversion;
use super::directory::Place;
use super::fio::{Load, Seen, Span, Target};
use super::lab::Lab;
use super::loads::{COMMITS, WARM_READS, WRITES};
use super::loss::blocks_lost;
use super::measurement::Measurement;
use super::row::{Cache, Disk, Figure, LOST, Row, Warm, Work};
use super::server::{Server, Setup};
use crate::cargo::cargo;
use crate::failure::Failure;
use crate::run::printed;

const MIB: u64 = 1 << 20;
const DIRTY_BYTES: u64 = 64 * MIB;
const ZEROED_BYTES: u64 = 1024 * MIB;
/// What the machine keeps for others while as much as possible is cached.
const RESERVE_BYTES: u64 = 1 << 30;

/// Hits, beside misses that each take so long.
const MISS_MILLISECONDS: u32 = 50;
const HIT_BYTES: u64 = 4 * MIB;
const HITS: Load = Load {
    depth: 1,
    ..WARM_READS
};
const MISSES: Load = Load {
    depth: 4,
    ..WARM_READS
};
/// Far from the hits.
const MISSES_START_BYTES: u64 = 1 << 30;

/// What a row needs once, for all its contenders.
pub(super) enum Prepared<'l> {
    Nothing,
    Web(Conversion<'l>),
}

impl<'l> Prepared<'l> {
    pub(super) fn new(row: &Row, lab: &'l Lab) -> Result<Self, Failure> {
        match row.work {
            Work::Conversion { filters } => Ok(Self::Web(Conversion::prepare(filters, lab)?)),
            _ => Ok(Self::Nothing),
        }
    }
}

/// Does the work of a row once.
pub(super) fn measure(
    row: &Row,
    contender: Contender,
    prepared: &Prepared<'_>,
    lab: &Lab,
) -> Result<Measurement, Failure> {
    match (&row.work, prepared) {
        (
            Work::Load {
                disk,
                warm,
                load,
                cache,
            },
            _,
        ) => {
            let setup = Setup::new(*disk, row.place).with(*cache, lab);
            under_load(contender, &setup, *warm, load, lab)
        }
        (Work::Overwrite, _) => overwrite(contender, row.place, lab),
        (Work::Flush, _) => {
            let setup = Setup::new(Disk::Delayed { milliseconds: 5 }, row.place);
            let server = Server::start(contender, &setup, lab)?;
            server.measured(|| client::flush(server.uri(), DIRTY_BYTES))
        }
        (Work::Commits, _) => commits(contender, row.place, lab),
        (Work::Zero, _) => {
            lab.directory(row.place).target(ZEROED_BYTES)?;
            let server = Server::start(contender, &Setup::new(Disk::Target, row.place), lab)?;
            server.measured(|| client::zero(server.uri(), ZEROED_BYTES))
        }
        (Work::HitsBesideMisses, _) => hits_beside_misses(contender, row.place, lab),
        (Work::Growth, _) => growth(contender, row.place, lab),
        (Work::Command(figure), _) => command(figure, lab),
        (Work::Conversion { .. }, Prepared::Web(conversion)) => conversion.run(contender, lab),
        (Work::Conversion { .. }, Prepared::Nothing) => {
            Err(Failure::new("the web server has not been started"))
        }
    }
}

fn under_load(
    contender: Contender,
    setup: &Setup<'_>,
    warm: Warm,
    load: &Load,
    lab: &Lab,
) -> Result<Measurement, Failure> {
    let server = Server::start(contender, setup, lab)?;
    let span = Span::of(server.disk_bytes(), lab.scale.seconds);
    match warm {
        Warm::Nothing => {}
        Warm::Everything => server.read_once(0, server.disk_bytes())?,
        Warm::Same => server.load(load, span).map(drop)?,
    }
    server.measured(|| server.load(load, span).map(Into::into))
}

/// The bytes that a contender has not kept are a detail.
fn overwrite(contender: Contender, place: Place, lab: &Lab) -> Result<Measurement, Failure> {
    let directory = lab.directory(place);
    let target = directory.target(lab.scale.image_bytes)?;
    let setup = Setup::new(Disk::Target, place).with(Cache::Sixteenth, lab);
    let server = Server::start(contender, &setup, lab)?;
    let mut measurement = server.measured(|| {
        let seen = WRITES.overwrite(server.uri(), server.disk_bytes(), directory.path());
        seen.map(Into::into)
    })?;
    server.end()?;
    let lost = blocks_lost(&target).map_err(|e| Failure::at(&target, &e))?;
    measurement.details.insert(LOST.to_owned(), lost as f64);
    Ok(measurement)
}

/// Of as much of the disk as the file has that is written to directly.
fn commits(contender: Contender, place: Place, lab: &Lab) -> Result<Measurement, Failure> {
    let bytes = lab.scale.image_bytes;
    let span = Span::of(bytes, lab.scale.seconds);
    let directory = lab.directory(place);
    let disk = match contender {
        Contender::File => {
            let target = directory.target(bytes)?;
            let seen = COMMITS.run(Target::File(&target), span, directory.path());
            return seen.map(Into::into);
        }
        Contender::Bare => {
            directory.target(bytes)?;
            Disk::Target
        }
        _ => Disk::Delayed { milliseconds: 5 },
    };
    let server = Server::start(contender, &Setup::new(disk, place), lab)?;
    server.read_once(0, bytes)?;
    directory.settle()?;
    server.measured(|| server.load(&COMMITS, span).map(Into::into))
}

fn hits_beside_misses(
    contender: Contender,
    place: Place,
    lab: &Lab,
) -> Result<Measurement, Failure> {
    let disk = Disk::Delayed {
        milliseconds: MISS_MILLISECONDS,
    };
    let server = Server::start(contender, &Setup::new(disk, place), lab)?;
    server.read_once(0, HIT_BYTES)?;
    // Some contenders answer few hits a second.
    let seconds = lab.scale.seconds * 3;
    let hits = Span::of(HIT_BYTES, seconds);
    let misses = Span {
        start_bytes: MISSES_START_BYTES,
        length_bytes: server.disk_bytes() - MISSES_START_BYTES,
        seconds: Some(seconds),
    };
    server.measured(|| {
        let path = lab.directory(place).path();
        let seen = HITS.run_beside(hits, (&MISSES, misses), server.uri(), path)?;
        Ok(Measurement {
            figure: seen.latency.p99,
            ..seen.into()
        })
    })
}

/// The rate with much cached as a share of that with little; both are details.
fn growth(contender: Contender, place: Place, lab: &Lab) -> Result<Measurement, Failure> {
    let (little, much) = lab.scale.growth_bytes;
    let free = available_bytes()?;
    if free < much + RESERVE_BYTES {
        let gibibytes = |bytes: u64| bytes >> 30;
        return Err(Failure::new(format!(
            "{} GiB of memory are wanted, and {} are available",
            gibibytes(much + RESERVE_BYTES),
            gibibytes(free)
        )));
    }
    let mut setup = Setup::new(Disk::Zeros { bytes: much }, place);
    // More than is needed: the default is half of what is free.
    setup.limit_bytes = Some(2 * much);
    let server = Server::start(contender, &setup, lab)?;
    let with = |start_bytes: u64, end_bytes: u64| {
        server.read_once(start_bytes, end_bytes - start_bytes)?;
        let span = Span::of(end_bytes, lab.scale.seconds);
        server.measured(|| server.load(&WARM_READS, span).map(Into::into))
    };
    let first = with(0, little)?;
    let second = with(little, much)?;
    let details = [
        (
            format!("requests/s with {} MiB", little / MIB),
            first.figure,
        ),
        (format!("requests/s with {} MiB", much / MIB), second.figure),
    ];
    Ok(Measurement {
        figure: second.figure / first.figure,
        details: details.into(),
        ..second
    })
}

/// A command that misses a bound of its own fails after it has printed its figures.
fn command(figure: &Figure, lab: &Lab) -> Result<Measurement, Failure> {
    let mut command: Command = cargo(&["run", "--release", "--locked", "--quiet"]);
    command.args(figure.arguments);
    if figure.takes_traces {
        let wanted = "--traces DIR is wanted: the directory with the traces";
        command.arg(lab.traces.as_ref().ok_or_else(|| Failure::new(wanted))?);
    }
    let text = printed(&mut command)?;
    figure_in(&text, figure).ok_or_else(|| {
        let (arguments, pointer) = (figure.arguments.join(" "), figure.pointer);
        Failure::new(format!(
            "cargo run --release {arguments} printed no JSON with a number at {pointer}: {text}"
        ))
    })
}

/// The figure, and the other numbers of the object that it is in.
fn figure_in(text: &str, figure: &Figure) -> Option<Measurement> {
    let report: serde_json::Value = serde_json::from_str(text).ok()?;
    let (object, own) = figure.pointer.rsplit_once('/')?;
    let numbers = report.pointer(object)?.as_object()?.iter();
    let details = numbers
        .filter(|(name, _)| *name != own)
        .filter_map(|(name, number)| Some((name.replace('_', " "), number.as_f64()?)))
        .collect();
    Some(Measurement {
        figure: report.pointer(figure.pointer)?.as_f64()?,
        details,
        report: Some(report),
        ..Measurement::default()
    })
}

/// Memory that can be had without swapping.
fn available_bytes() -> Result<u64, Failure> {
    let path = std::path::Path::new("/proc/meminfo");
    let text = std::fs::read_to_string(path).map_err(|e| Failure::at(path, &e))?;
    let kibibytes = |line: &str| {
        let rest = line.strip_prefix("MemAvailable:")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let found = text.lines().find_map(kibibytes);
    found
        .map(|kibibytes| kibibytes << 10)
        .ok_or_else(|| Failure::new(format!("{}: no MemAvailable", path.display())))
}

impl From<Seen> for Measurement {
    fn from(seen: Seen) -> Self {
        Self {
            figure: seen.rate,
            requests: seen.requests,
            latency_microseconds: Some(seen.latency),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::measurement::Unit;
    use super::*;

    const FIGURE: Figure = Figure {
        arguments: &[],
        takes_traces: false,
        pointer: "/bytes_per_block",
        unit: Unit::BytesPerBlock,
    };

    #[test]
    fn a_commands_figure_is_found_in_its_report() {
        let text = r#"{"bytes_per_block": 31.5, "bound": 32, "caches": [{"best": 1}]}"#;
        let measurement = figure_in(text, &FIGURE).unwrap();
        assert!((measurement.figure - 31.5).abs() < f64::EPSILON);
        let details: Vec<(String, f64)> = measurement.details.into_iter().collect();
        assert_eq!(details, [("bound".to_owned(), 32.0)]);
    }

    #[test]
    fn a_figure_may_be_deeper_in_the_report() {
        let figure = Figure {
            pointer: "/bounds/mean_excess",
            ..FIGURE
        };
        let text =
            r#"{"bounds": {"mean_excess": 0.05, "most_above_lru": 0.001, "best_other": "ARC"}}"#;
        let measurement = figure_in(text, &figure).unwrap();
        assert!((measurement.figure - 0.05).abs() < f64::EPSILON);
        assert_eq!(measurement.details.get("most above lru"), Some(&0.001));
        assert_eq!(measurement.details.len(), 1);
    }

    #[test]
    fn a_report_without_the_figure_is_none() {
        for text in [
            "",
            "error: no example",
            "{}",
            r#"{"bytes_per_block": "many"}"#,
        ] {
            assert_eq!(figure_in(text, &FIGURE), None, "{text}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(available_bytes().unwrap() > 0);
    }
}
