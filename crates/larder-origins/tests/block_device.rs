//! Block devices, as loop devices. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::loop_device::LoopDevice;
use common::refusal;
use common::scratch::Scratch;
use larder::{Origin, ZeroOptions};
use larder_testing::random::content;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const SECTOR_SIZES: [&str; 2] = ["--sector-size=512", "--sector-size=4096"];

/// Whole sectors, but not whole pages where sectors are smaller.
fn size_bytes(sector_size: &str) -> usize {
    match sector_size {
        "--sector-size=512" => (3 << 20) + 3 * 512,
        _ => (3 << 20) + 4096,
    }
}

#[test]
fn random_requests_match_a_byte_array() {
    let _turn = common::turn();
    for scratch in [Scratch::on_disk(), Scratch::on_tmpfs()] {
        for (seed, sector_size) in (0..).zip(SECTOR_SIZES) {
            let image = scratch.path(&format!("image-{seed}"));
            let before = content(seed, 0, size_bytes(sector_size));
            std::fs::write(&image, &before).unwrap();
            let device = LoopDevice::over(&image, &[sector_size]);
            let source = common::open(device.path(), false).unwrap();
            assert_eq!(source.connect().unwrap().size(), before.len() as u64);
            let model = common::model::run(&*source, &before, seed);
            // What was flushed is in the device, not only in its cache.
            let after = std::fs::read(&image).unwrap();
            common::model::compare(0, &after, &model);
        }
    }
}

#[test]
fn a_device_zeroes_and_discards_by_its_own_commands() {
    let _turn = common::turn();
    for sector_size in SECTOR_SIZES {
        let scratch = Scratch::on_disk();
        let image = scratch.path("image");
        std::fs::write(&image, vec![9; 4 << 20]).unwrap();
        let device = LoopDevice::over(&image, &[sector_size]);
        let source = common::open(device.path(), false).unwrap();
        let origin = source.connect().unwrap();
        origin.flush().unwrap();
        let full = common::allocated_bytes(&image);
        let hole = ZeroOptions {
            may_trim: true,
            fua: true,
            fast: false,
        };
        origin.zero(0, 1 << 20, hole).unwrap();
        assert_eq!(common::allocated_bytes(&image), full - (1 << 20));
        // One byte short of a page at both ends.
        origin
            .trim((2 << 20) - 4095, (1 << 20) + 2 * 4095, true)
            .unwrap();
        assert_eq!(common::allocated_bytes(&image), full - (2 << 20));
        let mut bytes = vec![0; (1 << 20) + 2 * 4096];
        origin.read((2 << 20) - 4096, &mut bytes).unwrap();
        assert!(bytes[..4096].iter().all(|&byte| byte == 9));
        assert!(bytes[4096 + (1 << 20)..].iter().all(|&byte| byte == 9));
        let fast = ZeroOptions { fast: true, ..hole };
        let error = origin.zero(0, 1 << 20, fast).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(95));
        let can = origin.capabilities();
        assert!(can.trim && can.zero && !can.fast_zero && !can.extents && can.multi_conn);
        let found = origin.extents(0, 4 << 20, false).unwrap();
        assert!(found.len() == 1 && !found[0].hole && found[0].length == 4 << 20);
        assert_eq!(origin.limits().minimum, 1);
    }
}

#[test]
fn fua_is_in_the_device_on_return() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.path("image");
    std::fs::write(&image, vec![9; 1 << 20]).unwrap();
    let device = LoopDevice::over(&image, &[]);
    let source = common::open(device.path(), false).unwrap();
    let origin = source.connect().unwrap();
    origin.write(70_000, b"durable", true).unwrap();
    assert_eq!(&std::fs::read(&image).unwrap()[70_000..70_007], b"durable");
    let options = ZeroOptions {
        may_trim: false,
        fua: true,
        fast: false,
    };
    // Less than what the device zeroes by itself, and more.
    for (offset, length) in [(70_000, 7), (100_001, 50_000)] {
        origin.zero(offset as u64, length as u64, options).unwrap();
        let after = std::fs::read(&image).unwrap();
        assert!(after[offset..offset + length].iter().all(|&byte| byte == 0));
        assert_eq!((after[offset - 1], after[offset + length]), (9, 9));
    }
    // The write is not the trim's, and is made durable with it.
    origin.write(0, b"before", false).unwrap();
    origin.trim(200_000, 100_000, true).unwrap();
    assert_eq!(&std::fs::read(&image).unwrap()[..6], b"before");
}

#[test]
fn a_device_that_can_only_be_read_is_served_read_only() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 1 << 20);
    let device = LoopDevice::over(&image, &["--read-only"]);
    let error = refusal(device.path(), false);
    assert!(error.contains("--read-only"), "{error}");
    let source = common::open(device.path(), true).unwrap();
    let origin = source.connect().unwrap();
    assert_eq!(
        (origin.size(), origin.capabilities().write),
        (1 << 20, false)
    );
    origin.flush().unwrap();
}

#[test]
fn a_device_that_the_machine_uses_is_not_written_to() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 1 << 20);
    let device = LoopDevice::over(&image, &[]);
    let holder = hold(device.path()).unwrap();
    let error = refusal(device.path(), false);
    assert!(error.contains("in use by this machine"), "{error}");
    common::open(device.path(), true).unwrap();
    drop(holder);
    common::open(device.path(), false).unwrap();
}

/// An attempt to hold it as a mounted file system holds it.
fn hold(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

#[test]
fn a_device_that_is_written_to_is_shut_to_the_machine() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 16 << 20);
    let device = LoopDevice::over(&image, &[]);
    common::run(
        "e2fsprogs",
        "mkfs.ext4",
        &[OsStr::new("-q"), device.path().as_os_str()],
    );
    let mounted = scratch.path("mounted");
    std::fs::create_dir(&mounted).unwrap();
    let mount = || {
        let mut mount = std::process::Command::new("mount");
        let status = mount
            .arg(device.path())
            .arg(&mounted)
            .output()
            .unwrap()
            .status;
        status.success()
    };
    let source = common::open(device.path(), false).unwrap();
    assert!(!mount());
    let origin = source.connect().unwrap();
    drop(source);
    assert_eq!(hold(device.path()).unwrap_err(), Errno::BUSY);
    // Who only reads is let in, and so is our own export of it.
    std::fs::read(device.path()).unwrap();
    drop(origin);
    assert!(mount());
    let error = refusal(device.path(), false);
    common::run("mount", "umount", &[mounted.as_os_str()]);
    assert!(error.contains("in use by this machine"), "{error}");
    common::open(device.path(), false).unwrap();
}

#[test]
fn a_device_is_claimed_whatever_its_node_is() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 1 << 20);
    let device = LoopDevice::over(&image, &[]);
    let node = scratch.path("node");
    common::make_node(&node, std::fs::metadata(device.path()).unwrap().rdev());
    let source = common::open(device.path(), false).unwrap();
    let error = refusal(&node, false);
    assert!(error.contains("served as another export"), "{error}");
    drop(source);
    common::open(&node, false).unwrap();
}

#[test]
fn a_device_and_a_part_of_it_are_not_both_written_to() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 4 << 20);
    let whole = LoopDevice::over(&image, &["--partscan"]);
    let part = scratch.path("part");
    common::make_node(&part, whole.add_partition(1 << 20, 1 << 20));
    for (first, second) in [(whole.path(), &*part), (&*part, whole.path())] {
        let source = common::open(first, false).unwrap();
        let error = refusal(second, false);
        assert!(error.contains("in use by this machine"), "{error}");
        drop(source);
    }
    assert_eq!(
        common::open(&part, false)
            .unwrap()
            .connect()
            .unwrap()
            .size(),
        1 << 20
    );
}

#[test]
fn parts_with_dirty_pages_are_zeroed_and_discarded_too() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 4 << 20);
    let device = LoopDevice::over(&image, &[]);
    let source = common::open(device.path(), false).unwrap();
    let [origin, writer] = [(); 2].map(|()| source.connect().unwrap());
    let hole = ZeroOptions {
        may_trim: true,
        ..ZeroOptions::default()
    };
    let commands: [&dyn Fn(); 2] = [&|| origin.zero(0, 4 << 20, hole).unwrap(), &|| {
        origin.trim(0, 4 << 20, false).unwrap()
    }];
    for command in commands {
        writer.write(0, &vec![9; 4 << 20], true).unwrap();
        assert_eq!(common::allocated_bytes(&image), 4 << 20);
        writer.write(0, &vec![8; 4 << 20], false).unwrap();
        command();
        origin.flush().unwrap();
        assert_eq!(common::allocated_bytes(&image), 0);
        let mut bytes = vec![1; 4 << 20];
        writer.read(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 0));
    }
}

/// A small tmpfs that is unmounted when the test ends.
struct SmallFileSystem {
    path: PathBuf,
}

impl SmallFileSystem {
    fn mount(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        let arguments = ["-t", "tmpfs", "-o", "size=1M", "tmpfs"].map(OsStr::new);
        let arguments = [&arguments[..], &[path.as_os_str()]].concat();
        common::run("mount", "mount", &arguments);
        Self { path }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg(&self.path)
            .status();
    }
}

#[test]
fn lost_writes_are_told_to_every_handle_once() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let small = SmallFileSystem::mount(scratch.path("small"));
    let image = small.path().join("image");
    std::fs::File::create_new(&image)
        .unwrap()
        .set_len(16 << 20)
        .unwrap();
    let device = LoopDevice::over(&image, &[]);
    let source = common::open(device.path(), false).unwrap();
    let [writer, neighbour, idle] = [(); 3].map(|()| source.connect().unwrap());
    // More than fits below the device, which only shows when it is written back.
    writer.write(0, &vec![1; 4 << 20], false).unwrap();
    assert!(writer.flush().unwrap_err().raw_os_error().is_some());
    assert!(neighbour.flush().is_err());
    assert!(idle.write(8 << 20, &[], true).is_ok());
    assert!(idle.flush().is_err());
    for handle in [writer, neighbour, idle, source.connect().unwrap()] {
        handle.flush().unwrap();
    }
}

#[test]
fn regression_a_durable_change_does_not_hide_lost_writes_from_the_flush() {
    let _turn = common::turn();
    type Change = fn(&dyn Origin) -> std::io::Result<()>;
    let changes: [Change; 2] = [
        |origin| origin.write(8 << 20, &[2; 4096], true),
        |origin| {
            let fua = true;
            // Parts of units, which are written.
            let options = ZeroOptions {
                fua,
                ..ZeroOptions::default()
            };
            origin.zero((8 << 20) + 1, 100, options)
        },
    ];
    for change in changes {
        let scratch = Scratch::on_disk();
        let small = SmallFileSystem::mount(scratch.path("small"));
        let image = small.path().join("image");
        std::fs::File::create_new(&image)
            .unwrap()
            .set_len(16 << 20)
            .unwrap();
        let device = LoopDevice::over(&image, &[]);
        let source = common::open(device.path(), false).unwrap();
        let [handle, neighbour] = [(); 2].map(|()| source.connect().unwrap());
        handle.write(0, &vec![1; 4 << 20], false).unwrap();
        // By this the kernel knows that the writes are lost; the handle has yet to be told.
        neighbour.flush().unwrap_err();
        let errno = change(&*handle).unwrap_err().raw_os_error();
        assert!(errno.is_some());
        assert_eq!(handle.flush().unwrap_err().raw_os_error(), errno);
        handle.flush().unwrap();
    }
}
