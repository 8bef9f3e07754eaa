//! `cargo xtask bench`: how fast Larder is, as ratios to others measured beside it.
//!
//! All data and the cache file are in memory (`/dev/shm`), so that the programs are measured and
//! not a disk. Each round measures every contender once, in turn. The table has the medians of the
//! rates, and of the rounds' ratios, which count: what else the machine does changes over time.

mod fio;
mod server;

use std::path::Path;

use crate::cargo::build_filter;
use crate::failure::Failure;
use crate::options::Options;
use crate::tools;
use fio::Load;
use server::{Directory, Server};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contender {
    /// nbdkit without any filter of ours or its own.
    Bare,
    /// nbdkit's own cache filter.
    Stock,
    Larder,
}

/// One line of the table.
struct Case {
    name: &'static str,
    plugin: &'static [&'static str],
    /// Filters beneath, and all filters' parameters.
    below: &'static [&'static str],
    warm: bool,
    load: Load,
    against: Contender,
    /// The least that Larder's rate must be of the other's.
    bound: f64,
}

const IMAGE: &str = "IMAGE";

const SLOW: [&str; 4] = [
    "--filter=delay",
    "rdelay=5ms",
    "wdelay=5ms",
    "cache-on-read=true",
];

fn cases() -> Vec<Case> {
    let warm = |name, connections| Case {
        name,
        plugin: &["file", IMAGE],
        below: &["cache-on-read=true"],
        warm: true,
        load: Load::new("randread", "4k", "256m", connections),
        against: Contender::Bare,
        bound: 0.9,
    };
    vec![
        warm("warm 4 KiB reads, 1 connection", 1),
        warm("warm 4 KiB reads, 4 connections", 4),
        Case {
            name: "cold reads, depth 16, 5 ms plugin",
            plugin: &["memory", "4G"],
            below: &SLOW,
            warm: false,
            load: Load::new("randread", "64k", "4g", 1),
            against: Contender::Bare,
            bound: 0.9,
        },
        Case {
            name: "cold 4 KiB writes, 5 ms plugin",
            plugin: &["memory", "4G"],
            below: &SLOW,
            warm: false,
            load: Load::new("randwrite", "4k", "4g", 1),
            against: Contender::Stock,
            bound: 100.0,
        },
    ]
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let rounds: usize = options.number("rounds", 5)?;
    tools::ensure(&[tools::NBDKIT, tools::FIO])?;
    let filter = build_filter()?;
    let directory = Directory::new()?;
    println!(
        "{:36} {:>10} {:>10} {:>10}  {:>17}  bound",
        "requests per second", "bare", "C filter", "Larder", "ratio"
    );
    let mut missed = 0;
    for case in cases() {
        let rates = measure(&case, rounds.max(1), &filter, &directory)?;
        let (against, word) = match case.against {
            Contender::Bare => (&rates[0], "of bare"),
            _ => (&rates[1], "of C"),
        };
        let ratios = rates[2]
            .iter()
            .zip(against)
            .map(|(ours, other)| ours / other);
        let ratio = median(ratios.collect());
        let rates = rates.map(median);
        let verdict = if ratio >= case.bound { "" } else { "  MISSED" };
        missed += usize::from(ratio < case.bound);
        println!(
            "{:36} {:>10.0} {:>10.0} {:>10.0}  {ratio:>9.2} {word:7}  {}{verdict}",
            case.name, rates[0], rates[1], rates[2], case.bound
        );
    }
    match missed {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{missed} bounds missed"))),
    }
}

/// The rates of bare nbdkit, the C filter and Larder, one of each for each round.
fn measure(
    case: &Case,
    rounds: usize,
    filter: &Path,
    directory: &Directory,
) -> Result<[Vec<f64>; 3], Failure> {
    let contenders = [Contender::Bare, Contender::Stock, Contender::Larder];
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (contender, rates) in contenders.into_iter().zip(&mut rates) {
            let arguments = arguments_of(case, contender, filter, directory);
            let server = Server::start(directory, &arguments)?;
            if case.warm {
                server.read_everything()?;
            }
            rates.push(case.load.run(&server)?);
        }
    }
    Ok(rates)
}

fn arguments_of(
    case: &Case,
    contender: Contender,
    filter: &Path,
    directory: &Directory,
) -> Vec<String> {
    let cache = match contender {
        Contender::Bare => None,
        Contender::Stock => Some("--filter=cache".to_owned()),
        Contender::Larder => Some(format!("--filter={}", filter.display())),
    };
    let is_filter = |argument: &&&str| argument.starts_with("--filter=");
    let is_known = |argument: &&&str| cache.is_some() || !argument.starts_with("cache");
    let mut arguments: Vec<String> = cache.iter().cloned().collect();
    let below = case.below.iter();
    arguments.extend(below.clone().filter(is_filter).map(ToString::to_string));
    let image = directory.image().display().to_string();
    arguments.extend(case.plugin.iter().map(|a| a.replace(IMAGE, &image)));
    let parameters = below.filter(|a| !is_filter(a)).filter(is_known);
    arguments.extend(parameters.map(ToString::to_string));
    arguments
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_bad_round() {
        assert!((median(vec![10.0, 1.0, 11.0]) - 10.0).abs() < f64::EPSILON);
    }
}
