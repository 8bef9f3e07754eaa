//! A real file system lives on a disk behind a small cache. Needs root, FUSE and loop devices.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use larder_e2e::{FuseMount, LoopDevice, MIB, Mount, Nbdkit, Random, Scratch, run, sparse_file};

/// Files by their path below the mount, and what they hold: a seed and a length.
type Files = BTreeMap<PathBuf, (u64, u64)>;

fn content_of((seed, length): (u64, u64)) -> Vec<u8> {
    Random::new(seed).bytes(length)
}

/// Writes, deletes and rewrites files until 3,000 have been written.
fn live(root: &Path, random: &mut Random) -> Files {
    let mut files = Files::new();
    for number in 0..3000_u64 {
        let directory = PathBuf::from(format!("d{}", random.below(40)));
        fs::create_dir_all(root.join(&directory)).unwrap();
        let longest = if number % 50 == 0 { 400_000 } else { 20_000 };
        let file = (random.next_u64(), random.between(1, longest));
        let path = directory.join(format!("f{}", random.below(200)));
        fs::write(root.join(&path), content_of(file)).unwrap();
        files.insert(path, file);
        if random.one_in(3) {
            let (path, _) = files
                .iter()
                .nth(random.below(files.len() as u64) as usize)
                .unwrap();
            let path = path.clone();
            fs::remove_file(root.join(&path)).unwrap();
            files.remove(&path);
        }
    }
    files
}

/// Asserts that exactly these files are there, with their content.
fn check(root: &Path, files: &Files, what: &str) {
    for (path, file) in files {
        let got = fs::read(root.join(path)).unwrap_or_else(|e| panic!("{what}: {path:?}: {e}"));
        assert!(
            got == content_of(*file),
            "{what}: {path:?} is not what it was"
        );
    }
    let found = run(
        "find",
        [root.to_str().unwrap(), "-path", "*/d*/f*", "-type", "f"],
    );
    assert_eq!(found.lines().count(), files.len(), "{what}");
}

/// Drops what the kernel has cached of the file system, so that reading asks the device.
fn remount(mount: Mount, device: &LoopDevice, root: &Path) -> Mount {
    mount.unmount();
    Mount::device(&device.device, root)
}

fn make_image(image: &Path, scratch: &Scratch) {
    let seeded = scratch.make_dir("seeded");
    for number in 0..50_u64 {
        fs::write(
            seeded.join(format!("{number}")),
            content_of((number, 50_000)),
        )
        .unwrap();
    }
    sparse_file(image, 200 * MIB);
    let arguments = ["-q", "-F", "-t", "ext4", "-d"];
    let paths = [seeded.to_str().unwrap(), image.to_str().unwrap()];
    run("mke2fs", arguments.iter().chain(&paths));
}

#[test]
fn an_ext4_lives_behind_a_small_cache() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    make_image(&image, &scratch);
    let server = Nbdkit::larder(&scratch)
        .file(&image)
        .parameters(["cache-max-size=4M", "cache-on-read=true"])
        .verbose()
        .start();
    let root = scratch.make_dir("root");
    let fuse = FuseMount::new(&server, &scratch);
    let device = LoopDevice::attach(&fuse.file());
    let mount = Mount::device(&device.device, &root);

    let files = live(&root, &mut Random::new(Random::seed_or(1)));
    check(&root, &files, "before the remount");
    let mount = remount(mount, &device, &root);
    check(&root, &files, "after the remount");
    mount.unmount();
    device.detach();
    fuse.unmount();
    server.stop().assert_few_pass_throughs();

    run("e2fsck", ["-f", "-n", image.to_str().unwrap()]);
    let device = LoopDevice::attach(&image);
    let mount = Mount::device(&device.device, &root);
    check(&root, &files, "on the plugin's own file");
    for number in 0..50_u64 {
        let got = fs::read(root.join(format!("{number}"))).unwrap();
        assert!(
            got == content_of((number, 50_000)),
            "file {number} of the image"
        );
    }
    mount.unmount();
    device.detach();
}
