//! Rules about what the cache tells of itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use larder::CacheState::{Absent, Clean, Dirty};
use larder::{CacheOnRead, Config, ErrorKind, ZeroOptions};
use larder_testing::rig::{Client, run};
use larder_testing::{Kind, OriginSettings, Phase, Rig};

const BLOCK: u64 = 64 << 10;
const IMAGE: u64 = (24 << 20) + 700;

fn rig_of(size: u64) -> Rig {
    let config = Config {
        cache_on_read: CacheOnRead::Always,
        background: true,
        ..Config::default()
    };
    Rig::new(config, OriginSettings::new(size))
}

fn rig() -> Rig {
    rig_of(IMAGE)
}

fn zero(client: &Client, offset: u64, length: u64) {
    let zeroed = client.serve(|one| one.zero(offset, length, ZeroOptions::default()));
    zeroed.unwrap();
}

#[test]
fn status_tells_clean_from_dirty_from_absent() {
    let rig = rig();
    let client = rig.client();
    assert_eq!(client.status(0, IMAGE), [(IMAGE, Absent)]);
    client.get(BLOCK, 3 * BLOCK as usize).unwrap();
    client.put(2 * BLOCK, &[5; 4096]).unwrap();
    client.put(10 * BLOCK - 512, &[5; 1024]).unwrap();
    zero(&client, 20 * BLOCK, 2 * BLOCK);
    zero(&client, 3 * BLOCK, 512);
    client.get(IMAGE - 1, 1).unwrap();
    let expected = [
        (BLOCK, Absent),
        (BLOCK, Clean),
        (4096, Dirty),
        (BLOCK - 4096, Clean),
        (512, Dirty),
        (BLOCK - 512, Clean),
        (6 * BLOCK - 512, Absent),
        (1024, Dirty),
        (10 * BLOCK - 512, Absent),
        (2 * BLOCK, Dirty),
        (IMAGE - 22 * BLOCK - 700, Absent),
        (700, Clean),
    ];
    assert_eq!(client.status(0, IMAGE), expected);
    let within = [(7, Dirty), (BLOCK - 4096, Clean), (3, Dirty)];
    assert_eq!(client.status(2 * BLOCK + 4089, BLOCK - 4086), within);
    assert_eq!(client.status(21 * BLOCK + 1, 5), [(5, Dirty)]);
    assert_eq!(client.status(5, 0), []);
    client.flush().unwrap();
    let settled = client.status(0, 22 * BLOCK);
    assert!(
        settled.iter().all(|(_, state)| *state != Dirty),
        "{settled:?}"
    );
}

#[test]
fn status_keeps_to_the_number_of_extents_and_to_the_range() {
    let rig = rig();
    let client = rig.client();
    for sector in 0..100 {
        client.put(sector * 1024, &[5; 512]).unwrap();
    }
    for most in [0, 1, 2, 7, 200, 201] {
        let status = client.serve(|one| one.cache_status(0, IMAGE, most));
        let status = status.unwrap();
        assert_eq!(status.len(), most.clamp(1, 200));
        let told: u64 = status.iter().map(|extent| extent.length).sum();
        let full = IMAGE - 100 * 1024 + 512;
        let expected = if most < 200 {
            512 * most.max(1) as u64
        } else {
            full + 199 * 512
        };
        assert_eq!(told, expected);
    }
    let past = client.serve(|one| one.cache_status(IMAGE, 1, 1));
    assert_eq!(past.unwrap_err().kind(), ErrorKind::OutOfRange);
}

#[test]
fn status_of_an_origin_of_exbibytes_is_told_at_once() {
    let size = i64::MAX as u64;
    let rig = rig_of(size);
    let client = rig.client();
    client.put(1 << 62, &[5; 512]).unwrap();
    client.get(1 << 61, 512).unwrap();
    zero(&client, 1 << 50, 1 << 40);
    let after_zeros = (1 << 50) + (1 << 40);
    let expected = [
        (1 << 50, Absent),
        (1 << 40, Dirty),
        ((1 << 61) - after_zeros, Absent),
        (BLOCK, Clean),
        ((1 << 61) - BLOCK, Absent),
        (512, Dirty),
        (size - (1 << 62) - 512, Absent),
    ];
    for _ in 0..1000 {
        assert_eq!(client.status(0, size), expected);
    }
}

#[test]
fn what_waits_for_its_flush_is_dirty() {
    let rig = rig();
    let [writer, other] = [(); 2].map(|()| rig.client());
    writer.put(0, &[5; 512]).unwrap();
    zero(&writer, BLOCK, 512);
    let hold = rig.hold_origin(Kind::Flush, Phase::Before);
    let flush = run(move || writer.flush());
    hold.wait_for(1);
    let dirty = [
        (512, Dirty),
        (BLOCK - 512, Absent),
        (512, Dirty),
        (512, Absent),
    ];
    assert_eq!(other.status(0, BLOCK + 1024), dirty);
    hold.release();
    flush.finish().unwrap();
    assert_eq!(other.status(0, 1024), [(512, Clean), (512, Absent)]);
}

#[test]
fn what_is_dirty_all_the_time_is_never_told_to_be_anything_else() {
    let rig = rig();
    let [writer, other] = [(); 2].map(|()| rig.client());
    writer.put(0, &[5; 512]).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let changing = run({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::SeqCst) {
                zero(&writer, 0, 512);
                writer.put(0, &[5; 512]).unwrap();
            }
        }
    });
    let wrong = (0..20_000)
        .map(|_| other.status(0, 512))
        .find(|status| *status != [(512, Dirty)]);
    stop.store(true, Ordering::SeqCst);
    changing.finish();
    assert_eq!(wrong, None);
}
