//! The plot: miss ratios over the cache's size.

use larder_plot::{Axis, Chart, PlotError, Scale, Series, Unit};

use super::report::{Report, Row};

/// The plot as the text of an SVG file.
pub(super) fn picture(report: &Report) -> Result<String, PlotError> {
    let line = |name: &str, ratio: &dyn Fn(&Row) -> Option<f64>| Series {
        name: name.to_owned(),
        points: report
            .sizes
            .iter()
            .filter_map(|row| Some((row.size_bytes as f64, ratio(row)?)))
            .collect(),
    };
    let mut series = vec![
        line("Larder", &|row| Some(row.miss_ratio)),
        line("LRU", &|row| Some(row.lru_miss_ratio)),
    ];
    if report.has_optimum() {
        series.push(line("optimum", &|row| row.optimum_miss_ratio));
    }
    let chart = Chart {
        title: format!("Misses over cache size: {}", names(&report.traces)),
        x: Axis {
            label: "cache size".to_owned(),
            scale: Scale::Log2,
            unit: Unit::Bytes,
        },
        y: Axis {
            label: "misses for each use of a block".to_owned(),
            scale: Scale::Linear,
            unit: Unit::Number,
        },
        series,
    };
    chart.to_svg()
}

/// File names without directories, as far as there is room.
fn names(traces: &[String]) -> String {
    let name = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
    match traces {
        [one] => name(one),
        [first, others @ ..] => format!("{} and {} more", name(first), others.len()),
        [] => String::new(),
    }
}
