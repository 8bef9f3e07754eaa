//! Every option of `larder replay`, as it is typed.

use std::path::PathBuf;

use clap::Args;

use crate::options::Text;

/// All options, given or not.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ReplayOptions {
    /// Files with requests, compressed by gzip or not; - is standard input, and NAME stands for
    /// NAME.blktrace.0 and so on
    #[arg(value_name = "TRACE")]
    pub(crate) traces: Vec<PathBuf>,

    /// Sizes of the cache, at least 1M; a list or repeated [default: powers of two up to the
    /// size that everything fits into]
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',')]
    pub(crate) cache_max_size: Vec<Text>,
    /// Unit of caching, a power of two from 4K to 2G [default: 64K]
    #[arg(long, value_name = "SIZE")]
    pub(crate) cache_min_block_size: Option<Text>,
    /// Blocks are dropped above this share of the size [default: 95]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) cache_high_threshold: Option<Text>,
    /// ... until less than this share is used [default: 80]
    #[arg(long, value_name = "PERCENT")]
    pub(crate) cache_low_threshold: Option<Text>,

    /// What the trace is written in: csv, blktrace (its files or blkparse's text) or fio (iolog)
    /// [default: what its beginning looks like]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Text>,
    /// Leave the optimum out, which needs 4 bytes of memory for each use of a block
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) no_optimum: Option<Text>,
    /// Print JSON instead of a table
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) json: Option<Text>,
    /// Draw the miss ratios over the size into a file
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<Text>,
}
