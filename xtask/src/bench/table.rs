//! What is printed: each contender's figure, and each bound with its verdict.

use std::fmt;

use super::case::{Bound, Case, Work};

/// A row of the table.
pub(super) struct Row<'c> {
    case: &'c Case,
    /// One list for each contender, with one figure for each round.
    figures: Vec<Vec<f64>>,
}

impl<'c> Row<'c> {
    pub(super) fn new(case: &'c Case) -> Self {
        Self {
            case,
            figures: vec![Vec::new(); case.contenders.len()],
        }
    }

    /// Adds a round's figure of the contender at that place in the case's list.
    pub(super) fn add(&mut self, place: usize, figure: f64) {
        self.figures[place].push(figure);
    }

    /// How many bounds are missed.
    pub(super) fn missed(&self) -> usize {
        let is_missed = |bound: &&Bound| self.ratio(bound) < bound.at_least;
        self.case.bounds.iter().filter(is_missed).count()
    }

    /// The median of the rounds' ratios: how many times as fast the one is as the other.
    fn ratio(&self, bound: &Bound) -> f64 {
        let figures_of = |contender| {
            let mut listed = self.case.contenders.iter().zip(&self.figures);
            listed.find(|(listed, _)| **listed == contender)
        };
        let (Some((_, ours)), Some((_, others))) = (figures_of(bound.of), figures_of(bound.to))
        else {
            return 0.0;
        };
        let ratios = ours.iter().zip(others).map(|(ours, other)| {
            if self.is_time() {
                other / ours
            } else {
                ours / other
            }
        });
        median(ratios.collect())
    }

    /// Whether less is faster.
    fn is_time(&self) -> bool {
        matches!(self.case.work, Work::Conversion)
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, decimals) = match self.is_time() {
            true => ("seconds", 2),
            false => ("requests per second", 0),
        };
        writeln!(formatter, "{} ({unit})", self.case.name)?;
        for (contender, figures) in self.case.contenders.iter().zip(&self.figures) {
            let figure = median(figures.clone());
            writeln!(formatter, "  {contender:16}{figure:>10.decimals$}")?;
        }
        for bound in self.case.bounds {
            let Bound { of, to, at_least } = bound;
            let ratio = self.ratio(bound);
            let verdict = match ratio < *at_least {
                true => "MISSED",
                false => "held",
            };
            writeln!(
                formatter,
                "  {of} is {ratio:.2} times as fast as {to}, at least {at_least}: {verdict}"
            )?;
        }
        writeln!(formatter)
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::contender::Contender::{Serve, Stock};
    use super::*;

    fn row_of(case: &Case, rounds: [[f64; 2]; 3]) -> Row<'_> {
        let mut row = Row::new(case);
        for round in rounds {
            for (place, figure) in round.into_iter().enumerate() {
                row.add(place, figure);
            }
        }
        row
    }

    const CONVERSION: Case = Case {
        name: "",
        work: Work::Conversion,
        contenders: &[Stock, Serve],
        bounds: &[Bound {
            of: Serve,
            to: Stock,
            at_least: 3.0,
        }],
    };

    #[test]
    fn the_median_is_not_moved_by_one_bad_round() {
        assert!((median(vec![10.0, 1.0, 11.0]) - 10.0).abs() < f64::EPSILON);
    }

    #[test]
    fn less_time_is_faster() {
        let held = row_of(&CONVERSION, [[30.0, 10.0], [60.0, 20.0], [1.0, 9.0]]);
        assert_eq!(held.missed(), 0, "{held}");
        let missed = row_of(&CONVERSION, [[29.0, 10.0], [59.0, 20.0], [90.0, 1.0]]);
        assert_eq!(missed.missed(), 1, "{missed}");
        assert!(missed.to_string().contains("MISSED"), "{missed}");
    }
}
