//! What was found out: as a table for people, as JSON for programs.

use indicatif::{BinaryBytes, HumanCount};
use larder_replay::{AtSize, Kind, Replayed};
use serde::Serialize;

use super::advice::advice;
use super::settings::Settings;
use super::size::size;

/// All that is told.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The files, as they were named.
    pub(super) traces: Vec<String>,
    requests: u64,
    reads: u64,
    writes: u64,
    trims: u64,
    read_bytes: u64,
    written_bytes: u64,
    volumes: u32,
    block_bytes: u64,
    block_uses: u64,
    footprint_blocks: u64,
    footprint_bytes: u64,
    cache_high_threshold: u32,
    cache_low_threshold: u32,
    /// By size, in rising order.
    pub(super) sizes: Vec<Row>,
    advice: Option<String>,
}

/// What a cache of one size would have met.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    /// The cache's size.
    pub(super) size_bytes: u64,
    pub(super) blocks: u64,
    /// Of the footprint.
    pub(super) share: f64,
    /// Misses of Larder.
    pub(super) misses: u64,
    /// Misses of Larder, LRU and the optimum, by uses of blocks.
    pub(super) miss_ratio: f64,
    pub(super) lru_miss_ratio: f64,
    pub(super) optimum_miss_ratio: Option<f64>,
    pub(super) origin_read_bytes: u64,
}

impl Report {
    pub(super) fn new(settings: &Settings, replayed: &Replayed) -> Self {
        let survey = &replayed.survey;
        let count = |kind| survey.requests[kind as usize];
        let row = |at| Row::new(at, replayed);
        let sizes: Vec<Row> = replayed.sizes.iter().map(row).collect();
        Self {
            traces: settings
                .traces
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
            requests: survey.requests.iter().sum(),
            reads: count(Kind::Read),
            writes: count(Kind::Write),
            trims: count(Kind::Trim),
            read_bytes: survey.bytes[Kind::Read as usize],
            written_bytes: survey.bytes[Kind::Write as usize],
            volumes: survey.volumes,
            block_bytes: settings.config.block_bytes,
            block_uses: survey.uses(),
            footprint_blocks: survey.footprint_blocks(),
            footprint_bytes: survey.footprint_bytes(),
            cache_high_threshold: settings.config.high_threshold_percent,
            cache_low_threshold: settings.config.low_threshold_percent,
            advice: advice(&sizes, all_fit(replayed)),
            sizes,
        }
    }

    pub(super) fn to_json(&self) -> Result<String, String> {
        let json = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        Ok(json + "\n")
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = self.summary();
        text.push('\n');
        let has_optimum = self.has_optimum();
        let mut heading = format!(
            "{:>9} {:>7} {:>9} {:>7} {:>7}",
            "size", "share", "blocks", "larder", "lru"
        );
        if has_optimum {
            heading.push_str(" optimum");
        }
        text.push_str(&heading);
        text.push_str("  read from origin\n");
        for row in &self.sizes {
            text.push_str(&row.to_text());
        }
        if let Some(advice) = &self.advice {
            text.push('\n');
            text.push_str(advice);
            text.push('\n');
        }
        text
    }

    /// Whether the optimum was wanted.
    pub(super) fn has_optimum(&self) -> bool {
        self.sizes
            .iter()
            .any(|row| row.optimum_miss_ratio.is_some())
    }

    fn summary(&self) -> String {
        let volumes = match self.volumes {
            1 => "1 volume".to_owned(),
            several => format!("{several} volumes"),
        };
        let first = 100.0 * self.footprint_blocks as f64 / self.block_uses as f64;
        format!(
            "{} requests to {volumes}: {} reads ({}), {} writes ({}), {} trims\n\
             {} uses of {} blocks of {}, {} in all; {first:.1} % are first uses\n\
             misses for each use of a block; larder drops blocks above {} % until {} % is used, lru and the optimum use all\n",
            HumanCount(self.requests),
            HumanCount(self.reads),
            BinaryBytes(self.read_bytes),
            HumanCount(self.writes),
            BinaryBytes(self.written_bytes),
            HumanCount(self.trims),
            HumanCount(self.block_uses),
            HumanCount(self.footprint_blocks),
            size(self.block_bytes),
            BinaryBytes(self.footprint_bytes),
            self.cache_high_threshold,
            self.cache_low_threshold,
        )
    }
}

/// Whether the largest cache holds all blocks without ever dropping one.
fn all_fit(replayed: &Replayed) -> bool {
    replayed.sizes.last().is_some_and(|at| {
        let kept = at.capacity_blocks * u64::from(at.config.high_threshold_percent) / 100;
        kept >= replayed.survey.footprint_blocks()
    })
}

impl Row {
    fn new(at: &AtSize, replayed: &Replayed) -> Self {
        let survey = &replayed.survey;
        let uses = survey.uses().max(1) as f64;
        let ratio = |misses: u64| misses as f64 / uses;
        let size_bytes = at.config.max_size_bytes.unwrap_or(u64::MAX);
        let misses = at.reads.misses + at.writes.misses;
        Self {
            size_bytes,
            blocks: at.capacity_blocks,
            share: size_bytes as f64 / survey.footprint_bytes().max(1) as f64,
            misses,
            miss_ratio: ratio(misses),
            lru_miss_ratio: ratio(at.lru_misses),
            optimum_miss_ratio: at.optimum_misses.map(ratio),
            // A block is fetched whole. Writes fetch parts of sectors at most.
            origin_read_bytes: at.reads.misses.saturating_mul(at.config.block_bytes),
        }
    }

    fn to_text(&self) -> String {
        let optimum = match self.optimum_miss_ratio {
            Some(ratio) => format!(" {ratio:>7.4}"),
            None => String::new(),
        };
        format!(
            "{:>9} {:>6.1}% {:>9} {:>7.4} {:>7.4}{optimum}  {:>16}\n",
            size(self.size_bytes),
            self.share * 100.0,
            self.blocks,
            self.miss_ratio,
            self.lru_miss_ratio,
            BinaryBytes(self.origin_read_bytes).to_string(),
        )
    }
}
