//! Rules about zeros and trims: zeros are state, and a trim drops only what the origin dropped.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

use larder::{CacheOnRead, Config, ErrorKind, Mode, ZeroOptions};
use larder_testing::fault::Happens;
use larder_testing::holds::only_first;
use larder_testing::origin::TrimLeaves;
use larder_testing::random::content;
use larder_testing::rig::{Client, run};
use larder_testing::{Fault, Kind, OriginSettings, Phase, Rig, When};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = 24 << 20;

fn rig_with(mode: Mode, change: impl FnOnce(&mut OriginSettings)) -> Rig {
    let config = Config {
        mode,
        cache_on_read: CacheOnRead::Always,
        ..Config::default()
    };
    let mut settings = OriginSettings::new(IMAGE);
    change(&mut settings);
    Rig::new(config, settings)
}

fn rig() -> Rig {
    rig_with(Mode::Writeback, |_| {})
}

fn zero(client: &Client, offset: u64, length: u64) {
    let options = ZeroOptions::default();
    client
        .serve(|one| one.zero(offset, length, options))
        .unwrap();
}

const FAST: ZeroOptions = ZeroOptions {
    may_trim: false,
    fua: false,
    fast: true,
};

const HOLE: ZeroOptions = ZeroOptions {
    may_trim: true,
    fua: false,
    fast: false,
};

#[test]
fn zero_is_state() {
    let rig = rig_with(Mode::Writeback, |settings| settings.size = 1 << 42);
    rig.fill(1, 1 << 40, BLOCK as usize);
    let client = rig.client();
    zero(&client, 1 << 40, 1 << 34);
    assert!(rig.origin.calls().all().is_empty());
    assert_eq!(rig.cache.stats().slots_used, 0);
    assert!(client.get(1 << 40, 4096).unwrap() == [0; 4096]);
    assert!(rig.origin.calls().all().is_empty());
    client.flush().unwrap();
    assert!(rig.durable(1 << 40, BLOCK as usize) == vec![0; BLOCK as usize]);
    let calls = rig.origin.calls().count(Kind::Zero);
    assert!(calls <= 32, "{calls} calls");
}

#[test]
fn zero_is_state_bounded() {
    let rig = rig_with(Mode::Writeback, |settings| settings.size = 1 << 40);
    let client = rig.client();
    for range in 0..40_000 {
        let offset = range * 2 * BLOCK;
        client.serve(|one| one.zero(offset, BLOCK, HOLE)).unwrap();
    }
    // Beyond the bound the origin is zeroed directly, so what is kept stays bounded.
    let kept = rig.cache.leftovers()[0].ranges.len();
    assert!(kept <= 20_000, "{kept} ranges kept");
    assert!(rig.origin.calls().count(Kind::Zero) >= 20_000);
    assert!(client.get(0, BLOCK as usize).unwrap() == vec![0; BLOCK as usize]);
}

#[test]
fn zeros_and_writes_over_each_other_read_back() {
    let rig = rig();
    let mut expected = rig.fill(1, 0, 4 * BLOCK as usize);
    let client = rig.client();
    client.get(0, 4096).unwrap();
    zero(&client, 1000, 3 * BLOCK);
    expected[1000..1000 + 3 * BLOCK as usize].fill(0);
    client.put(70_000, &[5; 9000]).unwrap();
    expected[70_000..79_000].fill(5);
    zero(&client, 72_000, 1000);
    expected[72_000..73_000].fill(0);
    assert!(client.get(0, 4 * BLOCK as usize).unwrap() == expected);
    client.flush().unwrap();
    assert!(rig.durable(0, 4 * BLOCK as usize) == expected);
    assert!(client.get(0, 4 * BLOCK as usize).unwrap() == expected);
}

#[test]
fn whether_holes_are_allowed_is_kept_per_range() {
    let rig = rig();
    rig.fill(1, 0, 4 * BLOCK as usize);
    let client = rig.client();
    client.serve(|one| one.zero(0, BLOCK, HOLE)).unwrap();
    zero(&client, BLOCK, BLOCK);
    client.flush().unwrap();
    let calls = rig.origin.calls().of(Kind::Zero);
    let holes: Vec<_> = calls
        .iter()
        .map(|call| (call.offset, call.length, call.may_trim))
        .collect();
    assert_eq!(holes, [(0, BLOCK, true), (BLOCK, BLOCK, false)]);
}

#[test]
fn an_origin_that_cannot_zero_gets_zeros_written() {
    let rig = rig_with(Mode::Writeback, |settings| {
        settings.capabilities.zero = false;
        settings.capabilities.fast_zero = false;
    });
    rig.fill(1, 0, 4 * BLOCK as usize);
    let client = rig.client();
    zero(&client, 1000, 3 * BLOCK);
    client.flush().unwrap();
    assert!(rig.durable(1000, 3 * BLOCK as usize) == vec![0; 3 * BLOCK as usize]);
}

#[test]
fn fast_zero_of_whole_sectors_succeeds() {
    let rig = rig();
    rig.fill(1, 0, 4 * BLOCK as usize);
    let client = rig.client();
    client.serve(|one| one.zero(512, 3 * BLOCK, FAST)).unwrap();
    let zeros = vec![0; 3 * BLOCK as usize];
    assert!(client.get(512, 3 * BLOCK as usize).unwrap() == zeros);
    assert_eq!(rig.origin.calls().count(Kind::Write), 0);
}

#[test]
fn fast_zero_partial_is_enotsup() {
    let rig = rig();
    let expected = rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    for (offset, length) in [(100, 4096), (512, 4000), (100, 50)] {
        let refused = client.serve(|one| one.zero(offset, length, FAST));
        let error = refused.unwrap_err();
        assert_eq!(
            (error.kind(), error.errno()),
            (ErrorKind::NotSupported, libc::ENOTSUP)
        );
    }
    assert!(client.get(0, BLOCK as usize).unwrap() == expected);
}

#[test]
fn fast_zero_reaches_the_very_end_of_an_odd_image() {
    let rig = rig_with(Mode::Writeback, |settings| settings.size = IMAGE + 777);
    rig.fill(1, IMAGE, 777);
    let client = rig.client();
    client.serve(|one| one.zero(IMAGE, 777, FAST)).unwrap();
    assert!(client.get(IMAGE, 777).unwrap() == [0; 777]);
    client.flush().unwrap();
    assert!(rig.durable(IMAGE, 777) == [0; 777]);
}

#[test]
fn a_failed_writeback_of_zeros_keeps_them() {
    for happens in [Happens::Nothing, Happens::Half, Happens::Everything] {
        let rig = rig();
        rig.fill(1, 0, BLOCK as usize);
        let client = rig.client();
        zero(&client, 0, BLOCK);
        rig.origin
            .fault(Fault::new(Kind::Zero, When::Always).happens(happens));
        client.flush().unwrap_err();
        assert!(client.get(0, BLOCK as usize).unwrap() == vec![0; BLOCK as usize]);
        rig.origin.heal();
        client.flush().unwrap();
        assert!(rig.durable(0, BLOCK as usize) == vec![0; BLOCK as usize]);
    }
}

#[test]
fn trim_goes_to_the_origin_first_and_drops_what_is_cached() {
    for leaves in [
        TrimLeaves::OldContent,
        TrimLeaves::Zeros,
        TrimLeaves::Garbage,
    ] {
        let rig = rig_with(Mode::Writeback, |settings| settings.trim = leaves);
        rig.fill(1, 0, 2 * BLOCK as usize);
        let client = rig.client();
        client.get(0, 2 * BLOCK as usize).unwrap();
        client.put(4096, &[5; 4096]).unwrap();
        zero(&client, 20_480, 4096);
        client.serve(|one| one.trim(0, BLOCK, false)).unwrap();
        assert_eq!(rig.origin.calls().count(Kind::Trim), 1);
        // Gone from the cache: the origin is asked, and a change behind its back is seen.
        let new = rig.fill(9, 0, BLOCK as usize);
        assert!(client.get(0, BLOCK as usize).unwrap() == new);
        client.flush().unwrap();
        assert!(rig.on_origin(0, BLOCK as usize) == new, "{leaves:?}");
    }
}

#[test]
fn trim_drops_only_after_success_and_whole_sectors() {
    let rig = rig_with(Mode::Writeback, |settings| {
        settings.trim = TrimLeaves::Garbage
    });
    let mut expected = rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    client.put(0, &[5; 8192]).unwrap();
    expected[..8192].fill(5);
    rig.origin.fault(Fault::new(Kind::Trim, When::Always));
    let refused = client.serve(|one| one.trim(0, 8192, false));
    refused.unwrap_err();
    assert!(client.get(0, BLOCK as usize).unwrap() == expected);
    rig.origin.heal();
    client.serve(|one| one.trim(100, 4000, false)).unwrap();
    for (offset, length) in rig.origin.calls().ranges(Kind::Trim).split_off(1) {
        assert!(
            offset >= 512 && offset + length <= 4096,
            "{offset}+{length}"
        );
    }
    let after = client.get(0, BLOCK as usize).unwrap();
    assert!(after[..100] == expected[..100] && after[4100..] == expected[4100..]);
    client.flush().unwrap();
    let durable = rig.durable(0, BLOCK as usize);
    assert!(durable[..100] == expected[..100] && durable[4100..] == expected[4100..]);
}

#[test]
fn a_failed_trim_does_not_make_clean_data_lie() {
    let rig = rig_with(Mode::Writeback, |settings| {
        settings.trim = TrimLeaves::Garbage
    });
    rig.fill(1, 0, BLOCK as usize);
    let client = rig.client();
    client.get(0, BLOCK as usize).unwrap();
    rig.origin
        .fault(Fault::new(Kind::Trim, When::Always).happens(Happens::Half));
    let refused = client.serve(|one| one.trim(0, 8192, false));
    refused.unwrap_err();
    assert!(client.get(0, 8192).unwrap() == rig.on_origin(0, 8192));
}

#[test]
fn a_hit_during_a_trim_is_answered_and_a_later_read_asks_the_origin() {
    let rig = rig();
    let expected = rig.fill(1, 0, BLOCK as usize);
    let [trimmer, reader] = [(); 2].map(|()| rig.client());
    reader.get(0, BLOCK as usize).unwrap();
    let hold = rig.hold(only_first(|stop| stop.is_origin(Kind::Trim, Phase::Before)));
    let trimming = run(move || trimmer.serve(|one| one.trim(0, BLOCK, false)));
    hold.wait_for(1);
    assert!(reader.get(0, 4096).unwrap() == expected[..4096]);
    hold.release();
    trimming.finish().unwrap();
    assert!(reader.get(0, 4096).unwrap() == rig.on_origin(0, 4096));
}

#[test]
fn an_origin_without_trim_is_never_trimmed() {
    let rig = rig_with(Mode::Writeback, |settings| {
        settings.capabilities.trim = false
    });
    let client = rig.client();
    client.put(0, &content(2, 0, 4096)).unwrap();
    let refused = client.serve(|one| one.trim(0, 4096, false));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotSupported);
    assert!(client.get(0, 4096).unwrap() == content(2, 0, 4096));
}
