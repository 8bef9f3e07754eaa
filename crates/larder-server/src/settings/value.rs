//! Values of one option by itself.

use std::path::PathBuf;
use std::time::Duration;

use larder_frontend::{ParameterError, Parser, PlainParser};

use crate::options::Text;

/// A yes or a no; no where nothing is said.
pub(crate) fn flag(name: &str, text: &Option<Text>) -> Result<bool, ParameterError> {
    let Some(text) = text else {
        return Ok(false);
    };
    let meant = utf8(text).and_then(|text| PlainParser.boolean(text));
    meant.ok_or_else(|| wrong(name, text, "must be true or false"))
}

/// A number from 1 on.
pub(super) fn count(name: &str, text: &Option<Text>, default: u32) -> Result<u32, ParameterError> {
    positive(name, text, default, "must be a whole number, at least 1")
}

/// A whole number of seconds from 1 on.
pub(crate) fn seconds(
    name: &str,
    text: &Option<Text>,
    default: u32,
) -> Result<Duration, ParameterError> {
    let advice = "must be a whole number of seconds, at least 1";
    let seconds = positive(name, text, default, advice)?;
    Ok(Duration::from_secs(seconds.into()))
}

fn positive(
    name: &str,
    text: &Option<Text>,
    default: u32,
    advice: &str,
) -> Result<u32, ParameterError> {
    let Some(text) = text else {
        return Ok(default);
    };
    utf8(text)
        .and_then(|text| PlainParser.unsigned(name, text))
        .filter(|number| *number > 0)
        .ok_or_else(|| wrong(name, text, advice))
}

/// Permission bits in octal.
pub(super) fn mode(name: &str, text: &Option<Text>) -> Result<Option<u32>, ParameterError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let is_octal = |text: &&str| text.chars().all(|digit| digit.is_digit(8));
    let mode = utf8(text)
        .filter(is_octal)
        .and_then(|digits| u32::from_str_radix(digits, 8).ok())
        .filter(|mode| *mode <= 0o777);
    match mode {
        Some(mode) => Ok(Some(mode)),
        None => Err(wrong(
            name,
            text,
            "must be permissions in octal, such as 660",
        )),
    }
}

/// A text that says something.
pub(crate) fn path(name: &str, text: &Option<Text>) -> Result<Option<PathBuf>, ParameterError> {
    match text {
        Some(text) if text.as_os_str().is_empty() => Err(wrong(name, text, "must not be empty")),
        Some(text) => Ok(Some(PathBuf::from(text.as_os_str()))),
        None => Ok(None),
    }
}

fn utf8(text: &Text) -> Option<&str> {
    text.as_os_str().to_str()
}

fn wrong(name: &str, text: &Text, advice: &str) -> ParameterError {
    ParameterError::new(name, text.as_os_str(), advice)
}
