//! What is typed for one parameter, by itself.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use larder::config::{MAX_BLOCK_BYTES, MAX_READAHEAD_BYTES, MIN_BLOCK_BYTES, MIN_MAX_SIZE_BYTES};
use larder::{CacheOnRead, FlushTo, Mode, Writeback};

use super::ParameterError;
use crate::Parser;

/// The longest text that tells one content from another, in bytes.
const LONGEST_ID_BYTES: usize = 4096;

pub(super) fn mode(text: &str) -> Option<Mode> {
    match text {
        "writeback" => Some(Mode::Writeback),
        "writethrough" => Some(Mode::Writethrough),
        "unsafe" => Some(Mode::Unsafe),
        _ => None,
    }
}

pub(super) fn flush_to(text: &str) -> Option<FlushTo> {
    match text {
        "origin" => Some(FlushTo::Origin),
        "cache" => Some(FlushTo::Cache),
        _ => None,
    }
}

pub(super) fn writeback(name: &str, value: &OsStr) -> Result<Writeback, ParameterError> {
    match value.to_str() {
        Some("unordered") => Ok(Writeback::Unordered),
        Some("ordered") => Ok(Writeback::Ordered),
        _ => Err(ParameterError::new(
            name,
            value,
            "must be unordered or ordered",
        )),
    }
}

pub(super) fn block_bytes(text: &str, parser: &dyn Parser) -> Option<u64> {
    let bytes = parser.size(text)?;
    let fits = (MIN_BLOCK_BYTES..=MAX_BLOCK_BYTES).contains(&bytes);
    (fits && bytes.is_power_of_two()).then_some(bytes)
}

pub(super) fn max_size_bytes(text: &str, parser: &dyn Parser) -> Option<u64> {
    let bytes = parser.size(text)?;
    (bytes >= MIN_MAX_SIZE_BYTES).then_some(bytes)
}

pub(super) fn percent(
    name: &str,
    value: &OsStr,
    parser: &dyn Parser,
) -> Result<u32, ParameterError> {
    value
        .to_str()
        .and_then(|text| parser.unsigned(name, text))
        .filter(|percent| *percent > 0)
        .ok_or_else(|| no_percent(name, value))
}

/// Percent of which there are no more than 100.
pub(super) fn share(name: &str, value: &OsStr, parser: &dyn Parser) -> Result<u32, ParameterError> {
    match percent(name, value, parser)? {
        share @ ..=100 => Ok(share),
        _ => Err(no_percent(name, value)),
    }
}

fn no_percent(name: &str, value: &OsStr) -> ParameterError {
    ParameterError::new(name, value, "must be a whole number of percent, 1 to 100")
}

pub(super) fn cache_on_read(value: &OsStr, text: &str, parser: &dyn Parser) -> Option<CacheOnRead> {
    if value.as_bytes().starts_with(b"/") {
        return Some(CacheOnRead::WhileExists(PathBuf::from(value)));
    }
    Some(match parser.boolean(text)? {
        true => CacheOnRead::Always,
        false => CacheOnRead::Never,
    })
}

/// The outer None is a refusal, the inner one is `off`.
pub(super) fn dirty_age(name: &str, text: &str, parser: &dyn Parser) -> Option<Option<Duration>> {
    if text == "off" {
        return Some(None);
    }
    let seconds = parser.unsigned(name, text).filter(|seconds| *seconds > 0)?;
    Some(Some(Duration::from_secs(seconds.into())))
}

/// 0 is `off`.
pub(super) fn readahead_bytes(text: &str, parser: &dyn Parser) -> Option<u64> {
    if text == "off" {
        return Some(0);
    }
    let bytes = parser.size(text)?;
    (MIN_BLOCK_BYTES..=MAX_READAHEAD_BYTES)
        .contains(&bytes)
        .then_some(bytes)
}

/// A directory, as a path that stays the same wherever the process goes. The error is the advice.
pub(super) fn directory(value: &OsStr) -> Result<PathBuf, String> {
    if value.as_bytes().starts_with(b"~") {
        return Err(
            "must be a path; no shell has replaced the ~ here, and one that is a name is typed ./~"
                .to_owned(),
        );
    }
    if value.is_empty() {
        return Err("must be the path of a directory".to_owned());
    }
    std::path::absolute(value).map_err(|error| {
        let reason = crate::report::reason(&error);
        format!("must be a path that begins with /, since the working directory is none: {reason}")
    })
}

/// A text that tells one content from another.
pub(super) fn id(value: &OsStr) -> Option<String> {
    let fits = |text: &&str| (1..=LONGEST_ID_BYTES).contains(&text.len());
    value.to_str().filter(fits).map(str::to_owned)
}
