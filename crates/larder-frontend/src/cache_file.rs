//! Where the cache file goes: the directory TMPDIR.

use std::env;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use larder::cache_file::TemporaryFile;

use crate::report::{one_line, reason};

/// Where the cache file goes when TMPDIR says nothing.
const DEFAULT_DIRECTORY: &str = "/var/tmp";

/// A cache file that has just been made.
#[derive(Debug)]
pub struct CacheFile {
    /// The directory it is in.
    pub directory: PathBuf,
    /// The file. It has no name any more.
    pub file: TemporaryFile,
    /// The block size of its file system, in bytes, as the file system says.
    pub file_system_block_bytes: u64,
}

impl CacheFile {
    /// Makes the file in the directory that the environment names.
    pub fn create() -> Result<Self, CacheFileError> {
        Self::create_in(temporary_directory())
    }

    fn create_in(directory: PathBuf) -> Result<Self, CacheFileError> {
        let refused = |error: io::Error| CacheFileError::new(&directory, &error);
        let file = TemporaryFile::create_in(&directory).map_err(refused)?;
        let file_system_block_bytes = file.file_system_block_size().map_err(refused)?;
        Ok(Self {
            directory,
            file,
            file_system_block_bytes,
        })
    }
}

/// Why there is no cache file: one line with the directory, the reason and what to do.
#[derive(Debug)]
pub struct CacheFileError {
    message: String,
    errno: i32,
}

impl CacheFileError {
    fn new(directory: &Path, error: &io::Error) -> Self {
        let directory = one_line(&directory.display().to_string());
        let reason = reason(error);
        Self {
            message: format!(
                "cannot make the cache file in {directory}: {reason}; \
                 TMPDIR must be a directory that can be written"
            ),
            errno: error.raw_os_error().unwrap_or(0),
        }
    }

    /// The system's number for the reason; 0 where it has none.
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Display for CacheFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CacheFileError {}

/// Where files without a name go. An empty TMPDIR is no directory and counts as none given.
pub fn temporary_directory() -> PathBuf {
    env::var_os("TMPDIR")
        .filter(|directory| !directory.is_empty())
        .map_or_else(|| PathBuf::from(DEFAULT_DIRECTORY), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_told_with_path_and_reason() {
        let error = CacheFile::create_in("/no/such".into()).unwrap_err();
        assert_eq!(error.errno(), 2);
        assert_eq!(
            error.to_string(),
            "cannot make the cache file in /no/such: No such file or directory; \
             TMPDIR must be a directory that can be written"
        );
    }

    #[test]
    fn the_file_is_made_and_knows_its_file_system() {
        let made = CacheFile::create_in(env::temp_dir()).unwrap();
        assert_eq!(made.directory, env::temp_dir());
        assert!(made.file_system_block_bytes > 0);
    }
}
