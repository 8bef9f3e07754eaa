//! Where a flush ends, and how long what it covers may wait for its way to the origin: `cache-flush` and what goes
//! with it.

use std::time::Duration;

use larder::{Config, FlushTo, Mode};

use super::{ParameterError, Parameters};

/// Flushes no longer take data to the origin where they end in the cache; so age does, also in a front end in which it
/// does not otherwise.
const DIRTY_AGE: Duration = Duration::from_secs(30);
/// And so does the share of the limit, in percent.
const DIRTY_SHARE_PERCENT: u32 = 50;

/// Checks all that `cache-flush` wants of the others.
pub(super) fn check(parameters: &Parameters) -> Result<(), ParameterError> {
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

pub(super) fn flush_to(parameters: &Parameters) -> FlushTo {
    let typed = parameters.flush_to.as_ref();
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
        .or_else(|| match flush_to(parameters) {
            FlushTo::Origin => None,
            FlushTo::Cache => Some(DIRTY_SHARE_PERCENT),
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
