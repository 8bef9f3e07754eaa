//! A client that reads in order, with and without a budget.

use std::time::Instant;

use larder::cache_file::TemporaryFile;
use larder::{Cache, CacheOnRead, Config, Origin, SystemClock};
use larder_origins::Source;

use super::*;
use crate::protocol::Budget;
use crate::testing::{Disk, DiskSource, Told};

const BLOCK: u64 = 64 << 10;

struct Scene {
    disk: Arc<Disk>,
    connection: Arc<Connection>,
    ahead: Ahead,
    common: Common,
}

impl Scene {
    fn new(bytes: u64, threads: u64) -> Self {
        let config = Config {
            cache_on_read: CacheOnRead::Always,
            readahead_bytes: 8 << 20,
            readahead_in_background: true,
            background: true,
            ..Config::default()
        };
        let file = TemporaryFile::create_in(&std::env::temp_dir()).unwrap();
        let (clock, log) = (SystemClock::default(), Told::default());
        let cache = Cache::new(config, Box::new(file), Arc::new(clock), Arc::new(log)).unwrap();
        let disk = Disk::new(128 * BLOCK as usize);
        let origin: Arc<dyn Origin> = DiskSource(Arc::clone(&disk)).connect().unwrap();
        let connection = cache.volume("a").connect(origin).unwrap();
        Self {
            disk,
            connection: Arc::new(connection),
            ahead: Ahead::default(),
            common: Common {
                bytes: Arc::new(Budget::new(bytes)),
                threads: Arc::new(Budget::new(threads)),
            },
        }
    }

    /// Reads so many blocks in order, the first one being `first`; then what is due has been fetched, or nobody does.
    fn read(&self, first: u64, count: u64) {
        for number in first..first + count {
            let mut buffer = vec![0; BLOCK as usize];
            self.connection.read(number * BLOCK, &mut buffer).unwrap();
        }
        self.ahead.start_if_due(&self.connection, &self.common);
        self.wait();
    }

    /// Until the thread has ended, since it has nothing to do. It does in a hundredth of a second.
    fn wait(&self) {
        let begun = Instant::now();
        while self.has_thread() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not end");
            std::thread::yield_now();
        }
    }

    fn has_thread(&self) -> bool {
        self.ahead.has_thread.load(Ordering::Acquire)
    }

    fn blocks_read(&self) -> u64 {
        self.disk.bytes_read.load(Ordering::SeqCst) / BLOCK
    }
}

#[test]
fn the_thread_ends_where_nothing_is_to_be_fetched_and_comes_back() {
    let scene = Scene::new(1 << 30, 1);
    assert!(!scene.has_thread());
    scene.read(0, 3);
    let first = scene.blocks_read();
    assert!(first > 3, "{first} blocks");
    // The only thread of the budget: another can be had since it was given back.
    scene.read(3, first);
    assert!(scene.blocks_read() > first + 3, "{first} blocks");
}

#[test]
fn without_a_thread_in_the_budget_nothing_is_fetched_ahead_until_there_is_one() {
    let scene = Scene::new(1 << 30, 1);
    let mut others = Charge::new(&scene.common.threads);
    assert!(others.grow_to(1));
    scene.read(0, 20);
    assert_eq!(scene.blocks_read(), 20);
    drop(others);
    scene.read(20, 3);
    assert!(scene.blocks_read() > 23);
}

#[test]
fn without_memory_in_the_budget_nothing_is_fetched_ahead() {
    let scene = Scene::new(BLOCK / 2, 1);
    scene.read(0, 3);
    scene.read(3, 3);
    assert_eq!(scene.blocks_read(), 6);
}

#[test]
fn what_was_charged_is_given_back() {
    let scene = Scene::new(1 << 30, 1);
    scene.read(0, 3);
    scene.read(3, 10);
    assert!(Charge::new(&scene.common.threads).grow_to(1));
    assert!(Charge::new(&scene.common.bytes).grow_to(1 << 30));
}
