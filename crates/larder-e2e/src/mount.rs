//! Mounts and loop devices that a test needs, undone when it ends. They need root.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::command::{output_of, run};
use crate::scratch::Scratch;
use crate::server::Server;
use crate::wait::wait_until;

/// A mounted file system.
#[derive(Debug)]
pub struct Mount {
    directory: PathBuf,
}

impl Mount {
    /// Mounts a new tmpfs with room for `size` bytes.
    #[must_use]
    pub fn tmpfs(directory: &Path, size: u64) -> Self {
        let options = format!("size={size}");
        let arguments = ["-t", "tmpfs", "-o", &options, "larder-e2e"];
        Self::with(&arguments, directory)
    }

    /// Mounts an empty tmpfs in which nothing can be made.
    #[must_use]
    pub fn read_only_tmpfs(directory: &Path) -> Self {
        Self::with(&["-t", "tmpfs", "-o", "ro", "larder-e2e"], directory)
    }

    /// Mounts the file system on a block device.
    #[must_use]
    pub fn device(device: &Path, directory: &Path) -> Self {
        Self::with(&[&device.display().to_string()], directory)
    }

    fn with(arguments: &[&str], directory: &Path) -> Self {
        let path = directory.display().to_string();
        run("mount", arguments.iter().copied().chain([path.as_str()]));
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Unmounts, and asserts that it works.
    pub fn unmount(self) {
        run("umount", [&self.directory]);
        std::mem::forget(self);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.directory)
            .status();
    }
}

/// A loop device over a file.
#[derive(Debug)]
pub struct LoopDevice {
    /// Such as `/dev/loop0`.
    pub device: PathBuf,
}

impl LoopDevice {
    /// Attaches the next free loop device to a file.
    #[must_use]
    pub fn attach(file: &Path) -> Self {
        let path = file.display().to_string();
        let printed = run("losetup", ["--find", "--show", &path]);
        Self {
            device: PathBuf::from(printed.trim()),
        }
    }

    /// Detaches, and asserts that it works.
    pub fn detach(self) {
        let device = self.device.clone();
        run("losetup", [Path::new("--detach"), &device]);
        wait_until("the loop device is free", || {
            output_of(Command::new("losetup").arg(&device))
                .stdout
                .is_empty()
        });
        std::mem::forget(self);
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}

/// A server's default export as a file, through nbdfuse.
#[derive(Debug)]
pub struct FuseMount {
    child: Child,
    directory: PathBuf,
}

impl FuseMount {
    /// Mounts, and waits until the file is there.
    #[must_use]
    pub fn new(server: &Server, scratch: &Scratch) -> Self {
        assert!(
            Path::new("/dev/fuse").exists(),
            "/dev/fuse is missing: this kernel has no FUSE, which this test needs"
        );
        let directory = scratch.make_dir("fuse");
        let child = Command::new("nbdfuse")
            .arg(&directory)
            .arg(server.uri())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run nbdfuse: {e}"));
        let mount = Self { child, directory };
        wait_until("nbdfuse serves", || mount.file().exists());
        mount
    }

    /// The file that is the export.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.directory.join("nbd")
    }

    /// Unmounts, and waits until nbdfuse has left the server.
    pub fn unmount(mut self) {
        run("umount", [&self.directory]);
        let status = self.child.wait().expect("nbdfuse's status");
        assert!(status.success(), "nbdfuse: {status}");
        std::mem::forget(self);
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.directory)
            .status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
