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

    /// Makes a part of it a device of its own, without any partition table, and tells the number of that. Its
    /// node in /dev, if there is to be one, may still be in the making.
    pub(crate) fn add_partition(&self, start_bytes: u64, length_bytes: u64) -> u64 {
        let [start, length] = [start_bytes, length_bytes].map(|bytes| (bytes / 512).to_string());
        let arguments = ["1", &start, &length].map(OsStr::new);
        let arguments = [&[self.path.as_os_str()], &arguments[..]].concat();
        run("util-linux", "addpart", &arguments);
        let name = self.path.file_name().unwrap().to_str().unwrap();
        let numbers = std::fs::read_to_string(format!("/sys/block/{name}/{name}p1/dev")).unwrap();
        let (major, minor) = numbers.trim().split_once(':').unwrap();
        rustix::fs::makedev(major.parse().unwrap(), minor.parse().unwrap())
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
