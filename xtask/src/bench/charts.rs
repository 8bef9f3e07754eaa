//! The pictures.

use larder_plot::{Axis, Chart, Scale, Series, Unit};
use serde_json::Value;

use super::measurement::{Measurement, median};
use super::sweep::{Curve, Sweep};
use crate::failure::Failure;

/// The pictures of a sweep: names of files, and what is in them.
pub(super) fn of(sweep: Sweep, curves: &[Curve]) -> Result<Vec<(String, String)>, Failure> {
    let charts = match sweep {
        Sweep::Depth => vec![
            ("throughput.svg", throughput(curves)),
            (
                "latency-p50.svg",
                latency("Half of all requests took at most", curves, |l| l.p50),
            ),
            (
                "latency-p99.svg",
                latency("99 of 100 requests took at most", curves, |l| l.p99),
            ),
        ],
        Sweep::CacheSize => vec![("misses.svg", misses(curves))],
    };
    let draw = |(name, chart): (&'static str, Chart)| {
        let svg = chart
            .to_svg()
            .map_err(|e| Failure::new(format!("{name}: {e}")))?;
        Ok((name.to_owned(), svg))
    };
    charts.into_iter().map(draw).collect()
}

fn throughput(curves: &[Curve]) -> Chart {
    Chart {
        title: "Warm 4 KiB random reads, one connection".to_owned(),
        x: depth(),
        y: Axis {
            label: "requests per second".to_owned(),
            scale: Scale::Linear,
            unit: Unit::Number,
        },
        series: series(curves, |measurement| Some(measurement.figure)),
    }
}

fn latency(
    title: &str,
    curves: &[Curve],
    which: impl Fn(&super::measurement::Latency) -> f64,
) -> Chart {
    Chart {
        title: format!("{title}: warm 4 KiB random reads"),
        x: depth(),
        y: Axis {
            label: "microseconds".to_owned(),
            scale: Scale::Log10,
            unit: Unit::Number,
        },
        series: series(curves, |measurement| {
            measurement.latency_microseconds.as_ref().map(&which)
        }),
    }
}

fn misses(curves: &[Curve]) -> Chart {
    Chart {
        title: "Requests that went to the origin: 4 KiB random reads, zipf 1.2".to_owned(),
        x: Axis {
            label: "size of the cache".to_owned(),
            scale: Scale::Log2,
            unit: Unit::Bytes,
        },
        y: Axis {
            label: "of each request".to_owned(),
            scale: Scale::Linear,
            unit: Unit::Number,
        },
        series: series(curves, |measurement| Some(measurement.figure)),
    }
}

fn depth() -> Axis {
    Axis {
        label: "requests under way".to_owned(),
        scale: Scale::Log2,
        unit: Unit::Number,
    }
}

/// The pictures of a comparison of policies on traces: one for each trace and size of blocks. None if the report is not
/// of that kind.
pub(super) fn of_policies(report: &Value) -> Result<Vec<(String, String)>, Failure> {
    let mut charts: Vec<(String, Chart)> = Vec::new();
    for at in report["results"].as_array().into_iter().flatten() {
        let Some((name, title, share, ratios)) = compared(at) else {
            return Err(Failure::new(format!("no comparison of policies: {at}")));
        };
        let place = charts.iter().position(|(other, _)| *other == name);
        let place = place.unwrap_or_else(|| {
            charts.push((name, policies(title)));
            charts.len() - 1
        });
        let lines = &mut charts[place].1.series;
        for (policy, ratio) in ratios {
            match lines.iter_mut().find(|line| line.name == policy) {
                Some(line) => line.points.push((share, ratio)),
                None => lines.push(Series {
                    name: policy,
                    points: vec![(share, ratio)],
                }),
            }
        }
    }
    let draw = |(name, chart): (String, Chart)| {
        let svg = chart
            .to_svg()
            .map_err(|e| Failure::new(format!("{name}: {e}")))?;
        Ok((name, svg))
    };
    charts.into_iter().map(draw).collect()
}

/// One size of cache: the picture that it belongs to and its title, the share of the blocks in percent, and who missed how often.
type Compared = (String, String, f64, Vec<(String, f64)>);

fn compared(at: &Value) -> Option<Compared> {
    let trace = at["trace"].as_str()?;
    let kibibytes = at["block_bytes"].as_u64()? >> 10;
    let ratio = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_f64()?));
    let policies = at["miss_ratios"].as_array()?.iter().map(ratio);
    let mut ratios = policies.collect::<Option<Vec<_>>>()?;
    ratios.push(("optimum".to_owned(), at["optimum"].as_f64()?));
    Some((
        format!("misses-{trace}-{kibibytes}k.svg"),
        format!("Misses on the trace {trace}, blocks of {kibibytes} KiB"),
        at["share_percent"].as_f64()?,
        ratios,
    ))
}

fn policies(title: String) -> Chart {
    Chart {
        title,
        x: Axis {
            label: "size of the cache, percent of the blocks that are used".to_owned(),
            scale: Scale::Log10,
            unit: Unit::Number,
        },
        y: Axis {
            label: "misses of all uses".to_owned(),
            scale: Scale::Linear,
            unit: Unit::Number,
        },
        series: Vec::new(),
    }
}

/// The medians of the rounds.
fn series(curves: &[Curve], value: impl Fn(&Measurement) -> Option<f64>) -> Vec<Series> {
    let point = |(step, rounds): &(u64, Vec<Measurement>)| {
        let value = median(rounds.iter().filter_map(&value))?;
        Some((*step as f64, value))
    };
    let line = |curve: &Curve| Series {
        name: curve.contender.to_string(),
        points: curve.points.iter().filter_map(point).collect(),
    };
    curves.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_trace_and_block_size_is_a_picture() {
        let at = |trace, block_bytes, share, larder| {
            json!({ "trace": trace, "block_bytes": block_bytes, "share_percent": share, "optimum": 0.25,
                    "miss_ratios": [["Larder", larder], ["LRU", 0.75]] })
        };
        let report = json!({ "results": [
            at("one", 65536, 0.1, 0.5), at("one", 65536, 40.0, 0.375), at("one", 4096, 0.1, 0.5)
        ] });
        let pictures = of_policies(&report).unwrap();
        let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["misses-one-64k.svg", "misses-one-4k.svg"]);
        for name in ["Larder", "LRU", "optimum"] {
            assert!(pictures[0].1.contains(name), "{name}");
        }
        assert!(of_policies(&json!({ "results": [{}] })).is_err());
        assert_eq!(of_policies(&json!({ "caches": [] })).unwrap(), []);
    }
}
