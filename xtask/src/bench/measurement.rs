//! What one contender did in one round, and what rounds come to.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    RequestsPerSecond,
    Seconds,
    /// The 99th percentile of a request's time.
    P99Microseconds,
    /// The rate with much, as a share of the rate with little.
    Share,
    BytesPerBlock,
    /// How much more one costs than another.
    Percent,
    /// Misses of all uses.
    MissRatio,
}

impl Unit {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests/s",
            Self::Seconds => "seconds",
            Self::P99Microseconds => "p99 in µs",
            Self::Share => "share",
            Self::BytesPerBlock => "bytes per block",
            Self::Percent => "percent",
            Self::MissRatio => "miss ratio",
        }
    }

    pub(super) const fn is_more_better(self) -> bool {
        matches!(self, Self::RequestsPerSecond | Self::Share)
    }

    /// A figure as it is printed: three digits that count, or all of a large number.
    pub(super) fn show(self, figure: f64) -> String {
        let decimals = match figure.abs() {
            100.0.. => 0,
            10.0..100.0 => 1,
            1.0..10.0 => 2,
            _ if figure == 0.0 => 0,
            _ => 4,
        };
        grouped(&format!("{figure:.decimals$}"))
    }
}

/// Commas between thousands.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let digits = whole.len();
    let mut text = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (digits - place).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

/// Percentiles of a request's time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

/// One contender in one round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Measurement {
    /// In the row's unit.
    pub(super) figure: f64,
    /// How many there were; 0 where it is not requests that are counted.
    pub(super) requests: u64,
    pub(super) latency_microseconds: Option<Latency>,
    /// User and system time of the server while it was measured, its children's included.
    pub(super) cpu_seconds: Option<f64>,
    /// The most that was resident, mapped files included.
    pub(super) peak_bytes: Option<u64>,
    /// What was resident at the end and has no file behind it.
    pub(super) anonymous_bytes: Option<u64>,
    /// What else is worth telling.
    pub(super) details: BTreeMap<String, f64>,
    /// All that a command said which measures by itself.
    pub(super) report: Option<serde_json::Value>,
}

impl Measurement {
    pub(super) fn cpu_seconds_per_million(&self) -> Option<f64> {
        let millions = self.requests as f64 / 1e6;
        self.cpu_seconds
            .filter(|_| self.requests > 0)
            .map(|seconds| seconds / millions)
    }
}

/// The middle one; of an even number, the mean of the two in the middle. None of none.
pub(super) fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let upper = figures.get(figures.len() / 2)?;
    let lower = figures.get((figures.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// The least and the most.
pub(super) fn spread(figures: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    figures.into_iter().fold(None, |spread, figure| {
        let (least, most) = spread.unwrap_or((figure, figure));
        Some((f64::min(least, figure), f64::max(most, figure)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_bad_round() {
        assert_eq!(median([10.0, 1.0, 11.0]), Some(10.0));
        assert_eq!(median([10.0, 1.0, 11.0, 1000.0]), Some(10.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn the_spread_is_from_the_least_to_the_most() {
        assert_eq!(spread([10.0, 1.0, 11.0]), Some((1.0, 11.0)));
        assert_eq!(spread([]), None);
    }

    #[test]
    fn figures_are_printed_as_far_as_they_count() {
        let show = |figure| Unit::Seconds.show(figure);
        assert_eq!(show(1_234_567.8), "1,234,568");
        assert_eq!(show(123_456.0), "123,456");
        assert_eq!(show(999.4), "999");
        assert_eq!(show(12.34), "12.3");
        assert_eq!(show(1.0), "1.00");
        assert_eq!(show(0.012_34), "0.0123");
        assert_eq!(show(0.0), "0");
    }

    #[test]
    fn processor_time_is_told_per_million_requests() {
        let measurement = Measurement {
            requests: 500_000,
            cpu_seconds: Some(2.0),
            ..Measurement::default()
        };
        assert_eq!(measurement.cpu_seconds_per_million(), Some(4.0));
        assert_eq!(Measurement::default().cpu_seconds_per_million(), None);
    }
}
