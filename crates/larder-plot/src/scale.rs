//! Which part of an axis is shown, where its ticks are, and how a value is written.

use std::ops::Range;

use plotters::coord::ranged1d::{
    KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter,
};

use crate::chart::{Axis, Scale, Unit};

/// Ticks with a number, at most.
const MAX_TICKS: usize = 11;
/// Up to this many decades, 2 and 5 are ticks as well.
const FEW_DECADES: f64 = 2.5;

impl Axis {
    pub(crate) fn has_place_for(&self, value: f64) -> bool {
        value.is_finite() && (self.scale == Scale::Linear || value > 0.0)
    }
}

/// The part of an axis that a chart shows.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    scale: Scale,
    unit: Unit,
    /// Both ends, as the scale spreads them.
    start: f64,
    end: f64,
}

impl Shown {
    /// What shows all `values`, which have a place on the axis.
    pub(crate) fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let spread = values.map(|value| spread(axis.scale, value));
        let (least, most) = spread.fold((f64::MAX, f64::MIN), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let (start, end) = match axis.scale {
            Scale::Linear => (least.min(0.0), most.max(0.0)),
            _ if least == most => (least - 1.0, most + 1.0),
            _ => (least, most),
        };
        let width = if start == end { 1.0 } else { end - start };
        let margin = |end: f64| if end == 0.0 { 0.0 } else { width * 0.04 };
        let (below, above) = match axis.scale {
            Scale::Linear => (margin(start), margin(end)),
            _ => (width * 0.04, width * 0.04),
        };
        Self {
            scale: axis.scale,
            unit: axis.unit,
            start: start - below,
            end: if start == end {
                start + 1.0
            } else {
                end + above
            },
        }
    }

    /// Ticks as the axis spreads them.
    fn ticks(&self) -> Vec<f64> {
        match (self.scale, self.unit) {
            (Scale::Linear, Unit::Number) => multiples(self, nice_step(self.end - self.start)),
            (Scale::Linear, Unit::Bytes) => {
                multiples(self, ((self.end - self.start) / 8.0).log2().ceil().exp2())
            }
            (Scale::Log2, _) => multiples(self, whole_step(self.end - self.start)),
            (Scale::Log10, _) => self.decades(),
        }
    }

    fn decades(&self) -> Vec<f64> {
        if self.end - self.start > FEW_DECADES {
            return multiples(self, whole_step(self.end - self.start));
        }
        let first = self.start.floor() as i32;
        (first..=self.end.ceil() as i32)
            .flat_map(|decade| [1.0f64, 2.0, 5.0].map(|digit| f64::from(decade) + digit.log10()))
            .filter(|tick| (self.start..=self.end).contains(tick))
            .collect()
    }
}

fn spread(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log2 => value.log2(),
        Scale::Log10 => value.log10(),
    }
}

fn value(scale: Scale, spread: f64) -> f64 {
    match scale {
        Scale::Linear => spread,
        Scale::Log2 => spread.exp2(),
        Scale::Log10 => 10f64.powf(spread),
    }
}

/// 1, 2 or 5 times a power of ten.
fn nice_step(width: f64) -> f64 {
    let least = width / (MAX_TICKS - 1) as f64;
    let power = 10f64.powf(least.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0];
    let digit = digits.into_iter().find(|digit| digit * power >= least);
    digit.unwrap_or(10.0) * power
}

fn whole_step(width: f64) -> f64 {
    (width / (MAX_TICKS - 1) as f64).ceil().max(1.0)
}

fn multiples(shown: &Shown, step: f64) -> Vec<f64> {
    let first = (shown.start / step).ceil() as i64;
    let last = (shown.end / step).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

impl Ranged for Shown {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (spread(self.scale, *value) - self.start) / (self.end - self.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Lines between the ticks would say nothing.
        match hint.weight() {
            KeyPointWeight::Bold => {
                let ticks = self.ticks().into_iter();
                ticks.map(|tick| value(self.scale, tick)).collect()
            }
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> Range<f64> {
        value(self.scale, self.start)..value(self.scale, self.end)
    }
}

impl ValueFormatter<f64> for Shown {
    fn format_ext(&self, value: &f64) -> String {
        match self.unit {
            Unit::Number => in_thousands(*value),
            Unit::Bytes => in_binary(*value),
        }
    }
}

fn in_thousands(value: f64) -> String {
    let suffixes = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    // What is written as a whole number of a suffix is easier to read than many zeros.
    let suffix = suffixes
        .into_iter()
        .find(|(size, _)| value.abs() >= *size * 9.999);
    let (size, suffix) = suffix.unwrap_or((1.0, ""));
    format!("{}{suffix}", digits(value / size))
}

fn in_binary(value: f64) -> String {
    let suffixes = ["TiB", "GiB", "MiB", "KiB"];
    let sizes = (1..=4).rev().map(|power| 1024f64.powi(power));
    let suffix = sizes.zip(suffixes).find(|(size, _)| value >= *size * 0.999);
    let (size, suffix) = suffix.unwrap_or((1.0, "bytes"));
    format!("{} {suffix}", digits(value / size))
}

/// Three significant digits, without zeros at the end.
fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let before = value.abs().log10().floor() as i32 + 1;
    let after = (3 - before).max(0) as usize;
    let text = format!("{value:.after$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(scale: Scale, unit: Unit, values: &[f64]) -> Shown {
        let label = String::new();
        Shown::new(&Axis { label, scale, unit }, values.iter().copied())
    }

    fn written(scale: Scale, unit: Unit, values: &[f64]) -> Vec<String> {
        let shown = shown(scale, unit, values);
        let ticks = shown.key_points(plotters::coord::ranged1d::BoldPoints(10));
        ticks.iter().map(|tick| shown.format_ext(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let ticks = |scale, values: &[f64]| written(scale, Unit::Number, values).join(" ");
        assert_eq!(ticks(Scale::Linear, &[0.3, 0.97]), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(ticks(Scale::Linear, &[230_000.0]), "0 50k 100k 150k 200k");
        assert_eq!(ticks(Scale::Log2, &[1.0, 64.0]), "1 2 4 8 16 32 64");
        assert_eq!(ticks(Scale::Log10, &[0.02, 30.0]), "0.1 1 10");
        assert_eq!(ticks(Scale::Log10, &[3.0, 60.0]), "5 10 20 50");
    }

    #[test]
    fn sizes_are_written_in_powers_of_1024() {
        let bytes = [4096.0, (64u64 << 20) as f64];
        let ticks = written(Scale::Log2, Unit::Bytes, &bytes).join(" ");
        assert_eq!(
            ticks,
            "4 KiB 16 KiB 64 KiB 256 KiB 1 MiB 4 MiB 16 MiB 64 MiB"
        );
        assert_eq!(in_binary(512.0), "512 bytes");
        assert_eq!(in_binary(1.5 * 1024f64.powi(3)), "1.5 GiB");
    }

    #[test]
    fn every_value_is_within_what_is_shown() {
        for scale in [Scale::Linear, Scale::Log2, Scale::Log10] {
            for values in [[5.0, 5.0], [0.001, 70_000.0]] {
                let shown = shown(scale, Unit::Number, &values);
                for value in values {
                    let at = shown.map(&value, (100, 200));
                    assert!((100..=200).contains(&at), "{scale:?} {value}: {at}");
                }
            }
        }
    }
}
