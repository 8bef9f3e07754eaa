//! The directory in which a cache survives (`cache-dir`): there, open, and ready for the engine.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use larder::medium::DirectoryMedium;
use larder::{CacheHome, Medium};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use crate::lock_text::lock_text;
use crate::report::{one_line, reason};
use crate::{ParameterError, Settings};

/// A directory that is there and open.
#[derive(Debug)]
pub struct CacheDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// The files in it.
    pub medium: DirectoryMedium,
    /// The block size of its file system, in bytes, as the file system says.
    pub file_system_block_bytes: u64,
}

impl CacheDirectory {
    /// Opens the directory. Where it is missing it is made, for its owner alone; what it is in is not.
    pub fn open(path: &Path) -> Result<Self, ParameterError> {
        let refused = |error: &io::Error| wrong(path, cannot_use(error));
        let medium = match DirectoryMedium::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path)?;
                DirectoryMedium::open(path).map_err(|error| refused(&error))?
            }
            opened => opened.map_err(|error| refused(&error))?,
        };
        let found = rustix::fs::statvfs(path).map_err(|errno| refused(&errno.into()))?;
        Ok(Self {
            path: path.to_owned(),
            medium,
            file_system_block_bytes: found.f_bsize,
        })
    }

    /// What the engine opens. `medium` is this directory's, perhaps with more around it.
    pub fn home(
        path: &Path,
        medium: Arc<dyn Medium>,
        settings: &Settings,
    ) -> Result<CacheHome, ParameterError> {
        let uuid_bits = random_bits().map_err(|error| {
            let reason = reason(&error);
            wrong(path, format!("no random numbers can be had: {reason}"))
        })?;
        Ok(CacheHome {
            medium,
            path: one_line(&path.display().to_string()),
            block_is_given: settings.block_is_given,
            uuid_bits,
            lock_text: lock_text(),
            sizes: None,
        })
    }
}

/// Makes the directory, and its name durable: what is promised to be in it must be found after a power cut.
fn make(path: &Path) -> Result<(), ParameterError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !parent.exists() => {
                let parent = one_line(&parent.display().to_string());
                wrong(
                    path,
                    format!("{parent} is not there, and only the directory itself is made"),
                )
            }
            io::ErrorKind::AlreadyExists => wrong(
                path,
                "is a link to something that is not there: make the directory that it leads to",
            ),
            _ => wrong(
                path,
                format!(
                    "cannot be made: {}; it must be a directory, or a place where one can be made",
                    reason(&error)
                ),
            ),
        })?;
    sync(parent).map_err(|error| {
        let reason = reason(&error);
        wrong(
            path,
            format!("was made, and may not outlive a power cut: {reason}"),
        )
    })
}

fn sync(directory: &Path) -> io::Result<()> {
    match rustix::fs::fsync(File::open(directory)?) {
        // A file system without it has names that are durable at once, or never.
        Err(Errno::INVAL) => Ok(()),
        other => Ok(other?),
    }
}

fn cannot_use(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotADirectory => "must be a directory".to_owned(),
        _ => format!(
            "{}; it must be a directory that can be read and written",
            reason(error)
        ),
    }
}

fn wrong(path: &Path, advice: impl Into<String>) -> ParameterError {
    ParameterError::new("cache-dir", path.as_os_str(), advice)
}

/// 128 bits that no other cache has.
fn random_bits() -> io::Result<u128> {
    let mut bytes = [0; 16];
    // So few come at once or not at all.
    let count =
        rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty()))?;
    if count < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{Parameters, PlainParser};

    /// A directory of a test's own, removed when it ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("larder-frontend-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refusal(path: &Path) -> String {
        CacheDirectory::open(path).unwrap_err().to_string()
    }

    #[test]
    fn a_directory_that_is_there_is_opened_and_left_as_it_is() {
        let scratch = Scratch::new();
        fs::write(scratch.0.join("file"), "content").unwrap();
        let mode = fs::metadata(&scratch.0).unwrap().mode();
        let opened = CacheDirectory::open(&scratch.0).unwrap();
        assert!(opened.file_system_block_bytes > 0);
        assert_eq!(opened.medium.names().unwrap(), ["file"]);
        assert_eq!(fs::metadata(&scratch.0).unwrap().mode(), mode);
        let link = scratch.0.join("link");
        symlink(&scratch.0, &link).unwrap();
        assert!(CacheDirectory::open(&link).is_ok());
    }

    #[test]
    fn one_that_is_missing_is_made_for_its_owner_and_no_more_than_it() {
        let scratch = Scratch::new();
        let path = scratch.0.join("cache");
        CacheDirectory::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let deep = scratch.0.join("missing").join("cache");
        assert_eq!(
            refusal(&deep),
            format!(
                "cache-dir={}: {} is not there, and only the directory itself is made",
                deep.display(),
                scratch.0.join("missing").display()
            )
        );
        assert!(!scratch.0.join("missing").exists());
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let scratch = Scratch::new();
        let file = scratch.0.join("file");
        fs::write(&file, "content").unwrap();
        for path in [file.clone(), file.join("below")] {
            assert_eq!(
                refusal(&path),
                format!("cache-dir={}: must be a directory", path.display())
            );
        }
        let link = scratch.0.join("link");
        symlink("nowhere", &link).unwrap();
        assert!(refusal(&link).contains("is a link to something that is not there"));
        assert_eq!(fs::read(&file).unwrap(), b"content");
    }

    #[test]
    fn where_nothing_can_be_made_the_reason_is_told() {
        let told = refusal(Path::new("/proc/larder"));
        assert!(
            told.starts_with("cache-dir=/proc/larder: cannot be made: "),
            "{told}"
        );
        assert!(!told.contains("(os error"), "{told}");
    }

    #[test]
    fn each_home_has_other_random_bits_and_says_who_it_is() {
        let scratch = Scratch::new();
        let mut parameters = Parameters::default();
        let size = OsStr::new("4K");
        parameters
            .set("cache-min-block-size", size, &PlainParser)
            .unwrap();
        let settings = parameters.finish().unwrap();
        let home = || {
            let opened = CacheDirectory::open(&scratch.0).unwrap();
            CacheDirectory::home(&scratch.0, Arc::new(opened.medium), &settings).unwrap()
        };
        let (one, two) = (home(), home());
        assert!(one.uuid_bits != two.uuid_bits && one.block_is_given);
        assert_eq!(one.path, scratch.0.display().to_string());
        let begin = format!("pid {} started ", std::process::id());
        assert!(one.lock_text.starts_with(&begin), "{}", one.lock_text);
    }
}
