//! Every option of `larder inspect`, `larder scrub` and `larder drain`, as it is typed.

use std::path::PathBuf;

use clap::Args;

use crate::options::Text;

/// All options of `larder inspect`, given or not.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct InspectOptions {
    /// The directory that was given as cache-dir
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) json: Option<Text>,
    /// Name every range that the origin does not have
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) ranges: Option<Text>,
}

/// All options of `larder scrub`, given or not.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ScrubOptions {
    /// The directory that was given as cache-dir
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Print JSON instead of sentences
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) json: Option<Text>,
}

/// All options of `larder drain`, given or not.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct DrainOptions {
    /// The directory that was given as cache-dir
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Write back to this origin what was written through the export of that name: an origin as for larder serve
    #[arg(value_name = "[NAME=]ORIGIN")]
    pub(crate) origins: Vec<Text>,

    /// Forget what the origin does not have, and all else that is cached of the export
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) discard: Option<Text>,
    /// Copy what the origin does not have to a new sparse file, and where that is to FILE.json; the directory keeps it
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<Text>,
    /// The export that --discard or --output is about, if there are several; may be repeated with --discard
    #[arg(long, value_name = "NAME")]
    pub(crate) export: Vec<Text>,
    /// Write to an origin that is not the one that was cached, whatever is there, and forget the export
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true")]
    pub(crate) force: Option<Text>,

    /// What the origin holds, in your own words, as it was given to the cache
    #[arg(long, value_name = "TEXT")]
    pub(crate) cache_id: Option<Text>,
    /// How long a request to an origin that does not answer is tried again [default: 30]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) origin_timeout: Option<Text>,
    /// Certificate authorities for nbds:// beyond the system's, as PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) origin_tls_ca: Option<Text>,
}
