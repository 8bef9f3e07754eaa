//! A block device over a file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run;

/// A loop device that is detached when the test ends.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// A device of the file's size, with these options of losetup.
    pub(crate) fn over(file: &Path, options: &[&str]) -> Self {
        let fixed = ["--find", "--show"];
        let mut arguments: Vec<&OsStr> = fixed.iter().chain(options).map(OsStr::new).collect();
        arguments.push(file.as_os_str());
        Self {
            path: run("mount", "losetup", &arguments).into(),
        }
    }

    /// Where the device is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("-d").arg(&self.path).status();
        if !std::thread::panicking() {
            assert!(status.unwrap().success(), "losetup -d {:?}", self.path);
        }
    }
}
