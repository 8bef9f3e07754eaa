//! `cargo xtask bench`: how fast Larder is, as ratios to others measured beside it.
//!
//! | file | decides |
//! |---|---|
//! | `row`, `rows`, `loads` | what is measured, of whom, and what must come out |
//! | `work`, `conversion`, `client`, `loss`, `sweep` | how it is measured |
//! | `contender`, `server`, `peers`, `web_server` | who is measured, and how they are started |
//! | `lab`, `directory`, `file_system`, `programs` | with what, where, and how much of it |
//! | `process`, `usage`, `fio`, `measurement` | processes, what they use, what fio sees, medians |
//! | `outcome` | whether bounds are kept to |
//! | `text`, `results`, `markdown`, `charts`, `machine` | what is told |

mod charts;
mod client;
mod contender;
mod conversion;
mod directory;
mod file_system;
mod fio;
mod lab;
mod limits;
mod loads;
mod loss;
mod machine;
mod markdown;
mod measurement;
mod outcome;
mod peers;
mod process;
mod programs;
mod results;
mod row;
mod rows;
mod server;
mod sweep;
mod text;
mod usage;
mod web_server;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cargo::workspace;
use crate::failure::Failure;
use crate::options::Options;
use contender::Contender;
use lab::Lab;
use machine::Machine;
use outcome::Outcome;
use results::Results;
use row::Row;
use sweep::{Curve, Sweep};
use work::Prepared;

/// Fewer are no result.
const FEWEST_ROUNDS: usize = 3;
const PLACE_OF_RESULTS: &str = "bench/results";

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let plan = Plan::parse(arguments)?;
    let lab = Lab::prepare(plan.is_quick, plan.traces.clone())?;
    let bar = bar(plan.steps());
    let mut results = Results {
        machine: Machine::this(),
        is_quick: plan.is_quick,
        rounds: plan.rounds,
        outcomes: Vec::new(),
        sweeps: Vec::new(),
    };
    for row in &plan.rows {
        let outcome = measure(row, plan.rounds, &lab, &bar);
        tell(&bar, &text::row(&outcome, &results.outcomes));
        results.outcomes.push(outcome);
    }
    for sweep in &plan.sweeps {
        let curves = sweep_over(*sweep, plan.rounds, &lab, &bar)?;
        tell(&bar, &text::curves(*sweep, &curves));
        results.sweeps.push((*sweep, curves));
    }
    bar.finish_and_clear();
    if let Some(directory) = &plan.results {
        results.write(directory)?;
        println!("written: {}", directory.display());
    }
    match results.missed() {
        0 => Ok(()),
        1 => Err(Failure::new("1 bound is missed")),
        missed => Err(Failure::new(format!("{missed} bounds are missed"))),
    }
}

/// What is to be measured.
struct Plan {
    rows: Vec<&'static Row>,
    sweeps: Vec<Sweep>,
    rounds: usize,
    is_quick: bool,
    /// Where the traces are.
    traces: Option<PathBuf>,
    /// Where the results go, if they are written.
    results: Option<PathBuf>,
}

impl Plan {
    fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let (word, options) = match arguments.split_first() {
            Some((word, rest)) if !word.starts_with("--") => (word.as_str(), rest),
            _ => ("", arguments),
        };
        let options = Options::parse_with_flags(options, &["rounds", "out", "traces"], &["quick"])?;
        let is_quick = options.has("quick");
        let rounds = options.number("rounds", if is_quick { 1 } else { FEWEST_ROUNDS })?;
        if rounds == 0 {
            return Err(Failure::new("--rounds 0: at least 1 is wanted"));
        }
        let (mut rows, sweeps) = meant_by(word);
        if is_quick && word.is_empty() {
            rows.retain(|row| row.is_quick());
        }
        if rows.is_empty() && sweeps.is_empty() {
            return Err(Failure::new(format!(
                "no row has {word:?} in its name:{}",
                names()
            )));
        }
        let is_whole = word.is_empty() && !is_quick && rounds >= FEWEST_ROUNDS;
        let place = is_whole.then(|| workspace().join(PLACE_OF_RESULTS));
        Ok(Self {
            rows: with_compared(&rows),
            sweeps,
            rounds,
            is_quick,
            traces: options.value("traces").map(absolute).transpose()?,
            results: options.value("out").map(PathBuf::from).or(place),
        })
    }

    /// How often something is measured.
    fn steps(&self) -> u64 {
        let row = |row: &&Row| row.contenders.len() * row.work.rounds(self.rounds);
        let sweep = |sweep: &Sweep| sweep.contenders().len() * sweep.rounds(self.rounds);
        let rows: usize = self.rows.iter().map(row).sum();
        let sweeps: usize = self.sweeps.iter().map(sweep).sum();
        (rows + sweeps) as u64
    }
}

/// The row of that number, or else everything with the word in its name.
fn meant_by(word: &str) -> (Vec<&'static Row>, Vec<Sweep>) {
    if let Some(row) = rows::all().find(|row| row.number == word) {
        return (vec![row], Vec::new());
    }
    let rows = rows::all().filter(|row| row.name.contains(word));
    let sweeps = Sweep::ALL.into_iter();
    let sweeps = sweeps.filter(|sweep| sweep.name().contains(word));
    (rows.collect(), sweeps.collect())
}

/// These rows, and those that their bounds compare with.
fn with_compared(rows: &[&Row]) -> Vec<&'static Row> {
    let is_wanted = |row: &&'static Row| {
        let compares = |other: &&Row| {
            other
                .bounds
                .iter()
                .any(|bound| bound.in_row() == Some(row.number))
        };
        rows.iter()
            .any(|other| other.number == row.number || compares(other))
    };
    rows::all().filter(is_wanted).collect()
}

/// Cargo runs commands at the top of the workspace.
fn absolute(path: &str) -> Result<PathBuf, Failure> {
    std::fs::canonicalize(path).map_err(|e| Failure::new(format!("--traces {path}: {e}")))
}

fn names() -> String {
    let rows = rows::all().map(|row| format!("\n  {:10} {}", row.number, row.name));
    let sweeps = Sweep::ALL.map(|sweep| format!("\n  {:10} {}", "chart", sweep.name()));
    rows.chain(sweeps).collect()
}

/// On a terminal; elsewhere it is not drawn.
fn bar(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

fn tell(bar: &ProgressBar, text: &str) {
    bar.suspend(|| println!("{text}"));
}

/// What fails is told in the row's place, and the other rows are still measured.
fn measure<'r>(row: &'r Row, rounds: usize, lab: &Lab, bar: &ProgressBar) -> Outcome<'r> {
    let mut outcome = Outcome::new(row);
    if let Err(failure) = measure_into(&mut outcome, rounds, lab, bar) {
        outcome.failure = Some(failure.to_string());
    }
    outcome
}

fn measure_into(
    outcome: &mut Outcome<'_>,
    rounds: usize,
    lab: &Lab,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let row = outcome.row;
    bar.set_message(row.name);
    let prepared = Prepared::new(row, lab)?;
    for round in 0..row.work.rounds(rounds) {
        for contender in in_turn(row.contenders, round) {
            bar.set_message(format!("{}: {contender}", row.name));
            let measured = work::measure(row, contender, &prepared, lab);
            let failed = |failure| Failure::new(format!("{contender}: {failure}"));
            outcome.add(contender, measured.map_err(failed)?);
            bar.inc(1);
        }
    }
    Ok(())
}

fn sweep_over(
    sweep: Sweep,
    rounds: usize,
    lab: &Lab,
    bar: &ProgressBar,
) -> Result<Vec<Curve>, Failure> {
    let steps = sweep.steps(&lab.scale);
    let contenders = sweep.contenders();
    let curves = contenders
        .iter()
        .map(|contender| Curve::new(*contender, &steps));
    let mut curves: Vec<Curve> = curves.collect();
    for round in 0..sweep.rounds(rounds) {
        for contender in in_turn(contenders, round) {
            bar.set_message(format!("{}: {contender}", sweep.name()));
            let measurements = sweep.measure(contender, lab)?;
            let curve = curves.iter_mut().find(|curve| curve.contender == contender);
            curve
                .into_iter()
                .for_each(|curve| curve.add(measurements.clone()));
            bar.inc(1);
        }
    }
    Ok(curves)
}

/// Each round begins with another one.
fn in_turn(contenders: &[Contender], round: usize) -> impl Iterator<Item = Contender> {
    let (before, from) = contenders.split_at(round % contenders.len().max(1));
    from.iter().chain(before).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contender::Contender::{Bare, Serve, Stock};

    fn plan(line: &[&str]) -> Result<Plan, Failure> {
        let arguments: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        Plan::parse(&arguments)
    }

    #[test]
    fn only_whole_runs_write_results_unless_told_where() {
        assert!(
            plan(&[])
                .unwrap()
                .results
                .unwrap()
                .ends_with(PLACE_OF_RESULTS)
        );
        for partial in [&["--quick"][..], &["--rounds", "2"], &["warm"]] {
            assert_eq!(plan(partial).unwrap().results, None, "{partial:?}");
        }
        let told = plan(&["warm", "--out", "here"]).unwrap();
        assert_eq!(told.results, Some(PathBuf::from("here")));
    }

    #[test]
    fn a_word_means_rows_and_what_they_are_compared_with() {
        let numbers = |word| {
            let plan = plan(&[word]).unwrap();
            plan.rows.iter().map(|row| row.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers("zeroing"), ["12"]);
        assert_eq!(numbers("4"), ["4"]);
        assert!(plan(&["4"]).unwrap().sweeps.is_empty());
        assert_eq!(plan(&["over depth"]).unwrap().sweeps, [Sweep::Depth]);
        assert_eq!(numbers("cold randwrite"), ["4", "6"]);
        let failure = plan(&["warn"]).err().unwrap().to_string();
        assert!(
            failure.contains("warn") && failure.contains("warm randread"),
            "{failure}"
        );
    }

    #[test]
    fn every_contender_begins_a_round() {
        let order = |round| in_turn(&[Bare, Stock, Serve], round).collect::<Vec<_>>();
        assert_eq!(order(0), [Bare, Stock, Serve]);
        assert_eq!(order(1), [Stock, Serve, Bare]);
        assert_eq!(order(5), [Serve, Bare, Stock]);
    }
}
