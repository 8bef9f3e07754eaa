//! Every option of `larder inspect` and `larder scrub`, as it is typed.

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
