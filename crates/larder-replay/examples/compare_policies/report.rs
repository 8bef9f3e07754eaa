//! What came out, as a table and as JSON, and whether the bounds are kept.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::SHARES;
use crate::compared::{At, OURS};

/// LRU may miss less than we do by this much at most, at any size.
const WORSE_THAN_LRU: f64 = 0.005;
/// Told, but not compared.
const NOT_COMPARED: &str = "Larder 95/80";

/// All results.
pub(crate) struct Report {
    all: Vec<At>,
    /// By policy: misses above the optimum's for each use, on average over all sizes.
    mean_excess: Vec<(&'static str, f64)>,
}

impl Report {
    pub(crate) fn new(all: Vec<At>) -> Self {
        let names = all.first().map_or(&[][..], |at| &at.ratios);
        let mean_excess = names
            .iter()
            .enumerate()
            .map(|(policy, (name, _))| {
                let excess = all.iter().map(|at| at.ratios[policy].1 - at.optimum);
                (*name, excess.sum::<f64>() / all.len() as f64)
            })
            .collect();
        Self { all, mean_excess }
    }

    /// How much more we miss than the policy of that name, where that is worst.
    fn worst_against(&self, name: &str) -> f64 {
        let difference = |at: &At| at.of(OURS) - at.of(name);
        self.all.iter().map(difference).fold(f64::MIN, f64::max)
    }

    /// The policy with the lowest mean excess but ours.
    fn best_other(&self) -> (&'static str, f64) {
        let others = self
            .mean_excess
            .iter()
            .filter(|(name, _)| ![OURS, NOT_COMPARED].contains(name));
        let best = others.min_by(|a, b| a.1.total_cmp(&b.1));
        best.copied().unwrap_or(("", f64::NAN))
    }

    fn our_excess(&self) -> f64 {
        let ours = self.mean_excess.iter().find(|(name, _)| *name == OURS);
        ours.map_or(f64::NAN, |ours| ours.1)
    }

    /// No size worse than LRU by more than a little, better than the C filter at every size, and the
    /// lowest mean excess of all.
    pub(crate) fn are_bounds_kept(&self) -> bool {
        self.worst_against("LRU") <= WORSE_THAN_LRU
            && self.worst_against("C filter") < 0.0
            && self.our_excess() < self.best_other().1
    }

    pub(crate) fn to_json(&self) -> Value {
        let ratios = |at: &At| -> Value {
            let ratios = at.ratios.iter().map(|(name, ratio)| json!([name, ratio]));
            ratios.collect()
        };
        let results: Vec<Value> = self
            .all
            .iter()
            .map(|at| {
                json!({
                    "trace": at.trace,
                    "block_bytes": at.block_bytes,
                    "share_percent": at.share as f64 / 10.0,
                    "blocks": at.capacity_blocks,
                    "optimum": at.optimum,
                    "miss_ratios": ratios(at),
                })
            })
            .collect();
        let (best, excess) = self.best_other();
        json!({
            "results": results,
            "mean_excess": self.mean_excess,
            "bounds": {
                "most_above_lru": self.worst_against("LRU"),
                "most_above_lru_allowed": WORSE_THAN_LRU,
                "most_above_c_filter": self.worst_against("C filter"),
                "mean_excess": self.our_excess(),
                "best_other": best,
                "best_other_mean_excess": excess,
                "are_kept": self.are_bounds_kept(),
            },
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for at in self.all.chunks(SHARES.len()) {
            let _ = self.table(&mut text, at);
        }
        let _ = self.bounds(&mut text);
        text
    }

    /// The sizes of one trace at one block size.
    fn table(&self, text: &mut String, sizes: &[At]) -> std::fmt::Result {
        let Some(first) = sizes.first() else {
            return Ok(());
        };
        let kibibytes = first.block_bytes >> 10;
        let heading = format!("{}, {kibibytes} KiB", first.trace);
        write!(text, "{heading:22}")?;
        for at in sizes {
            write!(text, " {:>6}%", at.share as f64 / 10.0)?;
        }
        writeln!(text)?;
        for (policy, (name, _)) in self.mean_excess.iter().enumerate() {
            write!(text, "{name:22}")?;
            for at in sizes {
                write!(text, "  {:.4} ", at.ratios[policy].1)?;
            }
            writeln!(text)?;
        }
        write!(text, "{:22}", "optimum")?;
        for at in sizes {
            write!(text, "  {:.4} ", at.optimum)?;
        }
        writeln!(text, "\n")
    }

    fn bounds(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "mean excess over the optimum")?;
        for (name, excess) in &self.mean_excess {
            writeln!(text, "{name:22}  {excess:.4}")?;
        }
        writeln!(
            text,
            "\nat worst {:+.4} against LRU, {:+.4} against the C filter; bounds are {}",
            self.worst_against("LRU"),
            self.worst_against("C filter"),
            if self.are_bounds_kept() {
                "kept"
            } else {
                "MISSED"
            }
        )
    }
}

impl At {
    fn of(&self, name: &str) -> f64 {
        let found = self.ratios.iter().find(|(other, _)| *other == name);
        found.map_or(f64::NAN, |found| found.1)
    }
}
