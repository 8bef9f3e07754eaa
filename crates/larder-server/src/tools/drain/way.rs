//! What was asked for, checked before the directory is opened.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use larder_origins::Address;

use super::super::misused;
use crate::cli::Wrong;
use crate::options::{Options, Text};
use crate::settings::{self, ExportSettings, value};
use crate::tools::options::DrainOptions;

/// Where what only the directory has goes.
#[derive(Debug)]
pub(super) enum Way {
    /// To origins.
    WriteBack(Origins),
    /// Into a file.
    Copy { to: PathBuf, name: Option<String> },
    /// Nowhere. Without names it is of the only export.
    Discard { names: Vec<String> },
}

/// Origins, and how they are used.
#[derive(Debug)]
pub(super) struct Origins {
    pub(super) exports: Vec<ExportSettings>,
    pub(super) cache_id: Option<String>,
    pub(super) force: bool,
    pub(super) timeout: Duration,
    pub(super) tls_ca: Option<PathBuf>,
}

impl Way {
    pub(super) fn new(options: &DrainOptions) -> Result<Self, Wrong> {
        let discard = value::flag("discard", &options.discard).map_err(misused)?;
        let output = value::path("output", &options.output).map_err(misused)?;
        let origins = Origins::new(options)?;
        let names = names(&options.export)?;
        if options.directory.is_none() {
            return Err(misused(
                "no directory given: larder drain /var/cache/larder nbd://storage/disk, for example",
            ));
        }
        let has_origins = !origins.exports.is_empty();
        match (has_origins, output, discard) {
            (true, None, false) if names.is_empty() => Ok(Self::WriteBack(origins)),
            (true, None, false) => Err(misused(
                "--export goes with --discard and --output: an origin is given as NAME=ORIGIN",
            )),
            (false, Some(_), false) if names.len() > 1 => {
                Err(misused("--export: one file holds one export"))
            }
            (false, Some(to), false) => Ok(Self::Copy {
                to,
                name: names.into_iter().next(),
            }),
            (false, None, true) => Ok(Self::Discard { names }),
            (false, None, false) => Err(misused(
                "no origin given: larder drain /var/cache/larder nbd://storage/disk, for example; or --output=FILE, or --discard",
            )),
            _ => Err(misused(
                "an origin, --output and --discard are three ways: one at a time",
            )),
        }
    }
}

impl Origins {
    fn new(options: &DrainOptions) -> Result<Self, Wrong> {
        let exports = match options.origins.is_empty() {
            true => Vec::new(),
            false => settings::exports(&Options {
                origins: options.origins.clone(),
                ..Options::default()
            })
            .map_err(misused)?,
        };
        if let Some(memory) = exports
            .iter()
            .map(|export| &export.address)
            .find(|address| matches!(address, Address::Memory(_)))
        {
            let what = format!("{memory}: what is written to memory is gone when this ends");
            return Err(misused(what));
        }
        let cache_id = options.cache_id.as_ref();
        let cache_id = cache_id.map(|text| utf8("cache-id", text)).transpose()?;
        let tls_ca = settings::origin_tls_ca(&options.origin_tls_ca, &exports).map_err(misused)?;
        Ok(Self {
            exports,
            cache_id,
            force: value::flag("force", &options.force).map_err(misused)?,
            timeout: value::seconds("origin-timeout", &options.origin_timeout, 30)
                .map_err(misused)?,
            tls_ca,
        })
    }
}

fn names(given: &[Text]) -> Result<Vec<String>, Wrong> {
    let mut names = Vec::new();
    for text in given {
        let name = utf8("export", text)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn utf8(name: &str, text: &Text) -> Result<String, Wrong> {
    let text: &OsStr = text.as_os_str();
    let wrong = || {
        let text = text.to_string_lossy();
        misused(format!("{name}={}: must be UTF-8", text.escape_debug()))
    };
    Ok(text.to_str().ok_or_else(wrong)?.to_owned())
}
