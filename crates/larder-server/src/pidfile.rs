//! The file with the process number, whole from the moment it is there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use larder_frontend::report::{one_line, reason};

use crate::cleanup::Cleanup;

/// More than any process number needs.
const LONGEST_BYTES: u64 = 32;

/// Writes the file, in place of one that an earlier process left.
pub(crate) fn write(path: &Path, cleanup: &Cleanup) -> Result<(), String> {
    let failed = |what: &str| one_line(&format!("pidfile={}: {what}", path.display()));
    make_sure_of(path).map_err(|what| failed(&what))?;
    replace(path).map_err(|error| failed(&reason(&error)))?;
    cleanup.file(path);
    Ok(())
}

/// Only nothing, and a file that an earlier process left, may be replaced: this may be typed wrong, and by root.
fn make_sure_of(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(reason(&error)),
        Ok(found) => found,
    };
    if !found.is_file() {
        return Err("there is something else by that name, which is no file".to_owned());
    }
    let mut held = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_BYTES).read_to_end(&mut held));
    read.map_err(|error| reason(&error))?;
    let is_number = held.trim_ascii().iter().all(u8::is_ascii_digit);
    if found.len() < LONGEST_BYTES && is_number {
        Ok(())
    } else {
        Err(
            "there is a file by that name that holds something other than a process number"
                .to_owned(),
        )
    }
}

fn replace(path: &Path) -> io::Result<()> {
    let number = std::process::id();
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{number}"));
    let new = PathBuf::from(new);
    // An earlier process of our number may have been killed between these lines.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&new)?;
    let written = writeln!(file, "{number}").and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
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

    #[test]
    fn what_is_no_process_number_is_left_alone() {
        let scratch = Scratch::new();
        let (image, link, full) = (
            scratch.path("image"),
            scratch.path("link"),
            scratch.path("long"),
        );
        fs::write(&image, "precious").unwrap();
        fs::write(&full, "1".repeat(40)).unwrap();
        std::os::unix::fs::symlink("/dev/full", &link).unwrap();
        for path in [&*image, &link, &full, Path::new("/dev/null")] {
            let told = write(path, &Cleanup::default()).expect_err("refused");
            assert!(
                told.starts_with(&format!("pidfile={}: there is ", path.display())),
                "{told}"
            );
        }
        assert_eq!(fs::read(&image).unwrap(), b"precious");
        assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 3);
        // One that was killed before it had written, and one that had.
        for left in ["", "4711\n"] {
            fs::write(scratch.path("pid"), left).unwrap();
            write(&scratch.path("pid"), &Cleanup::default()).unwrap();
        }
    }
}
