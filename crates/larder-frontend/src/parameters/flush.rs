//! Where a flush ends, how long what it covers may wait for its way to the origin, and in which order it goes there:
//! `cache-flush` and what goes with it.

use std::time::Duration;

use larder::{Config, FlushTo, Mode, Writeback};

use super::{ParameterError, Parameters};

/// Flushes no longer take data to the origin where they end in the cache; so age does, also in a front end in which it
/// does not otherwise.
const DIRTY_AGE: Duration = Duration::from_secs(30);
/// And so does the share of the limit, in percent.
const DIRTY_SHARE_PERCENT: u32 = 50;

/// Checks all that `cache-flush` and `cache-writeback` want of the others.
pub(super) fn check(parameters: &Parameters) -> Result<(), ParameterError> {
    check_flush_to(parameters)?;
    check_writeback(parameters)
}

fn check_flush_to(parameters: &Parameters) -> Result<(), ParameterError> {
    let Some(typed) = &parameters.flush_to else {
        return Ok(());
    };
    let refused = |advice: &str| Err(ParameterError::new("cache-flush", &typed.text, advice));
    if typed.value == FlushTo::Origin {
        return Ok(());
    }
    match parameters.mode {
        Mode::Writeback if parameters.directory.is_none() => {
            refused("needs cache-dir=PATH, where flushed data is durable")
        }
        Mode::Writeback if parameters.is_blind && parameters.id.is_none() => refused(
            "needs cache-id=TEXT: what was flushed must find its own disk again, and nothing else can tell which one it is",
        ),
        Mode::Writeback => Ok(()),
        Mode::Writethrough => refused("needs cache=writeback, not cache=writethrough"),
        Mode::Unsafe => refused("needs cache=writeback, not cache=unsafe"),
    }
}

fn check_writeback(parameters: &Parameters) -> Result<(), ParameterError> {
    let Some(typed) = &parameters.writeback else {
        return Ok(());
    };
    if typed.value == Writeback::Unordered {
        return Ok(());
    }
    if flush_to(parameters) != FlushTo::Cache {
        return Err(ParameterError::new(
            "cache-writeback",
            &typed.text,
            "needs cache-flush=cache: without it the origin has every flush as soon as it returns",
        ));
    }
    match &parameters.dirty_share_percent {
        Some(share) => Err(ParameterError::new(
            "cache-dirty-share",
            &share.text,
            "must be left out with cache-writeback=ordered: the origin gets every flush at once in that mode",
        )),
        None => Ok(()),
    }
}

pub(super) fn flush_to(parameters: &Parameters) -> FlushTo {
    let typed = parameters.flush_to.as_ref();
    typed.map(|typed| typed.value).unwrap_or_default()
}

pub(super) fn writeback(parameters: &Parameters) -> Writeback {
    let typed = parameters.writeback.as_ref();
    typed.map(|typed| typed.value).unwrap_or_default()
}

pub(super) fn dirty_age(parameters: &Parameters) -> Option<Duration> {
    let default = || match flush_to(parameters) {
        FlushTo::Origin => parameters.default_dirty_age,
        FlushTo::Cache => parameters.default_dirty_age.or(Some(DIRTY_AGE)),
    };
    parameters.dirty_age.unwrap_or_else(default)
}

pub(super) fn dirty_share_percent(parameters: &Parameters) -> Option<u32> {
    let typed = parameters.dirty_share_percent.as_ref();
    typed
        .map(|typed| typed.value)
        .or_else(|| match (flush_to(parameters), writeback(parameters)) {
            (FlushTo::Cache, Writeback::Unordered) => Some(DIRTY_SHARE_PERCENT),
            // What was flushed in order is not dirty, and does not wait.
            (FlushTo::Cache, Writeback::Ordered) | (FlushTo::Origin, _) => None,
        })
}

/// The warning about a share of nothing.
pub(super) fn idle_share(parameters: &Parameters, config: &Config) -> Option<String> {
    let typed = parameters.dirty_share_percent.as_ref()?;
    let has_limit = parameters.is_limited || config.max_size_bytes.is_some();
    (!has_limit).then(|| {
        format!(
            "cache-dirty-share={}: means nothing without cache-max-size",
            typed.text.to_string_lossy()
        )
    })
}
