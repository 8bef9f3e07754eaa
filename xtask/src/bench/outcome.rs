//! What came out of a row, and what that means for its bounds.

use super::contender::Contender;
use super::measurement::{Measurement, median, spread};
use super::row::{Bound, Row};

/// A row, measured.
pub(super) struct Outcome<'r> {
    pub(super) row: &'r Row,
    /// For each contender of the row, one for each round.
    pub(super) rounds: Vec<Vec<Measurement>>,
    /// Why there is no more.
    pub(super) failure: Option<String>,
}

/// A bound, and whether it was kept to.
pub(super) struct Verdict {
    pub(super) of: Contender,
    /// What was wanted.
    pub(super) wanted: String,
    /// What came out; None if it was not measured.
    pub(super) value: Option<f64>,
    /// The least and the most of the rounds.
    pub(super) spread: Option<(f64, f64)>,
    pub(super) is_held: bool,
}

impl<'r> Outcome<'r> {
    pub(super) fn new(row: &'r Row) -> Self {
        Self {
            row,
            rounds: vec![Vec::new(); row.contenders.len()],
            failure: None,
        }
    }

    pub(super) fn add(&mut self, contender: Contender, measurement: Measurement) {
        if let Some(place) = self.place(contender) {
            self.rounds[place].push(measurement);
        }
    }

    /// What was measured of a contender.
    pub(super) fn of(&self, contender: Contender) -> &[Measurement] {
        self.place(contender)
            .map_or(&[], |place| &self.rounds[place])
    }

    pub(super) fn figures(&self, contender: Contender) -> impl Iterator<Item = f64> {
        self.of(contender)
            .iter()
            .map(|measurement| measurement.figure)
    }

    fn details<'s>(
        &'s self,
        contender: Contender,
        name: &'s str,
    ) -> impl Iterator<Item = f64> + 's {
        let measurements = self.of(contender).iter();
        measurements.filter_map(move |measurement| measurement.details.get(name).copied())
    }

    fn place(&self, contender: Contender) -> Option<usize> {
        self.row
            .contenders
            .iter()
            .position(|other| *other == contender)
    }

    /// Of each bound. `all`: every row of this run, for bounds that compare with another.
    pub(super) fn verdicts(&self, all: &[Outcome<'_>]) -> Vec<Verdict> {
        let verdict = |bound: &Bound| self.verdict(bound, all);
        self.row.bounds.iter().map(verdict).collect()
    }

    fn verdict(&self, bound: &Bound, all: &[Outcome<'_>]) -> Verdict {
        let of = bound.of();
        let figures: Vec<f64> = match bound {
            Bound::Times { than, in_row, .. } => {
                let other = match in_row {
                    None => Some(self),
                    Some(number) => all.iter().find(|outcome| outcome.row.number == *number),
                };
                other.map_or(Vec::new(), |other| self.times(of, other, *than))
            }
            Bound::AtMost { .. } | Bound::AtLeast { .. } => self.figures(of).collect(),
            Bound::DetailAtMost { detail, .. } | Bound::DetailBelow { detail, .. } => {
                self.details(of, detail).collect()
            }
            Bound::BelowDetail { detail, .. } => {
                let pairs = self.figures(of).zip(self.details(of, detail));
                pairs.map(|(figure, detail)| figure / detail).collect()
            }
        };
        let spread = spread(figures.iter().copied());
        let value = median(figures);
        let is_held = match bound {
            Bound::Times { at_least, .. } => value.is_some_and(|times| times >= *at_least),
            Bound::AtMost { most, .. } => value.is_some_and(|figure| figure <= *most),
            Bound::AtLeast { least, .. } => value.is_some_and(|figure| figure >= *least),
            // One round with a loss is enough.
            Bound::DetailAtMost { most, .. } => spread.is_some_and(|(_, worst)| worst <= *most),
            Bound::DetailBelow { limit, .. } => spread.is_some_and(|(_, worst)| worst < *limit),
            Bound::BelowDetail { .. } => value.is_some_and(|share| share < 1.0),
        };
        Verdict {
            of,
            wanted: wanted(bound),
            value,
            spread,
            is_held: is_held && self.failure.is_none(),
        }
    }

    /// In each round: how many times as fast the one is as the other. Less time is faster.
    fn times(&self, of: Contender, other: &Outcome<'_>, than: Contender) -> Vec<f64> {
        let pairs = self.figures(of).zip(other.figures(than));
        match self.row.work.unit().is_more_better() {
            true => pairs.map(|(ours, others)| ours / others).collect(),
            false => pairs.map(|(ours, others)| others / ours).collect(),
        }
    }
}

fn wanted(bound: &Bound) -> String {
    match bound {
        Bound::Times {
            of,
            at_least,
            than,
            in_row,
        } => match in_row {
            Some(number) if of == than => format!("≥ {at_least} of its own row {number}"),
            Some(number) => format!("≥ {at_least} of {than} in row {number}"),
            None => format!("≥ {at_least} of {than}"),
        },
        Bound::AtMost { most, .. } => format!("≤ {most}"),
        Bound::AtLeast { least, .. } => format!("≥ {least}"),
        Bound::DetailAtMost { detail, most, .. } => format!("≤ {most}, {detail}"),
        Bound::DetailBelow { detail, limit, .. } => format!("< {limit}, {detail}"),
        Bound::BelowDetail { detail, .. } => format!("< 1 of {detail}"),
    }
}

impl Verdict {
    /// What came out of what was wanted, in a few words.
    pub(super) fn told(&self) -> String {
        let value = self.value.map_or("not measured".to_owned(), short);
        let wanted = &self.wanted;
        match self.is_held {
            true => format!("{value} ({wanted})"),
            false => format!("**MISSED** {value} ({wanted})"),
        }
    }
}

/// A ratio as it is printed.
pub(super) fn short(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ if value == 0.0 => "0".to_owned(),
        -0.1..0.1 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::contender::Contender::{Serve, Stock};
    use super::super::directory::Place;
    use super::super::row::{LOST, Work};
    use super::*;

    const fn row(number: &'static str, work: Work, bounds: &'static [Bound]) -> Row {
        Row {
            number,
            name: "",
            what: "",
            place: Place::Memory,
            work,
            contenders: &[Stock, Serve],
            bounds,
        }
    }

    const FLUSH: Row = row("7", Work::Flush, &[Bound::times(Serve, 3.0, Stock)]);
    const OVERWRITE: Row = row(
        "9",
        Work::Overwrite,
        &[Bound::keeps(Serve), Bound::of_its_row(Serve, 0.5, "4")],
    );
    const WARM: Row = row("4", Work::Overwrite, &[]);

    fn outcome<'r>(row: &'r Row, rounds: &[[f64; 2]]) -> Outcome<'r> {
        let mut outcome = Outcome::new(row);
        for [stock, serve] in rounds {
            for (contender, figure) in [(Stock, *stock), (Serve, *serve)] {
                let measurement = Measurement {
                    figure,
                    details: [(LOST.to_owned(), 0.0)].into(),
                    ..Measurement::default()
                };
                outcome.add(contender, measurement);
            }
        }
        outcome
    }

    #[test]
    fn less_time_is_faster_and_the_median_of_the_ratios_counts() {
        let held = outcome(&FLUSH, &[[30.0, 10.0], [60.0, 20.0], [1.0, 9.0]]);
        assert!(held.verdicts(&[])[0].is_held);
        let missed = outcome(&FLUSH, &[[29.0, 10.0], [59.0, 20.0], [90.0, 1.0]]);
        let verdict = &missed.verdicts(&[])[0];
        assert!(!verdict.is_held);
        assert_eq!(verdict.told(), "**MISSED** 2.95 (≥ 3 of C filter)");
        assert_eq!(verdict.spread, Some((2.9, 90.0)));
    }

    #[test]
    fn a_row_may_be_compared_with_another() {
        let warm = outcome(&WARM, &[[1.0, 100.0]]);
        let cold = outcome(&OVERWRITE, &[[1.0, 60.0]]);
        let verdict = &cold.verdicts(&[warm])[1];
        assert_eq!((verdict.value, verdict.is_held), (Some(0.6), true));
        assert!(!cold.verdicts(&[])[1].is_held, "not measured is not held");
    }

    #[test]
    fn one_round_that_loses_is_enough() {
        let mut rounds = outcome(&OVERWRITE, &[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]);
        assert!(rounds.verdicts(&[])[0].is_held);
        rounds.rounds[1][2].details.insert(LOST.to_owned(), 1.0);
        assert!(!rounds.verdicts(&[])[0].is_held);
    }

    #[test]
    fn a_row_that_failed_holds_nothing() {
        let mut failed = outcome(&FLUSH, &[[30.0, 10.0]]);
        failed.failure = Some("no socket".to_owned());
        assert!(!failed.verdicts(&[])[0].is_held);
    }
}
