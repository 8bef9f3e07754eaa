//! A file system over a server with a cache directory that is killed: it is whole after each start, and has every file that
//! was synced. Needs root, FUSE and loop devices.
//!
//! `LARDER_SEED` replays another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use keep::{Front, Kept};
use larder_e2e::{FuseMount, LoopDevice, MIB, Mount, Random, Scratch, Server, run, sparse_file};

const ID: &str = "cache-id=golden";

/// A file system on the disk that a server serves.
struct MountedDisk {
    mount: Option<Mount>,
    device: Option<LoopDevice>,
    fuse: Option<FuseMount>,
    _scratch: Scratch,
}

impl MountedDisk {
    fn new(server: &Server, root: &Path) -> Self {
        let scratch = Scratch::new();
        let fuse = FuseMount::new(server, &scratch);
        let device = LoopDevice::attach(&fuse.file());
        Self {
            mount: Some(Mount::device(&device.device, root)),
            device: Some(device),
            fuse: Some(fuse),
            _scratch: scratch,
        }
    }

    /// Unmounts what still works, and looks whether the file system is whole.
    fn unmount_and_check(mut self) {
        self.mount.take().unwrap().unmount();
        let device = self.device.take().unwrap();
        run("e2fsck", ["-f", "-n", &device.device.display().to_string()]);
        device.detach();
        self.fuse.take().unwrap().unmount();
    }

    /// Unmounts what answers nothing but errors any more.
    fn tear_down(mut self) {
        drop(self.mount.take());
        drop(self.device.take());
        drop(self.fuse.take());
    }
}

/// Writes files, each of which is safe once it is noted, until nothing can be written any more.
fn write_files(root: &Path, random: &mut Random, safe: &mut Vec<(PathBuf, u64, u64)>) {
    loop {
        let (seed, length) = (random.next_u64(), random.between(1, 50_000));
        let path = root.join(format!("f{seed:x}"));
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(&Random::new(seed).bytes(length))?;
            file.sync_all()
        });
        if written.is_err() {
            return;
        }
        safe.push((path, seed, length));
    }
}

fn ext4_over_kills(front: Front) {
    let kept = Kept::new();
    sparse_file(&kept.image, 64 * MIB);
    let image = kept.image.display().to_string();
    run(
        "mkfs.ext4",
        [
            "-q",
            "-F",
            "-E",
            "lazy_itable_init=0,lazy_journal_init=0",
            &image,
        ],
    );
    let root = kept.scratch.make_dir("root");
    let mut random = Random::new(Random::seed_or(1));
    let mut safe = Vec::new();
    for _ in 0..3 {
        let server = kept.start(front, &[ID]);
        let disk = MountedDisk::new(&server, &root);
        let already = safe.len();
        thread::scope(|scope| {
            let writing = scope.spawn(|| write_files(&root, &mut random, &mut safe));
            thread::sleep(Duration::from_millis(500));
            server.kill();
            writing.join().unwrap();
        });
        disk.tear_down();
        assert!(safe.len() > already, "nothing was written");
        let server = kept.start(front, &[ID]);
        let disk = MountedDisk::new(&server, &root);
        for (path, seed, length) in &safe {
            let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert!(
                bytes == Random::new(*seed).bytes(*length),
                "{path:?} is not what it was"
            );
        }
        disk.unmount_and_check();
        server.stop();
    }
}

#[test]
fn an_ext4_on_a_killed_filter_is_whole_and_has_every_file_that_was_synced() {
    ext4_over_kills(Front::Filter);
}

#[test]
fn an_ext4_on_a_killed_server_is_whole_and_has_every_file_that_was_synced() {
    ext4_over_kills(Front::Server);
}
