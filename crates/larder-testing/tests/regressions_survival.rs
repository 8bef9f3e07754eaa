//! Faults that there were in what a cache directory finds again, or lists.

// Helpers of tests: clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use larder::{CacheOnRead, Config, Found, Mode};
use larder_testing::crash::{CallKind, Image, Machine, MediumFault};
use larder_testing::holds::{Holds, only_first};
use larder_testing::pace::{SharedPace, Side};
use larder_testing::random::content;
use larder_testing::rig::{Client, run};
use larder_testing::surviving::{Life, Survivor};
use larder_testing::violation::Violations;
use larder_testing::{Fault, Kind, OriginDouble, OriginSettings, Phase, When};

const BLOCK: usize = 64 << 10;
const IMAGE: u64 = 4 << 20;

fn config() -> Config {
    Config {
        cache_on_read: CacheOnRead::Always,
        max_size_bytes: Some(40 << 20),
        cache_id: Some("the disk".to_owned()),
        ..Config::default()
    }
}

fn unnamed() -> Config {
    Config {
        cache_id: None,
        ..config()
    }
}

struct Held {
    survivor: Survivor,
    origin_holds: Arc<Holds>,
    medium_holds: Arc<Holds>,
}

fn held(settings: OriginSettings) -> Held {
    let size = settings.size;
    let violations = Violations::default();
    let pace = SharedPace::default();
    let origin_holds = Arc::new(Holds::default());
    pace.set(Arc::clone(&origin_holds) as _);
    let medium_holds = Arc::new(Holds::default());
    let machine = Machine::new(Image::default(), 1);
    machine.pace().set(Arc::clone(&medium_holds) as _);
    let survivor = Survivor {
        origin: OriginDouble::new(settings, violations.clone(), pace),
        machine,
        violations,
    };
    survivor
        .origin
        .disk()
        .fill(0, &content(1, 0, size as usize));
    Held {
        survivor,
        origin_holds,
        medium_holds,
    }
}

fn survivor() -> Held {
    held(OriginSettings::new(IMAGE))
}

fn leave(client: Arc<Client>) {
    client.leave().unwrap();
}

fn list(life: &Life) {
    for _ in 0..3 {
        assert!(life.cache.maintain_medium(Duration::ZERO));
    }
}

/// Clean sectors of a block that has a dirty one outlive the verdict "another origin".
#[test]
fn regression_another_origin_and_a_block_that_is_partly_dirty() {
    let Held { survivor, .. } = survivor();
    survivor.origin.set_version("inode 1", "monday");
    let life = survivor.start(&unnamed());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client.put(0, &[7; 512]).unwrap();
    survivor.origin.fault(Fault::new(Kind::Write, When::Always));
    assert!(client.leave().is_err());
    drop(client);
    survivor.origin.heal();
    let newer = content(9, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &newer);
    survivor.origin.set_version("inode 2", "monday");
    let refused = life.volume.connect(survivor.origin.connect());
    let message = refused.err().unwrap().to_string();
    assert!(
        message.contains("the origin is another one now"),
        "{message}"
    );
}

/// A block that the thread which sums has pinned outlives the verdict "another origin".
#[test]
fn regression_another_origin_while_a_block_is_summed() {
    let Held {
        survivor,
        medium_holds,
        ..
    } = survivor();
    survivor.origin.set_version("inode 1", "monday");
    let life = Arc::new(survivor.start(&unnamed()));
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    leave(client);
    assert!(life.cache.maintain_medium(Duration::ZERO));
    let hold = medium_holds.hold(only_first(|stop| {
        stop.side == Side::CacheFile
            && stop.kind == Kind::Read
            && stop.phase == Phase::Before
            && stop.length == BLOCK as u64
    }));
    let sums = run({
        let life = Arc::clone(&life);
        move || life.cache.maintain_medium(Duration::ZERO)
    });
    hold.wait_for(1);
    let newer = content(9, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &newer);
    survivor.origin.set_version("inode 2", "monday");
    let joining = run({
        let life = Arc::clone(&life);
        move || life.client()
    });
    joining.give_a_chance();
    hold.release();
    let client = joining.finish();
    sums.finish();
    let bytes = client.get(0, IMAGE as usize).unwrap();
    let stale: Vec<usize> = (0..64)
        .filter(|block| bytes[block * BLOCK..][..BLOCK] != newer[block * BLOCK..][..BLOCK])
        .collect();
    assert!(stale.is_empty(), "{stale:?}");
}

fn unsafe_over(comes_back: bool) {
    let size = 64 << 20;
    let Held { survivor, .. } = held(OriginSettings::new(size));
    let config = Config {
        mode: Mode::Unsafe,
        ..config()
    };
    let life = survivor.start(&config);
    let client = life.client();
    for block in 0..size / BLOCK as u64 {
        let at = block * BLOCK as u64;
        client.put(at, &content(2, at, BLOCK)).unwrap();
    }
    assert!(survivor.origin.calls().count(Kind::Write) > 0);
    let origin = survivor.origin.disk().current(0, size as usize);
    // What has been sent is read: it is in the cache and clean.
    client.get(0, 8 << 20).unwrap();
    leave(client);
    if comes_back {
        leave(life.client());
    }
    life.end();
    survivor.origin.disk().lose_unflushed(None);
    assert!(origin != survivor.origin.disk().current(0, size as usize));
    let life = survivor.start(&config);
    let client = life.client();
    println!("found {:?}", life.cache.found());
    let bytes = client.get(0, size as usize).unwrap();
    assert!(bytes == survivor.origin.disk().current(0, size as usize));
}

#[test]
fn regression_unsafe_without_another_client() {
    unsafe_over(false);
}

#[test]
fn regression_unsafe_with_another_client() {
    unsafe_over(true);
}

/// The trim is lost with the connection; the flush sends the dirty data again and succeeds.
#[test]
fn regression_a_lost_trim_is_listed() {
    let mut settings = OriginSettings::new(IMAGE);
    settings.capabilities.fua = larder::Fua::None;
    let Held {
        survivor,
        origin_holds,
        ..
    } = held(settings);
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client
        .serve(|one| one.trim(3 * BLOCK as u64, BLOCK as u64, false))
        .unwrap();
    assert!(client.get(3 * BLOCK as u64, BLOCK).unwrap() == vec![0; BLOCK]);
    client.put(0, &[7; 4096]).unwrap();
    let hold = origin_holds.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let flush = run({
        let client = Arc::clone(&client);
        move || client.flush()
    });
    hold.wait_for(1);
    survivor.origin.lose_connection(None);
    hold.release();
    flush.finish().unwrap();
    list(&life);
    drop((client, life));
    let life = survivor.start(&config());
    let client = life.client();
    println!("found {:?}", life.cache.found());
    let bytes = client.get(0, IMAGE as usize).unwrap();
    let truth = survivor.origin.disk().durable(0, IMAGE as usize);
    assert!(bytes[..3 * BLOCK] == truth[..3 * BLOCK]);
    assert!(bytes == truth, "a trim that the origin lost");
}

/// The same with a flush that the origin refuses once, having dropped what it was for.
#[test]
fn regression_a_trim_that_a_refused_flush_lost_is_listed() {
    let Held { survivor, .. } = survivor();
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client
        .serve(|one| one.trim(3 * BLOCK as u64, BLOCK as u64, false))
        .unwrap();
    assert!(client.get(3 * BLOCK as u64, BLOCK).unwrap() == vec![0; BLOCK]);
    client.put(0, &[7; 4096]).unwrap();
    survivor.origin.fault(Fault::new(Kind::Flush, When::Nth(1)));
    assert!(client.flush().is_err());
    survivor.origin.heal();
    survivor.origin.disk().lose_unflushed(None);
    client.flush().unwrap();
    list(&life);
    drop((client, life));
    let life = survivor.start(&config());
    let client = life.client();
    println!("found {:?}", life.cache.found());
    let bytes = client.get(0, IMAGE as usize).unwrap();
    let truth = survivor.origin.disk().durable(0, IMAGE as usize);
    assert!(bytes == truth, "a trim that the origin lost");
}

/// One slot that cannot be read makes the whole clean end fail.
#[test]
fn regression_one_bad_slot_and_the_clean_end() {
    let Held { survivor, .. } = survivor();
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    leave(client);
    survivor
        .machine
        .fail(MediumFault::file("slots", CallKind::Read, When::Nth(1)));
    life.cache.stop();
    println!("{:?}", life.cache.close());
    survivor.machine.heal();
    drop(life);
    let life = survivor.start(&config());
    assert_eq!(life.cache.found(), Some(Found::Kept { blocks: 63 }));
}

/// A sync of the slots fails between a failed first judging and a connection.
#[test]
fn regression_slots_are_distrusted_before_the_size_is_known() {
    let Held {
        survivor,
        origin_holds,
        ..
    } = survivor();
    let life = survivor.start(&config());
    let other = life.cache.volume("other");
    leave(life.client());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    leave(client);
    leave(life.client_of(&other));
    drop(other);
    life.end();
    let life = Arc::new(survivor.start(&config()));
    let other = life.cache.volume("other");
    let client = life.client_of(&other);
    client.get(0, IMAGE as usize).unwrap();
    assert!(life.cache.maintain_medium(Duration::ZERO));
    // The first flush of the first connection's origin is slow.
    let hold = origin_holds.hold(only_first(|stop| {
        stop.is_origin(Kind::Flush, Phase::Before)
    }));
    let joining = run({
        let life = Arc::clone(&life);
        move || life.client()
    });
    hold.wait_for(1);
    survivor
        .machine
        .fail(MediumFault::file("slots", CallKind::Sync, When::Nth(1)));
    life.cache.maintain_medium(Duration::ZERO);
    life.cache.maintain_medium(Duration::ZERO);
    survivor.machine.heal();
    hold.release();
    let joined = joining.finish();
    assert!(
        joined.get(0, IMAGE as usize).unwrap() == survivor.origin.disk().current(0, IMAGE as usize)
    );
    let bytes = client.get(0, IMAGE as usize).unwrap();
    assert!(bytes == survivor.origin.disk().current(0, IMAGE as usize));
    drop((client, other));
}

/// One block listed in two slots; the one that the start does not take stays listed, and nobody knows.
#[test]
#[allow(clippy::too_many_lines, reason = "one story")]
fn regression_a_block_that_is_listed_twice() {
    const SMALL: usize = 4096;
    let slots = 10_400_u32;
    let size = u64::from(slots) * SMALL as u64;
    let Held { survivor, .. } = held(OriginSettings::new(size));
    let config = Config {
        block_bytes: SMALL as u64,
        max_size_bytes: Some(128 << 20),
        high_threshold_percent: 90,
        low_threshold_percent: 5,
        background: true,
        ..config()
    };
    let start = || {
        let home = larder::CacheHome {
            medium: Arc::new(survivor.machine.medium()),
            path: "/cache".to_owned(),
            block_is_given: true,
            uuid_bits: 7,
            lock_text: "pid 7".to_owned(),
            sizes: Some(larder::HomeSizes {
                slots,
                journal_bytes: 4 << 20,
                queue_bytes: 4 << 20,
            }),
        };
        larder::Cache::open(
            config.clone(),
            home,
            Arc::new(larder_testing::clock::ManualClock::default()),
            Arc::new(larder_testing::log::MemoryLog::default()),
        )
        .unwrap()
    };
    let client_of = |cache: &Arc<larder::Cache>| {
        let origin = survivor.origin.connect();
        let connection = cache
            .volume("volume")
            .connect(Arc::clone(&origin) as _)
            .unwrap();
        Arc::new(Client { connection, origin })
    };
    let cache = start();
    let client = client_of(&cache);
    client.get(0, size as usize - 100 * SMALL).unwrap();
    for _ in 0..3 {
        assert!(cache.maintain_medium(Duration::ZERO));
    }
    let used = cache.stats().slots_used;
    assert!(cache.maintain(Duration::ZERO));
    println!("{used} before, {} after", cache.stats().slots_used);
    // Each is fetched into the lowest free slot.
    let blocks: Vec<u64> = (8300..9700).step_by(50).collect();
    for block in &blocks {
        client.get(block * SMALL as u64, SMALL).unwrap();
    }
    for _ in 0..2 {
        assert!(cache.maintain_medium(Duration::ZERO));
    }
    drop((client, cache));
    let cache = start();
    println!("{:?}", cache.found());
    let client = client_of(&cache);
    for block in &blocks {
        client
            .put(
                block * SMALL as u64,
                &content(2, block * SMALL as u64, SMALL),
            )
            .unwrap();
    }
    client.flush().unwrap();
    drop((client, cache));
    let cache = start();
    println!("{:?}", cache.found());
    let client = client_of(&cache);
    let mut stale = Vec::new();
    for block in &blocks {
        let at = block * SMALL as u64;
        if client.get(at, SMALL).unwrap() != survivor.origin.disk().durable(at, SMALL) {
            stale.push(*block);
        }
    }
    assert!(stale.is_empty(), "{stale:?}");
}

/// A name that can be written and not read.
#[test]
fn regression_a_long_name() {
    let Held { survivor, .. } = survivor();
    let life = survivor.start(&config());
    let long = life.cache.volume(&"x".repeat(4097));
    let origin = survivor.origin.connect();
    let joined = long.connect(Arc::clone(&origin) as _).map(|connection| {
        connection.read(0, &mut [0; 512]).unwrap();
        connection.disconnect().unwrap();
    });
    println!("{joined:?}");
    drop(long);
    life.end();
    let again = survivor.try_start(config(), false);
    assert!(again.is_ok(), "{}", again.err().unwrap());
}

/// The cache gets a smaller limit and then the old one again, with a power cut in between.
#[test]
fn regression_a_smaller_limit_and_a_power_cut() {
    let size = 48 << 20;
    let mut stale = Vec::new();
    for seed in 0..12 {
        let Held { mut survivor, .. } = held(OriginSettings::new(size));
        let large = Config {
            max_size_bytes: Some(64 << 20),
            ..config()
        };
        let life = survivor.start(&large);
        let client = life.client();
        client.get(0, size as usize).unwrap();
        leave(client);
        life.end();
        let life = survivor.start(&config());
        let client = life.client();
        let at = size - 4 * BLOCK as u64;
        client.put(at, &content(2, at, BLOCK)).unwrap();
        client.flush().unwrap();
        drop((client, life));
        let recording = survivor.machine.recording();
        let mut walk = larder_testing::crash::walk::Walk::new(&recording);
        walk.advance_to(recording.position());
        let image = walk.crash(&mut larder_testing::random::Random::new(seed));
        survivor.machine = Machine::new(image, seed);
        let life = match survivor.try_start(large, false) {
            Ok(life) => life,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        let client = life.client();
        let bytes = client.get(at, BLOCK).unwrap();
        let old = bytes
            .chunks(512)
            .zip(content(1, at, BLOCK).chunks(512))
            .filter(|(a, b)| a == b)
            .count();
        stale.push((old, life.cache.stats().bad_clean_sectors));
    }
    println!("{stale:?}");
    assert!(stale.iter().all(|(old, _)| *old == 0), "{stale:?}");
}

/// What an ended connection fetches ahead is stored after the verdict "another origin".
#[test]
fn regression_another_origin_while_something_is_fetched_ahead() {
    let Held {
        survivor,
        origin_holds,
        ..
    } = survivor();
    survivor.origin.set_version("inode 1", "monday");
    let config = Config {
        readahead_bytes: 1 << 20,
        background: true,
        readahead_in_background: true,
        ..unnamed()
    };
    let life = survivor.start(&config);
    let client = life.client();
    let mut block = 0;
    while !client.connection.is_ahead_due() {
        client.get(block * BLOCK as u64, BLOCK).unwrap();
        block += 1;
        assert!(block < 20);
    }
    let hold = origin_holds.hold(only_first(|stop| stop.is_origin(Kind::Read, Phase::After)));
    let ahead = run({
        let client = Arc::clone(&client);
        move || client.serve(|one| one.fetch_ahead(Duration::from_secs(1), |_| Some(())))
    });
    hold.wait_for(1);
    client.serve(larder::Connection::disconnect).unwrap();
    let newer = content(9, 0, IMAGE as usize);
    survivor.origin.disk().fill(0, &newer);
    survivor.origin.set_version("inode 2", "monday");
    let second = life.client();
    hold.release();
    ahead.finish();
    let bytes = second.get(0, IMAGE as usize).unwrap();
    let stale: Vec<usize> = (0..64)
        .filter(|block| bytes[block * BLOCK..][..BLOCK] != newer[block * BLOCK..][..BLOCK])
        .collect();
    assert!(stale.is_empty(), "{stale:?}");
}

/// Two volumes that are new at the same time.
#[test]
fn regression_two_new_volumes_at_once() {
    let Held { survivor, .. } = survivor();
    let life = survivor.start(&config());
    let mut refused = Vec::new();
    for round in 0..300 {
        let barrier = std::sync::Barrier::new(16);
        let results: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|one| {
                    let (barrier, life, survivor) = (&barrier, &life, &survivor);
                    scope.spawn(move || {
                        let volume = life.cache.volume(&format!("{round} {one}"));
                        let origin = survivor.origin.connect();
                        barrier.wait();
                        volume.connect(origin as _).map(drop)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        refused.extend(results.into_iter().filter_map(Result::err));
    }
    assert!(
        refused.is_empty(),
        "{} refused: {}",
        refused.len(),
        refused[0]
    );
}

/// A commit fails for want of room, for a reason that passes; what it was to say of volumes is forgotten.
#[test]
fn regression_what_a_commit_that_failed_was_to_say() {
    let Held { survivor, .. } = survivor();
    let start = || {
        let home = larder::CacheHome {
            medium: Arc::new(survivor.machine.medium()),
            path: "/cache".to_owned(),
            block_is_given: false,
            uuid_bits: 7,
            lock_text: "pid 7".to_owned(),
            sizes: Some(larder::HomeSizes {
                slots: 100,
                journal_bytes: 64 << 10,
                queue_bytes: 64 << 10,
            }),
        };
        larder::Cache::open(
            config(),
            home,
            Arc::new(larder_testing::clock::ManualClock::default()),
            Arc::new(larder_testing::log::MemoryLog::default()),
        )
    };
    let cache = start().unwrap();
    let client_of = |name: &str| {
        let origin = survivor.origin.connect();
        let connection = cache
            .volume(name)
            .connect(Arc::clone(&origin) as _)
            .unwrap();
        Arc::new(Client { connection, origin })
    };
    let change = |client: &Client| client.serve(|one| one.write(0, &[3; 512], true));
    survivor
        .machine
        .fail(MediumFault::file("volumes", CallKind::Write, When::Always));
    let mut clients = Vec::new();
    let failed = loop {
        let client = client_of(&clients.len().to_string());
        let result = change(&client);
        clients.push(client);
        if let Err(error) = result {
            println!("{} {error}", clients.len());
            break clients.last().unwrap();
        }
        assert!(clients.len() < 50);
    };
    survivor.machine.heal();
    let later = client_of("later");
    change(&later).unwrap();
    change(failed).unwrap();
    drop((clients, later));
    drop(cache);
    let again = start();
    assert!(again.is_ok(), "{}", again.err().unwrap());
}

/// Somebody is late, after the end.
#[test]
fn regression_a_change_after_the_end() {
    let Held { survivor, .. } = survivor();
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, IMAGE as usize).unwrap();
    client.serve(|one| one.write(0, &[3; 512], true)).unwrap();
    life.cache.stop();
    life.cache.close().unwrap();
    let at = 5 * BLOCK as u64;
    let late = client.serve(|one| {
        one.zero(
            at,
            BLOCK as u64,
            larder::ZeroOptions {
                fua: true,
                ..Default::default()
            },
        )
    });
    println!("{late:?}");
    drop((client, life));
    let life = survivor.start(&config());
    let bytes = life.client().get(0, IMAGE as usize).unwrap();
    println!("{:?}", life.cache.found());
    assert!(bytes == survivor.origin.disk().current(0, IMAGE as usize));
}

struct Syncs(std::sync::atomic::AtomicUsize);

impl larder_testing::pace::Pace for Syncs {
    fn stop(&self, stop: &larder_testing::pace::Stop) {
        if stop.kind == Kind::Flush && stop.phase == Phase::Before {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
}

/// One commit lists everything, with a sync for each 64 blocks, and whoever changes something waits for the end of it.
#[test]
fn regression_syncs_while_the_token_is_held() {
    let Held { survivor, .. } = held(OriginSettings::new(32 << 20));
    let life = survivor.start(&config());
    let client = life.client();
    client.get(0, 32 << 20).unwrap();
    life.cache.maintain_medium(Duration::ZERO);
    let syncs = Arc::new(Syncs(Default::default()));
    survivor.machine.pace().set(Arc::clone(&syncs) as _);
    life.cache.maintain_medium(Duration::ZERO);
    let syncs = syncs.0.load(std::sync::atomic::Ordering::SeqCst);
    // Slots, checksums and journal for each 16 MiB, and one that vouches.
    assert!(syncs <= 8, "{syncs} syncs");
    drop((client, life));
    println!("{:?}", survivor.start(&config()).cache.found());
}
