//! What must hold where the cache survives its process: `cache-dir` and what does not go with it.

use std::ffi::OsStr;
use std::path::Path;

use larder::Config;

use super::{ParameterError, Parameters};
use crate::Exports;

/// The largest block that a cache directory can have, in bytes.
pub(super) const MAX_BLOCK_BYTES: u64 = 8 << 20;
/// The smallest limit that leaves a cache directory room for its own books, in bytes.
pub(super) const MIN_MAX_SIZE_BYTES: u64 = 32 << 20;

/// Checks all that `cache-dir` and `cache-id` want of the others.
pub(super) fn check(parameters: &Parameters, config: &Config) -> Result<(), ParameterError> {
    if parameters.directory.is_none() {
        return match &parameters.id {
            Some(id) => Err(ParameterError::new(
                "cache-id",
                &id.text,
                "has no effect without cache-dir=PATH",
            )),
            None => Ok(()),
        };
    }
    if parameters.exports == Exports::Connection {
        return Err(ParameterError::new(
            "cache-exports",
            OsStr::new("connection"),
            "must be separate or shared with cache-dir: nothing can be kept of volumes that end with their connections",
        ));
    }
    if let Some(block) = &parameters.min_block_bytes
        && block.value > MAX_BLOCK_BYTES
    {
        return Err(ParameterError::new(
            "cache-min-block-size",
            &block.text,
            format!("must be at most {MAX_BLOCK_BYTES} (8M) with cache-dir"),
        ));
    }
    if let (Some(size), Some(max)) = (&parameters.max_size_bytes, config.max_size_bytes)
        && max < MIN_MAX_SIZE_BYTES
    {
        return Err(ParameterError::new(
            "cache-max-size",
            &size.text,
            "must be at least 32M with cache-dir",
        ));
    }
    Ok(())
}

/// Checks the block that the directory's file system has made of what was asked for.
pub(super) fn check_block(directory: &Path, block_bytes: u64) -> Result<(), ParameterError> {
    if block_bytes <= MAX_BLOCK_BYTES {
        return Ok(());
    }
    Err(ParameterError::new(
        "cache-dir",
        directory.as_os_str(),
        format!(
            "a block may have at most {MAX_BLOCK_BYTES} bytes (8M) here, and its file system has blocks of {block_bytes}"
        ),
    ))
}
