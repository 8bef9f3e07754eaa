//! A cache directory on a file system that is full, or can no longer be written: clients do not notice, and the next start has
//! the right data. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use keep::{BOTH, Front, Kept, SIZE, assert_warm};
use larder_e2e::{Client, LoopDevice, MIB, Mount, Random, Server, read_file, run, sparse_file};

const ID: &str = "cache-id=golden";

/// A small file system with a cache directory in it.
struct SmallDisk {
    root: PathBuf,
    mount: Mount,
    device: Option<LoopDevice>,
}

impl SmallDisk {
    /// In memory.
    fn tmpfs(kept: &mut Kept, size: u64) -> Self {
        let root = kept.scratch.make_dir("small");
        kept.directory = root.join("cache");
        Self {
            mount: Mount::tmpfs(&root, size),
            device: None,
            root,
        }
    }

    /// On a device.
    fn ext4(kept: &mut Kept, size: u64, options: &[&str]) -> Self {
        let file = kept.scratch.path("disk");
        sparse_file(&file, size);
        let text = file.display().to_string();
        let fixed = ["-q", "-F"];
        run("mkfs.ext4", fixed.iter().chain(options).chain([&&*text]));
        let root = kept.scratch.make_dir("small");
        kept.directory = root.join("cache");
        let device = LoopDevice::attach(&file);
        Self {
            mount: Mount::device(&device.device, &root),
            device: Some(device),
            root,
        }
    }

    /// Others take all the room.
    fn fill(&self) {
        let mut filler = File::create(self.root.join("filler")).unwrap();
        let piece = Random::new(9).bytes(64 << 10);
        while filler.write_all(&piece).is_ok() {}
        while filler.write_all(&piece[..512]).is_ok() {}
        let _ = filler.sync_all();
    }

    /// The others give it back.
    fn free(&self) {
        fs::remove_file(self.root.join("filler")).unwrap();
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        run("mount", ["-o", &options, &self.root.display().to_string()]);
    }

    fn unmount(self) {
        self.mount.unmount();
        if let Some(device) = self.device {
            device.detach();
        }
    }
}

/// A client that knows what the disk has to hold.
struct Model<'k> {
    kept: &'k Kept,
    /// What each byte may be, the newest last: more than one where a change failed.
    expected: Vec<Vec<u8>>,
    random: Random,
}

impl<'k> Model<'k> {
    fn new(kept: &'k Kept) -> Self {
        Self {
            expected: kept.content.iter().map(|byte| vec![*byte]).collect(),
            random: Random::new(Random::seed_or(1)),
            kept,
        }
    }

    /// Works, and flushes at the end. A change may fail only if `may_fail`, and then was made or not, byte by byte.
    fn work(&mut self, server: &Server, steps: u64, may_fail: bool) {
        let mut client = Client::connect(server.socket());
        for _ in 0..steps {
            let length = self.random.between(1, 100_000);
            let offset = self.random.below(SIZE - length);
            let kind = self.random.below(10);
            let (bytes, result) = match kind {
                0 => (Vec::new(), client.flush()),
                1 => (vec![0; length as usize], client.zero(offset, length)),
                2..6 => {
                    let read = client.read(offset, length).expect("a read");
                    self.check("read", offset, &read);
                    continue;
                }
                _ => {
                    let bytes = self.random.bytes(length);
                    let result = client.write(offset, &bytes);
                    (bytes, result)
                }
            };
            assert!(result.is_ok() || may_fail, "{kind}: {result:?}");
            let places = &mut self.expected[offset as usize..];
            for (may_be, byte) in places.iter_mut().zip(bytes) {
                if result.is_ok() {
                    may_be.clear();
                }
                may_be.push(byte);
            }
        }
        let flushed = client.flush();
        assert!(flushed.is_ok() || may_fail, "{flushed:?}");
        client.disconnect_and_wait();
        if flushed.is_ok() {
            self.check("the file after a flush", 0, &read_file(&self.kept.image));
        }
    }

    fn check(&self, what: &str, offset: u64, bytes: &[u8]) {
        let expected = &self.expected[offset as usize..];
        let wrong = bytes
            .iter()
            .zip(expected)
            .position(|(byte, may_be)| !may_be.contains(byte));
        assert_eq!(
            wrong, None,
            "{what} from {offset}: the first byte that is wrong"
        );
    }

    /// Everything that is served is right.
    fn check_served(&self, server: &Server) {
        self.check("the disk", 0, &keep::read_all(server));
    }

    /// Ends a server that may not have been able to close its directory.
    fn end(&self, server: Server) {
        server.terminate();
        let exit = server.wait_for_exit();
        assert!(!exit.output.contains("panicked"), "{}", exit.output);
        assert!([0, 1].contains(&exit.code), "{}", exit.output);
        self.check("the file at the end", 0, &read_file(&self.kept.image));
    }
}

fn runs_full(front: Front, disk: impl FnOnce(&mut Kept) -> SmallDisk) {
    let mut kept = Kept::new();
    let disk = disk(&mut kept);
    let mut model = Model::new(&kept);
    let server = kept.start(front, &[ID]);
    model.work(&server, 20, false);
    disk.fill();
    model.work(&server, 60, false);
    disk.free();
    model.work(&server, 20, false);
    disk.fill();
    model.work(&server, 20, false);
    model.end(server);
    // The next start finds it full, and refuses or serves what is right.
    if let Some(bytes) = kept.copied(front, &[ID]) {
        model.check("served from a full disk", 0, &bytes);
    }
    disk.free();
    let server = kept.start(front, &[ID]);
    model.check_served(&server);
    model.work(&server, 20, false);
    // What was zeroed is the origin's until it is read.
    model.check_served(&server);
    server.stop();
    let server = kept.start(front, &[ID]);
    model.check_served(&server);
    assert_warm(&server.stop());
    disk.unmount();
}

#[test]
fn a_tmpfs_that_runs_full_under_the_directory_is_nobodys_error() {
    for front in BOTH {
        runs_full(front, |kept| SmallDisk::tmpfs(kept, 12 * MIB));
    }
}

#[test]
fn an_ext4_that_runs_full_under_the_directory_is_nobodys_error() {
    for front in BOTH {
        runs_full(front, |kept| SmallDisk::ext4(kept, 24 * MIB, &["-m", "0"]));
    }
}

#[test]
fn a_file_system_that_is_read_only_at_the_start_is_refused() {
    for front in BOTH {
        let mut kept = Kept::new();
        let disk = SmallDisk::tmpfs(&mut kept, 64 * MIB);
        kept.warm(front, &[ID]);
        disk.remount("ro");
        let told = kept.refusal(front, &[ID]);
        let path = kept.directory.display().to_string();
        assert!(
            told.contains(&path) && told.contains("Read-only file system"),
            "{told}"
        );
        disk.remount("rw");
        assert_warm(&kept.live(front, &[ID], &kept.content));
        disk.unmount();
    }
}

/// Makes the kernel believe that the file system on the device is broken, upon which nothing is written to it any more.
fn break_ext4(device: &Path) {
    let name = device.file_name().unwrap().to_string_lossy().into_owned();
    let switch = format!("/sys/fs/ext4/{name}/trigger_fs_error");
    fs::write(&switch, "a test").unwrap_or_else(|error| panic!("{switch}: {error}"));
}

/// What the directory may say of a sector must not outlive a change of it, so a change that cannot be told to it is an error.
#[test]
fn a_file_system_that_goes_read_only_while_it_is_used_fails_changes_at_most() {
    for front in BOTH {
        let mut kept = Kept::new();
        let options = ["-m", "0", "-e", "remount-ro"];
        let disk = SmallDisk::ext4(&mut kept, 64 * MIB, &options);
        let mut model = Model::new(&kept);
        kept.warm(front, &[ID]);
        let server = kept.start(front, &[ID]);
        model.work(&server, 20, false);
        break_ext4(&disk.device.as_ref().unwrap().device);
        model.work(&server, 60, true);
        model.check_served(&server);
        model.end(server);
        assert_eq!(
            kept.copied(front, &[ID]),
            None,
            "a directory that cannot be written"
        );
        let file = kept.scratch.path("disk");
        let root = disk.root.clone();
        disk.unmount();
        // It says with 1 that it mended something.
        let mend = format!("e2fsck -fy {}; test $? -le 1", file.display());
        run("sh", ["-c", &mend]);
        let device = LoopDevice::attach(&file);
        let mount = Mount::device(&device.device, &root);
        let server = kept.start(front, &[ID]);
        model.check_served(&server);
        model.work(&server, 20, false);
        server.stop();
        mount.unmount();
        device.detach();
    }
}
