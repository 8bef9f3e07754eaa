//! A file system on the disk that a server serves. It needs root, FUSE and loop devices.

use std::path::Path;

use crate::command::run;
use crate::mount::{FuseMount, LoopDevice, Mount};
use crate::scratch::Scratch;
use crate::server::Server;

/// A mounted file system, through nbdfuse and a loop device. Dropped, it unmounts what may answer nothing but errors any more.
#[derive(Debug)]
pub struct MountedDisk {
    // In the order in which they are to be dropped.
    mount: Mount,
    device: LoopDevice,
    fuse: FuseMount,
    _scratch: Scratch,
}

impl MountedDisk {
    /// Mounts the file system on a server's default export at `root`.
    #[must_use]
    pub fn new(server: &Server, root: &Path) -> Self {
        let scratch = Scratch::new();
        let fuse = FuseMount::new(server, &scratch);
        let device = LoopDevice::attach(&fuse.file());
        Self {
            mount: Mount::device(&device.device, root),
            device,
            fuse,
            _scratch: scratch,
        }
    }

    /// Unmounts, and asserts that the file system is whole.
    pub fn unmount_and_check(self) {
        self.mount.unmount();
        run(
            "e2fsck",
            ["-f", "-n", &self.device.device.display().to_string()],
        );
        self.device.detach();
        self.fuse.unmount();
    }
}
