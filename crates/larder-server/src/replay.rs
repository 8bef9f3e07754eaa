//! `larder replay`: what caches of several sizes would have missed of a trace.
//!
//! | file | decides |
//! |---|---|
//! | `options` | what may be typed |
//! | `settings` | what it means, checked before anything is read |
//! | `ladder` | the sizes where none are given |
//! | `report`, `advice` | the table and the JSON; what they say about the size to choose |
//! | `picture` | the plot |

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use larder_frontend::report::reason;
use larder_frontend::{ParameterError, temporary_directory};
use larder_replay::{Replay, Replayed, Sizes, Survey, Trace};

mod advice;
mod ladder;
mod options;
mod picture;
mod report;
mod settings;
mod size;

pub(crate) use options::ReplayOptions;

use report::Report;
use settings::Settings;

/// Does it. The error is one line.
pub(crate) fn replay(options: &ReplayOptions) -> Result<(), String> {
    let settings = Settings::new(options)?;
    let replayed = run(&settings)?;
    let report = Report::new(&settings, &replayed);
    if let Some(path) = &settings.plot {
        let svg =
            picture::picture(&report).map_err(|error| wrong_plot(path, &error.to_string()))?;
        fs::write(path, svg).map_err(|error| wrong_plot(path, &reason(&error)))?;
    }
    let text = if settings.is_json {
        report.to_json()?
    } else {
        report.to_text()
    };
    // Whoever does not want to read all of it may go.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn wrong_plot(path: &Path, message: &str) -> String {
    ParameterError::new("plot", path.as_os_str(), message).to_string()
}

fn run(settings: &Settings) -> Result<Replayed, String> {
    let directory = temporary_directory();
    let trace = Trace::open(&settings.traces, settings.format, &directory)
        .map_err(|error| error.to_string())?;
    let choose = |survey: &Survey| ladder::sizes(&settings.config, survey);
    let wanted = Replay {
        block_bytes: settings.config.block_bytes,
        sizes: if settings.sizes.is_empty() {
            Sizes::Chosen(&choose)
        } else {
            Sizes::Known(settings.sizes.clone())
        },
        with_optimum: settings.with_optimum,
    };
    let replayed = larder_replay::replay(&trace, wanted).map_err(|error| error.to_string())?;
    if replayed.survey.uses() == 0 {
        let names: Vec<_> = settings.traces.iter().map(|path| path.display()).collect();
        let first = names.first().map(ToString::to_string).unwrap_or_default();
        return Err(format!("{first}: there is no read and no write in it"));
    }
    Ok(replayed)
}
