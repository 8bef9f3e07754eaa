//! Clients that come and go, over a disk that tells what reached it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use larder::{Cache, Mode};

use super::*;
use crate::exports::Exports;
use crate::testing::{Disk, DiskSource, Scratch, Told, cache, durable_cache};

struct Scene {
    disk: Arc<Disk>,
    exports: Exports,
    log: Arc<Told>,
    is_ending: Arc<AtomicBool>,
    times_alone: Arc<AtomicUsize>,
}

impl Scene {
    fn new(mode: Mode, read_only: bool, disk: Arc<Disk>, names: &[&str]) -> Self {
        let log = Arc::new(Told::default());
        let cache = cache(mode, Arc::<Told>::clone(&log));
        Self::over(cache, log, read_only, disk, names)
    }

    fn over(
        cache: Arc<Cache>,
        log: Arc<Told>,
        read_only: bool,
        disk: Arc<Disk>,
        names: &[&str],
    ) -> Self {
        let is_ending = Arc::new(AtomicBool::new(false));
        let times_alone = Arc::new(AtomicUsize::new(0));
        let (ending, alone) = (Arc::clone(&is_ending), Arc::clone(&times_alone));
        let surroundings = Arc::new(Surroundings::new(
            cache,
            Arc::<Told>::clone(&log),
            read_only,
            Box::new(move || {
                alone.fetch_add(1, Ordering::SeqCst);
            }),
            Box::new(move || ending.load(Ordering::SeqCst)),
        ));
        let exports = names.iter().map(|name| {
            let source = Box::new(DiskSource(Arc::clone(&disk)));
            Export::new(name, String::new(), source, &surroundings).unwrap()
        });
        Self {
            exports: Exports::new(exports.collect()),
            disk,
            log,
            is_ending,
            times_alone,
        }
    }

    fn with_mode(mode: Mode) -> Self {
        Self::new(mode, false, Disk::new(1 << 20), &["a"])
    }

    fn client(&self) -> ClientConnection {
        self.exports.find("a").unwrap().connect_client().unwrap()
    }
}

#[test]
fn the_last_client_that_could_write_leaves_nothing_dirty() {
    let scene = Scene::with_mode(Mode::Writeback);
    let (first, second) = (scene.client(), scene.client());
    first.write(0, &[7; 512], false).unwrap();
    drop(first);
    assert_eq!(scene.disk.byte(0), 0);
    drop(second);
    assert_eq!(scene.disk.byte(0), 7);
    assert!(scene.disk.flushes.load(Ordering::SeqCst) > 0);
    assert!(scene.log.messages().is_empty());
}

#[test]
fn where_nothing_is_dirty_the_origin_is_left_alone() {
    let scene = Scene::with_mode(Mode::Writeback);
    drop(scene.client());
    assert_eq!(scene.disk.flushes.load(Ordering::SeqCst), 0);
}

#[test]
fn in_writethrough_mode_the_last_client_leaves_a_flushed_origin() {
    let scene = Scene::with_mode(Mode::Writethrough);
    let client = scene.client();
    client.write(0, &[7; 512], false).unwrap();
    assert_eq!(scene.disk.flushes.load(Ordering::SeqCst), 0);
    drop(client);
    assert_eq!(scene.disk.flushes.load(Ordering::SeqCst), 1);
}

#[test]
fn a_loss_that_only_the_keeper_heard_of_is_told_to_the_next_client() {
    for comes_back in [true, false] {
        let scene = Scene::with_mode(Mode::Writethrough);
        let client = scene.client();
        client.write(0, &[7; 512], false).unwrap();
        scene.disk.has_lost.store(true, Ordering::SeqCst);
        drop(client);
        assert_eq!(scene.log.messages().len(), 1);
        if comes_back {
            let next = scene.client();
            assert_eq!(next.flush().unwrap_err().errno(), 5);
            next.flush().unwrap();
        }
        // Or else the end fails.
        let end = scene.exports.find("a").unwrap().keeper().write_back();
        assert_eq!(end.is_ok(), comes_back);
    }
}

#[test]
fn what_cannot_be_written_is_told_by_range_and_kept() {
    let scene = Scene::with_mode(Mode::Writeback);
    let client = scene.client();
    client.write(4096, &[7; 1024], false).unwrap();
    scene.disk.is_broken.store(true, Ordering::SeqCst);
    drop(client);
    let told = scene.log.messages();
    let ranges = "not written to the origin yet, and kept, export \"a\": 1024 bytes at 4096";
    assert!(told.iter().any(|message| message == ranges), "{told:?}");
    scene.disk.is_broken.store(false, Ordering::SeqCst);
    scene
        .exports
        .find("a")
        .unwrap()
        .keeper()
        .write_back()
        .unwrap();
    assert_eq!(scene.disk.byte(4096), 7);
}

#[test]
fn at_the_end_of_the_server_leaving_writes_nothing() {
    let scene = Scene::with_mode(Mode::Writeback);
    let client = scene.client();
    client.write(0, &[7; 512], false).unwrap();
    scene.is_ending.store(true, Ordering::SeqCst);
    drop(client);
    assert_eq!(scene.disk.byte(0), 0);
    scene
        .exports
        .find("a")
        .unwrap()
        .keeper()
        .write_back()
        .unwrap();
    assert_eq!(scene.disk.byte(0), 7);
}

#[test]
fn a_keeper_that_leaves_writes_back_and_is_gone() {
    for (mode, byte, flushes) in [
        (Mode::Writeback, 7, 1),
        (Mode::Writethrough, 7, 1),
        (Mode::Unsafe, 0, 0),
    ] {
        let scene = Scene::with_mode(mode);
        let client = scene.client();
        client.write(0, &[7; 512], false).unwrap();
        scene.is_ending.store(true, Ordering::SeqCst);
        drop(client);
        let keeper = scene.exports.find("a").unwrap().keeper();
        keeper.leave().unwrap();
        assert_eq!(scene.disk.byte(0), byte);
        assert_eq!(scene.disk.flushes.load(Ordering::SeqCst), flushes);
        assert!(
            keeper.connection().read(0, &mut [0]).is_err(),
            "it has left"
        );
    }
}

#[test]
fn unsafe_mode_writes_nothing_back() {
    let scene = Scene::with_mode(Mode::Unsafe);
    let client = scene.client();
    client.write(0, &[7; 512], false).unwrap();
    drop(client);
    scene
        .exports
        .find("a")
        .unwrap()
        .keeper()
        .write_back()
        .unwrap();
    assert_eq!(scene.disk.byte(0), 0);
}

#[test]
fn a_read_only_server_writes_nothing() {
    let scene = Scene::new(Mode::Writeback, true, Disk::new(1 << 20), &["a"]);
    let export = scene.exports.find("a").unwrap();
    assert!(!export.can_write() && !export.offer().zero);
    let client = scene.client();
    assert!(client.write(0, &[7; 512], false).is_err());
    client.read(0, &mut [0; 512]).unwrap();
    drop(client);
    assert_eq!(scene.times_alone.load(Ordering::SeqCst), 1);
}

#[test]
fn the_last_client_of_all_exports_is_noticed() {
    let scene = Scene::new(Mode::Writeback, false, Disk::new(1 << 20), &["a", "b"]);
    let first = scene.client();
    let second = scene.exports.find("b").unwrap().connect_client().unwrap();
    drop(first);
    assert_eq!(scene.times_alone.load(Ordering::SeqCst), 0);
    drop(second);
    assert_eq!(scene.times_alone.load(Ordering::SeqCst), 1);
}

#[test]
fn the_empty_name_is_the_only_export() {
    let disk = || Disk::new(1 << 20);
    let name = |names: &[&str], wanted: &str| {
        let scene = Scene::new(Mode::Writeback, false, disk(), names);
        let found = scene.exports.find(wanted);
        found.map(|export| export.name().to_owned())
    };
    assert_eq!(name(&["a"], "").as_deref(), Some("a"));
    assert_eq!(name(&["a"], "a").as_deref(), Some("a"));
    assert_eq!(name(&["a"], "b"), None);
    assert_eq!(name(&["a", ""], "").as_deref(), Some(""));
    assert_eq!(name(&["a", "b"], ""), None);
}

#[test]
fn what_is_lost_at_the_end_is_told_and_what_is_discarded_is_none() {
    use crate::console::Console;
    use crate::service_manager::ServiceManager;
    use crate::write_back::{tell_leftovers, write_back};
    let console = Console::new(false);
    for (mode, is_lost) in [(Mode::Writeback, true), (Mode::Unsafe, false)] {
        let scene = Scene::with_mode(mode);
        let client = scene.client();
        client.write(0, &[7; 512], false).unwrap();
        scene.is_ending.store(true, Ordering::SeqCst);
        drop(client);
        scene.disk.is_broken.store(true, Ordering::SeqCst);
        let export = scene.exports.find("a").unwrap();
        let cache = Arc::clone(&export.keeper().surroundings().cache);
        let is_done = write_back(&scene.exports, &cache, &console, &ServiceManager::default());
        assert_eq!(is_done, !is_lost);
        assert_eq!(
            tell_leftovers(&cache, &cache.leftovers(), &console),
            is_lost
        );
        scene.disk.is_broken.store(false, Ordering::SeqCst);
        assert!(write_back(
            &scene.exports,
            &cache,
            &console,
            &ServiceManager::default()
        ));
        assert!(!tell_leftovers(&cache, &cache.leftovers(), &console));
    }
}

#[test]
fn where_flushes_end_in_the_cache_the_last_client_leaves_the_origin_alone_until_the_end() {
    use crate::console::Console;
    use crate::service_manager::ServiceManager;
    use crate::write_back::write_back;
    let scratch = Scratch::new();
    let log = Arc::new(Told::default());
    let cache = durable_cache(&scratch.path("cache"), Arc::<Told>::clone(&log));
    let disk = Disk::new(1 << 20);
    let scene = Scene::over(Arc::clone(&cache), log, false, disk, &["a"]);
    let client = scene.client();
    client.write(4096, &[7; 1024], false).unwrap();
    drop(client);
    assert_eq!(scene.disk.byte(4096), 0);
    assert_eq!(cache.leftovers()[0].ranges, [(4096, 1024)]);
    let is_done = write_back(
        &scene.exports,
        &cache,
        &Console::new(false),
        &ServiceManager::default(),
    );
    assert!(is_done);
    cache.close().unwrap();
    assert_eq!(scene.disk.byte(4096), 7);
    assert!(cache.leftovers().is_empty() && scene.log.messages().is_empty());
}

#[test]
fn what_is_not_written_at_the_end_is_kept_where_flushes_end_in_the_cache() {
    use crate::console::Console;
    use crate::service_manager::ServiceManager;
    use crate::write_back::{tell_leftovers, write_back};
    use larder_frontend::Fate;
    let (scratch, console) = (Scratch::new(), Console::new(false));
    let log = Arc::new(Told::default());
    let cache = durable_cache(&scratch.path("cache"), Arc::<Told>::clone(&log));
    let disk = Disk::new(1 << 20);
    let scene = Scene::over(Arc::clone(&cache), log, false, disk, &["a"]);
    let client = scene.client();
    client.write(4096, &[7; 1024], false).unwrap();
    scene.is_ending.store(true, Ordering::SeqCst);
    scene.disk.is_broken.store(true, Ordering::SeqCst);
    drop(client);
    assert!(!write_back(
        &scene.exports,
        &cache,
        &console,
        &ServiceManager::default()
    ));
    let leftovers = cache.leftovers();
    cache.close().unwrap();
    assert_eq!(leftovers[0].ranges, [(4096, 1024)]);
    assert_eq!(Fate::of(&cache), Fate::Kept);
    // Nothing is lost, and somebody has to see to the origin.
    assert!(tell_leftovers(&cache, &leftovers, &console));
}
