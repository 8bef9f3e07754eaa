//! The run's results as files: `BENCHMARKS.md`, `results.json` and the pictures.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::charts;
use super::machine::Machine;
use super::markdown;
use super::measurement::{median, spread};
use super::outcome::Outcome;
use super::sweep::{Curve, Sweep};
use crate::failure::Failure;

/// All that a run found.
pub(super) struct Results<'r> {
    pub(super) machine: Machine,
    pub(super) is_quick: bool,
    pub(super) rounds: usize,
    pub(super) outcomes: Vec<Outcome<'r>>,
    pub(super) sweeps: Vec<(Sweep, Vec<Curve>)>,
}

impl Results<'_> {
    /// How many bounds are missed. A row without bounds that failed is one too.
    pub(super) fn missed(&self) -> usize {
        let missed = |outcome: &Outcome<'_>| {
            let verdicts = outcome.verdicts(&self.outcomes);
            let missed = verdicts.iter().filter(|verdict| !verdict.is_held).count();
            missed.max(usize::from(outcome.failure.is_some()))
        };
        self.outcomes.iter().map(missed).sum()
    }

    /// Writes everything into a directory, which is made if need be.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Failure> {
        fs::create_dir_all(directory).map_err(|e| Failure::at(directory, &e))?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|e| Failure::at(&path, &e))
        };
        let pictures = self.pictures()?;
        for (name, svg) in &pictures {
            write(name, svg)?;
        }
        let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
        write("BENCHMARKS.md", &markdown::page(self, &names))?;
        write("results.json", &format!("{:#}\n", self.to_json()))
    }

    /// Names of files, and what is in them.
    fn pictures(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut pictures = Vec::new();
        for (sweep, curves) in &self.sweeps {
            pictures.extend(charts::of(*sweep, curves)?);
        }
        let measurements = self
            .outcomes
            .iter()
            .flat_map(|outcome| &outcome.rounds)
            .flatten();
        for report in measurements.filter_map(|measurement| measurement.report.as_ref()) {
            pictures.extend(charts::of_policies(report)?);
        }
        Ok(pictures)
    }

    pub(super) fn to_json(&self) -> Value {
        let machine = self.machine.0.iter();
        let machine: serde_json::Map<String, Value> = machine
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let rows = self.outcomes.iter().map(|outcome| self.row(outcome));
        let sweeps = self.sweeps.iter().map(sweep);
        json!({
            "quick": self.is_quick,
            "rounds": self.rounds,
            "machine": machine,
            "rows": rows.collect::<Vec<Value>>(),
            "sweeps": sweeps.collect::<Vec<Value>>(),
        })
    }

    fn row(&self, outcome: &Outcome<'_>) -> Value {
        let contenders = outcome.row.contenders.iter().zip(&outcome.rounds);
        let contenders = contenders.map(|(contender, rounds)| {
            json!({
                "contender": contender.to_string(),
                "median": median(outcome.figures(*contender)),
                "spread": spread(outcome.figures(*contender)),
                "rounds": rounds,
            })
        });
        let bounds = outcome.verdicts(&self.outcomes).into_iter().map(|verdict| {
            json!({
                "of": verdict.of.to_string(),
                "wanted": verdict.wanted,
                "value": verdict.value,
                "spread": verdict.spread,
                "held": verdict.is_held,
            })
        });
        json!({
            "number": outcome.row.number,
            "name": outcome.row.name,
            "unit": outcome.row.work.unit().name(),
            "failure": outcome.failure,
            "contenders": contenders.collect::<Vec<Value>>(),
            "bounds": bounds.collect::<Vec<Value>>(),
        })
    }
}

fn sweep((sweep, curves): &(Sweep, Vec<Curve>)) -> Value {
    let curves = curves.iter().map(|curve| {
        let points = curve.points.iter();
        let points = points.map(|(at, rounds)| json!({ "at": at, "rounds": rounds }));
        json!({
            "contender": curve.contender.to_string(),
            "points": points.collect::<Vec<Value>>(),
        })
    });
    json!({ "name": sweep.name(), "curves": curves.collect::<Vec<Value>>() })
}
