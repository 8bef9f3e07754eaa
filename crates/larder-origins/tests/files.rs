//! Regular files, on the file system that programs are built on and on tmpfs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;

use common::scratch::Scratch;
use larder::{Extent, Origin, ZeroOptions};
use larder_testing::random::content;

/// An odd number, so that the last sector and page are not whole.
const SIZE_BYTES: u64 = 3_000_001;

fn both() -> [Scratch; 2] {
    [Scratch::on_disk(), Scratch::on_tmpfs()]
}

#[test]
fn random_requests_match_a_byte_array() {
    for scratch in both() {
        for seed in 0..3 {
            let path = scratch.path(&format!("disk-{seed}"));
            let before = content(seed, 0, SIZE_BYTES as usize);
            std::fs::write(&path, &before).unwrap();
            let source = common::open(&path, false).unwrap();
            let model = common::model::run(&*source, &before, seed);
            common::model::compare(0, &std::fs::read(&path).unwrap(), &model);
        }
    }
}

#[test]
fn extents_tell_holes_from_data() {
    for scratch in both() {
        let path = scratch.file("disk", 10 << 20);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[1; 1 << 20], 1 << 20).unwrap();
        file.write_all_at(&[1; 1 << 20], 4 << 20).unwrap();
        let source = common::open(&path, true).unwrap();
        let origin = source.connect().unwrap();
        let found = origin.extents(0, 10 << 20, false).unwrap();
        let found: Vec<(u64, bool, bool)> = found
            .iter()
            .map(|extent| (extent.length >> 20, extent.hole, extent.zero))
            .collect();
        let (data, hole) = (false, true);
        assert_eq!(
            found,
            [
                (1, hole, hole),
                (1, data, data),
                (2, hole, hole),
                (1, data, data),
                (5, hole, hole)
            ]
        );
        let within = origin.extents((1 << 20) + 7, 100, false).unwrap();
        assert_eq!(
            within,
            [Extent {
                length: 100,
                hole: false,
                zero: false
            }]
        );
    }
}

#[test]
fn a_fragmented_file_is_told_in_parts() {
    let scratch = Scratch::on_tmpfs();
    let path = scratch.file("disk", 5000 * 8192);
    let file = File::options().write(true).open(&path).unwrap();
    for number in 0..5000 {
        file.write_all_at(&[1], number * 8192).unwrap();
    }
    let source = common::open(&path, true).unwrap();
    let origin = source.connect().unwrap();
    let (mut at, mut count, mut answers) = (0, 0, 0);
    while at < origin.size() {
        let found = origin.extents(at, origin.size() - at, false).unwrap();
        at += found.iter().map(|extent| extent.length).sum::<u64>();
        count += found.len();
        answers += 1;
    }
    assert_eq!((at, count), (origin.size(), 10_000));
    assert!(answers > 1);
}

#[test]
fn holes_give_space_back_and_zeros_without_holes_keep_it() {
    let scratch = Scratch::on_disk();
    let path = scratch.path("disk");
    std::fs::write(&path, vec![9; 4 << 20]).unwrap();
    let source = common::open(&path, false).unwrap();
    let origin = source.connect().unwrap();
    origin.flush().unwrap();
    let full = common::allocated_bytes(&path);
    let mut options = ZeroOptions {
        may_trim: false,
        fua: true,
        fast: true,
    };
    origin.zero(0, 2 << 20, options).unwrap();
    assert_eq!(common::allocated_bytes(&path), full);
    options.may_trim = true;
    origin.zero(0, 1 << 20, options).unwrap();
    assert_eq!(common::allocated_bytes(&path), full - (1 << 20));
    origin.trim(1 << 20, 1 << 20, true).unwrap();
    assert_eq!(common::allocated_bytes(&path), full - (2 << 20));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 << 20);
}

#[test]
fn what_tmpfs_cannot_do_fast_is_refused_and_changes_nothing() {
    let scratch = Scratch::on_tmpfs();
    let path = scratch.path("disk");
    std::fs::write(&path, [9; 100_000]).unwrap();
    let source = common::open(&path, false).unwrap();
    let origin = source.connect().unwrap();
    let fast = ZeroOptions {
        may_trim: false,
        fua: false,
        fast: true,
    };
    for _ in 0..2 {
        let error = origin.zero(10, 90_000, fast).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(95));
        assert_eq!(std::fs::read(&path).unwrap(), [9; 100_000]);
    }
    let slow = ZeroOptions {
        fast: false,
        ..fast
    };
    origin.zero(10, 90_000, slow).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[10..90_010].iter().all(|&byte| byte == 0));
    assert!(
        bytes[..10]
            .iter()
            .chain(&bytes[90_010..])
            .all(|&byte| byte == 9)
    );
    // Holes are still made, and fast.
    let hole = ZeroOptions {
        may_trim: true,
        ..fast
    };
    assert!(origin.capabilities().fast_zero);
    origin.zero(0, 100_000, hole).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), vec![0; 100_000]);
}

#[test]
fn an_empty_file_is_an_empty_disk() {
    for scratch in both() {
        let source = common::open(scratch.file("disk", 0), false).unwrap();
        let origin = source.connect().unwrap();
        assert_eq!(origin.size(), 0);
        origin.read(0, &mut []).unwrap();
        origin.write(0, &[], true).unwrap();
        origin.flush().unwrap();
    }
}

#[test]
fn a_file_that_was_made_shorter_is_an_error() {
    for scratch in both() {
        let path = scratch.file("disk", 100_000);
        let source = common::open(&path, false).unwrap();
        let origin = source.connect().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(50_000).unwrap();
        let mut bytes = [0; 100];
        origin.read(49_900, &mut bytes).unwrap();
        for error in [
            origin.read(49_901, &mut bytes).unwrap_err(),
            origin.read(99_000, &mut bytes).unwrap_err(),
            origin.extents(0, 100_000, false).unwrap_err(),
            origin.extents(60_000, 10, true).unwrap_err(),
        ] {
            // No errno stands for EIO.
            assert_eq!(error.raw_os_error(), None);
            assert!(error.to_string().contains("made shorter"), "{error}");
        }
        assert_eq!(origin.size(), 100_000);
    }
}

#[test]
fn a_file_that_was_made_shorter_does_not_grow_again_by_a_change() {
    type Change = fn(&dyn Origin) -> std::io::Result<()>;
    let changes: [Change; 5] = [
        |origin| origin.write(99_000, &[1; 1000], false),
        |origin| origin.write(99_000, &[1; 1000], true),
        |origin| origin.zero(60_000, 40_000, ZeroOptions::default()),
        |origin| origin.trim(60_000, 40_000, false),
        |origin| origin.flush(),
    ];
    for scratch in both() {
        for (number, change) in changes.iter().enumerate() {
            let path = scratch.file(&format!("disk-{number}"), 100_000);
            let source = common::open(&path, false).unwrap();
            let origin = source.connect().unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(50_000).unwrap();
            let error = change(&*origin).unwrap_err();
            assert!(error.to_string().contains("made shorter"), "{error}");
            assert_eq!(file.metadata().unwrap().len(), 50_000);
            // Longer again by somebody else: what was cut off is zeros by now.
            file.set_len(100_000).unwrap();
            for origin in [origin, source.connect().unwrap()] {
                origin.read(99_000, &mut [0; 100]).unwrap_err();
                origin.extents(0, 100_000, false).unwrap_err();
                origin.write(0, b"x", false).unwrap_err();
                origin.flush().unwrap_err();
            }
        }
    }
}

#[test]
fn a_file_that_grew_stays_as_it_was() {
    let scratch = Scratch::on_disk();
    let path = scratch.file("disk", 100_000);
    let source = common::open(&path, false).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(200_000).unwrap();
    assert_eq!(source.connect().unwrap().size(), 100_000);
}

#[test]
fn a_new_handle_is_of_the_file_that_was_opened() {
    for scratch in both() {
        let path = scratch.file("disk", 1000);
        let source = common::open(&path, false).unwrap();
        std::fs::rename(&path, scratch.path("moved")).unwrap();
        scratch.file("disk", 1000);
        let origin = source.connect().unwrap();
        origin.write(0, b"here", true).unwrap();
        let moved = std::fs::read(scratch.path("moved")).unwrap();
        assert_eq!(&moved[..4], b"here");
        std::fs::remove_file(scratch.path("moved")).unwrap();
        let mut bytes = [0; 4];
        source.connect().unwrap().read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"here");
    }
}

#[test]
fn a_read_only_file_takes_no_writes() {
    let scratch = Scratch::on_disk();
    let source = common::open(scratch.file("disk", 1000), true).unwrap();
    let origin = source.connect().unwrap();
    let can = origin.capabilities();
    assert!(!can.write && !can.trim && !can.zero && can.extents && can.flush);
    assert!(origin.write(0, b"x", false).is_err());
    origin.flush().unwrap();
}

#[test]
fn buffered_io_has_no_smallest_request() {
    let scratch = Scratch::on_disk();
    let source = common::open(scratch.file("disk", 1000), false).unwrap();
    let limits = source.connect().unwrap().limits();
    assert_eq!((limits.minimum, limits.maximum), (1, 32 << 20));
    assert!(limits.preferred >= 4096 && limits.preferred.is_power_of_two());
}
