#![allow(clippy::unwrap_used)]
use larder::{CacheOnRead, Config, FlushTo};
use larder_testing::OriginSettings;
use larder_testing::random::content;
use larder_testing::surviving::Survivor;
use std::time::Duration;

#[test]
fn gone() {
    let config = Config {
        cache_on_read: CacheOnRead::Always,
        block_bytes: 4096,
        max_size_bytes: Some(40 << 20),
        cache_id: Some("d".to_owned()),
        flush_to: FlushTo::Cache,
        ..Config::default()
    };
    let image: u64 = 96 << 20;
    let survivor = Survivor::new(OriginSettings::new(image));
    survivor
        .origin
        .disk()
        .fill(0, &content(1, 0, image as usize));
    let life = survivor.start(&config);
    let client = life.client();
    let part = 28 << 20;
    for at in (0..part as u64).step_by(1 << 20) {
        client.get(at, 1 << 20).unwrap();
    }
    for _ in 0..40 {
        life.cache.maintain_medium(Duration::ZERO);
    }
    for at in (part as u64..image).step_by(1 << 20) {
        client.get(at, 1 << 20).unwrap();
    }
    for block in 0..(part as u64 / 4096) {
        client.put(block * 4096, &[9; 4096]).unwrap();
        if block % 16 == 0 && block > 800 {
            break;
        }
    }
    let first = part as u64 / 4096 - 800;
    for block in first..first + 800 {
        client.put(block * 4096, &[9; 4096]).unwrap();
    }
    client.flush().unwrap();
    drop(client);
    drop(life);
    let life = survivor.start(&config);
    let client = life.client();
    let mut stale = 0;
    for block in first..first + 800 {
        stale += usize::from(client.get(block * 4096, 4096).unwrap() != [9; 4096]);
    }
    for block in 0..800 {
        stale += usize::from(client.get(block * 4096, 4096).unwrap() != [9; 4096]);
    }
    println!("stale {stale}");
    std::mem::forget(client);
    assert_eq!(stale, 0);
}
