//! The file with the process number, whole from the moment it is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use larder_frontend::report::{one_line, reason};

use crate::cleanup::Cleanup;

/// Writes the file, in place of one that an earlier process left.
pub(crate) fn write(path: &Path, cleanup: &Cleanup) -> Result<(), String> {
    let failed =
        |error: io::Error| one_line(&format!("pidfile={}: {}", path.display(), reason(&error)));
    let number = std::process::id();
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{number}"));
    let new = PathBuf::from(new);
    fs::write(&new, format!("{number}\n")).map_err(failed)?;
    if let Err(error) = fs::rename(&new, path) {
        let _ = fs::remove_file(&new);
        return Err(failed(error));
    }
    cleanup.file(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn the_file_holds_the_number_and_goes_at_the_end() {
        let scratch = Scratch::new();
        let path = scratch.path("pid");
        fs::write(&path, "1\n").unwrap();
        let cleanup = Cleanup::default();
        write(&path, &cleanup).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{}\n", std::process::id())
        );
        cleanup.run();
        assert!(!path.exists());
    }

    #[test]
    fn where_it_cannot_be_is_told() {
        let scratch = Scratch::new();
        assert_eq!(
            write(Path::new("/no/such/pid"), &Cleanup::default()).unwrap_err(),
            "pidfile=/no/such/pid: No such file or directory"
        );
        let directory = scratch.path("d");
        fs::create_dir(&directory).unwrap();
        assert!(write(&directory, &Cleanup::default()).is_err());
        assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 1);
    }
}
