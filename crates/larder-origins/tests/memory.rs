//! The memory origin.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use larder::{Extent, Fua, ZeroOptions};

const HOLE: ZeroOptions = ZeroOptions {
    may_trim: true,
    fua: false,
    fast: true,
};

fn hole(length: u64) -> Extent {
    Extent {
        length,
        hole: true,
        zero: true,
    }
}

fn data(length: u64) -> Extent {
    Extent {
        length,
        hole: false,
        zero: false,
    }
}

#[test]
fn random_requests_match_a_byte_array() {
    for seed in 0..4 {
        let source = common::open("memory:3000001", false).unwrap();
        common::model::run(&*source, &vec![0; 3_000_001], seed);
    }
}

#[test]
fn the_largest_memory_takes_only_what_is_written() {
    let source = common::open("memory:9223372036854775807", false).unwrap();
    let origin = source.connect().unwrap();
    assert_eq!(origin.size(), i64::MAX as u64);
    let last = origin.size() - 1;
    origin.write(last, b"x", true).unwrap();
    origin.write(1 << 50, b"y", false).unwrap();
    origin.flush().unwrap();
    let mut byte = [0];
    origin.read(last, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    origin.read(last - 1, &mut byte).unwrap();
    assert_eq!(&byte, b"\0");
    let found = origin.extents(1 << 49, 1 << 31, false).unwrap();
    assert_eq!(found, [hole(1 << 31)]);
}

#[test]
fn every_handle_sees_what_the_others_wrote() {
    let source = common::open("memory:1m", false).unwrap();
    let (one, other) = (source.connect().unwrap(), source.connect().unwrap());
    drop(source);
    one.write(1000, b"shared", false).unwrap();
    let mut bytes = [0; 6];
    other.read(1000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"shared");
}

#[test]
fn zeros_and_trims_give_memory_back() {
    let source = common::open("memory:1m", false).unwrap();
    let origin = source.connect().unwrap();
    let page = 4096;
    origin.write(0, &[7; 16 << 10], false).unwrap();
    assert_eq!(
        origin.extents(0, 1 << 20, false).unwrap(),
        [data(4 * page), hole((1 << 20) - 4 * page)]
    );
    origin.zero(page, page, HOLE).unwrap();
    let no_hole = ZeroOptions {
        may_trim: false,
        ..HOLE
    };
    origin.zero(2 * page, page, no_hole).unwrap();
    origin.trim(0, page, false).unwrap();
    assert_eq!(
        origin.extents(0, 1 << 20, false).unwrap(),
        [hole(3 * page), data(page), hole((1 << 20) - 4 * page)]
    );
    assert_eq!(origin.extents(0, 1 << 20, true).unwrap(), [hole(3 * page)]);
}

#[test]
fn it_can_do_everything_unless_it_is_read_only() {
    let source = common::open("memory:0", false).unwrap();
    let can = source.connect().unwrap().capabilities();
    assert!(can.write && can.flush && can.trim && can.zero && can.fast_zero && can.extents);
    assert!(can.multi_conn && can.parallel && can.fua == Fua::Native);
    let source = common::open("memory:1G", true).unwrap();
    let can = source.connect().unwrap().capabilities();
    assert!(!can.write && !can.trim && !can.zero && !can.fast_zero && can.extents);
}
