//! What the options mean, checked before anything is read.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use larder::Config;
use larder_frontend::{Defaults, ParameterError, Parameters, PlainParser};
use larder_replay::Format;

use super::options::ReplayOptions;
use crate::options::Text;
use crate::settings::value;

/// Everything that is to be done.
#[derive(Debug)]
pub(super) struct Settings {
    /// The files, in order.
    pub(super) traces: Vec<PathBuf>,
    /// What they are written in, if that was said.
    pub(super) format: Option<Format>,
    /// A cache of no size yet.
    pub(super) config: Config,
    /// A cache of each size that was given, in rising order.
    pub(super) sizes: Vec<Config>,
    /// Whether the optimum is wanted.
    pub(super) with_optimum: bool,
    /// JSON instead of a table.
    pub(super) is_json: bool,
    /// Where the plot goes.
    pub(super) plot: Option<PathBuf>,
}

impl Settings {
    /// Checks everything. The error is one line.
    pub(super) fn new(options: &ReplayOptions) -> Result<Self, String> {
        if options.traces.is_empty() {
            return Err("no trace given: larder replay trace.csv.gz, for example".to_owned());
        }
        Self::checked(options).map_err(|error| error.to_string())
    }

    fn checked(options: &ReplayOptions) -> Result<Self, ParameterError> {
        let mut sizes = options
            .cache_max_size
            .iter()
            .map(|size| config(options, Some(size)))
            .collect::<Result<Vec<_>, _>>()?;
        sizes.sort_by_key(|config| config.max_size_bytes);
        sizes.dedup_by_key(|config| config.max_size_bytes);
        let plot = value::path("plot", &options.plot)?;
        if let Some(path) = &plot {
            check_plot(path)?;
        }
        Ok(Self {
            traces: options.traces.clone(),
            format: format(&options.format)?,
            config: config(options, None)?,
            sizes,
            with_optimum: !value::flag("no-optimum", &options.no_optimum)?,
            is_json: value::flag("json", &options.json)?,
            plot,
        })
    }
}

/// A cache of one size, by the rules that hold for every front end.
fn config(options: &ReplayOptions, max_size: Option<&Text>) -> Result<Config, ParameterError> {
    let mut parameters = Parameters::new(Defaults {
        is_limited: true,
        ..Defaults::default()
    });
    for (name, text) in [
        (
            "cache-min-block-size",
            options.cache_min_block_size.as_ref(),
        ),
        ("cache-max-size", max_size),
        (
            "cache-high-threshold",
            options.cache_high_threshold.as_ref(),
        ),
        ("cache-low-threshold", options.cache_low_threshold.as_ref()),
    ] {
        if let Some(text) = text {
            parameters.set(name, text.as_os_str(), &PlainParser)?;
        }
    }
    Ok(parameters.finish()?.config)
}

fn format(text: &Option<Text>) -> Result<Option<Format>, ParameterError> {
    let Some(text) = text else {
        return Ok(None);
    };
    match text.as_os_str().to_str() {
        Some("csv") => Ok(Some(Format::Csv)),
        Some("blktrace") => Ok(Some(Format::Blktrace)),
        Some("fio") => Ok(Some(Format::Fio)),
        _ => Err(ParameterError::new(
            "format",
            text.as_os_str(),
            "must be csv, blktrace or fio",
        )),
    }
}

/// A long trace should not be read for nothing.
fn check_plot(path: &Path) -> Result<(), ParameterError> {
    let wrong = |advice: &str| Err(ParameterError::new("plot", path.as_os_str(), advice));
    if path.is_dir() {
        return wrong("must be a file, not a directory");
    }
    match path.parent() {
        Some(parent) if parent.as_os_str() != OsStr::new("") && !parent.is_dir() => {
            wrong("must be in a directory that exists")
        }
        _ => Ok(()),
    }
}
