//! What the person at the terminal sees of a row.

use std::fmt::Write;

use super::measurement::{median, spread};
use super::outcome::Outcome;
use super::sweep::{Curve, Sweep};

/// A row: each contender's figure, and each bound.
pub(super) fn row(outcome: &Outcome<'_>, earlier: &[Outcome<'_>]) -> String {
    let unit = outcome.row.work.unit();
    let mut text = format!(
        "{}. {} ({})\n",
        outcome.row.number,
        outcome.row.name,
        unit.name()
    );
    for contender in outcome.row.contenders {
        let Some(figure) = median(outcome.figures(*contender)) else {
            continue;
        };
        let (least, most) = spread(outcome.figures(*contender)).unwrap_or((figure, figure));
        let (figure, least, most) = (unit.show(figure), unit.show(least), unit.show(most));
        let _ = writeln!(text, "  {contender:28} {figure:>12}   {least} to {most}");
        for (name, value) in details(outcome, *contender) {
            let _ = writeln!(text, "  {:28} {value:>12}   {name}", "");
        }
    }
    for verdict in outcome.verdicts(earlier) {
        let told = verdict.told().replace("**", "");
        let _ = writeln!(text, "  {:28} {told}", verdict.of);
    }
    if let Some(failure) = &outcome.failure {
        let _ = writeln!(text, "  NOT MEASURED: {failure}");
    }
    text
}

/// The medians of what else was measured.
pub(super) fn details(
    outcome: &Outcome<'_>,
    contender: super::contender::Contender,
) -> Vec<(String, String)> {
    let measurements = outcome.of(contender);
    let names = measurements
        .first()
        .into_iter()
        .flat_map(|first| first.details.keys());
    let value = |name: &String| {
        let values = measurements.iter().filter_map(|m| m.details.get(name));
        let value = median(values.copied())?;
        Some((name.clone(), outcome.row.work.unit().show(value)))
    };
    names.filter_map(value).collect()
}

/// What is drawn, as numbers.
pub(super) fn curves(sweep: Sweep, curves: &[Curve]) -> String {
    let mut text = format!("{}\n", sweep.name());
    for curve in curves {
        let _ = write!(text, "  {:28}", curve.contender);
        for (step, rounds) in &curve.points {
            let figure = median(rounds.iter().map(|measurement| measurement.figure));
            let figure = figure.unwrap_or_default();
            let _ = match sweep {
                Sweep::Depth => write!(text, " {step}: {figure:.0}"),
                Sweep::CacheSize => write!(text, " {} MiB: {figure:.4}", step >> 20),
            };
        }
        text.push('\n');
    }
    text
}
